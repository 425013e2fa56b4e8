//! `/applications`: a registration as Graph writes it, and what a written one means for sign-ins.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};

use super::rules::{self, Entitlement};
use super::{
    Api, Asked, Key, READ, WRITE, created, invalid_value, no_content, refused, resource_access, text, undeclared,
    wrong_method,
};
use crate::clock::graph_timestamp;
use crate::config::{Application, Audience, Config, GRAPH_APP_ID, Registration, Scope};
use crate::graph::GraphError;
use crate::http::Reply;
use crate::random::derived_guid;
use crate::resources;

const SET: &str = "applications";
const TYPE: &str = "application";
const RESOURCE: &str = "Application";

/// Properties that exist.
const PROPERTIES: [&str; 19] = [
    "id",
    "appId",
    "createdDateTime",
    "publisherDomain",
    "displayName",
    "signInAudience",
    "identifierUris",
    "isFallbackPublicClient",
    "publicClient",
    "web",
    "spa",
    "api",
    "appRoles",
    "groupMembershipClaims",
    "optionalClaims",
    "requiredResourceAccess",
    "keyCredentials",
    "passwordCredentials",
    "deletedDateTime",
];
/// Those among them that are not written.
const READ_ONLY: [&str; 5] = ["id", "appId", "createdDateTime", "publisherDomain", "deletedDateTime"];
/// Those that Graph has besides, and no sign-in at the emulator depends on.
const NOT_SERVED: [&str; 12] = [
    "addIns",
    "certification",
    "defaultRedirectUri",
    "description",
    "info",
    "notes",
    "parentalControlSettings",
    "passwordCredentials",
    "samlMetadataUrl",
    "serviceManagementReference",
    "tags",
    "tokenEncryptionKeyId",
];

pub(super) fn serve(asked: Asked<'_>, key: &Key) -> Result<Reply, GraphError> {
    match (asked.method(), key) {
        (&Method::GET, Key::All) => {
            asked.needs(&READ)?;
            let own = asked.config.applications.iter().filter(|one| one.tenant == asked.caller.tenant());
            let documents = own.map(|application| document(asked, application, false)).collect();
            asked.collection(SET, TYPE, &PROPERTIES, documents)
        }
        (&Method::GET, key) => {
            asked.needs(&READ)?;
            let with_keys = asked.incoming.query.get("$select").is_some_and(|names| names.contains("keyCredentials"));
            let document = document(asked, asked.application(key)?, with_keys);
            Ok(Reply::ok(&asked.entity(SET, TYPE, &PROPERTIES, document)?))
        }
        (&Method::POST, Key::All) => create(asked),
        (&Method::PATCH, Key::Object(_) | Key::App(_)) => {
            asked.needs(&WRITE)?;
            let old = asked.application(key)?;
            asked.needs_owner(old)?;
            let new = written(asked, old.clone(), &asked.body()?)?;
            asked.world.change_config(|config| {
                if let Some(application) = config.applications.iter_mut().find(|one| one.id == new.id) {
                    *application = new;
                }
            });
            Ok(no_content())
        }
        _ => Err(wrong_method()),
    }
}

