//! Heads: fields in the order in which they came.

/// A header field: its name in lower case, and its value.
pub type Field<'h> = (&'h str, &'h [u8]);

/// The values of a field.
pub(crate) fn values<'h>(head: &[Field<'h>], name: &str) -> impl Iterator<Item = &'h [u8]> {
    head.iter().filter(move |(known, _)| *known == name).map(|(_, value)| *value)
}

/// The value of a field as text, if it is visible ASCII.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    let visible = |byte: &u8| *byte == b'\t' || (b' '..0x7f).contains(byte);
    std::str::from_utf8(value).ok().filter(|text| text.as_bytes().iter().all(visible))
}
