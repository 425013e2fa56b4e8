//! A client secret (RFC 6749 section 2.3.1): given at the start, in a file, or in the secret store.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{ClientCredential, Credential, CredentialError};
use crate::secret_store::{HOST_PREFIX, SecretBytes, SecretStore};

/// Longest secret in bytes. Entra ID makes secrets of 40 characters.
pub const MAX_SECRET_BYTES: usize = 4 * 1024;

/// What to do when there is no secret.
const HOW_TO_SET: &str = "set AZURE_CLIENT_SECRET, or pass --client-secret-file, or run `entra-mcp client-secret set`";

/// A client secret, or the place that holds it.
pub enum ClientSecret {
    /// The secret itself.
    Given(SecretBytes),
    /// The content of the file at the moment of use, so that a new secret needs no restart.
    File(PathBuf),
    /// The content of the store at the moment of use.
    Store {
        /// The store.
        store: Arc<dyn SecretStore>,
        /// The application whose secret it is.
        client_id: String,
    },
}

/// The name of the record with the secret of an application. The component cannot read it.
pub fn secret_record(client_id: &str) -> String {
    format!("{HOST_PREFIX}client-secret/{client_id}")
}

/// Reads a file with a secret. A line break at its end is not part of it.
pub fn read_secret_file(path: &Path) -> io::Result<SecretBytes> {
    // The capacity is reserved at the start: growing the buffer would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    File::open(path)?.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    checked_secret(&bytes).map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))
}

/// The secret in a file, or in the input of a person.
pub fn checked_secret(bytes: &[u8]) -> Result<SecretBytes, &'static str> {
    if bytes.len() > MAX_SECRET_BYTES {
        return Err("it is too long for a client secret");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.contains(['\n', '\r']) {
        return Err("it has more than one line");
    }
    Ok(SecretBytes::new(text.as_bytes().to_vec()))
}

impl ClientSecret {
    /// Warns if other users than the owner can read the file.
    pub fn warn_if_exposed(&self) {
        #[cfg(unix)]
        if let Self::File(path) = self
            && std::fs::metadata(path)
                .is_ok_and(|metadata| std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o044 != 0)
        {
            tracing::warn!(file = %path.display(), "other users than its owner can read the client secret");
        }
        #[cfg(windows)]
        if let Self::File(path) = self
            && crate::access_list::is_readable_by_others(path) == Some(true)
        {
            tracing::warn!(file = %path.display(), "other users than its owner can read the client secret");
        }
    }

    async fn read(&self) -> Result<SecretBytes, CredentialError> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(path) => read_secret_file(path).map_err(|error| {
                CredentialError::Unavailable(format!(
                    "the client secret file {} cannot be used ({error}): write the secret into it, correct its mode, or \
                     correct --client-secret-file",
                    path.display()
                ))
            }),
            Self::Store { store, client_id } => match store.get(&secret_record(client_id)).await {
                Ok(Some(secret)) => Ok(secret),
                Ok(None) => Err(CredentialError::NotConfigured(format!("there is no client secret: {HOW_TO_SET}"))),
                Err(error) => Err(CredentialError::Unavailable(error.to_string())),
            },
        }
    }
}

#[async_trait]
impl ClientCredential for ClientSecret {
    async fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
        let secret = self.read().await?;
        let text = String::from_utf8(secret.reveal().to_vec());
        let text = text.map_err(|_| CredentialError::Unavailable("the client secret is no text".into()))?;
        Ok(Credential::Secret(Zeroizing::new(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::secret_store::MemoryStore;

    async fn obtained(source: &ClientSecret) -> Result<String, CredentialError> {
        match source.obtain("https://login.example/token").await? {
            Credential::Secret(secret) => Ok(secret.to_string()),
            _ => panic!("not a secret"),
        }
    }

    #[tokio::test]
    async fn a_file_is_read_again_and_its_line_break_is_not_part_of_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let source = ClientSecret::File(path.clone());
        for (content, secret) in [("one", "one"), ("two\n", "two"), ("three\r\n", "three"), (" four ", " four ")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(obtained(&source).await.as_deref(), Ok(secret));
        }
    }

    #[tokio::test]
    async fn a_file_without_a_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let source = ClientSecret::File(path.clone());
        let Err(CredentialError::Unavailable(missing)) = obtained(&source).await else { panic!("there is no file") };
        let place = path.display();
        assert_eq!(
            missing,
            format!(
                "the client secret file {place} cannot be used (No such file or directory (os error 2)): write the secret into \
                 it, correct its mode, or correct --client-secret-file"
            )
        );
        for content in [b"".to_vec(), b"\n".to_vec(), b"a\nb\n".to_vec(), vec![0xff], vec![b'x'; MAX_SECRET_BYTES + 1]]
        {
            std::fs::write(&path, content).unwrap();
            assert!(matches!(obtained(&source).await, Err(CredentialError::Unavailable(_))));
        }
    }

    #[tokio::test]
    async fn the_store_is_asked_at_every_use() {
        let store: Arc<dyn SecretStore> = Arc::new(MemoryStore::new(Arc::new(ManualClock::new(0))));
        let source = ClientSecret::Store { store: Arc::clone(&store), client_id: "app".into() };
        assert!(matches!(obtained(&source).await, Err(CredentialError::NotConfigured(_))));
        store.put(&secret_record("app"), SecretBytes::new(b"s1".to_vec()), None).await.unwrap();
        assert_eq!(obtained(&source).await.as_deref(), Ok("s1"));
        store.put(&secret_record("other"), SecretBytes::new(b"s2".to_vec()), None).await.unwrap();
        assert_eq!(obtained(&source).await.as_deref(), Ok("s1"));
    }
}
