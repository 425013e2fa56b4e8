//! The export, in front of the one that is imported.

use std::cell::OnceCell;
use std::io::Write as _;
use std::rc::Rc;

use base::Secret;
use world::{ClientCredential, Credential, CredentialError};

use self::generated::exports::wasmcp::mcp_v20251125::server_handler::{self, MessageContext};
use self::generated::wasmcp::mcp_v20251125::mcp::{
    self, CallToolResult, ClientMessage, ClientRequest, ContentBlock, ErrorCode, Identity, ListToolsRequest,
    ListToolsResult, RequestId, ServerResult, TextContent, TextData, Tool, ToolAnnotations, ToolOptions,
};
use self::generated::wasmcp::mcp_v20251125::server_handler as behind;
use self::wasi::{Wasi, with_world};
use crate::memory::Memory;
use crate::profile::{self, Failure};
use crate::settings::{self, Configuration};
use crate::tool;

#[allow(unsafe_code, unreachable_pub, reason = "the export macro defines the component's entry points")]
mod exports;
#[path = "../../../validator/src/fetch.rs"]
mod fetch;
mod interfaces;
#[path = "../../shared/wasi.rs"]
mod wasi;

#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::restriction, reason = "generated code")]
mod generated {
    wit_bindgen::generate!({
        path: "../wit",
        world: "entra-mcp:wasmcp/tools",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "crate::bindings::generated",
    });
}

/// JSON-RPC: the handler behind broke the contract.
const INTERNAL_ERROR: i64 = -32603;

thread_local! {
    // A component instance has one thread, so these are the instance's.
    static CONFIGURATION: OnceCell<Option<Rc<Configuration>>> = const { OnceCell::new() };
    /// What Entra ID has answered, by caller and token.
    static STORE: Memory<Wasi> = Memory::new(Wasi);
}

/// The settings. None: they are not valid, which was said.
fn configuration() -> Option<Rc<Configuration>> {
    CONFIGURATION.with(|known| {
        let read = || {
            #[allow(
                clippy::disallowed_methods,
                reason = "the settings of this artefact are variables, and are read here only"
            )]
            let variables: Vec<_> = std::env::vars().collect();
            match settings::read(&variables) {
                Ok(configuration) => Some(Rc::new(configuration)),
                Err(error) => {
                    note(&format!("cannot start: {error}"));
                    None
                }
            }
        };
        known.get_or_init(read).clone()
    })
}

/// Adds a line to the log of the host.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "entra-mcp: {text}");
}

/// The application's secret, from a variable. There is no other one.
struct GivenSecret<'a>(&'a Secret<String>);

impl ClientCredential for GivenSecret<'_> {
    fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
        Ok(Credential::Secret(self.0.clone()))
    }

    fn replacement(&self, _: &str, _: &Credential) -> Result<Credential, CredentialError> {
        Ok(Credential::None)
    }
}

struct Tools;

impl server_handler::Guest for Tools {
    fn handle(ctx: MessageContext<'_>, message: ClientMessage) -> Option<Result<ServerResult, ErrorCode>> {
        match message {
            ClientMessage::Request((id, ClientRequest::ToolsList(request))) => Some(list(&ctx, id, request)),
            ClientMessage::Request((_, ClientRequest::ToolsCall(request))) if request.name == tool::NAME => {
                Some(Ok(ServerResult::ToolsCall(call(ctx.identity.as_ref()))))
            }
            message => behind::handle(&onward(&ctx), message),
        }
    }
}

/// The context for the handlers behind, without the client's token.
fn onward<'a>(ctx: &MessageContext<'a>) -> behind::MessageContext<'a> {
    let identity = ctx.identity.as_ref();
    behind::MessageContext {
        client_stream: ctx.client_stream,
        protocol_version: ctx.protocol_version.clone(),
        session: ctx.session.clone(),
        identity: identity.map(|identity| Identity { jwt: Vec::new(), claims: identity.claims.clone() }),
        frame: ctx.frame.clone(),
        http_context: ctx.http_context.clone(),
    }
}

/// The tools behind, and on the first page the own one. One behind that has its name could not be called.
fn list(ctx: &MessageContext<'_>, id: RequestId, request: ListToolsRequest) -> Result<ServerResult, ErrorCode> {
    let is_first = request.cursor.is_none();
    let message = ClientMessage::Request((id, ClientRequest::ToolsList(request)));
    let mut listed = match behind::handle(&onward(ctx), message) {
        Some(Ok(ServerResult::ToolsList(listed))) => listed,
        Some(Err(ErrorCode::MethodNotFound(_))) | None if is_first => {
            ListToolsResult { meta: None, next_cursor: None, tools: Vec::new() }
        }
        Some(Err(error)) => return Err(error),
        Some(Ok(_)) | None => {
            let message = "the handler behind did not answer with a list of tools".to_owned();
            return Err(ErrorCode::InternalError(mcp::Error { code: INTERNAL_ERROR, message, data: None }));
        }
    };
    listed.tools.retain(|tool| tool.name != tool::NAME);
    if is_first {
        listed.tools.insert(0, description());
    }
    Ok(ServerResult::ToolsList(listed))
}

fn description() -> Tool {
    let annotations = ToolAnnotations {
        title: Some(tool::TITLE.to_owned()),
        read_only_hint: Some(true),
        destructive_hint: Some(false),
        idempotent_hint: Some(true),
        open_world_hint: Some(true),
    };
    let options = ToolOptions {
        meta: None,
        annotations: Some(annotations),
        description: Some(tool::DESCRIPTION.to_owned()),
        output_schema: Some(tool::OUTPUT_SCHEMA.to_owned()),
        title: Some(tool::TITLE.to_owned()),
        icons: None,
    };
    Tool { name: tool::NAME.to_owned(), input_schema: tool::INPUT_SCHEMA.to_owned(), options: Some(options) }
}

fn call(identity: Option<&Identity>) -> CallToolResult {
    let (text, structured_content, is_error) = match answer(identity) {
        Ok(json) => (json.clone(), Some(json), false),
        Err(told) => (told, None, true),
    };
    let text = ContentBlock::Text(TextContent { text: TextData::Text(text), options: None });
    CallToolResult { meta: None, content: vec![text], is_error: Some(is_error), structured_content }
}

/// The answer, or what the caller is told in its place.
fn answer(identity: Option<&Identity>) -> Result<String, String> {
    let configuration = configuration().ok_or(tool::NOT_SET_UP)?;
    let token = &identity.ok_or(tool::NO_CALLER)?.jwt;
    let token = String::from_utf8(token.clone()).map(Secret::new).map_err(|_| tool::NO_TOKEN)?;
    let credential = GivenSecret(&configuration.secret);
    let answer = STORE.with(|store| {
        with_world(&configuration.settings, store, &credential, async |env| {
            profile::read(env, token, &configuration.required_scope).await
        })
    });
    answer.map_err(|Failure { reason, told }| {
        note(&format!("{} has no answer: {reason}", tool::NAME));
        told
    })
}