fn create(asked: Asked<'_>) -> Result<Reply, GraphError> {
    asked.needs(&WRITE)?;
    if !asked.config.policy.users_register_applications {
        asked.needs_administrator()?;
    }
    let body = asked.body()?;
    let application = Application {
        id: asked.world.random.guid(),
        name: text(&body, "displayName", RESOURCE)?.to_owned(),
        tenant: asked.caller.tenant().to_owned(),
        audience: Audience::MyOrg,
        provisioned_in: Vec::new(),
        public_redirect_uris: Vec::new(),
        web_redirect_uris: Vec::new(),
        spa_redirect_uris: Vec::new(),
        allow_public_client: false,
        secrets: Vec::new(),
        certificates: Vec::new(),
        federated_credentials: Vec::new(),
        blueprint: None,
        identifier_uris: Vec::new(),
        access_token_version: 1,
        scopes: Vec::new(),
        roles: Vec::new(),
        granted_roles: std::collections::BTreeMap::default(),
        group_claims: false,
        consent_given: false,
        permissions: Vec::new(),
        preauthorized: Vec::new(),
        assignment_required: false,
        protected: false,
        disabled: false,
        idtyp_for_users: false,
        idtyp_for_applications: false,
        without_service_principal: true,
        owners: asked.user().map(|user| user.id.clone()).into_iter().collect(),
        registration: Registration {
            created: asked.world.clock.now(),
            required_resource_access: Some(Vec::new()),
            ..Registration::default()
        },
    };
    let application = written(asked, application, &body)?;
    let answer = asked.entity(SET, TYPE, &PROPERTIES, document(asked, &application, false))?;
    asked.world.change_config(|config| config.applications.push(application));
    Ok(created(&answer))
}

/// The registration as Graph shows it.
fn document(asked: Asked<'_>, application: &Application, with_keys: bool) -> Value {
    let registration = &application.registration;
    let domain = asked.config.tenant(&application.tenant).map(|tenant| tenant.domain.clone());
    let groups = match (&registration.group_membership_claims, application.group_claims) {
        (Some(written), true) => Value::from(written.as_str()),
        (None, true) => Value::from("SecurityGroup"),
        (_, false) => Value::Null,
    };
    json!({
        "id": application.object_id(),
        "appId": application.id,
        "createdDateTime": graph_timestamp(registration.created),
        "deletedDateTime": Value::Null,
        "publisherDomain": domain,
        "displayName": application.name,
        "signInAudience": audience_name(application.audience),
        "identifierUris": application.identifier_uris,
        "isFallbackPublicClient": application.allow_public_client,
        "publicClient": { "redirectUris": application.public_redirect_uris },
        "web": { "redirectUris": application.web_redirect_uris },
        "spa": { "redirectUris": application.spa_redirect_uris },
        "api": {
            "requestedAccessTokenVersion":
                if application.access_token_version == 2 { json!(2) } else { Value::Null },
            "oauth2PermissionScopes": scopes(application),
            "preAuthorizedApplications": [],
        },
        "appRoles": roles(application),
        "groupMembershipClaims": groups,
        "optionalClaims": optional_claims(application),
        "requiredResourceAccess": required(asked, application),
        "keyCredentials": keys(application, with_keys),
        "passwordCredentials": application.secrets.iter().map(|_| json!({ "secretText": Value::Null })).collect::<Vec<_>>(),
    })
}

fn audience_name(audience: Audience) -> &'static str {
    match audience {
        Audience::MyOrg => "AzureADMyOrg",
        Audience::MultipleOrgs => "AzureADMultipleOrgs",
        Audience::OrgsAndPersonal => "AzureADandPersonalMicrosoftAccount",
        Audience::Personal => "PersonalMicrosoftAccount",
    }
}

/// Those that are in force, in their written form where there is one, and those that are disabled.
fn scopes(application: &Application) -> Vec<Value> {
    let written = &application.registration.scopes;
    let in_force = application.scopes.iter().map(|scope| {
        written.iter().find(|one| one["value"] == scope.name.as_str()).cloned().unwrap_or_else(|| {
            json!({
                "id": application.scope_id(&scope.name),
                "value": scope.name,
                "type": if scope.administrator { "Admin" } else { "User" },
                "isEnabled": true,
                "adminConsentDisplayName": scope.title,
                "adminConsentDescription": scope.title,
                "userConsentDisplayName": scope.title,
                "userConsentDescription": scope.title,
            })
        })
    });
    in_force.chain(written.iter().filter(|one| one["isEnabled"] == false).cloned()).collect()
}

