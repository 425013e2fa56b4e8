//! The tools of servers behind the component: read from the host, checked, and remembered for the life of an instance.
//!
//! Threat: a list is what another author says of their tools, and it goes to every client and into the context of models. So
//! everything in it is bounded, and names are what rules can name. One tool that breaks the contract makes the whole list
//! an error: a part of a list would hide that. A list never changes, so what a tool says of itself later has no effect.

mod descriptions;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use rmcp::model::Tool as Description;
use world::provided_tools::{ProvidedTools, ProviderError};
use world::{Log, Trail};

pub(crate) use descriptions::BadList;

/// Characters of a text for the log that comes from a host or a tool.
const MAX_NOTE: usize = 500;

/// The tools of one server, or how its list breaks the contract: it always will.
type Checked = Result<Rc<[Description]>, BadList>;

/// By the names of the servers.
type CheckedLists = BTreeMap<String, Checked>;

/// What an instance remembers of the lists of servers.
#[derive(Default)]
pub struct ToolLists(RefCell<CheckedLists>);

/// What the tools of servers behind the component take of the world.
#[derive(Clone, Copy)]
pub struct ProvidedWorld<'w> {
    /// Lists and calls them.
    pub tools: &'w dyn ProvidedTools,
    /// Those of the instance.
    pub lists: &'w ToolLists,
    /// What only the operator should know.
    pub log: &'w dyn Log,
}

/// Why there is no list of tools. The operator was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoList {
    /// It breaks the contract, and always will.
    #[error(transparent)]
    Bad(#[from] BadList),
    /// The host does not have it now.
    #[error(transparent)]
    Unavailable(#[from] ProviderError),
    /// Two servers on one connection have a tool of this name.
    #[error("two servers have a tool that is called {0}")]
    Ambiguous(String),
}

impl ProvidedWorld<'_> {
    /// The tools of a server, in the order of `tools/list`. The host is asked once in the life of the instance.
    pub(crate) async fn list(&self, server: &str, trail: &Trail<'_>) -> Result<Rc<[Description]>, NoList> {
        if let Some(known) = self.lists.0.borrow().get(server) {
            return Ok(known.clone()?);
        }
        let tools = match self.tools.list(server).await {
            Ok(tools) => tools,
            Err(error) => {
                self.note(server, &error, trail);
                return Err(error.into());
            }
        };
        let checked = descriptions::checked(tools);
        if let Err(bad) = &checked {
            self.note(server, bad, trail);
        }
        self.lists.0.borrow_mut().insert(server.to_owned(), checked.clone());
        Ok(checked?)
    }

    /// Tells the operator why the tools of a server cannot be listed.
    pub(crate) fn note(&self, server: &str, why: &dyn std::error::Error, trail: &Trail<'_>) {
        let (why, id) = (for_log(&why.to_string()), trail.id());
        self.log.note(&format!("the tools of {server} cannot be listed: {why} (correlation id {id})"));
    }
}

/// A text of a host or a tool as one line that cannot pass for another one of the log.
pub(crate) fn for_log(text: &str) -> String {
    let text: String = text.chars().take(MAX_NOTE).collect();
    text.escape_debug().to_string()
}
