//! The claims of a token as wasmcp hands them from component to component, and what its helpers read of them.
//!
//! Threat: a component decides by what a helper says, and a claim that the sender of a token chose is taken for another one. So
//! the other claims are a closed list of names, each with a value whose form Entra ID and this component give it.

use base::encoding::from_base64url;
use base::principal::{Groups, Principal, PrincipalKind};
use base::strict_json;
use serde_json::Value;

/// The most that clocks may differ, whatever a component asks for: beyond it, expiry would lose its meaning.
const MAX_CLOCK_SKEW_SECONDS: u64 = 300;

/// `jwt-claims` of `wasmcp:auth/types`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// `sub`.
    pub subject: String,
    /// `iss`.
    pub issuer: Option<String>,
    /// `aud`.
    pub audience: Vec<String>,
    /// `exp`.
    pub expires_at: Option<u64>,
    /// `iat`.
    pub issued_at: Option<u64>,
    /// `nbf`.
    pub not_before: Option<u64>,
    /// `jti`. Of Entra ID it is `uti`.
    pub token_id: Option<String>,
    /// `scp`.
    pub scopes: Vec<String>,
    /// Whether there is a `cnf`. No token with one is accepted.
    pub is_bound: bool,
    /// The others: a text as it is, and everything else as JSON, as wasmcp's own component has them.
    pub others: Vec<(String, String)>,
}

impl Claims {
    /// The claims of a token that was accepted, and of its principal. `None`: the token cannot be read, so it was not.
    pub fn of(principal: &Principal, token: &str) -> Option<Self> {
        let payload = strict_json::parse_object(&from_base64url(token.split('.').nth(1)?)?).ok()?;
        let text = |name: &str| payload.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            subject: principal.subject.clone(),
            issuer: Some(text("iss")?),
            audience: vec![text("aud")?],
            expires_at: Some(principal.expires_at),
            issued_at: Some(principal.issued_at),
            not_before: Some(payload.get("nbf").and_then(Value::as_u64)?),
            token_id: principal.token_id.clone(),
            scopes: principal.scopes.clone(),
            is_bound: false,
            others: others(principal),
        })
    }

    /// Another claim. One that is there twice counts as none.
    pub fn other(&self, name: &str) -> Option<&str> {
        let mut found = self.others.iter().filter(|(known, _)| known == name);
        let (Some((_, value)), None) = (found.next(), found.next()) else { return None };
        Some(value)
    }

    /// The helper `get-claim`.
    pub fn get(&self, name: &str) -> Option<String> {
        match name {
            "sub" => Some(self.subject.clone()),
            "iss" => self.issuer.clone(),
            "aud" => (!self.audience.is_empty()).then(|| self.audience.join(",")),
            "exp" => self.expires_at.map(|date| date.to_string()),
            "iat" => self.issued_at.map(|date| date.to_string()),
            "nbf" => self.not_before.map(|date| date.to_string()),
            "jti" => self.token_id.clone(),
            "scope" | "scp" => (!self.scopes.is_empty()).then(|| self.scopes.join(" ")),
            other => self.other(other).map(str::to_owned),
        }
    }

    /// The helper `flatten-claims`.
    pub fn flatten(&self) -> Vec<(String, String)> {
        let standard = ["sub", "iss", "aud", "exp", "iat", "nbf", "jti", "scope"];
        let standard = standard.iter().filter_map(|name| Some(((*name).to_owned(), self.get(name)?)));
        standard.chain(self.others.iter().cloned()).collect()
    }

    /// The helper `has-scope`.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|known| known == scope)
    }

    /// The helper `is-expired`. As its documentation says, claims without a date do not expire; a token without one is not
    /// accepted in the first place.
    pub fn is_expired(&self, now: u64, skew: Option<u64>) -> bool {
        self.expires_at.is_some_and(|expires_at| now >= expires_at.saturating_add(bounded(skew)))
    }

    /// The helper `is-valid-time`.
    pub fn is_current(&self, now: u64, skew: Option<u64>) -> bool {
        let has_begun = self.not_before.is_none_or(|not_before| not_before <= now.saturating_add(bounded(skew)));
        has_begun && !self.is_expired(now, skew)
    }
}

fn bounded(skew: Option<u64>) -> u64 {
    skew.unwrap_or_default().min(MAX_CLOCK_SKEW_SECONDS)
}

