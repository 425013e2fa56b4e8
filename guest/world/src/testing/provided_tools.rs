//! Servers behind the component, whose tools are scripted.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use async_trait::async_trait;

use super::World;
use crate::provided_tools::*;

/// What a scripted tool answers.
type ToolResponder = Box<dyn FnMut(&CalledTool) -> Result<ToolContent, ProviderError>>;

/// A call of a tool, as the host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalledTool {
    /// The server that has the tool.
    pub server: String,
    /// The tool.
    pub name: String,
    /// As JSON.
    pub arguments: String,
    /// The caller.
    pub caller: ToolCaller,
    /// What the host would ask for tokens with.
    pub handle: String,
}

/// Lists by server, and what became of them.
#[derive(Default)]
pub(super) struct FakeProvider {
    lists: RefCell<HashMap<String, Result<Vec<ProvidedTool>, ProviderError>>>,
    listed: Cell<usize>,
    responder: RefCell<Option<ToolResponder>>,
    called: RefCell<Vec<CalledTool>>,
}

impl FakeProvider {
    pub(super) fn forget_calls(&self) {
        self.listed.take();
        self.called.take();
    }
}

/// A tool that takes anything and changes nothing.
pub fn provided_tool(name: &str) -> ProvidedTool {
    ProvidedTool {
        name: name.to_owned(),
        title: None,
        description: format!("Does {name}."),
        input_schema: r#"{"type":"object"}"#.to_owned(),
        output_schema: None,
        hints: ToolHints { read_only: true, destructive: false, idempotent: true, open_world: false },
    }
}

impl World {
    /// Gives a server these tools, from now on.
    pub fn provide(&self, server: &str, tools: Result<Vec<ProvidedTool>, ProviderError>) {
        self.0.provided.lists.borrow_mut().insert(server.to_owned(), tools);
    }

    /// How often a server was asked for its tools.
    pub fn lists_read(&self) -> usize {
        self.0.provided.listed.get()
    }

    /// Answers every call of a provided tool, from now on. Without it a call is a surprise.
    pub fn tools_answer(&self, responder: impl FnMut(&CalledTool) -> Result<ToolContent, ProviderError> + 'static) {
        *self.0.provided.responder.borrow_mut() = Some(Box::new(responder));
    }

    /// The calls of provided tools so far.
    pub fn called_tools(&self) -> Vec<CalledTool> {
        self.0.provided.called.borrow().clone()
    }
}

#[async_trait(?Send)]
impl ProvidedTools for World {
    async fn list(&self, server: &str) -> Result<Vec<ProvidedTool>, ProviderError> {
        let FakeProvider { lists, listed, .. } = &self.0.provided;
        listed.set(listed.get() + 1);
        let unknown = || Err(ProviderError::Unavailable("there is no such server".to_owned()));
        lists.borrow().get(server).cloned().unwrap_or_else(unknown)
    }

    async fn call(&self, call: ToolCall<'_>) -> Result<ToolContent, ProviderError> {
        let ToolCall { server, name, arguments, caller, handle } = call;
        let call = CalledTool {
            server: server.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            caller: caller.clone(),
            handle: handle.to_owned(),
        };
        let FakeProvider { responder, called, .. } = &self.0.provided;
        called.borrow_mut().push(call.clone());
        match responder.borrow_mut().as_mut() {
            Some(responder) => responder(&call),
            None => panic!("unexpected call of {name} of {server}"),
        }
    }
}
