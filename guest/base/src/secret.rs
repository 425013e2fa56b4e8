//! Values that must not be shown: tokens, codes, keys, passwords.

use std::fmt;

use serde::Serializer;
use zeroize::{Zeroize, Zeroizing};

/// A secret. Its `Debug` is redacted, it has no `Display` and no equality, and its memory is zeroised on drop.
/// Looking at it takes a call of [`Secret::reveal`], which is easy to find in a review.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes possession of a value.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself, for the one place that has to send or store it.
    pub fn reveal(&self) -> &T {
        &self.0
    }

    /// The same where the value goes on and this ends: nothing is copied, and there is nothing to zeroise.
    pub fn into_revealed(mut self) -> T
    where
        T: Default,
    {
        std::mem::take(&mut *self.0)
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<&str> for Secret<String> {
    fn from(value: &str) -> Self {
        Self::new(value.to_owned())
    }
}

impl<T: Zeroize> From<Zeroizing<T>> for Secret<T> {
    fn from(value: Zeroizing<T>) -> Self {
        Self(value)
    }
}

impl<'de, T: Zeroize + serde::Deserialize<'de>> serde::Deserialize<'de> for Secret<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::new)
    }
}

/// Serializes a secret into a record of the secret store, and nowhere else.
pub fn reveal<S: Serializer>(secret: &Secret<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.reveal())
}

/// The same for one that may be absent.
pub fn reveal_optional<S: Serializer>(secret: &Option<Secret<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => serializer.serialize_some(secret.reveal()),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_secret_shows_nothing_of_it() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "[redacted]");
    }

    #[test]
    fn a_secret_that_goes_on_is_not_copied() {
        let text = "hunter2".to_owned();
        let place = text.as_ptr();
        let revealed = Secret::new(text).into_revealed();
        assert_eq!((revealed.as_str(), revealed.as_ptr()), ("hunter2", place));
    }
}
