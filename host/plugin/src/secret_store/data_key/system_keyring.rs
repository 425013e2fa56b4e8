//! The keyring of the system: the Secret Service of a Linux desktop, Keychain, Credential Manager.
//!
//! Over D-Bus, secrets go as they are. The Secret Service has a key exchange for them, without authentication: a process that
//! can listen on the user's own bus can defeat it, and can ask the keyring itself.

use std::sync::mpsc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::keyring::{Keyring, KeyringError, Unlock};

/// What all entries of this program have in common.
const SERVICE: &str = "entra-mcp";

/// How long a person may take to unlock the keyring. MCP clients wait a minute for a server to start.
const UNLOCK_WITHIN: Duration = Duration::from_secs(30);

/// How long the keyring may take where no person is asked, in addition to [`UNLOCK_WITHIN`] where one is.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The keyring of the user of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemKeyring;

impl SystemKeyring {
    /// Asks on a thread of its own, because the clients of keyrings wait in their own ways. The answer of one that is too
    /// late is dropped.
    fn ask<T: Send + 'static>(
        unlock: Unlock,
        question: impl FnOnce(Duration) -> Result<T, KeyringError> + Send + 'static,
    ) -> Result<T, KeyringError> {
        let person = match unlock {
            Unlock::ByPerson => UNLOCK_WITHIN,
            Unlock::Unattended => Duration::ZERO,
        };
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("keyring".to_owned());
        let asking = thread.spawn(move || {
            // Where the answer is too late, nothing receives it.
            let _ = sender.send(question(person));
        });
        asking.map_err(|error| KeyringError::Refused(error.to_string()))?;
        let limit = person.saturating_add(ANSWER_WITHIN);
        receiver.recv_timeout(limit).unwrap_or(Err(KeyringError::TooLate(limit)))
    }
}

impl Keyring for SystemKeyring {
    fn get(&self, name: &str, unlock: Unlock) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError> {
        let name = name.to_owned();
        Self::ask(unlock, move |person| platform::get(&name, person))
    }

    fn set(&self, name: &str, label: &str, secret: &[u8], unlock: Unlock) -> Result<(), KeyringError> {
        let (name, label, secret) = (name.to_owned(), label.to_owned(), Zeroizing::new(secret.to_vec()));
        Self::ask(unlock, move |person| platform::set(&name, &label, &secret, person))
    }

    fn delete(&self, name: &str) -> Result<(), KeyringError> {
        let name = name.to_owned();
        Self::ask(Unlock::Unattended, move |person| platform::delete(&name, person))
    }

    fn place(&self, name: &str) -> String {
        format!("the keyring of the system (service {SERVICE}, user {name})")
    }
}

/// The Secret Service, by the names that other clients of it use as well.
#[cfg(target_os = "linux")]
mod platform {
    use std::collections::HashMap;
    use std::time::Duration;

    use dbus_secret_service::{EncryptionType, Error, Item, SecretService};
    use zeroize::Zeroizing;

    use super::{KeyringError, SERVICE};

    fn open(person: Duration) -> Result<SecretService, KeyringError> {
        let opened = SecretService::connect_with_max_prompt_timeout(EncryptionType::Plain, person.as_secs());
        opened.map_err(|error| KeyringError::Absent(error.to_string()))
    }

    fn attributes(name: &str) -> HashMap<&str, &str> {
        HashMap::from([("service", SERVICE), ("username", name)])
    }

    fn failed(error: Error) -> KeyringError {
        match error {
            Error::Locked | Error::Prompt => KeyringError::Locked,
            Error::Unavailable => KeyringError::Absent(error.to_string()),
            error => KeyringError::Refused(error.to_string()),
        }
    }

