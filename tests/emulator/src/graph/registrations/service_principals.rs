//! `/servicePrincipals`: applications as a directory uses them, and the roles that were given at them.

use http::Method;
use serde_json::{Map, Value, json};

use super::{Api, Asked, Key, READ, WRITE, application, conflict, created, refused, text, undeclared, wrong_method};
use crate::config::{Application, GRAPH_APP_ID, MICROSOFT_SERVICES, ManagedIdentity, User};
use crate::graph::GraphError;
use crate::http::Reply;
use crate::random::derived_guid;
use crate::tenants::service_principal;

const SET: &str = "servicePrincipals";
const TYPE: &str = "servicePrincipal";
const PROPERTIES: [&str; 10] = [
    "id",
    "appId",
    "displayName",
    "accountEnabled",
    "appRoleAssignmentRequired",
    "servicePrincipalType",
    "alternativeNames",
    "oauth2PermissionScopes",
    "appRoles",
    "appOwnerOrganizationId",
];
const ASSIGN: [&str; 1] = ["AppRoleAssignment.ReadWrite.All"];

/// Whether the application has a service principal in the caller's directory.
fn is_present(asked: Asked<'_>, application: &Application) -> bool {
    let tenant = asked.caller.tenant();
    match application.tenant == tenant {
        true => !application.without_service_principal,
        false => application.provisioned_in.iter().any(|one| one == tenant),
    }
}

/// The application ids of all that has a service principal in the caller's directory.
fn app_ids(asked: Asked<'_>) -> impl Iterator<Item = &str> {
    let present = asked.config.applications.iter().filter(move |one| is_present(asked, one));
    let tenant = asked.caller.tenant();
    let identities = asked.config.managed_identities.iter().filter(move |one| one.tenant == tenant);
    present.map(|one| one.id.as_str()).chain([GRAPH_APP_ID]).chain(identities.map(|one| one.client_id.as_str()))
}

/// Managed identities have one object id, and other applications one in each directory.
fn object_id(asked: Asked<'_>, app_id: &str) -> String {
    match identity(asked, app_id) {
        Some(identity) => identity.id.clone(),
        None => service_principal(app_id, asked.caller.tenant()),
    }
}

fn identity<'a>(asked: Asked<'a>, app_id: &str) -> Option<&'a ManagedIdentity> {
    asked.config.managed_identities.iter().find(|one| one.client_id == app_id)
}

/// (object id, application id) of what a path names.
pub(super) fn find(asked: Asked<'_>, key: &Key) -> Result<(String, String), GraphError> {
    let mut ids = app_ids(asked).map(|id| (object_id(asked, id), id.to_owned()));
    let (id, found) = match key {
        Key::Object(id) => (id, ids.find(|(object, _)| object == id)),
        Key::App(id) => (id, ids.find(|(_, app_id)| app_id == id)),
        Key::All => return Err(wrong_method()),
    };
    found.ok_or_else(|| GraphError::not_found(id))
}

pub(super) fn serve(asked: Asked<'_>, key: &Key) -> Result<Reply, GraphError> {
    match (asked.method(), key) {
        (&Method::GET, Key::All) => {
            asked.needs(&READ)?;
            let all = app_ids(asked).map(|id| document(asked, id)).collect();
            asked.collection(SET, TYPE, &PROPERTIES, all)
        }
        (&Method::GET, key) => {
            asked.needs(&READ)?;
            let (_, app_id) = find(asked, key)?;
            Ok(Reply::ok(&asked.entity(SET, TYPE, &PROPERTIES, document(asked, &app_id))?))
        }
        (&Method::POST, Key::All) => create(asked),
        _ => Err(wrong_method()),
    }
}

