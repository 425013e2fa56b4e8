//! The claims of Entra ID's tokens, with their types checked. Nothing here decides whether a token is accepted.

use std::fmt;

use base::principal::{Agent, Groups};
use serde_json::{Map, Value};

use super::agent;
use super::error::TokenError;
use crate::issuers::TokenVersion;
use crate::tenants::is_guid;

/// 9999-12-31T23:59:59Z. Later dates are nonsense, and arithmetic with them invites overflow.
const MAX_DATE: u64 = 253_402_300_799;

/// Bytes of a subject (OpenID Connect Core section 2 limits `sub` to 255 characters).
const MAX_SUBJECT_BYTES: usize = 255;

/// The claims that the validation reads. Not trusted before the signature is verified.
pub(super) struct Claims {
    pub(super) version: TokenVersion,
    pub(super) issuer: String,
    pub(super) tenant_id: String,
    pub(super) object_id: String,
    pub(super) subject: String,
    pub(super) audience: String,
    pub(super) issued_at: u64,
    pub(super) not_before: u64,
    pub(super) expires_at: u64,
    /// `azp` (version 2) or `appid` (version 1). ID tokens have none.
    pub(super) client_id: Option<String>,
    /// `scp`. Delegated access tokens only.
    pub(super) scopes: Option<Vec<String>>,
    pub(super) roles: Vec<String>,
    pub(super) groups: Groups,
    /// `idtyp`, an optional claim: `app` or `user`.
    pub(super) id_type: Option<String>,
    pub(super) identity_provider: Option<String>,
    /// `acct`, an optional claim: 1 is a guest, 0 a member of the tenant.
    pub(super) account_status: Option<u64>,
    pub(super) nonce: Option<String>,
    /// `uti`, else `jti`.
    pub(super) token_id: Option<String>,
    /// How `cnf` (RFC 7800) names the key that the token is bound to, such as `jkt`.
    pub(super) confirmation: Option<Vec<String>>,
    /// How an agent takes part, and its blueprint for records.
    pub(super) agent: Option<Agent>,
    /// `acrs`: authentication contexts. `None` if the token does not say.
    pub(super) contexts: Option<Vec<String>>,
    pub(super) preferred_username: Option<String>,
    /// `upn`, in access tokens of version 1.
    pub(super) upn: Option<String>,
    pub(super) name: Option<String>,
    /// `login_hint`, an optional claim of ID tokens.
    pub(super) login_hint: Option<String>,
}

/// Names and addresses of people do not belong into logs.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("tenant_id", &self.tenant_id)
            .field("object_id", &self.object_id)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl Claims {
    /// Reads the claims of a compact token. `ver` comes first: the other rules depend on it.
    pub(super) fn read(claims: &Map<String, Value>) -> Result<Self, TokenError> {
        let ver = required_text(claims, "ver")?;
        let version = TokenVersion::of(&ver).ok_or(TokenError::VersionNotSupported { actual: ver })?;
        // In any case: jwt-simple reads it as well, and would report a bad signature.
        let jti = optional_text(claims, "jti")?;
        Ok(Self {
            version,
            issuer: required_text(claims, "iss")?,
            tenant_id: required_guid(claims, "tid")?,
            object_id: required_guid(claims, "oid")?,
            subject: subject(claims)?,
            audience: required_text(claims, "aud")?,
            issued_at: date(claims, "iat")?,
            not_before: date(claims, "nbf")?,
            expires_at: date(claims, "exp")?,
            client_id: optional_guid(claims, client_claim(version))?,
            scopes: scopes(claims)?,
            roles: texts(claims, "roles")?.unwrap_or_default(),
            groups: groups(claims)?,
            id_type: optional_text(claims, "idtyp")?,
            identity_provider: optional_text(claims, "idp")?,
            account_status: account_status(claims)?,
            nonce: optional_text(claims, "nonce")?,
            token_id: shown_text(claims, "uti").or(jti),
            confirmation: confirmation(claims)?,
            agent: agent::of(claims),
            contexts: contexts(claims),
            preferred_username: optional_text(claims, "preferred_username")?,
            upn: shown_text(claims, "upn"),
            name: optional_text(claims, "name")?,
            login_hint: shown_text(claims, "login_hint"),
        })
    }
}

/// The claim that names the client application.
pub(super) fn client_claim(version: TokenVersion) -> &'static str {
    match version {
        TokenVersion::V1 => "appid",
        TokenVersion::V2 => "azp",
    }
}

