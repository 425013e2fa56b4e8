//! App registrations: `/applications`, `/servicePrincipals`, `/oauth2PermissionGrants`.
//!
//! What is written here is true at once for the sign-in pages and the token endpoint, because it is written into the
//! emulator's directories. Microsoft Graph takes some seconds for that; a fault can stand for them. Properties that no
//! sign-in depends on are refused, so that no test believes that they do something.
//!
//! Permissions count as in Graph: the token has to carry one, and a user needs the right as well. Users that are no
//! administrators change what they own, and register applications if the tenant lets them.

mod application;
mod federated;
mod grants;
mod rules;
mod service_principals;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::users::literal;
use super::{GraphCaller, GraphError, context, pages};
use crate::config::{Application, Config, GRAPH_APP_ID, User};
use crate::http::{Incoming, Reply};
use crate::random::derived_guid;
use crate::world::World;

const READ: [&str; 4] =
    ["Application.Read.All", "Application.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"];
const WRITE: [&str; 2] = ["Application.ReadWrite.All", "Directory.ReadWrite.All"];

/// What a path names.
enum Key {
    /// All of a set.
    All,
    /// One, by its object id.
    Object(String),
    /// One, by the id of its application.
    App(String),
}

/// A request with what it takes to answer it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    world: &'a World,
    config: &'a Config,
    caller: &'a GraphCaller,
    incoming: &'a Incoming,
}

/// Serves the path below the version, if it is one of these.
pub(super) fn serve(
    world: &World,
    config: &Config,
    caller: &GraphCaller,
    incoming: &Incoming,
    segments: &[&str],
) -> Option<Result<Reply, GraphError>> {
    let (first, rest) = segments.split_first()?;
    let first = decoded(first);
    let (set, id) = match first.split_once("(appId='") {
        Some((set, rest)) => (set.to_owned(), Some(rest.strip_suffix("')")?.to_owned())),
        None => (first, None),
    };
    let (key, rest) = match (id, rest) {
        (Some(app_id), rest) => (Key::App(app_id), rest),
        (None, []) => (Key::All, rest),
        (None, [id, rest @ ..]) => (Key::Object(decoded(id)), rest),
    };
    let asked = Asked { world, config, caller, incoming };
    Some(match (set.as_str(), rest) {
        ("applications", []) => application::serve(asked, &key),
        ("applications", ["federatedIdentityCredentials", rest @ ..]) => federated::serve(asked, &key, rest),
        ("servicePrincipals", []) => service_principals::serve(asked, &key),
        ("servicePrincipals", ["appRoleAssignedTo"]) => service_principals::assignments(asked, &key),
        ("servicePrincipals", ["appRoleAssignments"]) => service_principals::given_to(asked, &key),
        ("oauth2PermissionGrants", []) => grants::serve(asked, &key),
        ("applications" | "servicePrincipals" | "oauth2PermissionGrants", [first, ..]) => {
            Err(GraphError::bad_request(format!("Resource not found for the segment '{first}'.")))
        }
        _ => return None,
    })
}

