//! What Graph checks of a registration before it takes it.

use std::collections::BTreeSet;

use serde_json::Value;
use url::Url;

use super::{Asked, invalid_value, refused};
use crate::config::Application;
use crate::graph::GraphError;

/// The longest redirect URI.
const REDIRECT_URI_AT_MOST: usize = 256;
/// The longest value of a role or scope.
const VALUE_AT_MOST: usize = 120;
/// Optional claims that the emulator writes, or that it knows to have no meaning here.
const CLAIMS: [&str; 8] = ["acct", "email", "groups", "idtyp", "ipaddr", "login_hint", "sid", "upn"];

/// What an application offers others: a delegated permission, or a role.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Entitlement {
    Scope,
    Role,
}

impl Entitlement {
    fn property(self) -> &'static str {
        match self {
            Self::Scope => "oauth2PermissionScopes",
            Self::Role => "appRoles",
        }
    }

    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Scope => &["id", "value", "adminConsentDisplayName", "adminConsentDescription"],
            Self::Role => &["id", "displayName", "description"],
        }
    }

    fn known(self) -> &'static [&'static str] {
        match self {
            Self::Scope => &[
                "id",
                "value",
                "type",
                "isEnabled",
                "adminConsentDisplayName",
                "adminConsentDescription",
                "userConsentDisplayName",
                "userConsentDescription",
            ],
            Self::Role => &["id", "value", "displayName", "description", "allowedMemberTypes", "isEnabled", "origin"],
        }
    }
}

fn is_guid(text: &str) -> bool {
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Checks the scopes or roles that replace others.
pub(super) fn entitlements(kind: Entitlement, old: &[Value], new: &[Value]) -> Result<(), GraphError> {
    let wrong = || invalid_value(kind.property(), "Application");
    let mut ids = BTreeSet::new();
    for entry in new {
        let object = entry.as_object().ok_or_else(wrong)?;
        if let Some(name) = object.keys().find(|name| !kind.known().contains(&name.as_str())) {
            return Err(super::undeclared(name));
        }
        let is_text = |name: &&str| object.get(*name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if !kind.required().iter().all(is_text) {
            return Err(wrong());
        }
        if !entry["id"].as_str().is_some_and(is_guid) || !ids.insert(entry["id"].to_string()) {
            return Err(wrong());
        }
        let value = entry["value"].as_str().unwrap_or_default();
        if value.len() > VALUE_AT_MOST || value.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong());
        }
        let is_typed = match kind {
            Entitlement::Scope => entry["type"] == "User" || entry["type"] == "Admin",
            Entitlement::Role => entry["allowedMemberTypes"].as_array().is_some_and(|types| {
                !types.is_empty() && types.iter().all(|one| one == "User" || one == "Application")
            }),
        };
        if !is_typed {
            return Err(wrong());
        }
    }
    for enabled in old.iter().filter(|entry| entry["isEnabled"] != false) {
        let kept = new.iter().find(|entry| entry["id"] == enabled["id"]);
        let same = |name: &str| kept.is_some_and(|kept| kept[name] == enabled[name]);
        if !["value", "type", "allowedMemberTypes"].into_iter().all(same) {
            return Err(refused(
                "CannotDeleteOrUpdateEnabledEntitlement",
                "Permission (scope or role) cannot be deleted or updated unless disabled first.",
            ));
        }
    }
    Ok(())
}

/// Scopes and roles share one set of values.
pub(super) fn unique_values(scopes: &[Value], roles: &[Value]) -> Result<(), GraphError> {
    let values = scopes.iter().chain(roles).filter_map(|entry| entry["value"].as_str());
    let mut known = BTreeSet::new();
    for value in values {
        if !known.insert(value) {
            return Err(refused("DuplicateValue", "Request contains a property with duplicate values."));
        }
    }
    Ok(())
}

/// App ID URIs: absolute, no other registration's, and of a domain of the directory. The last is not asked of
/// applications with tokens of version 2.
pub(super) fn identifier_uris(asked: Asked<'_>, new: &Application, is_written: bool) -> Result<(), GraphError> {
    if !is_written {
        return Ok(());
    }
    let known: Vec<_> = asked.config.application(&new.id).map(|old| old.identifier_uris.clone()).unwrap_or_default();
    for uri in new.identifier_uris.iter().filter(|uri| !known.contains(*uri)) {
        let parsed = Url::parse(uri).map_err(|_| invalid_value("identifierUris", "Application"))?;
        if uri.ends_with('/') || parsed.fragment().is_some() {
            return Err(invalid_value("identifierUris", "Application"));
        }
        let other = asked.config.applications.iter().filter(|one| one.tenant == new.tenant && one.id != new.id);
        if other.into_iter().any(|one| one.identifier_uris.contains(uri)) {
            return Err(GraphError {
                detail: Some(("ObjectConflict", "identifierUris")),
                ..refused(
                    "Request_BadRequest",
                    "Another object with the same value for property identifierUris already exists.",
                )
            });
        }
        let domain = asked.config.tenant(&new.tenant).map(|tenant| tenant.domain.as_str()).unwrap_or_default();
        let host = parsed.host_str().unwrap_or_default();
        let is_own = host == domain || host.ends_with(&format!(".{domain}"));
        let names_it = uri.contains(&new.id) || uri.contains(&new.tenant);
        if !(is_own || names_it || new.access_token_version == 2) {
            return Err(refused(
                "HostNameNotOnVerifiedDomain",
                format!(
                    "Values of identifierUris property must use a verified domain of the organization or its subdomain: '{uri}'"
                ),
            ));
        }
    }
    Ok(())
}

/// https, or http to this machine.
pub(super) fn web_redirect_uri(uri: &str) -> bool {
    let Ok(url) = Url::parse(uri) else { return false };
    let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1"));
    let is_secure = url.scheme() == "https" || (url.scheme() == "http" && is_local);
    is_secure && uri.len() <= REDIRECT_URI_AT_MOST && url.fragment().is_none() && !uri.contains('*')
}

/// The same, or a scheme that belongs to a program.
pub(super) fn public_redirect_uri(uri: &str) -> bool {
    let own_scheme = Url::parse(uri).is_ok_and(|url| !["http", "https", "javascript", "data"].contains(&url.scheme()));
    (own_scheme && uri.len() <= REDIRECT_URI_AT_MOST) || web_redirect_uri(uri)
}

pub(super) fn optional_claims(value: &Value) -> Result<(), GraphError> {
    let wrong = || invalid_value("optionalClaims", "Application");
    if value.is_null() {
        return Ok(());
    }
    for (kind, claims) in value.as_object().ok_or_else(wrong)? {
        if !["accessToken", "idToken", "saml2Token"].contains(&kind.as_str()) {
            return Err(super::undeclared(kind));
        }
        for claim in claims.as_array().ok_or_else(wrong)? {
            let name = claim["name"].as_str().ok_or_else(wrong)?;
            if !CLAIMS.contains(&name) {
                return Err(GraphError::bad_request(format!(
                    "The emulator does not know the optional claim '{name}'."
                )));
            }
        }
    }
    Ok(())
}