fn roles(application: &Application) -> Vec<Value> {
    let written = &application.registration.roles;
    let in_force = application.roles.iter().map(|role| {
        written.iter().find(|one| one["value"] == role.as_str()).cloned().unwrap_or_else(|| {
            json!({
                "id": application.role_id(role),
                "value": role,
                "displayName": role,
                "description": role,
                "allowedMemberTypes": ["User", "Application"],
                "isEnabled": true,
                "origin": "Application",
            })
        })
    });
    in_force.chain(written.iter().filter(|one| one["isEnabled"] == false).cloned()).collect()
}

fn optional_claims(application: &Application) -> Value {
    if let Some(written) = &application.registration.optional_claims {
        return written.clone();
    }
    if !application.idtyp_for_applications {
        return Value::Null;
    }
    let more: &[&str] = if application.idtyp_for_users { &["include_user_token"] } else { &[] };
    let claim = json!({ "name": "idtyp", "source": Value::Null, "essential": false, "additionalProperties": more });
    json!({ "accessToken": [claim], "idToken": [], "saml2Token": [] })
}

fn required(asked: Asked<'_>, application: &Application) -> Vec<Value> {
    if let Some(written) = &application.registration.required_resource_access {
        return written.clone();
    }
    let mut by_api: Vec<(Api, Vec<Value>)> = Vec::new();
    for permission in &application.permissions {
        let Some((resource, name)) = permission.rsplit_once('/') else { continue };
        let Some(resource) = resources::resource(asked.world, asked.config, resource) else { continue };
        let Some(api) = Api::find(asked.config, resource.id()) else { continue };
        let Some((id, _)) = api.scopes.iter().find(|(_, scope)| scope == name) else { continue };
        let access = resource_access("Scope", id);
        match by_api.iter_mut().find(|(known, _)| known.id == api.id) {
            Some((_, all)) => all.push(access),
            None => by_api.push((api, vec![access])),
        }
    }
    by_api.iter().map(|(api, access)| json!({ "resourceAppId": api.id, "resourceAccess": access })).collect()
}

fn keys(application: &Application, with_keys: bool) -> Vec<Value> {
    let certificates =
        application.certificates.iter().filter_map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok());
    certificates
        .map(|certificate| {
            let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &certificate);
            json!({
                "keyId": key_id(&certificate),
                "customKeyIdentifier": STANDARD.encode(digest),
                "type": "AsymmetricX509Cert",
                "usage": "Verify",
                "displayName": Value::Null,
                "key": if with_keys { Value::from(STANDARD.encode(&certificate)) } else { Value::Null },
            })
        })
        .collect()
}

fn key_id(certificate: &CertificateDer<'_>) -> String {
    derived_guid(&format!("key|{}", STANDARD.encode(certificate)))
}

/// What a registration becomes when this is written.
fn written(asked: Asked<'_>, mut new: Application, body: &Map<String, Value>) -> Result<Application, GraphError> {
    for (name, value) in body {
        if name.starts_with("@odata.") {
            continue;
        }
        if NOT_SERVED.contains(&name.as_str()) {
            return Err(GraphError::bad_request(format!("The emulator does not serve '{name}' of an application.")));
        }
        if !PROPERTIES.contains(&name.as_str()) {
            return Err(undeclared(name));
        }
        if READ_ONLY.contains(&name.as_str()) {
            return Err(refused("Request_BadRequest", format!("Property '{name}' is read-only and cannot be set.")));
        }
        property(asked, &mut new, name, value)?;
    }
    rules::identifier_uris(asked, &new, body.contains_key("identifierUris"))?;
    rules::unique_values(&scopes(&new), &roles(&new))?;
    Ok(new)
}

