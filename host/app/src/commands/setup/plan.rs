//! What will be done: the difference between what is there and what is needed, step by step.

use serde_json::{Map, Value, json};

use super::error::SetupError;
use super::steps::{Ids, Step};
use super::{READS_APPLICATIONS, READS_CONSENT};
use crate::registration::document::RegistrationDocument;
use crate::registration::graph::{Graph, filter};
use crate::registration::needs::{Lack, Needs, NewId};

/// A federated credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Federated {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) audience: String,
}

impl Federated {
    fn body(&self) -> Value {
        json!({
            "name": self.name, "issuer": self.issuer, "subject": self.subject, "audiences": [self.audience],
        })
    }
}

/// What will be done.
pub(super) struct Plan {
    /// The registration as it is; without an id, if there is none.
    document: RegistrationDocument,
    lacks: Vec<Lack>,
    steps: Vec<Step>,
    has_credential: bool,
}

impl Plan {
    /// The part about the registration itself.
    pub(super) fn new(
        needs: &Needs,
        (name, audience): (&str, &str),
        found: Option<RegistrationDocument>,
        new_id: NewId<'_>,
    ) -> Self {
        let has_certificate = needs.remote.as_ref().is_some_and(|remote| !remote.certificates.is_empty());
        let mut steps = Vec::new();
        let document = found.unwrap_or_else(|| RegistrationDocument {
            display_name: name.to_owned(),
            ..RegistrationDocument::default()
        });
        let lacks = needs.lacks(&document);
        let has_other = !document.key_credentials.is_empty() || !document.password_credentials.is_empty();
        let mut patch = needs.patch(&document, &lacks, new_id);
        if document.id.is_empty() {
            // An App ID URI may be of any domain once the tokens are of version 2, so it is written afterwards; the one
            // that Entra ID proposes has the client id in it, which is known only then.
            let uris = patch.remove("identifierUris");
            let mut body = Map::new();
            body.insert("displayName".to_owned(), name.into());
            body.insert("signInAudience".to_owned(), audience.into());
            body.extend(patch);
            steps.push(Step::Register(Value::Object(body)));
            if needs.remote.is_some() {
                let uris = uris.unwrap_or_else(|| json!(["api://{appId}"]));
                steps.push(Step::Update(json!({ "identifierUris": uris })));
            }
        } else if !patch.is_empty() {
            steps.push(Step::Update(Value::Object(patch)));
        }
        Self { document, lacks, steps, has_credential: has_certificate || has_other }
    }

    /// The parts that are objects of their own. `consent` is Graph's service principal, if there is to be consent.
    pub(super) async fn complete(
        &mut self,
        graph: &Graph<'_>,
        needs: &Needs,
        federated: Option<Federated>,
        consent: Option<String>,
    ) -> Result<(), SetupError> {
        let read = |action| SetupError::during(action, READS_APPLICATIONS);
        let is_new = self.document.id.is_empty();
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let path = format!("/applications/{}/federatedIdentityCredentials", self.document.id);
        let known = match is_new || (needs.remote.is_none() && federated.is_none()) {
            true => Vec::new(),
            false => graph.list(&path).await.map_err(read("read federated credentials"))?,
        };
        self.has_credential |= !known.is_empty() || federated.is_some();
        if let Some(federated) = federated {
            let is_same = |one: &Value| {
                let audiences = one.get("audiences").and_then(Value::as_array);
                text(one, "issuer") == federated.issuer
                    && text(one, "subject") == federated.subject
                    && audiences.is_some_and(|all| all.iter().any(|audience| *audience == federated.audience))
            };
            if !known.iter().any(is_same) {
                let of_name = known.iter().find(|one| text(one, "name") == federated.name);
                let id = of_name.map(|one| text(one, "id"));
                self.steps.push(Step::Trust { id, body: federated.body() });
            }
        }
        let principal = match is_new {
            true => None,
            false => {
                let path = format!("/servicePrincipals(appId='{}')?$select=id", self.document.app_id);
                graph.find(&path).await.map_err(read("read the service principal"))?
            }
        };
        self.steps.push(match &principal {
            None => Step::AddPrincipal,
            Some(principal) => Step::Known { principal: text(principal, "id") },
        });
        if let Some(graph_principal) = consent {
            let wanted: Vec<_> = needs.permissions.iter().map(|(name, _)| name.clone()).collect();
            let known = match &principal {
                None => None,
                Some(principal) => {
                    let path = format!("/oauth2PermissionGrants{}", filter("clientId", &text(principal, "id")));
                    let grants = graph.list(&path).await;
                    let grants = grants.map_err(SetupError::during("read consent", READS_CONSENT))?;
                    grants.into_iter().find(|grant| {
                        text(grant, "resourceId") == graph_principal && text(grant, "consentType") == "AllPrincipals"
                    })
                }
            };
            self.assign(graph, needs, principal.as_ref(), &graph_principal).await?;
            self.consent(known.as_ref(), &wanted, graph_principal);
        }
        Ok(())
    }

