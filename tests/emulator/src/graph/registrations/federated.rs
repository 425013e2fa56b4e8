//! `/applications/{id}/federatedIdentityCredentials`.

use http::Method;
use serde_json::{Map, Value, json};

use super::{Asked, Key, READ, WRITE, conflict, created, no_content, refused, text, undeclared, wrong_method};
use crate::config::{Application, FederatedCredential};
use crate::graph::GraphError;
use crate::http::Reply;
use crate::random::derived_guid;

const SET: &str = "federatedIdentityCredentials";
const TYPE: &str = "federatedIdentityCredential";
const RESOURCE: &str = "FederatedIdentityCredential";
const PROPERTIES: [&str; 6] = ["id", "name", "issuer", "subject", "audiences", "description"];
/// Graph's own limit.
const CREDENTIALS_AT_MOST: usize = 20;

pub(super) fn serve(asked: Asked<'_>, key: &Key, rest: &[&str]) -> Result<Reply, GraphError> {
    let application = asked.application(key)?;
    match (asked.method(), rest) {
        (&Method::GET, []) => {
            asked.needs(&READ)?;
            let all = 0..application.federated_credentials.len();
            let all = all.filter_map(|index| document(asked, application, index)).collect();
            asked.collection(SET, TYPE, &PROPERTIES, all)
        }
        (&Method::POST, []) => {
            let new = changed(asked, application, None)?;
            if application.federated_credentials.len() >= CREDENTIALS_AT_MOST {
                return Err(refused(
                    "Request_BadRequest",
                    "The application has the most federated credentials it may have.",
                ));
            }
            change(asked, application, |all| all.push(new));
            let config = asked.world.config();
            let application = config.application(&application.id).unwrap_or(application);
            let last = application.federated_credentials.len().saturating_sub(1);
            let document = document(asked, application, last).unwrap_or_default();
            Ok(created(&asked.entity(SET, TYPE, &PROPERTIES, document)?))
        }
        (&Method::PATCH, [id]) => {
            let is_it = |one: &FederatedCredential| credential_id(application, one) == *id || one.name == *id;
            let index = application.federated_credentials.iter().position(is_it);
            let index = index.ok_or_else(|| GraphError::not_found(id))?;
            let new = changed(asked, application, Some(index))?;
            change(asked, application, |all| {
                if let Some(one) = all.get_mut(index) {
                    *one = new;
                }
            });
            Ok(no_content())
        }
        _ => Err(wrong_method()),
    }
}

fn change(asked: Asked<'_>, application: &Application, change: impl FnOnce(&mut Vec<FederatedCredential>)) {
    asked.world.change_config(|config| {
        if let Some(application) = config.applications.iter_mut().find(|one| one.id == application.id) {
            change(&mut application.federated_credentials);
        }
    });
}

fn credential_id(application: &Application, credential: &FederatedCredential) -> String {
    derived_guid(&format!("federated|{}|{}|{}", application.id, credential.name, credential.issuer))
}

fn document(asked: Asked<'_>, application: &Application, index: usize) -> Option<Value> {
    let credential = application.federated_credentials.get(index)?;
    let name = if credential.name.is_empty() { format!("credential-{index}") } else { credential.name.clone() };
    Some(json!({
        "id": credential_id(application, credential),
        "name": name,
        "issuer": credential.issuer.replace("{base}", &asked.world.base),
        "subject": credential.subject,
        "audiences": [credential.audience],
        "description": Value::Null,
    }))
}

/// The credential that a request makes, or makes of the one at `index`.
fn changed(
    asked: Asked<'_>,
    application: &Application,
    index: Option<usize>,
) -> Result<FederatedCredential, GraphError> {
    asked.needs(&WRITE)?;
    asked.needs_owner(application)?;
    let mut body: Map<String, Value> = asked.body()?;
    if let Some(name) = body.keys().find(|name| !PROPERTIES.contains(&name.as_str()) && !name.starts_with("@odata.")) {
        return Err(undeclared(name));
    }
    let old = index.and_then(|index| application.federated_credentials.get(index));
    if let Some(old) = old {
        if body.get("name").is_some_and(|name| *name != old.name) {
            return Err(refused("Request_BadRequest", "Property 'name' is immutable."));
        }
        let kept = [("name", &old.name), ("issuer", &old.issuer), ("subject", &old.subject)];
        for (name, value) in kept {
            body.entry(name).or_insert_with(|| Value::from(value.as_str()));
        }
        body.entry("audiences").or_insert_with(|| json!([old.audience]));
    }
    let audiences = body.get("audiences").and_then(Value::as_array);
    let audience = match audiences.map(Vec::as_slice) {
        Some([Value::String(audience)]) => audience.clone(),
        _ => return Err(refused("Request_BadRequest", "Exactly one value is required for property 'audiences'.")),
    };
    let one = |name: &str| text(&body, name, RESOURCE).map(str::to_owned);
    let new = FederatedCredential { name: one("name")?, issuer: one("issuer")?, subject: one("subject")?, audience };
    let others = application.federated_credentials.iter().enumerate().filter(|(at, _)| Some(*at) != index);
    for (_, other) in others {
        if other.name == new.name {
            return Err(conflict(format!("FederatedIdentityCredential with name {} already exists.", new.name)));
        }
        let issuer = other.issuer.replace("{base}", &asked.world.base);
        if (&issuer, &other.subject) == (&new.issuer, &new.subject) {
            return Err(refused(
                "InvalidFederatedIdentityCredentialValue",
                format!(
                    "The combination of issuer and subject must be unique for the application. Issuer {} and Subject: {} \
                     already exist.",
                    new.issuer, new.subject
                ),
            ));
        }
    }
    Ok(new)
}
