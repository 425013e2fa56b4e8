//! Named facts of events and errors (`attribute` in `wit/types.wit`).

use serde::Serialize;

use crate::bindings::types as wit;

/// The value of an attribute. The name of a numeric attribute ends with its unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// A text.
    Text(String),
    /// A count, or a quantity.
    Number(u64),
    /// Several texts.
    Texts(Vec<String>),
}

/// A name and a value.
pub type Attribute = (String, AttributeValue);

/// The value of the attribute `name`.
pub(crate) fn value<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a AttributeValue> {
    attributes.iter().find_map(|(known, value)| (known == name).then_some(value))
}

impl From<wit::AttributeValue> for AttributeValue {
    fn from(value: wit::AttributeValue) -> Self {
        match value {
            wit::AttributeValue::Text(text) => Self::Text(text),
            wit::AttributeValue::Number(number) => Self::Number(number),
            wit::AttributeValue::Texts(texts) => Self::Texts(texts),
        }
    }
}

pub(crate) fn from_wit(attributes: Vec<wit::Attribute>) -> Vec<Attribute> {
    attributes.into_iter().map(|(name, value)| (name, value.into())).collect()
}
