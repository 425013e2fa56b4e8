//! How values become the bytes of a record. Buffers are zeroised: a value may hold a secret.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::lease::Holder;
use crate::store::StoreError;
use base::secret::Secret;

/// Bytes that the buffer of a record begins with: most records fit.
const BUFFER: usize = 512;

/// How values become bytes, and the inverse.
pub(super) struct Encoding<T> {
    pub(super) encode: fn(&T) -> Result<Zeroizing<Vec<u8>>, StoreError>,
    pub(super) decode: fn(&[u8]) -> Option<T>,
}

impl<T> Clone for Encoding<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Encoding<T> {}

impl<T: Serialize + DeserializeOwned> Encoding<T> {
    pub(super) const fn json() -> Self {
        Self { encode: to_json, decode: from_json }
    }
}

impl Encoding<Secret<Vec<u8>>> {
    pub(super) const fn bytes() -> Self {
        Self {
            encode: |value| Ok(Zeroizing::new(value.reveal().clone())),
            decode: |bytes| Some(Secret::new(bytes.to_vec())),
        }
    }
}

impl Encoding<String> {
    pub(super) const fn text() -> Self {
        Self {
            encode: |value| Ok(Zeroizing::new(value.as_bytes().to_vec())),
            decode: |bytes| String::from_utf8(bytes.to_vec()).ok(),
        }
    }
}

impl Encoding<()> {
    pub(super) const fn mark() -> Self {
        Self { encode: |()| Ok(Zeroizing::new(Vec::new())), decode: |_| Some(()) }
    }
}

impl Encoding<Holder> {
    pub(super) const fn holder() -> Self {
        Self {
            encode: |holder| Ok(Zeroizing::new(holder.0.as_bytes().to_vec())),
            decode: |bytes| String::from_utf8(bytes.to_vec()).ok().map(Holder),
        }
    }
}

/// A value as JSON.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut buffer = Buffer(Zeroizing::new(Vec::with_capacity(BUFFER)));
    serde_json::to_writer(&mut buffer, value).map_err(|_| StoreError::TooLarge)?;
    Ok(buffer.0)
}

/// The inverse; `None` for anything else.
pub(crate) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// A buffer that leaves nothing behind when it grows.
struct Buffer(Zeroizing<Vec<u8>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.capacity() - self.0.len() < bytes.len() {
            // With room for what comes after a long text: each buffer that is left is zeroised byte by byte.
            let needed = self.0.len() + bytes.len() + BUFFER;
            let mut larger = Vec::with_capacity(needed.max(2 * self.0.capacity()));
            larger.extend_from_slice(&self.0);
            self.0 = Zeroizing::new(larger);
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_outgrows_the_buffer_is_encoded_as_a_whole() {
        let texts: Vec<String> = (0..200).map(|at| format!("value {at} \"quoted\" ä")).collect();
        assert_eq!(*to_json(&texts).unwrap(), serde_json::to_vec(&texts).unwrap());
        assert_eq!(from_json::<Vec<String>>(&to_json(&texts).unwrap()), Some(texts));
    }
}