    fn found<'s>(service: &'s SecretService, name: &str) -> Result<Option<Item<'s>>, KeyringError> {
        let found = service.search_items(attributes(name)).map_err(failed)?;
        let item = found.unlocked.into_iter().chain(found.locked).next();
        if let Some(item) = &item {
            item.unlock().map_err(failed)?;
        }
        Ok(item)
    }

    pub(super) fn get(name: &str, person: Duration) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError> {
        let service = open(person)?;
        let item = found(&service, name)?;
        item.map(|item| item.get_secret().map(Zeroizing::new).map_err(failed)).transpose()
    }

    pub(super) fn set(name: &str, label: &str, secret: &[u8], person: Duration) -> Result<(), KeyringError> {
        let service = open(person)?;
        let kind = "text/plain";
        if let Some(item) = found(&service, name)? {
            return item.set_secret(secret, kind).map_err(failed);
        }
        let collection = match service.get_default_collection() {
            // There is none before a person has made one, which is a matter of the desktop.
            Err(Error::NoResult) => return Err(KeyringError::Absent("it has no default collection".to_owned())),
            collection => collection.map_err(failed)?,
        };
        collection.unlock().map_err(failed)?;
        collection.create_item(label, attributes(name), secret, true, kind).map(drop).map_err(failed)
    }

    pub(super) fn delete(name: &str, person: Duration) -> Result<(), KeyringError> {
        let service = open(person)?;
        found(&service, name)?.map_or(Ok(()), |item| item.delete().map_err(failed))
    }
}

/// Keychain and Credential Manager. They ask the person in their own way, for as long as the caller waits.
#[cfg(any(target_os = "macos", windows))]
mod platform {
    use std::time::Duration;

    #[cfg(target_os = "macos")]
    use apple_native_keyring_store::keychain::Store;
    use keyring_core::api::CredentialStoreApi as _;
    use keyring_core::{Entry, Error};
    #[cfg(windows)]
    use windows_native_keyring_store::Store;
    use zeroize::Zeroizing;

    use super::{KeyringError, SERVICE};

    fn entry(name: &str) -> Result<Entry, KeyringError> {
        Store::new().and_then(|store| store.build(SERVICE, name, None)).map_err(failed)
    }

    fn failed(error: Error) -> KeyringError {
        match error {
            Error::NoStorageAccess(_) => KeyringError::Locked,
            // The text of others has what was found in the entry.
            Error::BadEncoding(_) | Error::BadDataFormat(..) => {
                KeyringError::Refused("the entry is damaged".to_owned())
            }
            error => KeyringError::Refused(error.to_string()),
        }
    }

    pub(super) fn get(name: &str, _: Duration) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError> {
        match entry(name)?.get_secret() {
            Err(Error::NoEntry) => Ok(None),
            secret => secret.map(|secret| Some(Zeroizing::new(secret))).map_err(failed),
        }
    }

    pub(super) fn set(name: &str, _: &str, secret: &[u8], _: Duration) -> Result<(), KeyringError> {
        entry(name)?.set_secret(secret).map_err(failed)
    }

    pub(super) fn delete(name: &str, _: Duration) -> Result<(), KeyringError> {
        match entry(name)?.delete_credential() {
            Err(Error::NoEntry) => Ok(()),
            deleted => deleted.map_err(failed),
        }
    }
}

/// A system without a keyring.
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod platform {
    use std::time::Duration;

    use zeroize::Zeroizing;

    use super::KeyringError;

    fn none<T>() -> Result<T, KeyringError> {
        Err(KeyringError::Absent("this system has none".to_owned()))
    }

    pub(super) fn get(_: &str, _: Duration) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError> {
        none()
    }

    pub(super) fn set(_: &str, _: &str, _: &[u8], _: Duration) -> Result<(), KeyringError> {
        none()
    }

    pub(super) fn delete(_: &str, _: Duration) -> Result<(), KeyringError> {
        none()
    }
}

/// Those of Linux are asked in the tests of the program, on a bus of their own.
#[cfg(all(test, windows))]
mod tests {
    use super::*;

    #[test]
    fn the_credential_manager_keeps_a_secret_until_it_is_deleted() {
        let name = format!("test-{}", std::process::id());
        let get = || SystemKeyring.get(&name, Unlock::Unattended).unwrap().map(|secret| secret.to_vec());
        assert_eq!(get(), None);
        for secret in [[1; 32], [2; 32]] {
            SystemKeyring.set(&name, "a test", &secret, Unlock::Unattended).unwrap();
            assert_eq!(get(), Some(secret.to_vec()));
        }
        SystemKeyring.delete(&name).unwrap();
        assert_eq!(get(), None);
        SystemKeyring.delete(&name).unwrap();
    }
}