/// A text that is shown and decides nothing: a value of another type counts as absent.
fn shown_text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    claims.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn missing(name: &str) -> TokenError {
    TokenError::ClaimMissing { name: name.to_owned() }
}

fn malformed(name: &str) -> TokenError {
    TokenError::ClaimMalformed { name: name.to_owned() }
}

fn optional_text(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(malformed(name)),
    }
}

/// An empty text says as little as none, and an empty identifier must never be compared with an empty setting.
fn required_text(claims: &Map<String, Value>, name: &str) -> Result<String, TokenError> {
    let text = optional_text(claims, name)?.ok_or_else(|| missing(name))?;
    if text.is_empty() { Err(malformed(name)) } else { Ok(text) }
}

fn optional_guid(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, TokenError> {
    match optional_text(claims, name)? {
        Some(text) if !is_guid(&text) => Err(malformed(name)),
        text => Ok(text),
    }
}

fn required_guid(claims: &Map<String, Value>, name: &str) -> Result<String, TokenError> {
    optional_guid(claims, name)?.ok_or_else(|| missing(name))
}

fn subject(claims: &Map<String, Value>) -> Result<String, TokenError> {
    let subject = required_text(claims, "sub")?;
    if subject.len() > MAX_SUBJECT_BYTES { Err(malformed("sub")) } else { Ok(subject) }
}

/// A NumericDate (RFC 7519 section 2). The RFC allows fractions; Entra ID writes integers, and so must others.
fn date(claims: &Map<String, Value>, name: &str) -> Result<u64, TokenError> {
    match claims.get(name) {
        None => Err(missing(name)),
        Some(value) => value.as_u64().filter(|date| *date <= MAX_DATE).ok_or_else(|| malformed(name)),
    }
}

fn texts(claims: &Map<String, Value>, name: &str) -> Result<Option<Vec<String>>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| match value {
                Value::String(text) if !text.is_empty() => Ok(text.clone()),
                _ => Err(malformed(name)),
            })
            .collect::<Result<_, _>>()
            .map(Some),
        Some(_) => Err(malformed(name)),
    }
}

/// `scp`: names separated by single spaces (RFC 6749 section 3.3).
fn scopes(claims: &Map<String, Value>) -> Result<Option<Vec<String>>, TokenError> {
    let Some(text) = optional_text(claims, "scp")? else {
        return Ok(None);
    };
    let scopes: Vec<String> = text.split(' ').map(str::to_owned).collect();
    if scopes.iter().any(String::is_empty) { Err(malformed("scp")) } else { Ok(Some(scopes)) }
}

/// Overage is announced by a pointer to the groups (`_claim_names`), or by `hasgroups` where the token travelled
/// in a URL. The pointer itself is never followed: it names a retired API, and a forged one any host.
fn groups(claims: &Map<String, Value>) -> Result<Groups, TokenError> {
    let listed = texts(claims, "groups")?;
    let pointer = match claims.get("_claim_names") {
        None => false,
        Some(Value::Object(names)) => names.contains_key("groups"),
        Some(_) => return Err(malformed("_claim_names")),
    };
    let has_groups = match claims.get("hasgroups") {
        None => false,
        Some(Value::Bool(has_groups)) => *has_groups,
        Some(Value::String(text)) if text == "true" => true,
        Some(_) => return Err(malformed("hasgroups")),
    };
    Ok(match listed {
        _ if pointer || has_groups => Groups::Overage,
        Some(groups) => Groups::Listed(groups),
        None => Groups::Absent,
    })
}

/// `acrs`: a list, or one text. It can only permit something, so a value of another type counts as one that names nothing.
fn contexts(claims: &Map<String, Value>) -> Option<Vec<String>> {
    let texts = |values: &[Value]| values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Some(match claims.get("acrs")? {
        Value::Array(values) => texts(values),
        value => texts(std::slice::from_ref(value)),
    })
}

/// `cnf` (RFC 7800 section 3.1): an object, whose members name the key. Even an empty one says that there is a key.
fn confirmation(claims: &Map<String, Value>) -> Result<Option<Vec<String>>, TokenError> {
    match claims.get("cnf") {
        None => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members.keys().cloned().collect())),
        Some(_) => Err(malformed("cnf")),
    }
}

fn account_status(claims: &Map<String, Value>) -> Result<Option<u64>, TokenError> {
    match claims.get("acct") {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| malformed("acct")),
    }
}