fn decoded(segment: &str) -> String {
    let value = format!("v={}", segment.replace('+', "%2B"));
    url::form_urlencoded::parse(value.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

impl Asked<'_> {
    fn method(&self) -> &Method {
        &self.incoming.method
    }

    /// Refuses a token that carries none of these permissions.
    fn needs(&self, any_of: &[&str]) -> Result<(), GraphError> {
        if self.caller.may(any_of) { Ok(()) } else { Err(GraphError::denied()) }
    }

    /// The user that asks; none if an application asks for itself.
    fn user(&self) -> Option<&User> {
        self.config.user(&self.caller.grant()?.user)
    }

    /// Refuses users that are no administrators. Applications are bounded by their permissions alone.
    fn needs_administrator(&self) -> Result<(), GraphError> {
        match self.user() {
            Some(user) if !user.administrator || user.tenant != self.caller.tenant() => Err(GraphError::denied()),
            _ => Ok(()),
        }
    }

    /// Refuses users that neither own the registration nor are administrators.
    fn needs_owner(&self, application: &Application) -> Result<(), GraphError> {
        match self.user() {
            Some(user) if application.owners.contains(&user.id) => Ok(()),
            _ => self.needs_administrator(),
        }
    }

    /// The body, which has to be a JSON object.
    fn body(&self) -> Result<Map<String, Value>, GraphError> {
        match serde_json::from_slice(&self.incoming.body) {
            Ok(Value::Object(body)) => Ok(body),
            _ => Err(GraphError::bad_request(
                "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON \
                 format.",
            )),
        }
    }

    /// The registration in the caller's directory that a path names.
    fn application(&self, key: &Key) -> Result<&Application, GraphError> {
        let own = self.config.applications.iter().filter(|application| application.tenant == self.caller.tenant());
        let (id, found) = match key {
            Key::Object(id) => (id, own.into_iter().find(|application| application.object_id() == *id)),
            Key::App(id) => (id, own.into_iter().find(|application| application.id == *id)),
            Key::All => return Err(wrong_method()),
        };
        found.ok_or_else(|| GraphError::not_found(id))
    }

    /// The items that `$filter` admits, with the properties that `$select` names.
    fn collection(&self, set: &str, type_name: &str, known: &[&str], items: Vec<Value>) -> Result<Reply, GraphError> {
        let filter = self.incoming.query.get("$filter").map(|text| conditions(text, type_name, known)).transpose()?;
        let items = items.into_iter().filter(|item| filter.iter().flatten().all(|condition| condition.admits(item)));
        let items: Result<Vec<_>, _> = items.map(|item| self.selected(item, type_name, known)).collect();
        pages::answer(self.world, self.incoming, context(self.world, set), items?)
    }

    /// One item, with the properties that `$select` names.
    fn entity(&self, set: &str, type_name: &str, known: &[&str], item: Value) -> Result<Value, GraphError> {
        let mut item = self.selected(item, type_name, known)?;
        if let Some(item) = item.as_object_mut() {
            item.insert("@odata.context".to_owned(), context(self.world, &format!("{set}/$entity")));
        }
        Ok(item)
    }

    fn selected(&self, item: Value, type_name: &str, known: &[&str]) -> Result<Value, GraphError> {
        let (Some(select), Value::Object(all)) = (self.incoming.query.get("$select"), &item) else { return Ok(item) };
        let mut selected = Map::new();
        for name in select.split(',').map(str::trim) {
            if !known.contains(&name) {
                return Err(super::directory::unknown_property(name, type_name));
            }
            selected.insert(name.to_owned(), all.get(name).cloned().unwrap_or_default());
        }
        Ok(Value::Object(selected))
    }
}

/// `property eq 'text'`, or `property/any(x:x eq 'text')`.
struct Condition {
    property: String,
    text: String,
}

impl Condition {
    fn admits(&self, item: &Value) -> bool {
        match item.get(&self.property) {
            Some(Value::Array(values)) => values.iter().any(|value| value == &self.text),
            Some(Value::String(value)) => value.eq_ignore_ascii_case(&self.text),
            _ => false,
        }
    }
}

/// Conditions that are joined by `and`. The emulator refuses every other filter.
fn conditions(text: &str, type_name: &str, known: &[&str]) -> Result<Vec<Condition>, GraphError> {
    let unsupported = || GraphError::unsupported_query(format!("The emulator does not serve the filter {text}"));
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (left, right) = rest.split_once(" eq ").ok_or_else(unsupported)?;
        let (property, is_any) = match left.split_once("/any(") {
            Some((property, _)) => (property, true),
            None => (left, false),
        };
        if !known.contains(&property) {
            return Err(GraphError::bad_request(format!(
                "Invalid filter clause: Could not find a property named '{property}' on type 'microsoft.graph.{type_name}'."
            )));
        }
        let (text, after) = literal(right.trim_start()).ok_or_else(unsupported)?;
        found.push(Condition { property: property.to_owned(), text });
        let after = if is_any { after.strip_prefix(')').ok_or_else(unsupported)? } else { after }.trim_start();
        rest = match after.strip_prefix("and ") {
            Some(next) => next.trim_start(),
            None if after.is_empty() => after,
            None => return Err(unsupported()),
        };
    }
    Ok(found)
}

