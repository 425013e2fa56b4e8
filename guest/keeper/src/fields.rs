//! Header fields, as a list.

/// A field: its name in lower case, and its value.
pub type Field = (String, Vec<u8>);

/// Fields that are about one connection, or that the host writes itself: the interfaces of HTTP refuse them.
const FORBIDDEN: [&str; 9] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// Why a field is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldError {
    /// It is none (RFC 9110 section 5).
    Syntax,
    /// A component may not set it.
    Forbidden,
}

/// A field, if it is one that a component may set.
pub fn field(name: &str, value: &[u8]) -> Result<Field, FieldError> {
    let name = self::name(name)?;
    // No control characters, and nothing around the value that is not part of it.
    let plain = value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    if !plain || value.trim_ascii().len() != value.len() {
        return Err(FieldError::Syntax);
    }
    Ok((name, value.to_owned()))
}

/// The name of a field that a component may set, in lower case.
pub fn name(name: &str) -> Result<String, FieldError> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(FieldError::Syntax);
    }
    let name = name.to_ascii_lowercase();
    if FORBIDDEN.contains(&name.as_str()) { Err(FieldError::Forbidden) } else { Ok(name) }
}

/// The values of a field.
pub fn values<'f>(fields: &'f [Field], name: &'f str) -> impl Iterator<Item = &'f [u8]> {
    fields.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_slice())
}

/// The fields as the rules of the boundary read them.
pub fn head(fields: &[Field]) -> Vec<entra_mcp_boundary::head::Field<'_>> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
}

/// Whether there is such a field.
pub fn has(fields: &[Field], name: &str) -> bool {
    values(fields, name).next().is_some()
}

/// Removes a field.
pub fn remove(fields: &mut Vec<Field>, name: &str) {
    fields.retain(|(known, _)| known != name);
}

/// Replaces all fields of a name by one.
pub fn set(fields: &mut Vec<Field>, name: &str, value: &[u8]) {
    remove(fields, name);
    fields.push((name.to_owned(), value.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_field_or_about_the_connection_is_refused() {
        assert_eq!(field("X-Name", b"a b"), Ok(("x-name".to_owned(), b"a b".to_vec())));
        for (name, value) in [("", "a"), ("a b", "a"), ("a\r\nb", "a"), ("a", "b\r\nc: d"), ("a", " b"), ("a", "b\0")] {
            assert_eq!(field(name, value.as_bytes()), Err(FieldError::Syntax), "{name:?}: {value:?}");
        }
        for name in ["Host", "connection", "Transfer-Encoding", "proxy-authorization"] {
            assert_eq!(field(name, b"a"), Err(FieldError::Forbidden), "{name}");
        }
    }

    #[test]
    fn a_field_that_is_set_replaces_all_of_its_name() {
        let mut fields =
            vec![("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec()), ("a".to_owned(), b"3".to_vec())];
        set(&mut fields, "a", b"4");
        assert_eq!(values(&fields, "a").collect::<Vec<_>>(), [b"4"]);
        assert!(has(&fields, "b") && !has(&fields, "c"));
    }
}
