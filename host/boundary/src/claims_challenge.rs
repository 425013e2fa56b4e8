//! The challenge of an API that refuses a token (RFC 6750 section 3, and the claims challenge of Entra ID).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// Longest value of `claims` in bytes, before it is decoded. Real ones have some 200.
const MAX_CLAIMS_BYTES: usize = 4 * 1024;

/// Base64 with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The claims that the next token has to have, as JSON. Empty: the token is no longer good, and another one may be.
pub fn wanted_claims(headers: &HeaderMap) -> Option<String> {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).find_map(|value| {
        let parameters = bearer_parameters(value);
        let parameter =
            |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (parameter("error"), parameter("claims").and_then(decoded)) {
            (Some("insufficient_claims"), Some(claims)) => Some(claims),
            (Some("invalid_token"), claims) => Some(claims.unwrap_or_default()),
            _ => None,
        }
    })
}

/// Any configured API may send a challenge, and what it wants is part of the next request for a token: if Entra ID refuses
/// that, the caller's session may end. So an API can only ask for claims of the access token that it gets, as Microsoft
/// Graph does, and not for those of other tokens. What is left: an API can still want a claim of its own token that no
/// refresh supplies. Whether that ends the session is decided by the component that supplies the token.
fn decoded(claims: &str) -> Option<String> {
    if claims.len() > MAX_CLAIMS_BYTES {
        return None;
    }
    let json = if claims.starts_with('{') {
        claims.to_owned()
    } else {
        String::from_utf8(LENIENT.decode(claims.replace('-', "+").replace('_', "/")).ok()?).ok()?
    };
    let members = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&json).ok()?;
    let only_access_token = members.len() == 1 && members.get("access_token").is_some_and(serde_json::Value::is_object);
    // What was checked is what is passed on: without a second member of the same name.
    only_access_token.then(|| serde_json::Value::Object(members).to_string())
}

/// The parameters of the scheme `Bearer`, their names in lower case. A header field may hold several challenges.
fn bearer_parameters(value: &str) -> Vec<(String, String)> {
    let (mut parameters, mut is_bearer) = (Vec::new(), false);
    for part in split_unquoted(value) {
        let (before, value) = part.split_once('=').unwrap_or((part, ""));
        // A scheme and its first parameter are separated by a space.
        let (scheme, name) = match before.trim().rsplit_once(char::is_whitespace) {
            Some((scheme, name)) => (Some(scheme), name),
            None if part.contains('=') => (None, before),
            None => (Some(before), ""),
        };
        if let Some(scheme) = scheme {
            is_bearer = scheme.trim().eq_ignore_ascii_case("bearer");
        }
        if is_bearer {
            parameters.push((name.trim().to_ascii_lowercase(), unquoted(value.trim())));
        }
    }
    parameters
}

/// The parts between commas that are not in a quoted string.
fn split_unquoted(value: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |character| {
        let separates = character == ',' && !quoted;
        if escaped {
            escaped = false;
        } else if character == '"' {
            quoted = !quoted;
        } else if character == '\\' && quoted {
            escaped = true;
        }
        separates
    })
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let (mut text, mut escaped) = (String::new(), false);
    for character in inner.chars() {
        if character == '\\' && !escaped {
            escaped = true;
        } else {
            text.push(character);
            escaped = false;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIMS: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    const ENCODED: &str = "eyJhY2Nlc3NfdG9rZW4iOnsiYWNycyI6eyJlc3NlbnRpYWwiOnRydWUsInZhbHVlIjoiYzEifX19";

    fn wanted(value: &str) -> Option<String> {
        wanted_claims(&HeaderMap::from_iter([(WWW_AUTHENTICATE, value.parse().unwrap())]))
    }

    #[test]
    fn the_claims_of_a_challenge_are_found() {
        for value in [
            format!(
                r#"Bearer realm="", authorization_uri="https://a.example/a,b", error="insufficient_claims", claims="{ENCODED}""#
            ),
            format!(r#"bearer error=insufficient_claims,claims={ENCODED}"#),
            format!(r#"PoP error="x", claims="y", Bearer error="insufficient_claims", claims="{ENCODED}""#),
            format!(r#"Bearer error="insufficient_claims", claims="{}""#, CLAIMS.replace('"', "\\\"")),
        ] {
            assert_eq!(wanted(&value).as_deref(), Some(CLAIMS), "{value}");
        }
    }

    #[test]
    fn claims_are_read_in_both_alphabets_with_and_without_padding() {
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
        let claims = r#"{"access_token":{"a":"???>>>~~"}}"#;
        assert_ne!(STANDARD.encode(claims), URL_SAFE.encode(claims));
        for alphabet in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
            let encoded = alphabet.encode(claims);
            let value = format!(r#"Bearer error="insufficient_claims", claims="{encoded}""#);
            assert_eq!(wanted(&value).as_deref(), Some(claims), "{encoded}");
        }
    }

    #[test]
    fn an_api_asks_for_claims_of_its_own_token_only() {
        for claims in [
            "{}",
            r#"{"a":1}"#,
            r#"{"access_token":1}"#,
            r#"{"id_token":{"auth_time":{"essential":true}}}"#,
            r#"{"access_token":{},"id_token":{}}"#,
            r#"{"access_token":{},"userinfo":{}}"#,
        ] {
            let encoded = base64::engine::general_purpose::STANDARD.encode(claims);
            let value = format!(r#"Bearer error="insufficient_claims", claims="{encoded}""#);
            assert_eq!(wanted(&value), None, "{claims}");
            // The token itself may still be replaced.
            let value = format!(r#"Bearer error="invalid_token", claims="{encoded}""#);
            assert_eq!(wanted(&value).as_deref(), Some(""), "{claims}");
        }
    }

    #[test]
    fn a_token_that_is_no_longer_good_is_replaced() {
        assert_eq!(wanted(r#"Bearer realm="x", error="invalid_token""#).as_deref(), Some(""));
        assert_eq!(wanted(&format!(r#"Bearer error="invalid_token", claims="{ENCODED}""#)).as_deref(), Some(CLAIMS));
    }

    #[test]
    fn everything_else_asks_for_nothing() {
        for value in [
            "Bearer",
            "Basic realm=\"x\"",
            r#"Bearer error="insufficient_scope""#,
            r#"Bearer error="insufficient_claims""#,
            r#"Bearer error="insufficient_claims", claims="!!!""#,
            r#"Bearer error="insufficient_claims", claims="W10""#,
            &format!(r#"PoP error="insufficient_claims", claims="{ENCODED}""#),
            &format!(r#"Bearer error="insufficient_claims", claims="{}""#, "e30A".repeat(MAX_CLAIMS_BYTES)),
        ] {
            assert_eq!(wanted(value), None, "{value}");
        }
    }
}
