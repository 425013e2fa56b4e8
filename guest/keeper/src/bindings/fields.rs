//! `fields`: header fields that the tool makes or gets.

use std::cell::RefCell;

use super::generated::exports::seen::http::types as wit;
use crate::fields::{self, Field, FieldError};

/// Most fields, and most bytes of all of them: as many as an answer may have, and as servers take of requests.
const MAX_FIELDS: usize = 256;
const MAX_BYTES: usize = 128 * 1024;

/// Header fields.
#[derive(Default)]
pub(super) struct Fields {
    list: RefCell<Vec<Field>>,
    immutable: bool,
}

impl Fields {
    /// Fields of a request or an answer, which cannot be changed.
    pub(super) fn of(list: &[Field]) -> wit::Fields {
        wit::Fields::new(Self { list: RefCell::new(list.to_vec()), immutable: true })
    }

    /// What the tool has made.
    pub(super) fn taken(fields: wit::Fields) -> Vec<Field> {
        fields.into_inner::<Self>().list.take()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Field>) -> Result<(), FieldError>) -> Result<(), wit::HeaderError> {
        if self.immutable {
            return Err(wit::HeaderError::Immutable);
        }
        let mut list = self.list.borrow().clone();
        change(&mut list).map_err(error)?;
        let bytes = list.iter().map(|(name, value)| name.len().saturating_add(value.len()));
        if list.len() > MAX_FIELDS || bytes.fold(0, usize::saturating_add) > MAX_BYTES {
            return Err(wit::HeaderError::Forbidden);
        }
        *self.list.borrow_mut() = list;
        Ok(())
    }
}

fn error(error: FieldError) -> wit::HeaderError {
    match error {
        FieldError::Syntax => wit::HeaderError::InvalidSyntax,
        FieldError::Forbidden => wit::HeaderError::Forbidden,
    }
}

impl wit::GuestFields for Fields {
    fn new() -> Self {
        Self::default()
    }

    fn from_list(entries: Vec<(String, Vec<u8>)>) -> Result<wit::Fields, wit::HeaderError> {
        let made = Self::default();
        made.change(|list| {
            for (name, value) in &entries {
                list.push(fields::field(name, value)?);
            }
            Ok(())
        })?;
        Ok(wit::Fields::new(made))
    }

    fn get(&self, name: String) -> Vec<Vec<u8>> {
        fields::values(&self.list.borrow(), &name.to_ascii_lowercase()).map(<[u8]>::to_vec).collect()
    }

    fn has(&self, name: String) -> bool {
        fields::has(&self.list.borrow(), &name.to_ascii_lowercase())
    }

    fn set(&self, name: String, values: Vec<Vec<u8>>) -> Result<(), wit::HeaderError> {
        self.change(|list| {
            fields::remove(list, &fields::name(&name)?);
            for value in &values {
                list.push(fields::field(&name, value)?);
            }
            Ok(())
        })
    }

    fn delete(&self, name: String) -> Result<(), wit::HeaderError> {
        self.change(|list| {
            fields::remove(list, &fields::name(&name)?);
            Ok(())
        })
    }

    fn append(&self, name: String, value: Vec<u8>) -> Result<(), wit::HeaderError> {
        self.change(|list| {
            list.push(fields::field(&name, &value)?);
            Ok(())
        })
    }

    fn entries(&self) -> Vec<(String, Vec<u8>)> {
        self.list.borrow().clone()
    }

    fn clone(&self) -> wit::Fields {
        wit::Fields::new(Self { list: self.list.clone(), immutable: false })
    }
}
