//! The app registration, as far as Microsoft Graph shows it to the application itself.

use entra_mcp_plugin::client_credential::{ClientCredential, Credential};
use entra_mcp_plugin::environment::{HttpSettings, Settings, TokenMode};
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::report::Finding;
use crate::composition::client_credential::token_endpoint;
use crate::config::ServeConfig;
use crate::probe::Probe;
use crate::registration::document::{RegistrationDocument, SELECTED};
use crate::registration::graph::{GRAPH_APP_ID, Graph, GraphFault, filter};
use crate::registration::needs::{Lack, Local, Needs, Remote};

const ID: &str = "registration";
const CONSENT: &str = "consent";

/// What tools for a person's own profile ask Graph with.
const PROFILE_PERMISSION: &str = "User.Read";

/// Room in a form for everything but the credential, in bytes: the longest scope and client id, and the names of the fields.
const FORM_FRAME_BYTES: usize = 4 * 1024;

/// Looks at it with a token of the application.
pub(super) async fn findings(probe: &Probe, settings: &Settings, credential: &dyn ClientCredential) -> Vec<Finding> {
    let Some(http) = &settings.http else { return Vec::new() };
    if ["common", "organizations", "consumers"].contains(&settings.tenant.as_str()) {
        let what =
            format!("the app registration was not looked at: {} is no tenant that it is at home in", settings.tenant);
        return vec![Finding::skipped(ID, what)];
    }
    // Why there is none, the check of the credential has said.
    let Some(token) = token(probe, settings, credential).await else { return Vec::new() };
    let graph = Graph::new(probe, &settings.graph, &token);
    match look(&graph, settings, http).await {
        Ok(findings) => findings,
        Err(fault) if fault.is_denied() => {
            let what = "the app registration was not looked at: Microsoft Graph does not show it to the application. \
                        `entra-mcp setup --dry-run` looks at it as a person; to let doctor do it, grant the application \
                        permission Application.Read.All under API permissions";
            vec![Finding::skipped(ID, what)]
        }
        Err(fault) => vec![Finding::skipped(ID, format!("the app registration was not looked at ({fault})"))],
    }
}

/// What is read of the answer to a token request.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
}

/// A token of the application for Graph.
async fn token(probe: &Probe, settings: &Settings, credential: &dyn ClientCredential) -> Option<Zeroizing<String>> {
    let endpoint = token_endpoint(settings);
    let credential = credential.obtain(&endpoint).await.ok()?;
    let secret = match &credential {
        Credential::None => return None,
        Credential::Secret(secret) | Credential::Assertion(secret) => secret.len(),
    };
    // It does not grow, which would leave copies behind: a character takes three bytes at most.
    let form = String::with_capacity(secret.saturating_mul(3).saturating_add(FORM_FRAME_BYTES));
    let mut form = form_urlencoded::Serializer::new(form);
    form.append_pair("grant_type", "client_credentials");
    form.append_pair("client_id", &settings.client_id);
    form.append_pair("scope", &format!("{}/.default", settings.graph_resource));
    match &credential {
        Credential::None => {}
        Credential::Secret(secret) => drop(form.append_pair("client_secret", secret)),
        Credential::Assertion(assertion) => {
            form.append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
            form.append_pair("client_assertion", assertion);
        }
    }
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")];
    let form = Zeroizing::new(form.finish());
    let answer = probe.send_text(Method::POST, &endpoint, &headers, form).await.ok()?;
    Some(Zeroizing::new(answer.read::<TokenAnswer>()?.access_token))
}

async fn look(graph: &Graph<'_>, settings: &Settings, http: &HttpSettings) -> Result<Vec<Finding>, GraphFault> {
    let id = &settings.client_id;
    let Some(found) = graph.find(&format!("/applications(appId='{id}'){SELECTED}")).await? else {
        let what =
            format!("the app registration was not looked at: it is not at home in the tenant {}", settings.tenant);
        return Ok(vec![Finding::skipped(ID, what)]);
    };
    let document: RegistrationDocument =
        serde_json::from_value(found).map_err(|error| GraphFault::Unexpected(error.to_string()))?;
    let path = format!("/servicePrincipals(appId='{GRAPH_APP_ID}')?$select=id,appId,oauth2PermissionScopes");
    let principal = graph.get(&path).await?;
    let scopes = principal.get("oauth2PermissionScopes").and_then(Value::as_array).into_iter().flatten();
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let profile = scopes.filter(|scope| text(scope, "value") == PROFILE_PERMISSION);
    let permissions = profile.map(|scope| (PROFILE_PERMISSION.to_owned(), text(scope, "id"))).take(1).collect();
    let local = Local::is_served_by(&document).then(|| Local::of(&settings.authority));
    let needs = Needs { local, remote: Some(remote(settings, http)), permissions, app_permissions: Vec::new() };
    let mut findings: Vec<_> =
        needs.lacks(&document).into_iter().filter(|lack| is_needed(lack, http)).map(|lack| finding(&lack)).collect();
    if findings.is_empty() {
        let what = format!("the app registration {:?} has all that the server needs of it", document.display_name);
        findings.push(Finding::good(ID, what));
    }
    findings.push(consent(graph, http, id, &text(&principal, "id")).await?);
    Ok(findings)
}