fn wrong_method() -> GraphError {
    GraphError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "Request_BadRequest",
        "Specified HTTP method is not allowed for the request target.",
    )
}

fn created(body: &Value) -> Reply {
    Reply::json(StatusCode::CREATED, body)
}

fn no_content() -> Reply {
    Reply::empty(StatusCode::NO_CONTENT)
}

/// A 400 in the words of the directory.
fn refused(code: &'static str, message: impl Into<String>) -> GraphError {
    GraphError::new(StatusCode::BAD_REQUEST, code, message)
}

/// A 409 because it is there already.
fn conflict(message: impl Into<String>) -> GraphError {
    GraphError::new(StatusCode::CONFLICT, "Request_MultipleObjectsWithSameKeyValue", message)
}

fn invalid_value(property: &str, resource: &str) -> GraphError {
    refused(
        "Request_BadRequest",
        format!("Invalid value specified for property '{property}' of resource '{resource}'."),
    )
}

fn undeclared(property: &str) -> GraphError {
    refused(
        "Request_BadRequest",
        format!("Property '{property}' does not exist as a declared property or extension property."),
    )
}

/// The text of a property that has to be one.
fn text<'b>(body: &'b Map<String, Value>, name: &str, resource: &str) -> Result<&'b str, GraphError> {
    match body.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(_) => Err(invalid_value(name, resource)),
        None => Err(refused(
            "Request_BadRequest",
            format!("A value is required for property '{name}' of resource '{resource}'."),
        )),
    }
}

impl Application {
    /// The object id of the registration, which is not the application's id.
    fn object_id(&self) -> String {
        derived_guid(&format!("application|{}", self.id))
    }

    /// The id of one of its scopes.
    fn scope_id(&self, name: &str) -> String {
        let written = self.registration.scopes.iter().find(|scope| scope["value"] == name);
        written.and_then(|scope| scope["id"].as_str()).map_or_else(|| scope_id(&self.id, name), str::to_owned)
    }

    /// The id of one of its roles.
    fn role_id(&self, value: &str) -> String {
        let written = self.registration.roles.iter().find(|role| role["value"] == value);
        written.and_then(|role| role["id"].as_str()).map_or_else(|| role_id(&self.id, value), str::to_owned)
    }
}

fn scope_id(application: &str, name: &str) -> String {
    derived_guid(&format!("scope|{application}|{name}"))
}

fn role_id(application: &str, value: &str) -> String {
    derived_guid(&format!("role|{application}|{value}"))
}

/// The API, which is Graph or a registered application, with the names of its scopes and roles by id.
struct Api {
    id: String,
    scopes: Vec<(String, String)>,
    roles: Vec<(String, String)>,
}

impl Api {
    fn find(config: &Config, app_id: &str) -> Option<Self> {
        if app_id == GRAPH_APP_ID {
            let scopes = config.graph.scopes.iter().map(|scope| (scope_id(app_id, &scope.name), scope.name.clone()));
            let roles = config.graph.roles.iter().map(|role| (role_id(app_id, role), role.clone()));
            return Some(Self { id: app_id.to_owned(), scopes: scopes.collect(), roles: roles.collect() });
        }
        let application = config.application(app_id)?;
        let scopes = application.scopes.iter().map(|scope| (application.scope_id(&scope.name), scope.name.clone()));
        let roles = application.roles.iter().map(|role| (application.role_id(role), role.clone()));
        Some(Self { id: application.id.clone(), scopes: scopes.collect(), roles: roles.collect() })
    }

    /// As it is written in front of a scope.
    fn written(&self) -> String {
        if self.id == GRAPH_APP_ID { "https://graph.microsoft.com".to_owned() } else { self.id.clone() }
    }
}

fn resource_access(kind: &str, id: &str) -> Value {
    json!({ "id": id, "type": kind })
}
