//! Users: profile, group memberships, picture.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Caller, GraphError, context};
use crate::emulator::World;
use crate::emulator::config::User;
use crate::emulator::http::{Incoming, Reply};

/// What Graph returns of a user who is asked for without `$select`.
const DEFAULT_PROPERTIES: [&str; 11] = [
    "businessPhones",
    "displayName",
    "givenName",
    "jobTitle",
    "mail",
    "mobilePhone",
    "officeLocation",
    "preferredLanguage",
    "surname",
    "userPrincipalName",
    "id",
];
/// What `User.ReadBasic.All` shows of other people.
const BASIC_PROPERTIES: [&str; 6] = ["displayName", "givenName", "id", "mail", "surname", "userPrincipalName"];
/// Properties that exist besides the default ones; anything else in `$select` is a mistake Graph reports.
const MORE_PROPERTIES: [&str; 32] = [
    "aboutMe",
    "accountEnabled",
    "ageGroup",
    "birthday",
    "city",
    "companyName",
    "country",
    "createdDateTime",
    "creationType",
    "department",
    "employeeHireDate",
    "employeeId",
    "employeeType",
    "externalUserState",
    "faxNumber",
    "identities",
    "imAddresses",
    "interests",
    "lastPasswordChangeDateTime",
    "mailNickname",
    "mySite",
    "onPremisesSyncEnabled",
    "otherMails",
    "passwordPolicies",
    "postalCode",
    "proxyAddresses",
    "securityIdentifier",
    "state",
    "streetAddress",
    "usageLocation",
    "userType",
    "signInSessionsValidFromDateTime",
];
const LIST_PROPERTIES: [&str; 6] =
    ["businessPhones", "identities", "imAddresses", "interests", "otherMails", "proxyAddresses"];
/// Graph's page sizes for group memberships.
const PAGE: usize = 100;
const PAGE_AT_MOST: usize = 999;

const PHOTO: &[u8] = include_bytes!("photo.jpg");

fn is_own(caller: &Caller, user: &User) -> bool {
    caller.grant().is_some_and(|grant| grant.user == user.id)
}

pub(super) fn profile(world: &World, caller: &Caller, user: &User, incoming: &Incoming) -> Result<Reply, GraphError> {
    let full = if is_own(caller, user) {
        &["User.Read", "User.ReadWrite", "User.Read.All", "Directory.Read.All"][..]
    } else {
        &["User.Read.All", "Directory.Read.All"]
    };
    let basic_only = !caller.may(full);
    if basic_only && !caller.may(&["User.ReadBasic.All"]) {
        return Err(GraphError::denied());
    }
    let mut body = Map::new();
    let selected: Option<Vec<&str>> = incoming
        .query
        .get("$select")
        .map(|select| select.split(',').map(str::trim).filter(|name| !name.is_empty()).collect());
    let names = match &selected {
        None => {
            body.insert("@odata.context".to_owned(), context(world, "users/$entity"));
            DEFAULT_PROPERTIES.to_vec()
        }
        Some(names) => {
            let mut known = Vec::new();
            for name in names {
                known.push(canonical(name).ok_or_else(|| {
                    GraphError::bad_request(format!(
                        "Parsing OData Select and Expand failed: Could not find a property named '{name}' on type \
                         'microsoft.graph.user'."
                    ))
                })?);
            }
            body.insert("@odata.context".to_owned(), context(world, &format!("users({})/$entity", known.join(","))));
            known
        }
    };
    for name in names {
        let hidden = basic_only && !BASIC_PROPERTIES.contains(&name);
        body.insert(name.to_owned(), if hidden { Value::Null } else { property(caller, user, name) });
    }
    Ok(Reply::new(
        StatusCode::OK,
        "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8",
        Value::Object(body).to_string(),
    ))
}

/// Property names are matched in any case, and answered in Graph's own.
fn canonical(name: &str) -> Option<&'static str> {
    DEFAULT_PROPERTIES.iter().chain(&MORE_PROPERTIES).find(|known| known.eq_ignore_ascii_case(name)).copied()
}

fn property(caller: &Caller, user: &User, name: &str) -> Value {
    let guest = user.tenant != caller.tenant();
    match name {
        "id" => Value::from(user.id_in(caller.tenant()).unwrap_or(&user.id)),
        "userPrincipalName" if guest => {
            Value::from(format!("{}#EXT#@{}", user.username.replace('@', "_"), caller.tenant()))
        }
        "userType" if guest => Value::from("Guest"),
        "userPrincipalName" => Value::from(user.property(name).unwrap_or(&user.username)),
        "displayName" => Value::from(user.display_name()),
        _ => user
            .profile
            .get(name)
            .cloned()
            .unwrap_or_else(|| if LIST_PROPERTIES.contains(&name) { json!([]) } else { Value::Null }),
    }
}

pub(super) fn member_of(world: &World, caller: &Caller, user: &User, incoming: &Incoming) -> Result<Reply, GraphError> {
    if !caller.may(&["GroupMember.Read.All", "Directory.Read.All"]) {
        return Err(GraphError::denied());
    }
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
    let groups: Vec<Value> = user
        .group_ids()
        .enumerate()
        .skip(skip)
        .take(top)
        .map(|(index, id)| {
            json!({
                "@odata.type": "#microsoft.graph.group",
                "id": id,
                "displayName": format!("Group {}", index + 1),
                "securityEnabled": true,
                "mailEnabled": false,
            })
        })
        .collect();
    let mut body = json!({ "@odata.context": context(world, "directoryObjects"), "value": groups });
    let next = skip.saturating_add(top);
    if next < user.groups
        && let Some(object) = body.as_object_mut()
    {
        let path = incoming.path.trim_start_matches('/').trim_start_matches("graph/");
        object.insert(
            "@odata.nextLink".to_owned(),
            Value::from(format!("{}/{path}?$top={top}&$skiptoken={next}", world.graph)),
        );
    }
    Ok(Reply::ok(&body))
}

pub(super) fn member_objects(
    world: &World,
    caller: &Caller,
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

fn may_see_photo(caller: &Caller, user: &User) -> Result<(), GraphError> {
    let sufficient: &[&str] = if is_own(caller, user) {
        &["User.Read", "User.ReadWrite", "User.ReadBasic.All", "User.Read.All"]
    } else {
        &["User.ReadBasic.All", "User.Read.All"]
    };
    if !caller.may(sufficient) {
        return Err(GraphError::denied());
    }
    if !user.photo {
        return Err(GraphError::new(
            StatusCode::NOT_FOUND,
            "ImageNotFound",
            "Exception of type 'Microsoft.Fast.Profile.Core.Exception.ImageNotFoundException' was thrown.",
        ));
    }
    Ok(())
}

pub(super) fn photo(caller: &Caller, user: &User) -> Result<Reply, GraphError> {
    may_see_photo(caller, user)?;
    Ok(Reply::new(StatusCode::OK, "image/jpeg", PHOTO))
}

pub(super) fn photo_metadata(world: &World, caller: &Caller, user: &User) -> Result<Reply, GraphError> {
    may_see_photo(caller, user)?;
    Ok(Reply::ok(&json!({
        "@odata.context": context(world, "users('me')/photo/$entity"),
        "@odata.mediaContentType": "image/jpeg",
        "id": "96X96",
        "height": 96,
        "width": 96,
    })))
}
