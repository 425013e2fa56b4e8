//! Header fields of a request of a tool, on its way to an API.
//!
//! A tool has no identity: the host adds its caller's. The answer must not reveal the token, and the API must serve the
//! request that the host has checked.

use std::borrow::Cow;

use crate::head::text;

/// Fields that a request with a token does not carry: a token could be put together from parts of an answer, be hidden by
/// compression or an encoding of characters, or come back in an interim answer or a trailer.
const WITHOUT_TOKEN: [&str; 7] = ["range", "if-range", "accept-encoding", "accept-charset", "te", "trailer", "expect"];

/// Fields by which servers and gateways read another method or another path than those of the request, which were checked.
const REDIRECTING: [&str; 6] =
    ["forwarded", "x-original-url", "x-rewrite-url", "x-http-method", "x-http-method-override", "x-method-override"];

/// The name as the most lenient server reads it: CGI, and WSGI after it, has one sign (`_`) for a hyphen and for whatever else
/// is neither a letter nor a digit, and no letters in lower case.
fn as_read(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        return Cow::Borrowed(name);
    }
    let read = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    Cow::Owned(name.chars().map(read).collect())
}

/// Whether a field names an identity to a service, or to one behind Azure App Service.
pub fn tells_identity(name: &str) -> bool {
    let name = &*as_read(name);
    ["authorization", "proxy-authorization", "cookie"].contains(&name)
        || ["x-ms-client-principal", "x-ms-token-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the host removes this field from a request with a token.
pub fn endangers_token(name: &str) -> bool {
    let name = &*as_read(name);
    WITHOUT_TOKEN.contains(&name) || REDIRECTING.contains(&name) || name.starts_with("x-forwarded-")
}

/// The values of `Accept` without parameters that ask for an encoding of characters in which a token could not be found.
/// None: there is no such parameter.
pub fn any_charset(accepted: &[&[u8]]) -> Option<Vec<String>> {
    let mentions = |value: &[u8]| value.to_ascii_lowercase().windows(7).any(|part| part == b"charset");
    if !accepted.iter().any(|value| mentions(value)) {
        return None;
    }
    let names_charset =
        |parameter: &&str| parameter.split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("charset"));
    let range =
        |range: &str| range.split(';').filter(|parameter| !names_charset(parameter)).collect::<Vec<_>>().join(";");
    // With quotes, a comma or semicolon separates nothing perhaps. No client writes that.
    let readable = accepted.iter().filter_map(|value| text(value)).filter(|text| !text.contains('"'));
    Some(readable.map(|text| text.split(',').map(range).collect::<Vec<_>>().join(",")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_tell_an_identity_or_endanger_a_token_are_known() {
        for name in ["authorization", "cookie", "x-ms-client-principal-id", "x-ms-token-aad-access-token"] {
            assert!(tells_identity(name) && !endangers_token(name), "{name}");
        }
        for name in ["range", "te", "forwarded", "x-forwarded-host", "x-http-method-override"] {
            assert!(endangers_token(name) && !tells_identity(name), "{name}");
        }
        assert!(!tells_identity("accept") && !endangers_token("accept"));
    }

    #[test]
    fn a_name_that_a_cgi_server_reads_as_one_of_them_is_known_too() {
        for name in ["x_ms_client_principal_id", "x-ms_token_aad-access-token", "Proxy_Authorization", "x.ms.token."] {
            assert!(tells_identity(name), "{name}");
        }
        for name in ["x_forwarded_host", "x_http_method_override", "X_Original-Url", "if_range", "accept_encoding"] {
            assert!(endangers_token(name), "{name}");
        }
        for name in ["x_request_id", "xmsclientprincipal", "x_forwarded"] {
            assert!(!tells_identity(name) && !endangers_token(name), "{name}");
        }
    }

    #[test]
    fn only_parameters_that_name_a_charset_are_left_out() {
        let any = |values: &[&str]| any_charset(&values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>());
        assert_eq!(any(&["application/json;q=1", "text/plain"]), None);
        let values = ["a/b;Charset=utf-16;q=1, text/plain", "text/html; charset=\"a,b\"", "text/xml; x=é"];
        assert_eq!(any(&values), Some(vec!["a/b;q=1, text/plain".to_owned()]));
    }
}
