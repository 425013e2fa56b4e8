//! The MCP tools: the component's own, one file each (see `docs/src/tutorials/add-a-tool.md`), and those of servers behind it
//! (`provided.rs`).

mod answer_fault;
mod arguments;
#[macro_use]
mod catalog;
mod context;
mod error;
mod graph_bounds;
mod provided;
mod provider;
mod schema;
#[cfg(test)]
mod tests;
mod tool;

pub use answer_fault::AnswerFault;
pub use arguments::ArgumentError;
pub use context::{Permission, ToolContext};
pub use error::ToolError;
pub use provider::{Admits, CallArguments, Calling, Offer, OwnTools, ToolAnswer, ToolProvider};
pub use tool::AnyTool;

pub(crate) use graph_bounds::GraphBounds;
pub(crate) use provided::Provided;

use base::policy::{Name, Rule};
use base::settings::HttpSettings;
use caller::Caller;
use entra::EntraWorld;
use rmcp::model::JsonObject;
use world::RateLimiter;

use provider::CallRecord;

// A tool is a file and a line here: its module, its type, and the servers that have it, in the order of `tools/list`.
tools! {
    get_user_details::GetUserDetails => remote;
    get_user_details_from_graph::GetUserDetailsFromGraph => local remote;
    list_my_groups::ListMyGroups => remote;
    find_user::FindUser => remote;
}

/// Calls a tool and records the call: for a remote caller with its identity and client. A remote caller
/// has a `limiter`, which counts what the tool asks of Graph.
pub async fn call(
    tool: &'static dyn AnyTool,
    env: &EntraWorld<'_>,
    caller: &dyn Caller,
    limiter: Option<&dyn RateLimiter>,
    arguments: JsonObject,
) -> Result<String, ToolError> {
    let record = CallRecord::begin(env, caller, None, tool.name());
    let bounds = limiter.zip(caller.identity()).map(|(limiter, who)| GraphBounds::of(env, limiter, who));
    let result = tool.call(arguments, &ToolContext::new(env, caller, bounds, tool.needs())).await;
    record.end(&result).await?;
    result
}

/// The tools that people may be let call, whatever else it takes: what a client that acts in a person's name may use.
pub fn of_users(settings: &HttpSettings) -> Vec<&'static dyn AnyTool> {
    let lets_people = |tool: &&'static dyn AnyTool| match &settings.access {
        Some(rules) => rules.iter().any(|rule| rule.tool == tool.name() && rule.rule.users),
        None => tool.rule().users,
    };
    remote().into_iter().filter(lets_people).collect()
}

/// All scopes that a rule asks for besides that of the server, in the short form: what a client may ask our
/// authorization server for. In the order of the rules.
pub fn scopes(settings: &HttpSettings) -> Vec<Name> {
    let mut scopes = Vec::new();
    let mut add = |rule: &Rule| {
        for scope in rule.scopes.iter().filter(|scope| **scope != settings.required_scope) {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
    };
    match &settings.access {
        Some(rules) => rules.iter().for_each(|rule| add(&rule.rule)),
        None => remote().iter().for_each(|tool| add(&tool.rule())),
    }
    scopes
}
