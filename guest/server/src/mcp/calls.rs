//! `tools/list` and `tools/call`, for tools of any provider.

use base::policy::Denial;
use base::settings::{ServerKind, ServerSettings};
use caller::local::{PersonWorld, SignInError, accounts, attempt, interactive};
use caller::{Caller, PersonCaller};
use rmcp::model::{CacheScope, JsonObject, ListToolsResult, Tool as Description};
use serde_json::{Map, Value, json};

use super::envelope::{INTERNAL_ERROR, RpcError};
use super::person::{self, ClientPresenter, ClientState};
use super::request_error::{RequestError, internal};
use super::request_state::{self, OpenedState};
use super::results::{finished, in_era, to_value};
use super::version::{Era, McpConnection};
use super::{Peer, Reply, challenge};
use crate::access::Access;
use crate::local_world::LocalWorld;
use crate::server_world::ServerWorld;
use crate::tools::{self, Admits, CallArguments, Calling, OwnTools, Provided, ToolError, ToolProvider};

/// How long a client may keep the list of tools: it may depend on the caller.
const TOOLS_TTL_MS: u64 = 300_000;
/// The same while it cannot be found out whether the caller may call one of them: that Graph or Entra ID failed is
/// remembered as long.
const UNDECIDED_TTL_MS: u64 = 5_000;
/// The name of the sign-in among what is asked of a client.
const SIGN_IN_INPUT: &str = "sign-in";
/// Stands for the choice of an account in place of a sign-in attempt, whose names are random.
const CHOICE: &str = "choice-of-account";
/// How long a client may take to come back with the choice.
const CHOICE_SECONDS: u64 = 600;

/// A request to call a tool.
struct Request<'a> {
    provider: &'a dyn ToolProvider,
    /// The tool.
    name: &'a str,
    params: &'a Map<String, Value>,
    arguments: Option<Value>,
    /// The message that it came in.
    message: &'a [u8],
    era: &'a Era,
}

impl<'a> Request<'a> {
    fn arguments(&mut self) -> Result<CallArguments<'a>, RpcError> {
        let values = match self.arguments.take() {
            None | Some(Value::Null) => JsonObject::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(_) => return Err(RpcError::invalid_params("arguments has to be an object")),
        };
        Ok(CallArguments { values, message: self.message })
    }
}

/// The servers behind the component whose tools the peer is offered: on a local connection all, else the one that the
/// request was sent to.
pub(super) fn servers<'a>(peer: &Peer<'a>) -> impl Iterator<Item = &'a ServerSettings> {
    let (all, one) = match *peer {
        Peer::Local(env) => (env.person.entra.settings.servers.as_slice(), None),
        Peer::Remote(env, _) => (&[][..], env.server),
    };
    all.iter().chain(one).filter(|server| server.kind == ServerKind::Tools)
}

/// The tools that the message is about.
async fn provider<'a>(peer: &Peer<'a>) -> Result<Box<dyn ToolProvider + 'a>, RpcError> {
    let env = peer.entra();
    if env.settings.servers.is_empty() {
        return Ok(Box::new(OwnTools(match peer {
            Peer::Local(_) => tools::local(),
            Peer::Remote(..) => tools::remote(),
        })));
    }
    let world = match *peer {
        Peer::Local(env) => env.provided,
        Peer::Remote(env, _) => env.provided,
    };
    match Provided::load(world, servers(peer), env.trail).await {
        Ok(provided) => Ok(Box::new(provided)),
        // The operator was told why.
        Err(_) => {
            let id = env.trail.id();
            let text = format!("the tools of this server cannot be listed now (correlation id {id})");
            Err(RpcError::new(INTERNAL_ERROR, text))
        }
    }
}

/// The result of `tools/list`.
pub(super) async fn list_tools(peer: &Peer<'_>, params: &Map<String, Value>, era: &Era) -> Result<Value, RequestError> {
    if params.get("cursor").is_some_and(|cursor| !cursor.is_null()) {
        return Err(RpcError::invalid_params("unknown cursor: the list has one page").into());
    }
    let provider = provider(peer).await?;
    let (descriptions, ttl) = match access_of(peer) {
        None => (provider.tools().into_iter().map(|tool| tool.description.clone()).collect(), TOOLS_TTL_MS),
        Some(access) => permitted(&access, &*provider).await?,
    };
    let result = ListToolsResult::with_all_items(descriptions).with_ttl_ms(ttl).with_cache_scope(CacheScope::Private);
    Ok(in_era(to_value(&result)?, era))
}