fn remote(settings: &Settings, http: &HttpSettings) -> Remote {
    let rules = http.access.as_deref().unwrap_or_default();
    let mut roles: Vec<_> = rules.iter().flat_map(|rule| rule.roles.iter().flatten()).cloned().collect();
    roles.sort();
    roles.dedup();
    let uris = match &http.app_id_uri {
        Some(uri) => vec![uri.clone()],
        None => ServeConfig::mcp_urls(settings).into_iter().filter(|url| url.starts_with("https://")).collect(),
    };
    Remote {
        redirect_uri: Remote::redirect_uri(&http.public_url),
        app_id_uris: uris,
        scope: http.required_scope.clone(),
        roles,
        groups_claim: rules.iter().any(|rule| rule.groups.is_some()),
        certificates: Vec::new(),
    }
}

/// Sessions need no API of the registration, and clients with tokens of Entra ID need no redirect URI of the server.
fn is_needed(lack: &Lack, http: &HttpSettings) -> bool {
    match lack {
        Lack::WebRedirectUri(_) => http.token_mode != TokenMode::Bearer,
        Lack::TokenVersion(_) | Lack::Scope(_) | Lack::AppIdUri(_) | Lack::OptionalClaim("accessToken", _) => {
            http.token_mode != TokenMode::Session
        }
        _ => true,
    }
}

fn finding(lack: &Lack) -> Finding {
    let what = format!("the app registration lacks: {} — {}", lack.part(), lack.consequence());
    let change =
        format!("run `entra-mcp setup`, or change it in the portal: App registrations > your app > {}", lack.place());
    match lack {
        Lack::WebRedirectUri(_) | Lack::Scope(_) | Lack::AppIdUri(_) | Lack::Role(_) => {
            Finding::failure(ID, what, change)
        }
        _ => Finding::warning(ID, what, change),
    }
}

/// Whether an administrator has consented for all users.
async fn consent(
    graph: &Graph<'_>,
    http: &HttpSettings,
    id: &str,
    graph_principal: &str,
) -> Result<Finding, GraphFault> {
    let Some(own) = graph.find(&format!("/servicePrincipals(appId='{id}')?$select=id")).await? else {
        let what = "the application was never added to the tenant (it has no service principal)";
        let change = "run `entra-mcp setup`, or grant admin consent in the portal: App registrations > your app > API \
                      permissions";
        return Ok(Finding::failure(CONSENT, what, change));
    };
    let own = own.get("id").and_then(Value::as_str).unwrap_or_default();
    let grants = match graph.list(&format!("/oauth2PermissionGrants{}", filter("clientId", own))).await {
        Ok(grants) => grants,
        Err(fault) if fault.is_denied() => {
            let what = "admin consent was not looked at: it takes the application permission \
                        DelegatedPermissionGrant.Read.All";
            return Ok(Finding::skipped(CONSENT, what));
        }
        Err(fault) => return Err(fault),
    };
    let is = |grant: &Value, name: &str, text: &str| grant.get(name).and_then(Value::as_str) == Some(text);
    let is_given = grants.iter().any(|grant| {
        let scope = grant.get("scope").and_then(Value::as_str).unwrap_or_default();
        is(grant, "consentType", "AllPrincipals")
            && is(grant, "resourceId", graph_principal)
            && scope.split_ascii_whitespace().any(|scope| scope == PROFILE_PERMISSION)
    });
    Ok(match is_given {
        true => Finding::good(CONSENT, format!("an administrator has consented to {PROFILE_PERMISSION} for all users")),
        // People are asked at sign-in; clients with tokens of Entra ID cannot be.
        false if http.token_mode == TokenMode::Session => {
            let what = format!(
                "no administrator has consented to {PROFILE_PERMISSION}: people are asked at their first sign-in"
            );
            Finding::skipped(CONSENT, what)
        }
        false => Finding::warning(
            CONSENT,
            format!(
                "no administrator has consented to {PROFILE_PERMISSION}, and clients with tokens of Entra ID cannot be asked"
            ),
            "run `entra-mcp setup --grant-admin-consent`, or in the portal: App registrations > your app > API permissions > \
             Grant admin consent",
        ),
    })
}
