//! Named facts of events and errors (`attribute` in `wit/types.wit`): what may grow without breaking a host.

use super::generated::entra_mcp::plugin::types::{Attribute, AttributeValue};

/// As many as an event has, in all but rare cases.
const USUAL_ATTRIBUTES: usize = 10;

/// A list of attributes in the making.
pub(super) struct Attributes(Vec<Attribute>);

impl Default for Attributes {
    fn default() -> Self {
        Self(Vec::with_capacity(USUAL_ATTRIBUTES))
    }
}

impl Attributes {
    /// Adds a fact.
    pub(super) fn with(mut self, name: &str, value: impl Into<AttributeValue>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a fact, if it is known.
    pub(super) fn maybe(self, name: &str, value: Option<impl Into<AttributeValue>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

impl From<Attributes> for Vec<Attribute> {
    fn from(attributes: Attributes) -> Self {
        attributes.0
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for AttributeValue {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<Vec<String>> for AttributeValue {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}