/// What a caller may call, and how long that may be kept.
async fn permitted(access: &Access<'_>, provider: &dyn ToolProvider) -> Result<(Vec<Description>, u64), RequestError> {
    let (mut descriptions, mut ttl) = (Vec::new(), TOOLS_TTL_MS);
    for tool in provider.tools() {
        let decided = match tool.admits {
            Admits::Own(terms) => access.decide(&terms).await,
            Admits::Provided(target) => access.decide_about(&target).await,
        };
        match decided {
            Ok(()) => descriptions.push(tool.description.clone()),
            Err(Denial::SessionEnded) => return Err(Reply::SignInAgain.into()),
            Err(denial) if denial.is_shown() => descriptions.push(tool.description.clone()),
            Err(denial) if denial.is_undecided() => ttl = UNDECIDED_TTL_MS,
            Err(_) => {}
        }
    }
    Ok((descriptions, ttl))
}

/// What a caller of the remote server may do. The person at this machine may do everything.
fn access_of<'a>(peer: &Peer<'a>) -> Option<Access<'a>> {
    match *peer {
        Peer::Local(_) => None,
        Peer::Remote(env, caller) => Some(Access::new(env, caller)),
    }
}

/// The result of `tools/call`. `message` is the text that the parameters were parsed from.
pub(super) async fn call_tool(
    peer: &Peer<'_>,
    connection: &mut McpConnection,
    mut params: Map<String, Value>,
    message: &[u8],
    era: &Era,
) -> Result<String, RequestError> {
    let arguments = params.remove("arguments");
    let Some(name) = params.get("name").and_then(Value::as_str) else {
        return Err(RpcError::invalid_params("name is missing or not a string").into());
    };
    let unknown = || RequestError::from(RpcError::invalid_params("Unknown tool").with_data(json!({ "name": name })));
    let provider = provider(peer).await?;
    let admits = provider.find(name).ok_or_else(unknown)?;
    if let Some(access) = access_of(peer) {
        let decided = match admits {
            Admits::Own(terms) => access.admit(&terms).await,
            Admits::Provided(target) => access.admit_to(&target).await,
        };
        match decided {
            Ok(()) => {}
            // The tool is switched off for all callers, and looks like a tool that does not exist.
            Err(Denial::NotListed) => return Err(unknown()),
            Err(Denial::ScopesMissing { required }) => return Err(Reply::InsufficientScope(required).into()),
            Err(Denial::SessionEnded) => return Err(Reply::SignInAgain.into()),
            Err(denial) => {
                let challenge = peer.authentication().and_then(|kind| challenge::of_denial(kind, &denial));
                return challenge
                    .map_or_else(|| Ok(finished(Err(&denial.into()), peer, era)), |reply| Err(reply.into()));
            }
        }
    }
    let request = Request { provider: &*provider, name, params: &params, arguments, message, era };
    match *peer {
        Peer::Local(env) => call_for_person(peer, env, connection, request).await,
        Peer::Remote(env, caller) => call_for_client(peer, env, caller, request).await,
    }
}

/// A call of the person at this machine, who may be asked to sign in.
async fn call_for_person(
    peer: &Peer<'_>,
    env: &LocalWorld<'_>,
    connection: &mut McpConnection,
    mut request: Request<'_>,
) -> Result<String, RequestError> {
    let mut account = connection.account().map(str::to_owned);
    let open = {
        let person = PersonWorld { chosen: account.as_deref(), ..env.person };
        accounts::to_choose_from(&person).await.map_err(internal)?
    };
    let digest = request_state::request_digest(request.name, request.arguments.as_ref());
    let arguments = request.arguments()?;
    let Request { provider, name, params, era, .. } = request;
    let round = round_of(peer, params, era, &digest).await?;
    let resumes = match &round {
        Round::First => None,
        Round::Resumes(attempt) => Some(attempt.as_str()),
        Round::Declined(attempt) => {
            let declined = interactive::decline(&env.person, attempt).await.err().unwrap_or(SignInError::Declined);
            return Ok(finished(Err(&ToolError::from(declined)), peer, era));
        }
        // What is asked for in a form may be missing in the answer, or have been signed out meanwhile.
        Round::Chosen(answer) => {
            if let Some(chosen) = person::chosen_account(answer, &open) {
                connection.choose(&chosen.home_account_id);
                account = Some(chosen.home_account_id.clone());
            }
            None
        }
    };
    let may_ask = !open.is_empty() && era.can_show_form() && !matches!(round, Round::Chosen(_));
    let again = may_ask.then(|| CallArguments { values: arguments.values.clone(), message: arguments.message });
    let call = async |account: Option<&str>, arguments| {
        let person = PersonWorld { chosen: account, ..env.person };
        let env = LocalWorld { person, ..*env };
        let state = ClientState::default();
        let client = ClientPresenter { person: &env.person, era, progress_token: progress_token(params), state };
        let caller = PersonCaller::new(&env.person, &client, resumes);
        provider.call(name, arguments, Calling::Person(&env, &caller)).await
    };
    let mut result = call(account.as_deref(), arguments).await;
    let person = &env.person;
    // The account is the first thing that a tool asks for, so nothing was done yet.
    if let (Some(again), Err(error)) = (again, &result)
        && matches!(error.sign_in(), Some(SignInError::AccountSelection(_)))
    {
        if era.is_modern() {
            let expires_at = person.entra.clock.now() + CHOICE_SECONDS;
            let form = person::account_form(&open, era);
            return asked(peer, person::ACCOUNT, &form, CHOICE, expires_at, digest, era).await;
        }
        let state = ClientState::default();
        let client = ClientPresenter { person, era, progress_token: None, state };
        if let Some(chosen) = client.ask_account(&open) {
            connection.choose(&chosen.home_account_id);
            result = call(Some(&chosen.home_account_id), again).await;
        }
    }
    if let Err(error) = &result
        && let Some(SignInError::Deferred { attempt, instruction }) = error.sign_in()
    {
        let expires_at = person.entra.clock.now() + attempt::BROWSER_LIFETIME.as_secs();
        let elicitation = person::elicitation(instruction, person.entra.settings);
        return asked(peer, SIGN_IN_INPUT, &elicitation, attempt, expires_at, digest, era).await;
    }
    Ok(finished(result.as_ref(), peer, era))
}