fn create(asked: Asked<'_>) -> Result<Reply, GraphError> {
    asked.needs(&WRITE)?;
    let body = asked.body()?;
    if let Some(name) = body.keys().find(|name| *name != "appId") {
        return Err(if PROPERTIES.contains(&name.as_str()) {
            GraphError::bad_request(format!("The emulator does not serve '{name}' of a new service principal."))
        } else {
            undeclared(name)
        });
    }
    let id = text(&body, "appId", "ServicePrincipal")?;
    let own = asked.config.application(id).filter(|one| one.tenant == asked.caller.tenant());
    let Some(own) = own else {
        return Err(GraphError {
            detail: Some(("NoBackingApplicationObject", "appId")),
            ..refused(
                "Request_BadRequest",
                format!("The appId '{id}' of the service principal does not reference a valid application object."),
            )
        });
    };
    asked.needs_owner(own)?;
    if is_present(asked, own) || application::is_graph(id) {
        return Err(conflict(format!(
            "The service principal cannot be created, updated, or restored because the service principal name {id} is \
             already in use."
        )));
    }
    asked.world.change_config(|config| {
        if let Some(application) = config.applications.iter_mut().find(|one| one.id == id) {
            application.without_service_principal = false;
        }
    });
    Ok(created(&asked.entity(SET, TYPE, &PROPERTIES, document(asked, id))?))
}

fn document(asked: Asked<'_>, id: &str) -> Value {
    let application = asked.config.application(id);
    let identity = identity(asked, id);
    let name = |identity: &ManagedIdentity| identity.resource_id.rsplit('/').next().unwrap_or_default().to_owned();
    let named_by_azure = |identity: &ManagedIdentity| {
        let explicit = if identity.system_assigned { "False" } else { "True" };
        vec![format!("isExplicit={explicit}"), identity.resource_id.clone()]
    };
    let api = Api::find(asked.config, id);
    let named = |all: &[(String, String)]| {
        all.iter().map(|(id, value)| json!({ "id": id, "value": value, "isEnabled": true })).collect::<Vec<_>>()
    };
    json!({
        "id": object_id(asked, id),
        "appId": id,
        "displayName": match (identity, application) {
            (Some(identity), _) => name(identity),
            (None, Some(application)) => application.name.clone(),
            (None, None) => "Microsoft Graph".to_owned(),
        },
        "accountEnabled": !application.is_some_and(|application| application.disabled),
        "appRoleAssignmentRequired": application.is_some_and(|application| application.assignment_required),
        "servicePrincipalType": if identity.is_some() { "ManagedIdentity" } else { "Application" },
        "alternativeNames": identity.map(named_by_azure).unwrap_or_default(),
        "oauth2PermissionScopes": api.as_ref().map(|api| named(&api.scopes)).unwrap_or_default(),
        "appRoles": api.as_ref().map(|api| named(&api.roles)).unwrap_or_default(),
        "appOwnerOrganizationId": match (identity, application) {
            (Some(_), _) => None,
            (None, Some(application)) => Some(application.tenant.as_str()),
            (None, None) => Some(MICROSOFT_SERVICES),
        },
    })
}

/// `appRoleAssignedTo`: which users and applications have which role of this application.
pub(super) fn assignments(asked: Asked<'_>, key: &Key) -> Result<Reply, GraphError> {
    let (resource, app_id) = find(asked, key)?;
    let api = Api::find(asked.config, &app_id).ok_or_else(|| GraphError::not_found(&app_id))?;
    match *asked.method() {
        Method::GET => {
            asked.needs(&READ)?;
            let all = given(asked, &api, &resource);
            asked.collection("appRoleAssignments", "appRoleAssignment", &["id", "appRoleId", "principalId"], all)
        }
        Method::POST => assign(asked, &api, &resource),
        _ => Err(wrong_method()),
    }
}

