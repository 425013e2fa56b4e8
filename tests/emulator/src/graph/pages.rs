//! Pages of a collection: `$top`, `$skiptoken` and `@odata.nextLink`.

use serde_json::{Value, json};
use url::form_urlencoded;

use super::{GraphError, World};
use crate::http::{Incoming, Reply};

/// Items of a page where `$top` says nothing.
const PAGE: usize = 100;
/// The most that `$top` may ask for.
const PAGE_AT_MOST: usize = 999;

/// Whether a query has what Graph wants to see with an advanced one: the header, and `$count`.
pub(super) fn is_eventual(incoming: &Incoming) -> bool {
    incoming.header("consistencylevel").is_some_and(|level| level.eq_ignore_ascii_case("eventual"))
}

pub(super) fn counts(incoming: &Incoming) -> bool {
    incoming.query.get("$count").is_some_and(|count| count.eq_ignore_ascii_case("true"))
}

/// The page of a collection that a request asks for. `context` is that of its items.
pub(super) fn answer(
    world: &World,
    incoming: &Incoming,
    context: Value,
    items: Vec<Value>,
) -> Result<Reply, GraphError> {
    let number = |name: &str| incoming.query.get(name).map(str::parse::<usize>);
    let top = match number("$top") {
        None => PAGE,
        Some(Ok(top)) if (1..=PAGE_AT_MOST).contains(&top) => top,
        Some(_) => {
            return Err(GraphError::bad_request("Invalid page size specified. Must be between 1 and 999 inclusive."));
        }
    };
    let skip = match number("$skiptoken") {
        None => 0,
        Some(Ok(skip)) => skip,
        Some(Err(_)) => return Err(GraphError::bad_request("The skip token is not valid.")),
    };
    let total = items.len();
    let page: Vec<Value> = items.into_iter().skip(skip).take(top).collect();
    let mut body = json!({ "@odata.context": context, "value": page });
    let Some(object) = body.as_object_mut() else { return Ok(Reply::ok(&body)) };
    // The count is that of all items, and comes with the first page.
    if counts(incoming) && is_eventual(incoming) && skip == 0 {
        object.insert("@odata.count".to_owned(), json!(total));
    }
    let next = skip.saturating_add(top);
    if next < total {
        object.insert("@odata.nextLink".to_owned(), Value::from(link(world, incoming, next)));
    }
    Ok(Reply::ok(&body))
}

/// The same question, from the next item on.
fn link(world: &World, incoming: &Incoming, next: usize) -> String {
    let path = incoming.path.trim_start_matches('/').trim_start_matches("graph/");
    let kept = incoming.query.0.iter().filter(|(name, _)| name != "$skiptoken");
    let mut query: String = kept.map(|(name, value)| format!("{name}={}&", encoded(value))).collect();
    query.push_str(&format!("$skiptoken={next}"));
    format!("{}/{path}?{query}", world.graph)
}

fn encoded(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20")
}