/// The result that asks the client for something (2026-07-28), after which it repeats the call. `attempt` is what the state
/// leads back to.
async fn asked(
    peer: &Peer<'_>,
    name: &str,
    elicitation: &Value,
    attempt: &str,
    expires_at: u64,
    digest: String,
    era: &Era,
) -> Result<String, RequestError> {
    let state = request_state::seal(peer, attempt, expires_at, digest).await.map_err(internal)?;
    let result = json!({
        "resultType": "input_required",
        "inputRequests": { name: { "method": "elicitation/create", "params": elicitation } },
        "requestState": state,
    });
    Ok(in_era(result, era).to_string())
}

/// A call of a client of the remote server. Its user has signed in already; what is missing is for the transport to say.
async fn call_for_client(
    peer: &Peer<'_>,
    env: &ServerWorld<'_>,
    caller: &dyn Caller,
    mut request: Request<'_>,
) -> Result<String, RequestError> {
    // A tool asks a remote client for nothing, so no state was ever given to one.
    if request.era.is_modern() && request.params.contains_key("requestState") {
        return Err(foreign_state().into());
    }
    let arguments = request.arguments()?;
    let Request { provider, name, era, .. } = request;
    let result = provider.call(name, arguments, Calling::Client(env, caller)).await;
    if let Err(error) = &result
        && let Some(reply) = challenge::of(caller, error).await
    {
        return Err(reply.into());
    }
    Ok(finished(result.as_ref(), peer, era))
}

/// Where in a multi-round call (2026-07-28) a request is.
enum Round {
    First,
    /// The person has been shown what to do, and went to do it.
    Resumes(String),
    Declined(String),
    /// The person was asked which account is meant: the answer.
    Chosen(Value),
}

fn foreign_state() -> RpcError {
    RpcError::invalid_params("requestState is not one that this server gave for this request")
}

async fn round_of(peer: &Peer<'_>, params: &Map<String, Value>, era: &Era, request: &str) -> Result<Round, RpcError> {
    let Some(state) = params.get("requestState").filter(|_| era.is_modern()) else {
        return Ok(Round::First);
    };
    let state = state.as_str().ok_or_else(foreign_state)?;
    let attempt = match request_state::open(peer, state, request).await.map_err(internal)? {
        OpenedState::Attempt(attempt) => attempt,
        OpenedState::Expired => return Ok(Round::First),
        OpenedState::Refused => return Err(foreign_state()),
    };
    let response = |name| params.get("inputResponses").and_then(|responses: &Value| responses.get(name));
    if attempt == CHOICE {
        // Without an answer it is asked for again.
        return Ok(response(person::ACCOUNT).map_or(Round::First, |answer| Round::Chosen(answer.clone())));
    }
    let response = response(SIGN_IN_INPUT);
    match response.and_then(|response| response.get("action")).and_then(Value::as_str) {
        Some("accept") => Ok(Round::Resumes(attempt)),
        Some("decline" | "cancel") => Ok(Round::Declined(attempt)),
        // What was asked for is missing: it is asked for again.
        _ => Ok(Round::First),
    }
}

fn progress_token(params: &Map<String, Value>) -> Option<Value> {
    let token = params.get("_meta")?.get("progressToken")?;
    (token.is_string() || token.is_i64() || token.is_u64()).then(|| token.clone())
}