/// What tells who calls, and what may be decided by. Names and addresses of people are not among them: they change hands.
fn others(principal: &Principal) -> Vec<(String, String)> {
    let Principal { tenant_id, object_id, client_id, kind, roles, groups, contexts, token_version, .. } = principal;
    let list = |texts: &[String]| Value::from(texts.to_vec()).to_string();
    let idtyp = match kind {
        PrincipalKind::User => "user",
        PrincipalKind::App => "app",
    };
    let mut others = vec![
        ("tid", tenant_id.clone()),
        ("oid", object_id.clone()),
        ("azp", client_id.clone()),
        ("ver", format!("{token_version}.0")),
        ("idtyp", idtyp.to_owned()),
    ];
    if !roles.is_empty() {
        others.push(("roles", list(roles)));
    }
    match groups {
        Groups::Absent => {}
        Groups::Listed(groups) => others.push(("groups", list(groups))),
        Groups::Overage => others.push(("hasgroups", "true".to_owned())),
    }
    if !contexts.is_empty() {
        others.push(("acrs", list(contexts)));
    }
    others.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use base::encoding::base64url;
    use serde_json::json;

    use super::*;

    pub(crate) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
    pub(crate) const CLIENT: &str = "22222222-2222-3333-4444-555555555555";
    const OBJECT: &str = "33333333-2222-3333-4444-555555555555";
    pub(crate) const NOW: u64 = 1_767_225_600;

    pub(crate) fn principal() -> Principal {
        Principal {
            tenant_id: TENANT.to_owned(),
            object_id: OBJECT.to_owned(),
            subject: "subject".to_owned(),
            client_id: "44444444-2222-3333-4444-555555555555".to_owned(),
            kind: PrincipalKind::User,
            scopes: vec!["access_as_user".to_owned(), "Mail.Read".to_owned()],
            roles: vec!["Reader".to_owned()],
            groups: Groups::Listed(vec![OBJECT.to_owned()]),
            token_id: Some("uti".to_owned()),
            issued_at: NOW,
            expires_at: NOW + 3600,
            guest: false,
            agent: None,
            contexts: vec!["c1".to_owned()],
            token_version: 2,
        }
    }

    pub(crate) fn claims(principal: &Principal) -> Claims {
        let payload = json!({
            "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "aud": CLIENT, "nbf": NOW,
            "name": "Alice Anderson", "preferred_username": "alice@contoso.example",
        });
        Claims::of(principal, &format!("e30.{}.AA", base64url(payload.to_string().as_bytes()))).unwrap()
    }

    #[test]
    fn claims_tell_who_calls_and_no_name_of_a_person() {
        let claims = claims(&principal());
        let flat = claims.flatten();
        let expected = [
            ("sub", "subject"),
            ("iss", "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0"),
            ("aud", CLIENT),
            ("exp", "1767229200"),
            ("iat", "1767225600"),
            ("nbf", "1767225600"),
            ("jti", "uti"),
            ("scope", "access_as_user Mail.Read"),
            ("tid", TENANT),
            ("oid", OBJECT),
            ("azp", "44444444-2222-3333-4444-555555555555"),
            ("ver", "2.0"),
            ("idtyp", "user"),
            ("roles", r#"["Reader"]"#),
            ("groups", r#"["33333333-2222-3333-4444-555555555555"]"#),
            ("acrs", r#"["c1"]"#),
        ];
        assert_eq!(flat, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for (name, value) in expected {
            assert_eq!(claims.get(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(claims.get("scp").as_deref(), Some("access_as_user Mail.Read"));
        assert_eq!(claims.get("preferred_username"), None);
    }

    #[test]
    fn groups_that_did_not_fit_into_a_token_are_announced_and_not_listed() {
        let claims = claims(&Principal { groups: Groups::Overage, ..principal() });
        assert_eq!((claims.other("groups"), claims.other("hasgroups")), (None, Some("true")));
    }

    #[test]
    fn a_claim_that_is_there_twice_is_none() {
        let mut claims = claims(&principal());
        claims.others.push(("oid".to_owned(), TENANT.to_owned()));
        assert_eq!((claims.other("oid"), claims.get("oid")), (None, None));
    }

    #[test]
    fn what_is_no_token_has_no_claims() {
        for token in ["", "a", "a.b.c", "e30.e30.AA"] {
            assert_eq!(Claims::of(&principal(), token), None, "{token}");
        }
    }

    #[test]
    fn skew_is_to_the_favour_of_a_token_and_bounded() {
        let claims = claims(&principal());
        let end = NOW + 3600;
        for (now, skew, expired) in [
            (end - 1, None, false),
            (end, None, true),
            (end, Some(60), false),
            (end + 60, Some(60), true),
            (end + 299, Some(u64::MAX), false),
            (end + 300, Some(u64::MAX), true),
        ] {
            assert_eq!(claims.is_expired(now, skew), expired, "{now} {skew:?}");
            assert_eq!(claims.is_current(now, skew), !expired, "{now} {skew:?}");
        }
        for (now, skew, current) in [
            (NOW - 1, None, false),
            (NOW - 60, Some(60), true),
            (NOW - 61, Some(60), false),
            (NOW - 300, Some(u64::MAX), true),
            (NOW - 301, Some(u64::MAX), false),
        ] {
            assert_eq!(claims.is_current(now, skew), current, "{now} {skew:?}");
        }
        assert!(!Claims { expires_at: None, ..claims }.is_expired(u64::MAX, None));
    }
}
