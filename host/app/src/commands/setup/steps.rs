//! The steps of a plan: what each is called, and its request.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::error::SetupError;
use super::{ASSIGNS_ROLES, GRANTS_CONSENT, WRITES_APPLICATIONS};
use crate::registration::document::RegistrationDocument;
use crate::registration::graph::{Graph, GraphFault};

/// The first pause before a request about what was made a moment ago is repeated; each is twice the one before. Graph's
/// replicas learn of it within seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Pauses: half a minute in all.
const PAUSES: u32 = 7;

/// Stands for an id that is known once the step before is done.
const OBJECT_ID: &str = "{id}";
const APP_ID: &str = "{appId}";
const PRINCIPAL_ID: &str = "{servicePrincipalId}";

/// One request, or what is known in its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Makes the registration.
    Register(Value),
    /// Changes it.
    Update(Value),
    /// Makes or changes a federated credential.
    Trust { id: Option<String>, body: Value },
    /// Adds the application to the tenant.
    AddPrincipal,
    /// Consents for the organisation.
    Consent { id: Option<String>, missing: Vec<String>, scope: String, resource: String },
    /// Gives the application a permission of its own.
    Assign { name: String, role: String, resource: String },
    /// The service principal is there.
    Known { principal: String },
}

impl Step {
    /// What it does, in an error.
    pub(super) fn action(&self) -> &'static str {
        match self {
            Self::Register(_) => "register the application",
            Self::Update(_) => "change the app registration",
            Self::Trust { .. } => "write the federated credential",
            Self::AddPrincipal | Self::Known { .. } => "add the application to the tenant",
            Self::Consent { .. } => "consent for the organisation",
            Self::Assign { .. } => "give the application a permission of its own",
        }
    }

    /// What it takes.
    pub(super) fn permission(&self) -> &'static str {
        match self {
            Self::Consent { .. } => GRANTS_CONSENT,
            Self::Assign { .. } => ASSIGNS_ROLES,
            _ => WRITES_APPLICATIONS,
        }
    }

    /// For people, where the parts of the registration do not say it.
    pub(super) fn shown(&self) -> Option<String> {
        match self {
            Self::Register(_) | Self::Update(_) | Self::Known { .. } => None,
            Self::Trust { id, body } => {
                let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
                let change = if id.is_some() { " (changed)" } else { "" };
                let audience = body.pointer("/audiences/0").and_then(Value::as_str).unwrap_or_default();
                let (issuer, subject) = (text("issuer"), text("subject"));
                Some(format!("federated credential{change}: issuer {issuer}, subject {subject}, audience {audience}"))
            }
            Self::AddPrincipal => Some("enterprise application (service principal) in the tenant".to_owned()),
            Self::Consent { missing, .. } => {
                Some(format!("admin consent to Microsoft Graph {} for all users", missing.join(" ")))
            }
            Self::Assign { name, .. } => {
                Some(format!("admin consent to Microsoft Graph {name} for the application itself"))
            }
        }
    }

    /// Whether it sets the App ID URI that Entra ID proposes.
    pub(super) fn names_proposed_uri(&self) -> bool {
        matches!(self, Self::Update(body) if body.to_string().contains(APP_ID))
    }

    /// The request.
    pub(super) fn request(&self, ids: &Ids) -> Option<(Method, String, Value)> {
        let Ids { id, app_id, principal } = ids;
        Some(match self {
            Self::Register(body) => (Method::POST, "/applications".to_owned(), body.clone()),
            Self::Update(body) => (Method::PATCH, format!("/applications/{id}"), filled(body.clone(), app_id)),
            Self::Trust { id: None, body } => {
                (Method::POST, format!("/applications/{id}/federatedIdentityCredentials"), body.clone())
            }
            Self::Trust { id: Some(credential), body } => {
                (Method::PATCH, format!("/applications/{id}/federatedIdentityCredentials/{credential}"), body.clone())
            }
            Self::AddPrincipal => (Method::POST, "/servicePrincipals".to_owned(), json!({ "appId": app_id })),
            Self::Consent { id: None, scope, resource, .. } => (
                Method::POST,
                "/oauth2PermissionGrants".to_owned(),
                json!({
                    "clientId": principal, "consentType": "AllPrincipals", "resourceId": resource, "scope": scope,
                }),
            ),
            Self::Consent { id: Some(grant), scope, .. } => {
                (Method::PATCH, format!("/oauth2PermissionGrants/{grant}"), json!({ "scope": scope }))
            }
            Self::Assign { role, resource, .. } => (
                Method::POST,
                format!("/servicePrincipals/{resource}/appRoleAssignedTo"),
                json!({ "principalId": principal, "resourceId": resource, "appRoleId": role }),
            ),
            Self::Known { .. } => return None,
        })
    }
}

/// Puts the client id where the registration names it.
fn filled(body: Value, app_id: &str) -> Value {
    match body {
        Value::String(text) => Value::String(text.replace(APP_ID, app_id)),
        Value::Array(all) => all.into_iter().map(|one| filled(one, app_id)).collect(),
        Value::Object(all) => all.into_iter().map(|(name, one)| (name, filled(one, app_id))).collect(),
        other => other,
    }
}

/// Ids that requests name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ids {
    id: String,
    pub(super) app_id: String,
    principal: String,
}

impl Ids {
    pub(super) fn of(document: &RegistrationDocument) -> Self {
        let or = |text: &str, placeholder: &str| if text.is_empty() { placeholder } else { text }.to_owned();
        Self {
            id: or(&document.id, OBJECT_ID),
            app_id: or(&document.app_id, APP_ID),
            principal: PRINCIPAL_ID.to_owned(),
        }
    }

    /// What a step knows before it is done.
    pub(super) fn learn(&mut self, step: &Step) {
        if let Step::Known { principal } = step {
            principal.clone_into(&mut self.principal);
        }
    }

    /// What the answer to a step says.
    pub(super) fn answered(&mut self, step: &Step, answer: &Value) -> Result<(), SetupError> {
        let text = |name: &str| match answer.get(name).and_then(Value::as_str) {
            Some(text) => Ok(text.to_owned()),
            None => Err(SetupError::Unexpected(format!("{name} is missing in what was made"))),
        };
        match step {
            Step::Register(_) => (self.id, self.app_id) = (text("id")?, text("appId")?),
            Step::AddPrincipal => self.principal = text("id")?,
            _ => {}
        }
        Ok(())
    }
}

/// Sends a request; `is_fresh`: about what was made a moment ago.
#[allow(clippy::disallowed_methods, reason = "Graph says by no event when it knows what it has made")]
pub(super) async fn send(
    graph: &Graph<'_>,
    method: Method,
    path: &str,
    body: &Value,
    is_fresh: bool,
) -> Result<Value, GraphFault> {
    let mut pause = FIRST_PAUSE;
    for _ in 0..PAUSES {
        match graph.send(method.clone(), path, Some(body)).await {
            Err(fault) if is_fresh && fault.is_not_yet_known() => tokio::time::sleep(pause).await,
            answer => return answer,
        }
        pause = pause.saturating_mul(2);
    }
    graph.send(method, path, Some(body)).await
}
