//! Lists in answers of a server behind: what the caller may not use is taken out of them.
//!
//! Threat: a huge or deeply nested list uses up the memory of an instance, and a list that two parsers read differently shows
//! a client more than this server has seen.

use base::policy::{Denial, Target, TargetKind};
use base::settings::ServerIdentity;
use entra_mcp_boundary::members::{
    CACHE_SCOPE, CONCERNED, CONTENTS, PROMPTS, RESOURCE_TEMPLATES, RESOURCES, SUPPORTED_VERSIONS, TASKS, TOOLS, TTL,
    is_read_as,
};
use serde_json::{Map, Value, json};
use world::BodyOnce;

use super::admit::is_restricted;
use super::callers::again;
use super::{handed, handle};
use crate::access::Access;
use crate::mcp::relay::{read_answer, unjudged};
use crate::server_world::ServerWorld;

/// Bytes of the longest message that is judged.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// How long a client may keep a list while it cannot be found out whether the caller may use a part of it.
const UNDECIDED_TTL_MS: u64 = 5_000;
/// The member of a message that has what was asked for.
const RESULT: &str = "result";
/// What a client is told that gets no list because of its form.
const AMBIGUOUS: &str = "the name of a member of the answer may be taken for another one";

/// The lists of the protocol: the member of the result, what is in it, and the member with its name.
const LISTS: [(&str, TargetKind, &str); 4] = [
    (TOOLS, TargetKind::Tool, "name"),
    (RESOURCES, TargetKind::Resource, "uri"),
    (RESOURCE_TEMPLATES, TargetKind::Resource, "uriTemplate"),
    (PROMPTS, TargetKind::Prompt, "name"),
];

/// Other members that change what a client does with a list.
const ABOUT_LISTS: [&str; 2] = [CACHE_SCOPE, TTL];
/// What the results of `resources/read` and `server/discover` have, which may depend on the caller too.
const PERSONAL: [&str; 2] = [CONTENTS, SUPPORTED_VERSIONS];

/// Takes out of a message what the caller may not see, and remembers what it hands out to the caller.
#[inline(never)]
pub fn judge_answer<'f>(env: &'f ServerWorld<'_>, handle: &'f str, message: String) -> BodyOnce<'f, String> {
    Box::pin(async move {
        if message.len() > MAX_MESSAGE_BYTES {
            return unjudged(None, "the answer of the server behind is longer than 4 MiB");
        }
        let mut value = match read_answer(message.as_bytes()) {
            Ok(value) => value,
            Err(error) => return unjudged(None, &format!("the answer of the server behind cannot be judged: {error}")),
        };
        let messages = value.as_array().map_or(std::slice::from_ref(&value), Vec::as_slice);
        if messages.iter().any(is_ambiguous) {
            return unjudged(value.get("id"), AMBIGUOUS);
        }
        if !messages.iter().any(is_concerned) {
            return message;
        }
        let id = value.get("id").cloned();
        match judged(env, handle, &mut value).await {
            Ok(false) => message,
            Ok(true) => value.to_string(),
            Err(reason) => unjudged(id.as_ref(), reason),
        }
    })
}

/// Whether a message has something that depends on the caller.
fn is_concerned(message: &Value) -> bool {
    let Some(Value::Object(result)) = message.get(RESULT) else { return false };
    CONCERNED.iter().any(|member| result.contains_key(*member)) || !handed::names_in(result).is_empty()
}

/// Whether a client that does not compare names exactly could find a list where this server finds none. Only members of the
/// result itself count: what a tool says in `content` and `structuredContent` has any names.
fn is_ambiguous(message: &Value) -> bool {
    let Value::Object(message) = message else { return false };
    let of_result = |result: &Value| {
        result.as_object().is_some_and(|result| {
            let lists = LISTS.iter().map(|(list, ..)| list).chain([&TASKS]);
            lists.chain(&ABOUT_LISTS).any(|member| has_variant(result, member))
        })
    };
    has_variant(message, RESULT) || message.get(RESULT).is_some_and(of_result)
}

