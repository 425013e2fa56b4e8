//! The groups of a user.

use serde_json::{Map, Value, json};

use super::directory::{is_own, unknown_property};
use super::{GraphCaller, GraphError, context, pages};
use crate::config::User;
use crate::http::{Incoming, Reply};
use crate::world::World;

/// The properties of a group that the emulator has.
const PROPERTIES: [&str; 7] =
    ["id", "displayName", "description", "mail", "mailEnabled", "mailNickname", "securityEnabled"];

/// The type that a collection of directory objects is narrowed to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cast {
    /// All that a user can be a member of.
    None,
    /// Groups.
    Group,
    /// Directory roles or administrative units; no user of the emulator is in one.
    Other,
}

impl Cast {
    /// Of a path segment.
    pub(super) fn of(segment: &str) -> Result<Self, GraphError> {
        match segment {
            "microsoft.graph.group" => Ok(Self::Group),
            "microsoft.graph.directoryRole" | "microsoft.graph.administrativeUnit" => Ok(Self::Other),
            other => Err(GraphError::bad_request(format!("Resource not found for the segment '{other}'."))),
        }
    }
}

pub(super) fn member_of(
    world: &World,
    caller: &GraphCaller,
    user: &User,
    incoming: &Incoming,
    cast: Cast,
) -> Result<Reply, GraphError> {
    if !caller.may(&["GroupMember.Read.All", "Directory.Read.All"]) {
        return Err(GraphError::denied());
    }
    if cast != Cast::None && !(pages::is_eventual(incoming) && pages::counts(incoming)) {
        return Err(GraphError::unsupported_query(
            "The specified cast is supported only with the header 'ConsistencyLevel: eventual' and '$count=true'.",
        ));
    }
    let names = selected(incoming)?;
    let count = if cast == Cast::Other { 0 } else { user.groups };
    let group = |(index, id): (usize, String)| {
        let mut group = Map::new();
        if cast == Cast::None {
            group.insert("@odata.type".to_owned(), json!("#microsoft.graph.group"));
        }
        for name in names.as_deref().unwrap_or(&PROPERTIES) {
            let value = match *name {
                "id" => json!(id),
                "displayName" => json!(format!("Group {}", index + 1)),
                "mailEnabled" => json!(false),
                "mailNickname" => json!(format!("group-{}", index + 1)),
                "securityEnabled" => json!(true),
                _ => Value::Null,
            };
            group.insert((*name).to_owned(), value);
        }
        Value::Object(group)
    };
    let groups = user.group_ids().take(count).enumerate().map(group).collect();
    let of = match (cast, &names) {
        (Cast::None, _) => "directoryObjects".to_owned(),
        (_, None) => "groups".to_owned(),
        (_, Some(names)) => format!("groups({})", names.join(",")),
    };
    pages::answer(world, incoming, context(world, &of), groups)
}

fn selected(incoming: &Incoming) -> Result<Option<Vec<&'static str>>, GraphError> {
    let Some(select) = incoming.query.get("$select") else { return Ok(None) };
    let names = select.split(',').map(str::trim).filter(|name| !name.is_empty());
    let known = |name| PROPERTIES.iter().find(|known| known.eq_ignore_ascii_case(name)).copied();
    let known = names.map(|name| known(name).ok_or_else(|| unknown_property(name, "group")));
    known.collect::<Result<_, _>>().map(Some)
}

pub(super) fn member_objects(
    world: &World,
    caller: &GraphCaller,
    user: &User,
    incoming: &Incoming,
) -> Result<Reply, GraphError> {
    let sufficient: &[&str] = if is_own(caller, user) {
        &["User.Read", "GroupMember.Read.All", "User.Read.All", "Directory.Read.All"]
    } else {
        &["GroupMember.Read.All", "Directory.Read.All"]
    };
    if !caller.may(sufficient) {
        return Err(GraphError::denied());
    }
    let body: Value = serde_json::from_slice(&incoming.body)
        .map_err(|_| GraphError::bad_request("Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format."))?;
    if body.get("securityEnabledOnly").is_none_or(|value| !value.is_boolean()) {
        return Err(GraphError::bad_request("Expected a value for the parameter 'securityEnabledOnly'."));
    }
    let ids: Vec<String> = user.group_ids().collect();
    Ok(Reply::ok(&json!({ "@odata.context": context(world, "Collection(Edm.String)"), "value": ids })))
}