/// `appRoleAssignments`: which roles this application has, of itself, at others.
pub(super) fn given_to(asked: Asked<'_>, key: &Key) -> Result<Reply, GraphError> {
    if *asked.method() != Method::GET {
        return Err(GraphError::bad_request(
            "The emulator writes role assignments at the resource: appRoleAssignedTo.",
        ));
    }
    asked.needs(&READ)?;
    let (principal, app_id) = find(asked, key)?;
    let of_identity = identity(asked, &app_id).map(|identity| &identity.granted_roles);
    let roles = asked.config.application(&app_id).map(|application| &application.granted_roles).or(of_identity);
    let all = roles.into_iter().flatten().flat_map(|(resource, values)| {
        let api = Api::find(asked.config, resource);
        let resource = service_principal(resource, asked.caller.tenant());
        let one = |value: &String| Some(assignment(api.as_ref()?, &resource, value, &principal, "ServicePrincipal"));
        values.iter().filter_map(one).collect::<Vec<_>>()
    });
    asked.collection("appRoleAssignments", "appRoleAssignment", &["id", "appRoleId", "principalId"], all.collect())
}

fn assignment(api: &Api, resource: &str, value: &str, principal: &str, kind: &str) -> Value {
    let role = api.roles.iter().find(|(_, one)| one == value).map(|(id, _)| id.clone()).unwrap_or_default();
    json!({
        "id": derived_guid(&format!("assignment|{principal}|{resource}|{role}")),
        "appRoleId": role,
        "principalId": principal,
        "principalType": kind,
        "resourceId": resource,
    })
}

fn given(asked: Asked<'_>, api: &Api, resource: &str) -> Vec<Value> {
    let tenant = asked.caller.tenant();
    let of_users = asked.config.users.iter().flat_map(|user| {
        let id = user.id_in(tenant);
        let values = user.roles.get(&api.id).filter(|_| id.is_some()).into_iter().flatten();
        values.map(move |value| assignment(api, resource, value, id.unwrap_or_default(), "User"))
    });
    let of_applications = asked.config.applications.iter().flat_map(|application| {
        let values = application.granted_roles.get(&api.id).into_iter().flatten();
        values.map(move |value| {
            assignment(api, resource, value, &service_principal(&application.id, tenant), "ServicePrincipal")
        })
    });
    of_users.chain(of_applications).collect()
}

fn assign(asked: Asked<'_>, api: &Api, resource: &str) -> Result<Reply, GraphError> {
    asked.needs(&ASSIGN)?;
    asked.needs_administrator()?;
    let body: Map<String, Value> = asked.body()?;
    let known = ["principalId", "resourceId", "appRoleId"];
    if let Some(name) = body.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(undeclared(name));
    }
    let one = |name: &str| text(&body, name, "AppRoleAssignment");
    let (principal, role) = (one("principalId")?, one("appRoleId")?);
    let unusable = || refused("Request_BadRequest", "Not a valid reference update.");
    if one("resourceId")? != resource {
        return Err(unusable());
    }
    let found = api.roles.iter().find(|(id, _)| id == role);
    let (_, value) = found.ok_or_else(|| {
        refused("Request_BadRequest", format!("Permission being assigned was not found on application '{}'.", api.id))
    })?;
    let tenant = asked.caller.tenant();
    let user = asked.config.users.iter().find(|user| user.id_in(tenant) == Some(principal));
    let client = asked.config.applications.iter().find(|one| service_principal(&one.id, tenant) == principal);
    let (held, kind) = match (user, client) {
        (Some(user), _) => (user.roles.get(&api.id), "User"),
        (None, Some(client)) => (client.granted_roles.get(&api.id), "ServicePrincipal"),
        (None, None) => return Err(unusable()),
    };
    if held.is_some_and(|held| held.contains(value)) {
        return Err(refused("Request_BadRequest", "Permission being assigned already exists on the object"));
    }
    let (user, client) = (user.map(|user: &User| user.id.clone()), client.map(|client| client.id.clone()));
    asked.world.change_config(|config| {
        let user = config.users.iter_mut().find(|one| Some(&one.id) == user.as_ref());
        if let Some(user) = user {
            user.roles.entry(api.id.clone()).or_default().push(value.clone());
            return;
        }
        if let Some(client) = config.applications.iter_mut().find(|one| Some(&one.id) == client.as_ref()) {
            client.granted_roles.entry(api.id.clone()).or_default().push(value.clone());
        }
    });
    Ok(created(&assignment(api, resource, value, principal, kind)))
}