fn property(asked: Asked<'_>, new: &mut Application, name: &str, value: &Value) -> Result<(), GraphError> {
    let wrong = || invalid_value(name, RESOURCE);
    match name {
        "displayName" => {
            let text = value.as_str().filter(|text| (1..=256).contains(&text.len())).ok_or_else(wrong)?;
            new.name = text.to_owned();
        }
        "signInAudience" => {
            let all = [Audience::MyOrg, Audience::MultipleOrgs, Audience::OrgsAndPersonal, Audience::Personal];
            let found = all.into_iter().find(|audience| value == audience_name(*audience));
            new.audience = found.ok_or_else(wrong)?;
        }
        "identifierUris" => new.identifier_uris = texts(value).ok_or_else(wrong)?,
        "isFallbackPublicClient" => {
            new.allow_public_client = if value.is_null() { false } else { value.as_bool().ok_or_else(wrong)? };
        }
        "publicClient" => redirects(&mut new.public_redirect_uris, name, value, rules::public_redirect_uri)?,
        "web" => redirects(&mut new.web_redirect_uris, name, value, rules::web_redirect_uri)?,
        "spa" => redirects(&mut new.spa_redirect_uris, name, value, rules::web_redirect_uri)?,
        "api" => api(new, value)?,
        "appRoles" => {
            let entries = value.as_array().ok_or_else(wrong)?;
            rules::entitlements(Entitlement::Role, &roles(new), entries)?;
            new.roles = values_in_force(entries);
            new.registration.roles.clone_from(entries);
        }
        "groupMembershipClaims" => {
            let known = ["None", "SecurityGroup", "DirectoryRole", "ApplicationGroup", "All"];
            let text = value.as_str();
            let is_known = text.is_none_or(|text| text.split(", ").all(|one| known.contains(&one)));
            if !(value.is_null() || value.is_string()) || !is_known {
                return Err(wrong());
            }
            new.group_claims = text.is_some_and(|text| text != "None");
            new.registration.group_membership_claims = text.map(str::to_owned);
        }
        "optionalClaims" => {
            rules::optional_claims(value)?;
            let kinds = |kind: &str| value[kind].as_array().cloned().unwrap_or_default();
            let idtyp = kinds("accessToken").into_iter().find(|claim| claim["name"] == "idtyp");
            let more = |claim: &Value| {
                claim["additionalProperties"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|one| one == "include_user_token"))
            };
            new.idtyp_for_users = idtyp.as_ref().is_some_and(more);
            new.idtyp_for_applications = idtyp.is_some();
            new.registration.optional_claims = (!value.is_null()).then(|| value.clone());
        }
        "requiredResourceAccess" => {
            let entries = value.as_array().ok_or_else(wrong)?;
            new.permissions = permissions(asked.config, entries)?;
            new.registration.required_resource_access = Some(entries.clone());
        }
        "keyCredentials" => new.certificates = certificates(new, value.as_array().ok_or_else(wrong)?)?,
        _ => return Err(wrong()),
    }
    Ok(())
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|one| one.as_str().map(str::to_owned)).collect()
}

/// The values of the entries that are enabled.
fn values_in_force(entries: &[Value]) -> Vec<String> {
    let in_force = entries.iter().filter(|entry| entry["isEnabled"] != false);
    in_force.filter_map(|entry| entry["value"].as_str()).map(str::to_owned).collect()
}

/// Complex properties are merged: a part that is not named stays.
fn redirects(into: &mut Vec<String>, name: &str, value: &Value, rule: fn(&str) -> bool) -> Result<(), GraphError> {
    let object = value.as_object().ok_or_else(|| invalid_value(name, RESOURCE))?;
    for (part, value) in object {
        if part != "redirectUris" {
            return Err(match part.as_str() {
                "homePageUrl" | "logoutUrl" | "implicitGrantSettings" | "redirectUriSettings" => {
                    GraphError::bad_request(format!("The emulator does not serve '{name}/{part}' of an application."))
                }
                _ => undeclared(part),
            });
        }
        let uris = texts(value).ok_or_else(|| invalid_value("redirectUris", RESOURCE))?;
        if let Some(wrong) = uris.iter().find(|uri| !rule(uri)) {
            return Err(refused("Request_BadRequest", format!("Reply URL '{wrong}' of '{name}' is not valid.")));
        }
        *into = uris;
    }
    Ok(())
}

