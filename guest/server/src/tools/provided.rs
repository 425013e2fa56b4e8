//! The tools of servers behind the component: the host runs them, and the component decides, speaks MCP and records.

mod answer;

use std::rc::Rc;

use async_trait::async_trait;
use base::policy::{Denial, Target, TargetKind};
use base::principal::PrincipalKind;
use base::settings::{ServerSettings, Settings};
use caller::PersonCaller;
use caller::local::{Account, SignInError};
use entra::graph::profile::profile_scope;
use rmcp::model::Tool as Description;
use world::Trail;
use world::provided_tools::{ProviderError, ToolCall, ToolCaller};

use super::error::ToolError;
use super::provider::{Admits, CallArguments, CallRecord, Calling, Offer, ToolAnswer, ToolProvider};
use crate::gatekeeper::callers::tool_caller;
use crate::gatekeeper::handle::{self, HandleContent};
use crate::gatekeeper::local;
use crate::tool_lists::{NoList, ProvidedWorld, for_log};

/// The tools of one server, or on a local connection those of all servers.
pub(crate) struct Provided<'a> {
    world: ProvidedWorld<'a>,
    servers: Vec<(&'a ServerSettings, Rc<[Description]>)>,
}

impl<'a> Provided<'a> {
    /// Reads what tools these servers have.
    pub(crate) async fn load(
        world: ProvidedWorld<'a>,
        servers: impl Iterator<Item = &'a ServerSettings>,
        trail: &Trail<'_>,
    ) -> Result<Self, NoList> {
        let mut loaded = Self { world, servers: Vec::new() };
        for server in servers {
            let tools = world.list(&server.name, trail).await?;
            if let Some(twice) = tools.iter().find(|tool| loaded.named(&tool.name).is_some()) {
                let ambiguous = NoList::Ambiguous(twice.name.to_string());
                world.note(&server.name, &ambiguous, trail);
                return Err(ambiguous);
            }
            loaded.servers.push((server, tools));
        }
        Ok(loaded)
    }

    fn named(&self, name: &str) -> Option<(&'a ServerSettings, &Description)> {
        let find = |tools: &'_ [Description]| tools.iter().position(|tool| tool.name == name);
        self.servers.iter().find_map(|(server, tools)| Some((*server, tools.get(find(tools)?)?)))
    }

    async fn called(
        &self,
        server: &ServerSettings,
        name: &str,
        arguments: &CallArguments<'_>,
        calling: Calling<'_>,
    ) -> Result<ToolAnswer, ToolError> {
        let (caller, handle) = match calling {
            Calling::Person(env, caller) => {
                let entra = &env.person.entra;
                let account = signed_in(entra.settings, server, caller).await?;
                let handle = local::seal(entra, &server.name, &account).await;
                (person(entra.trail, account), handle?)
            }
            Calling::Client(env, caller) => {
                let of = HandleContent::of_tool(&server.name, name);
                let handle = handle::make(&env.entra, caller, &of).await?;
                (tool_caller(env.entra.trail, caller), handle)
            }
        };
        let call = ToolCall {
            server: &server.name,
            name,
            arguments: arguments.text(),
            caller: &caller,
            handle: handle.reveal(),
        };
        let answer = match self.world.tools.call(call).await {
            Ok(content) => answer::read(content),
            Err(error) => Err(answer::within_bound(error).into()),
        };
        if let Err(error) = &answer {
            self.note(calling.entra().trail, &server.name, name, error);
        }
        answer
    }

    /// Tells the operator what the caller is not told.
    fn note(&self, trail: &Trail<'_>, server: &str, tool: &str, error: &ToolError) {
        let why = match error {
            // The tool or the delegation says it to the caller.
            ToolError::Provided(
                ProviderError::InvalidArguments(_) | ProviderError::Failed(_) | ProviderError::Delegation(_),
            ) => return,
            error => error.to_string(),
        };
        let (why, id) = (for_log(&why), trail.id());
        self.world.log.note(&format!("a call of {tool} of {server} has no answer: {why} (correlation id {id})"));
    }
}

#[async_trait(?Send)]
impl ToolProvider for Provided<'_> {
    fn tools(&self) -> Vec<Offer<'_>> {
        let offers = self.servers.iter().flat_map(|(server, tools)| {
            let server = server.name.as_str();
            tools.iter().map(move |description| {
                let admits = Admits::Provided(tool(server, &description.name));
                Offer { description, admits }
            })
        });
        offers.collect()
    }

    fn find(&self, name: &str) -> Option<Admits<'_>> {
        let (server, tool) = self.named(name)?;
        Some(Admits::Provided(self::tool(&server.name, &tool.name)))
    }

    async fn call(
        &self,
        name: &str,
        arguments: CallArguments<'_>,
        calling: Calling<'_>,
    ) -> Result<ToolAnswer, ToolError> {
        let (server, _) = self.named(name).ok_or(Denial::NotListed)?;
        let record = CallRecord::begin(calling.entra(), calling.caller(), Some(&server.name), name);
        let result = self.called(server, name, &arguments, calling).await;
        record.end(&result).await?;
        result
    }
}

/// What rules are about.
fn tool<'a>(server: &'a str, name: &'a str) -> Target<'a> {
    Target { server, kind: TargetKind::Tool, name }
}

/// The account of the person at this machine, who signs in if needed: with the first permission of the server, so that the
/// tool's own requests find a token, or with that for the profile where it has none.
async fn signed_in(
    settings: &Settings,
    server: &ServerSettings,
    caller: &PersonCaller<'_>,
) -> Result<Account, SignInError> {
    let permissions = server.permissions.first().filter(|permissions| !permissions.is_empty());
    let permissions = permissions.cloned().unwrap_or_else(|| vec![profile_scope(settings)]);
    Ok(caller.acquire(&permissions, None).await?.account)
}

/// The person at this machine, as a tool learns of them.
fn person(trail: &Trail<'_>, account: Account) -> ToolCaller {
    ToolCaller {
        tenant_id: account.tenant_id,
        object_id: account.object_id,
        client_id: String::new(),
        kind: PrincipalKind::User,
        agent: false,
        scopes: Vec::new(),
        roles: Vec::new(),
        correlation_id: trail.id().to_owned(),
    }
}