/// Whether a member has this name but for the case of letters.
fn has_variant(object: &Map<String, Value>, member: &str) -> bool {
    object.keys().any(|name| name != member && is_read_as(name, member))
}

/// Judges a message or a batch; whether it has changed. An error says why it cannot be judged.
async fn judged(env: &ServerWorld<'_>, handle: &str, value: &mut Value) -> Result<bool, &'static str> {
    const LATE: &str = "the call has ended: repeat the request";
    const UNKNOWN: &str = "the caller cannot be found now: repeat the request";
    let (handle, caller) = handle::open(&env.entra, handle).await.map_err(|_| UNKNOWN)?.ok_or(LATE)?;
    let server = env.site.servers.iter().find(|server| server.name == handle.of.server).ok_or(LATE)?;
    let again = again(&env.entra, &caller).await.map_err(|_| LATE)?;
    let caller = again.caller(&env.entra);
    let access = is_restricted(env, server, &*caller).then(|| Access::new(env, &*caller));
    let answer = OfAnswer {
        access: access.as_ref(),
        server: &server.name,
        modern: handle.of.modern,
        personal: handle.of.modern && (access.is_some() || server.identity != ServerIdentity::None),
    };
    let who = caller.identity().ok_or(LATE)?;
    let mut changed = false;
    let messages = match value {
        Value::Array(batch) => batch.as_mut_slice(),
        message => std::slice::from_mut(message),
    };
    for message in messages {
        if let Some(Value::Object(result)) = message.get_mut(RESULT) {
            for name in handed::names_in(result) {
                handed::remember(&env.entra, &server.name, who, name).await.map_err(|_| UNKNOWN)?;
            }
            if let Some(Value::Array(tasks)) = result.get_mut(TASKS) {
                changed |= handed::keep_own(&env.entra, &server.name, who, tasks).await.map_err(|_| UNKNOWN)?;
            }
            changed |= judge(&answer, result).await?;
        }
    }
    Ok(changed)
}

/// What a result is judged by.
struct OfAnswer<'a> {
    /// Without, everything in it may be seen.
    access: Option<&'a Access<'a>>,
    server: &'a str,
    /// The request was one of 2026-07-28.
    modern: bool,
    /// And what the server says may depend on the caller.
    personal: bool,
}

/// Judges one result.
async fn judge(answer: &OfAnswer<'_>, result: &mut Map<String, Value>) -> Result<bool, &'static str> {
    let OfAnswer { access, server, modern, personal } = *answer;
    let (mut changed, mut is_list, mut undecided) = (false, false, false);
    for (list, kind, name_of) in LISTS {
        let Some(found) = result.get_mut(list) else { continue };
        is_list = true;
        let Some(access) = access else { continue };
        let Value::Array(items) = found else { return Err("a list of the server behind is malformed") };
        let all = std::mem::take(items);
        let before = all.len();
        for item in all {
            if item.as_object().is_some_and(|item| has_variant(item, name_of)) {
                return Err(AMBIGUOUS);
            }
            // What has no name cannot be used.
            let Some(name) = item.get(name_of).and_then(Value::as_str) else { continue };
            match access.decide_about(&Target { server, kind, name }).await {
                Ok(()) => items.push(item),
                Err(denial) if denial.is_shown() => items.push(item),
                Err(Denial::SessionEnded) => return Err("the session has ended: sign in again"),
                Err(denial) => undecided |= denial.is_undecided(),
            }
        }
        changed |= items.len() != before;
    }
    let private = json!("private");
    let is_personal = personal && PERSONAL.iter().any(|member| result.contains_key(*member));
    if (result.contains_key(CACHE_SCOPE) || (modern && is_list) || is_personal)
        && result.get(CACHE_SCOPE) != Some(&private)
    {
        result.insert(CACHE_SCOPE.to_owned(), private);
        changed = true;
    }
    if undecided && result.get(TTL).and_then(Value::as_u64).is_some_and(|ttl| ttl > UNDECIDED_TTL_MS) {
        result.insert(TTL.to_owned(), json!(UNDECIDED_TTL_MS));
        changed = true;
    }
    Ok(changed)
}