    /// Gives the application the permissions of its own that it has not.
    async fn assign(
        &mut self,
        graph: &Graph<'_>,
        needs: &Needs,
        principal: Option<&Value>,
        graph_principal: &str,
    ) -> Result<(), SetupError> {
        if needs.app_permissions.is_empty() {
            return Ok(());
        }
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let known = match principal {
            None => Vec::new(),
            Some(principal) => {
                let path = format!("/servicePrincipals/{}/appRoleAssignments", text(principal, "id"));
                let read = SetupError::during("read the permissions of the application", READS_APPLICATIONS);
                graph.list(&path).await.map_err(read)?
            }
        };
        let has = |role: &str| {
            known.iter().any(|one| text(one, "appRoleId") == role && text(one, "resourceId") == graph_principal)
        };
        for (name, role) in needs.app_permissions.iter().filter(|(_, role)| !has(role)) {
            let (name, role, resource) = (name.clone(), role.clone(), graph_principal.to_owned());
            self.steps.push(Step::Assign { name, role, resource });
        }
        Ok(())
    }

    /// Consents to what is not consented to.
    fn consent(&mut self, known: Option<&Value>, wanted: &[String], graph_principal: String) {
        let text = |name: &str| known.and_then(|known| known.get(name)?.as_str()).unwrap_or_default();
        let mut scopes: Vec<_> = text("scope").split_ascii_whitespace().map(str::to_owned).collect();
        let missing: Vec<_> = wanted.iter().filter(|scope| !scopes.contains(scope)).cloned().collect();
        if missing.is_empty() {
            return;
        }
        scopes.extend(missing.iter().cloned());
        let id = known.map(|_| text("id").to_owned());
        self.steps.push(Step::Consent { id, missing, scope: scopes.join(" "), resource: graph_principal });
    }

    /// Whether nothing changes.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Known { .. }))
    }

    /// Whether the remote server has something to prove the application with.
    pub(super) fn has_credential(&self) -> bool {
        self.has_credential
    }

    /// The id of the registration, if it has one already.
    pub(super) fn app_id(&self) -> Option<&str> {
        Some(self.document.app_id.as_str()).filter(|id| !id.is_empty())
    }

    /// What will be done, for people.
    pub(super) fn shown(&self) -> String {
        let RegistrationDocument { display_name, app_id, .. } = &self.document;
        let mut lines = vec![match self.app_id() {
            None => format!("App registration {display_name:?} (new)"),
            Some(_) => format!("App registration {display_name:?} ({app_id})"),
        }];
        for lack in &self.lacks {
            lines.push(format!("  + {}", lack.part()));
        }
        if self.app_id().is_none() && self.steps.iter().any(Step::names_proposed_uri) {
            lines.push("  + Application ID URI api://{the new client id}".to_owned());
        }
        lines.extend(self.steps.iter().filter_map(Step::shown).map(|line| format!("  + {line}")));
        if self.is_empty() {
            lines.push("  nothing to change".to_owned());
        }
        lines.join("\n")
    }

    /// The requests that change something.
    pub(super) fn requests(&self, graph: &Graph<'_>) -> String {
        let mut ids = Ids::of(&self.document);
        let mut texts = Vec::new();
        for step in &self.steps {
            ids.learn(step);
            if let Some((method, path, body)) = step.request(&ids) {
                texts.push(format!("\n{method} {}\n{body:#}", graph.url(&path)));
            }
        }
        texts.push(String::new());
        texts.join("\n")
    }

    /// Does it. Returns the id of the application.
    pub(super) async fn carry_out(&self, graph: &Graph<'_>) -> Result<String, SetupError> {
        let mut ids = Ids::of(&self.document);
        for step in &self.steps {
            ids.learn(step);
            let Some((method, path, body)) = step.request(&ids) else { continue };
            // What was made a moment ago may not be known everywhere yet.
            let is_fresh = self.document.id.is_empty() && !matches!(step, Step::Register(_));
            let answer = super::steps::send(graph, method, &path, &body, is_fresh).await;
            let answer = answer.map_err(SetupError::during(step.action(), step.permission()))?;
            ids.answered(step, &answer)?;
        }
        Ok(ids.app_id)
    }
}
