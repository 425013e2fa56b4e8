//! Lists in answers of a server behind: what the caller may not use is taken out of them.
//!
//! Threat: a huge or deeply nested list uses up the memory of an instance, and a list that two parsers read differently shows
//! a client more than this server has seen.

use base::policy::{Denial, Target, TargetKind};
use base::settings::ServerSettings;
use serde_json::{Map, Value, json};

use super::admit::is_restricted;
use super::callers::again;
use super::handle;
use crate::access::Access;
use crate::mcp::relay::{read_answer, unjudged};
use crate::server_world::ServerWorld;

/// Bytes of the longest message that is judged.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// How long a client may keep a list while it cannot be found out whether the caller may use a part of it.
const UNDECIDED_TTL_MS: u64 = 5_000;
/// Where the protocol says how far a result may be shared (2026-07-28).
const CACHE_SCOPE: &str = "cacheScope";

/// The lists of the protocol: the member of the result, what is in it, and the member with its name.
const LISTS: [(&str, TargetKind, &str); 4] = [
    ("tools", TargetKind::Tool, "name"),
    ("resources", TargetKind::Resource, "uri"),
    ("resourceTemplates", TargetKind::Resource, "uriTemplate"),
    ("prompts", TargetKind::Prompt, "name"),
];

/// Takes out of a message what the caller may not see.
pub async fn judge_answer(env: &ServerWorld<'_>, handle: &str, message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        return unjudged(None, "the answer of the server behind is longer than 4 MiB");
    }
    let mut value = match read_answer(message.as_bytes()) {
        Ok(value) => value,
        Err(error) => return unjudged(None, &format!("the answer of the server behind cannot be judged: {error}")),
    };
    let is_concerned = match &value {
        Value::Array(batch) => batch.iter().any(is_concerned),
        message => is_concerned(message),
    };
    if !is_concerned {
        return message;
    }
    let id = value.get("id").cloned();
    match judged(env, handle, &mut value).await {
        Ok(false) => message,
        Ok(true) => value.to_string(),
        Err(reason) => unjudged(id.as_ref(), reason),
    }
}

/// Whether a message has something that depends on the caller.
fn is_concerned(message: &Value) -> bool {
    let Some(Value::Object(result)) = message.get("result") else { return false };
    result.contains_key(CACHE_SCOPE) || LISTS.iter().any(|(list, ..)| result.contains_key(*list))
}

/// Judges a message or a batch; whether it has changed. An error says why it cannot be judged.
async fn judged(env: &ServerWorld<'_>, handle: &str, value: &mut Value) -> Result<bool, &'static str> {
    const LATE: &str = "the call has ended: repeat the request";
    const UNKNOWN: &str = "the caller cannot be found now: repeat the request";
    let handle = handle::open(&env.entra, handle).await.map_err(|_| UNKNOWN)?.ok_or(LATE)?;
    let server = env.site.servers.iter().find(|server| server.name == handle.of.server).ok_or(LATE)?;
    let again = again(&env.entra, &handle.caller).await.map_err(|_| LATE)?;
    let caller = again.caller(&env.entra);
    let access = is_restricted(env, server).then(|| Access::new(env, &*caller));
    let mut changed = false;
    let messages = match value {
        Value::Array(batch) => batch.as_mut_slice(),
        message => std::slice::from_mut(message),
    };
    for message in messages {
        if let Some(Value::Object(result)) = message.get_mut("result") {
            changed |= judge(access.as_ref(), server, handle.of.modern, result).await?;
        }
    }
    Ok(changed)
}

/// Judges one result. Without `access`, everything in it may be seen.
async fn judge(
    access: Option<&Access<'_>>,
    server: &ServerSettings,
    modern: bool,
    result: &mut Map<String, Value>,
) -> Result<bool, &'static str> {
    let (mut changed, mut is_list, mut undecided) = (false, false, false);
    for (list, kind, name_of) in LISTS {
        let Some(found) = result.get_mut(list) else { continue };
        is_list = true;
        let Some(access) = access else { continue };
        let Value::Array(items) = found else { return Err("a list of the server behind is malformed") };
        let all = std::mem::take(items);
        let before = all.len();
        for item in all {
            // What has no name cannot be used.
            let Some(name) = item.get(name_of).and_then(Value::as_str) else { continue };
            match access.decide_about(&Target { server: &server.name, kind, name }).await {
                Ok(()) => items.push(item),
                Err(Denial::SessionEnded) => return Err("the session has ended: sign in again"),
                Err(denial) => undecided |= denial.is_undecided(),
            }
        }
        changed |= items.len() != before;
    }
    let private = json!("private");
    if (result.contains_key(CACHE_SCOPE) || (modern && is_list)) && result.get(CACHE_SCOPE) != Some(&private) {
        result.insert(CACHE_SCOPE.to_owned(), private);
        changed = true;
    }
    if undecided && result.get("ttlMs").and_then(Value::as_u64).is_some_and(|ttl| ttl > UNDECIDED_TTL_MS) {
        result.insert("ttlMs".to_owned(), json!(UNDECIDED_TTL_MS));
        changed = true;
    }
    Ok(changed)
}
