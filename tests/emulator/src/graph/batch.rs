//! `$batch`: several requests in one, each with its own answer.
//!
//! Faults aimed at an endpoint also strike inside a batch, as far as an answer can be altered: that is how Graph throttles
//! one of them and serves the others.

use std::collections::BTreeMap;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{GraphCaller, GraphError, dispatch};
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::http::{Incoming, Params, Reply};
use crate::world::World;

/// Graph's own limit.
const REQUESTS_AT_MOST: usize = 20;

#[derive(Deserialize)]
struct Batch {
    requests: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
    method: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Value,
    #[serde(default, rename = "dependsOn")]
    depends_on: Vec<String>,
}

pub(super) fn serve(
    world: &World,
    config: &Config,
    caller: &GraphCaller,
    incoming: &Incoming,
) -> Result<Reply, GraphError> {
    if incoming.method != Method::POST {
        return Err(GraphError::bad_request("A batch has to be posted."));
    }
    let batch: Batch = serde_json::from_slice(&incoming.body)
        .map_err(|error| GraphError::bad_request(format!("Invalid batch payload format: {error}")))?;
    if batch.requests.len() > REQUESTS_AT_MOST {
        return Err(GraphError::bad_request(format!(
            "Number of batch request steps exceeds the maximum value of {REQUESTS_AT_MOST}."
        )));
    }
    let mut statuses: BTreeMap<String, StatusCode> = BTreeMap::new();
    let mut responses = Vec::new();
    for item in batch.requests {
        if statuses.contains_key(&item.id) {
            return Err(GraphError::bad_request("Request Id values must be unique."));
        }
        let depends_on_failure =
            item.depends_on.iter().any(|id| statuses.get(id).is_none_or(|status| !status.is_success()));
        let reply = if depends_on_failure {
            GraphError::new(StatusCode::FAILED_DEPENDENCY, "FailedDependency", "A request this one depends on failed.")
                .reply(world, incoming)
        } else {
            one(world, config, caller, incoming, &item)
        };
        statuses.insert(item.id.clone(), reply.status);
        responses.push(written(&item.id, &reply));
    }
    Ok(Reply::ok(&json!({ "responses": responses })))
}

fn one(world: &World, config: &Config, caller: &GraphCaller, outer: &Incoming, item: &Item) -> Reply {
    let Some(request) = request(outer, item) else {
        return GraphError::bad_request("Invalid request in the batch.").reply(world, outer);
    };
    let (endpoint, _) = Endpoint::of(&request.path);
    world.log().record(endpoint, &request);
    let fault = world.faults().strike(endpoint, &request);
    let reply = fault.as_ref().and_then(|fault| fault.reply(endpoint));
    let reply = reply.unwrap_or_else(|| {
        dispatch(world, config, caller, &request).unwrap_or_else(|error| error.reply(world, &request))
    });
    match fault {
        Some(fault) => fault.alter(reply),
        None => reply,
    }
}

fn request(outer: &Incoming, item: &Item) -> Option<Incoming> {
    let relative = item.url.trim_start_matches('/');
    let (path, query) = relative.split_once('?').unwrap_or((relative, ""));
    let mut headers = HeaderMap::new();
    for (name, value) in &item.headers {
        headers.insert(http::HeaderName::from_bytes(name.as_bytes()).ok()?, http::HeaderValue::from_str(value).ok()?);
    }
    Some(Incoming {
        method: Method::from_bytes(item.method.to_ascii_uppercase().as_bytes()).ok()?,
        // The version of the batch is the version of its requests.
        path: format!("{}/{path}", outer.path.strip_suffix("/$batch")?),
        query: Params::parse(query.as_bytes()),
        headers,
        body: if item.body.is_null() { Bytes::new() } else { Bytes::from(item.body.to_string()) },
    })
}

fn written(id: &str, reply: &Reply) -> Value {
    let headers: Map<String, Value> = reply
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), Value::from(value.to_str().ok()?))))
        .collect();
    let body = serde_json::from_slice(&reply.body)
        .unwrap_or_else(|_| Value::from(base64::engine::general_purpose::STANDARD.encode(&reply.body)));
    json!({ "id": id, "status": reply.status.as_u16(), "headers": headers, "body": body })
}