fn api(new: &mut Application, value: &Value) -> Result<(), GraphError> {
    let wrong = |name: &str| invalid_value(name, RESOURCE);
    for (name, value) in value.as_object().ok_or_else(|| wrong("api"))? {
        match name.as_str() {
            "requestedAccessTokenVersion" => {
                new.access_token_version = match value {
                    Value::Null => 1,
                    value if value == 1 => 1,
                    value if value == 2 => 2,
                    _ => return Err(wrong(name)),
                };
            }
            "oauth2PermissionScopes" => {
                let entries = value.as_array().ok_or_else(|| wrong(name))?;
                rules::entitlements(Entitlement::Scope, &scopes(new), entries)?;
                let in_force = entries.iter().filter(|entry| entry["isEnabled"] != false);
                new.scopes = in_force
                    .map(|entry| Scope {
                        name: entry["value"].as_str().unwrap_or_default().to_owned(),
                        title: entry["adminConsentDisplayName"].as_str().unwrap_or_default().to_owned(),
                        administrator: entry["type"] == "Admin",
                    })
                    .collect();
                new.registration.scopes.clone_from(entries);
            }
            // What Graph shows is taken back if it is empty.
            "preAuthorizedApplications" | "knownClientApplications" if value == &json!([]) => {}
            "preAuthorizedApplications" | "knownClientApplications" | "acceptMappedClaims" => {
                return Err(GraphError::bad_request(format!(
                    "The emulator does not serve 'api/{name}' of an application."
                )));
            }
            _ => return Err(undeclared(name)),
        }
    }
    Ok(())
}

/// The delegated permissions among them, as full scopes. Graph takes ids that no API has as well; they are no mistake
/// that a sign-in would show, so the emulator refuses them.
fn permissions(config: &Config, entries: &[Value]) -> Result<Vec<String>, GraphError> {
    let wrong = || invalid_value("requiredResourceAccess", RESOURCE);
    let mut found = Vec::new();
    for entry in entries {
        let api = entry["resourceAppId"].as_str().ok_or_else(wrong)?;
        let api = Api::find(config, api).ok_or_else(wrong)?;
        for access in entry["resourceAccess"].as_array().ok_or_else(wrong)? {
            let id = access["id"].as_str().ok_or_else(wrong)?;
            let of = |known: &[(String, String)]| known.iter().find(|(one, _)| one == id).map(|(_, name)| name.clone());
            match access["type"].as_str() {
                Some("Scope") => found.push(format!("{}/{}", api.written(), of(&api.scopes).ok_or_else(wrong)?)),
                Some("Role") => drop(of(&api.roles).ok_or_else(wrong)?),
                _ => return Err(wrong()),
            }
        }
    }
    Ok(found)
}

/// Certificates to verify assertions with. An entry without its key stands for the one that has its id.
fn certificates(old: &Application, entries: &[Value]) -> Result<Vec<String>, GraphError> {
    let wrong = || invalid_value("keyCredentials", RESOURCE);
    let of_id = |id: &Value| {
        let is_it = |pem: &&String| {
            let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok();
            certificate.is_some_and(|certificate| *id == key_id(&certificate))
        };
        old.certificates.iter().find(is_it).cloned()
    };
    let one = |entry: &Value| {
        if entry["type"] != "AsymmetricX509Cert" || entry["usage"] != "Verify" {
            return Err(wrong());
        }
        match entry["key"].as_str() {
            None => of_id(&entry["keyId"]).ok_or_else(wrong),
            Some(key) => {
                let der = STANDARD.decode(key).map_err(|_| wrong())?;
                webpki::EndEntityCert::try_from(&CertificateDer::from(der)).map_err(|_| wrong())?;
                Ok(format!("-----BEGIN CERTIFICATE-----\n{key}\n-----END CERTIFICATE-----\n"))
            }
        }
    };
    entries.iter().map(one).collect()
}

/// Whether Graph itself is meant, which no directory lists among its registrations.
pub(super) fn is_graph(app_id: &str) -> bool {
    app_id == GRAPH_APP_ID
}
