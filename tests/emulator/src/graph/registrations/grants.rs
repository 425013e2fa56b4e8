//! `/oauth2PermissionGrants`: consent to delegated permissions.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Map, Value, json};

use super::{
    Api, Asked, Key, conflict, created, no_content, refused, service_principals, text, undeclared, wrong_method,
};
use crate::graph::GraphError;
use crate::http::Reply;
use crate::random::derived_guid;
use crate::resources;
use crate::tenants::service_principal;

const SET: &str = "oauth2PermissionGrants";
const TYPE: &str = "oAuth2PermissionGrant";
const RESOURCE: &str = "OAuth2PermissionGrant";
const PROPERTIES: [&str; 6] = ["id", "clientId", "consentType", "principalId", "resourceId", "scope"];
const READ: [&str; 4] = [
    "DelegatedPermissionGrant.Read.All",
    "DelegatedPermissionGrant.ReadWrite.All",
    "Directory.Read.All",
    "Directory.ReadWrite.All",
];
const WRITE: [&str; 2] = ["DelegatedPermissionGrant.ReadWrite.All", "Directory.ReadWrite.All"];

/// (user or `*`, client, API), by which consent is one object.
type Who = (String, String, String);

pub(super) fn serve(asked: Asked<'_>, key: &Key) -> Result<Reply, GraphError> {
    match (asked.method(), key) {
        (&Method::GET, Key::All) => {
            asked.needs(&READ)?;
            let all = given(asked).iter().map(|(who, scopes)| document(asked, who, scopes)).collect();
            asked.collection(SET, TYPE, &PROPERTIES, all)
        }
        (&Method::POST, Key::All) => create(asked),
        (&Method::PATCH, Key::Object(id)) => {
            asked.needs(&WRITE)?;
            asked.needs_administrator()?;
            let body = asked.body()?;
            if let Some(name) = body.keys().find(|name| *name != "scope") {
                return Err(undeclared(name));
            }
            let all = given(asked);
            let (who, _) = all.iter().find(|(who, _)| id_of(who) == *id).ok_or_else(|| GraphError::not_found(id))?;
            consent(asked, who, text(&body, "scope", RESOURCE)?)?;
            Ok(no_content())
        }
        _ => Err(wrong_method()),
    }
}

/// All consent in the caller's directory, with what the emulator's own registrations were given in advance.
fn given(asked: Asked<'_>) -> BTreeMap<Who, Vec<String>> {
    let tenant = asked.caller.tenant();
    let mut all: BTreeMap<Who, Vec<String>> = BTreeMap::new();
    let mut add = |who: &str, client: &str, api: &str, scope: &str| {
        let scopes = all.entry((who.to_owned(), client.to_owned(), api.to_owned())).or_default();
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    };
    let own = asked.config.applications.iter().filter(|one| one.tenant == tenant && one.consent_given);
    for application in own {
        for permission in &application.permissions {
            let Some((written, name)) = permission.rsplit_once('/') else { continue };
            if let Some(resource) = resources::resource(asked.world, asked.config, written) {
                add("*", &application.id, resource.id(), name);
            }
        }
    }
    for (who, of, client, scope) in &asked.world.state().consents {
        if let Some((api, name)) = scope.rsplit_once('/').filter(|_| of == tenant) {
            add(who, client, api, name);
        }
    }
    all
}

fn id_of((who, client, api): &Who) -> String {
    derived_guid(&format!("grant|{who}|{client}|{api}"))
}

fn document(asked: Asked<'_>, who: &Who, scopes: &[String]) -> Value {
    let tenant = asked.caller.tenant();
    let (user, client, api) = who;
    let for_all = user == "*";
    json!({
        "id": id_of(who),
        "clientId": service_principal(client, tenant),
        "consentType": if for_all { "AllPrincipals" } else { "Principal" },
        "principalId": if for_all { Value::Null } else { Value::from(user.as_str()) },
        "resourceId": service_principal(api, tenant),
        "scope": scopes.join(" "),
    })
}

fn create(asked: Asked<'_>) -> Result<Reply, GraphError> {
    asked.needs(&WRITE)?;
    asked.needs_administrator()?;
    let body: Map<String, Value> = asked.body()?;
    if let Some(name) = body.keys().find(|name| !PROPERTIES.contains(&name.as_str())) {
        return Err(undeclared(name));
    }
    let one = |name: &str| text(&body, name, RESOURCE);
    let (_, client) = service_principals::find(asked, &Key::Object(one("clientId")?.to_owned()))?;
    let (_, api) = service_principals::find(asked, &Key::Object(one("resourceId")?.to_owned()))?;
    let user = match (one("consentType")?, body.get("principalId")) {
        ("AllPrincipals", None | Some(Value::Null)) => "*".to_owned(),
        ("Principal", Some(Value::String(user))) => {
            let known = asked.config.users.iter().find(|one| one.id_in(asked.caller.tenant()) == Some(user));
            known.ok_or_else(|| GraphError::not_found(user))?.id.clone()
        }
        _ => return Err(super::invalid_value("consentType", RESOURCE)),
    };
    let who = (user, client, api);
    if given(asked).contains_key(&who) {
        return Err(conflict("Permission entry already exists."));
    }
    consent(asked, &who, one("scope")?)?;
    let scopes = given(asked).remove(&who).unwrap_or_default();
    Ok(created(&asked.entity(SET, TYPE, &PROPERTIES, document(asked, &who, &scopes))?))
}

/// Replaces what was consented to.
fn consent(asked: Asked<'_>, who: &Who, scope: &str) -> Result<(), GraphError> {
    let (user, client, api) = who;
    let known = Api::find(asked.config, api).map(|api| api.scopes).unwrap_or_default();
    let openid = ["openid", "profile", "email", "offline_access"];
    let scopes: Vec<_> = scope.split_ascii_whitespace().filter(|scope| !openid.contains(scope)).collect();
    if let Some(unknown) = scopes.iter().find(|scope| !known.iter().any(|(_, name)| name == *scope)) {
        return Err(refused("Request_BadRequest", format!("The scope '{unknown}' is not one of the resource.")));
    }
    let tenant = asked.caller.tenant();
    let mut state = asked.world.state();
    let prefix = format!("{api}/");
    state
        .consents
        .retain(|(one, of, by, scope)| (one, of.as_str(), by) != (user, tenant, client) || !scope.starts_with(&prefix));
    for scope in scopes {
        state.consents.insert((user.clone(), tenant.to_owned(), client.clone(), format!("{api}/{scope}")));
    }
    Ok(())
}
