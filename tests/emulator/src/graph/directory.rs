//! One user: profile and picture.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{GraphCaller, GraphError, context};
use crate::config::User;
use crate::http::{Incoming, Reply};
use crate::world::World;

/// What Graph returns of a user who is asked for without `$select`.
pub(super) const DEFAULT_PROPERTIES: [&str; 11] = [
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
pub(super) const BASIC_PROPERTIES: [&str; 6] =
    ["displayName", "givenName", "id", "mail", "surname", "userPrincipalName"];
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

const PHOTO: &[u8] = include_bytes!("photo.jpg");

pub(super) fn is_own(caller: &GraphCaller, user: &User) -> bool {
    caller.grant().is_some_and(|grant| grant.user == user.id)
}

pub(super) fn profile(
    world: &World,
    caller: &GraphCaller,
    user: &User,
    incoming: &Incoming,
) -> Result<Reply, GraphError> {
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
    let names = match selected(incoming)? {
        None => {
            body.insert("@odata.context".to_owned(), context(world, "users/$entity"));
            DEFAULT_PROPERTIES.to_vec()
        }
        Some(known) => {
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

/// The properties of a user that `$select` names.
pub(super) fn selected(incoming: &Incoming) -> Result<Option<Vec<&'static str>>, GraphError> {
    let Some(select) = incoming.query.get("$select") else { return Ok(None) };
    let names = select.split(',').map(str::trim).filter(|name| !name.is_empty());
    let known = names.map(|name| canonical(name).ok_or_else(|| unknown_property(name, "user")));
    known.collect::<Result<_, _>>().map(Some)
}

pub(super) fn unknown_property(name: &str, entity: &str) -> GraphError {
    GraphError::bad_request(format!(
        "Parsing OData Select and Expand failed: Could not find a property named '{name}' on type \
         'microsoft.graph.{entity}'."
    ))
}

/// Property names are matched in any case, and answered in Graph's own.
pub(super) fn canonical(name: &str) -> Option<&'static str> {
    DEFAULT_PROPERTIES.iter().chain(&MORE_PROPERTIES).find(|known| known.eq_ignore_ascii_case(name)).copied()
}

pub(super) fn property(caller: &GraphCaller, user: &User, name: &str) -> Value {
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

fn may_see_photo(caller: &GraphCaller, user: &User) -> Result<(), GraphError> {
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

pub(super) fn photo(caller: &GraphCaller, user: &User) -> Result<Reply, GraphError> {
    may_see_photo(caller, user)?;
    Ok(Reply::new(StatusCode::OK, "image/jpeg", PHOTO))
}

pub(super) fn photo_metadata(world: &World, caller: &GraphCaller, user: &User) -> Result<Reply, GraphError> {
    may_see_photo(caller, user)?;
    Ok(Reply::ok(&json!({
        "@odata.context": context(world, "users('me')/photo/$entity"),
        "@odata.mediaContentType": "image/jpeg",
        "id": "96X96",
        "height": 96,
        "width": 96,
    })))
}
