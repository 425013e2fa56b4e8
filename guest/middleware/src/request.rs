//! Header fields of a request: the token in it, and what of it goes on.

/// A field: its name, and its value.
pub type Field = (String, Vec<u8>);

/// Fields that are between the client and this component, or by which the component behind could take the client for
/// another one. Names that a CGI or WSGI server reads as others (`X_Ms_Client_Principal`) go on neither.
fn stays(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let identity = ["x-ms-client-principal", "x-ms-token-", "x-entra-mcp-"];
    let of_the_client =
        ["authorization", "cookie", "proxy-authorization", "x-forwarded-user", "x-forwarded-email", "remote-user"];
    !is_plain || of_the_client.contains(&name) || identity.iter().any(|prefix| name.starts_with(prefix))
}

/// The fields that go on, with those that tell who calls.
pub fn onward(fields: &[Field], identity: Vec<Field>) -> Vec<Field> {
    let kept = fields.iter().filter(|(name, _)| !stays(&name.to_ascii_lowercase())).cloned();
    kept.chain(identity).collect()
}

/// The access token of a request (RFC 6750 section 2.1). `None`: there is none. Several are none that could be trusted.
pub fn bearer(fields: &[Field]) -> Option<&str> {
    let mut values = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let (Some((_, value)), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Vec<Field> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn neither_a_credential_nor_what_a_client_says_of_an_identity_goes_on() {
        let from = fields(&[
            ("Authorization", "Bearer a"),
            ("cookie", "a=b"),
            ("X-MS-CLIENT-PRINCIPAL", "forged"),
            ("x-ms-client-principal-id", "forged"),
            ("x_ms_client_principal_id", "forged"),
            ("x-ms-token-aad-access-token", "forged"),
            ("accept", "text/plain"),
        ]);
        let identity = fields(&[("x-ms-client-principal-id", "1")]);
        assert_eq!(onward(&from, identity), fields(&[("accept", "text/plain"), ("x-ms-client-principal-id", "1")]));
    }

    #[test]
    fn a_token_is_the_only_one_of_its_request() {
        assert_eq!(bearer(&fields(&[("Authorization", "bearer  abc ")])), Some("abc"));
        for other in [
            &[][..],
            &[("authorization", "Basic abc")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
        ] {
            assert_eq!(bearer(&fields(other)), None, "{other:?}");
        }
    }
}
