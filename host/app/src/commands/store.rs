//! `entra-mcp store`: examines the records that are kept, and replaces the key that seals them.

use std::path::Path;
use std::sync::Arc;

use entra_mcp_plugin::Error;
use entra_mcp_plugin::clock::{Clock, SystemClock};
use entra_mcp_plugin::secret_store::{
    DataKeys, GivenDataKeys, KeyError, KeyFile, KeySource as _, RedisStore, SqliteStore, StoreReport,
};
use serde_json::{Value, json};

use super::CommandError;
use crate::composition;
use crate::composition::store::key_source;
use crate::config::{StoreConfig, StoreKeyPlace, StoreLocation};
use crate::console;

/// Opens every record of the stores, and says what is there and what is damaged.
pub async fn check(stores: &[StoreConfig], as_json: bool) -> Result<(), CommandError> {
    let mut reports = Vec::with_capacity(stores.len());
    for store in some(stores)? {
        reports.push((place(store), examine(store).await?));
        if let Some(plain) = composition::store::key_to_wrap(store) {
            let plain = plain.display();
            console::notice(&format!(
                "The key of the store is in {plain} as it is. The next command that opens the store, such as `entra-mcp serve`, \
                 lets the key vault wrap it."
            ));
        }
    }
    if as_json {
        let reports: Vec<Value> = reports.iter().map(|(place, report)| as_value(place, report)).collect();
        console::result(&Value::from(reports).to_string());
    } else {
        reports.iter().for_each(|(place, report)| console::result(&as_text(place, report)));
    }
    match reports.iter().all(|(_, report)| report.is_sound()) {
        true => Ok(()),
        false => Err(CommandError::StoreDamaged),
    }
}

/// What `rotate-key` does of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationStep {
    /// All: every process reads the same file.
    All,
    /// Shows the keys, where this program cannot put them.
    Print,
    /// Puts the new key behind the present ones, in a file of which other machines get a copy.
    Announce,
    /// Puts the key before the others that was announced.
    Promote,
}

/// Puts a new data key before the present ones. Records are sealed with it as they are written.
pub async fn rotate_key(stores: &[StoreConfig], step: RotationStep) -> Result<(), CommandError> {
    for store in some(stores)? {
        let (location, clock) = (&store.location, clock());
        let path = match location {
            StoreLocation::File(path) => path.as_path(),
            _ => "".as_ref(),
        };
        let source = key_source(&store.key, path);
        check_step(store, step, &source.place())?;
        // Until the keys are replaced: another rotation would begin with the same keys, and one of the two lose its new one.
        let _turn = source.hold().map_err(CommandError::StoreKey)?;
        let keys = match location {
            StoreLocation::Memory => return Err(memory()),
            StoreLocation::File(path) => SqliteStore::rotated_keys(path, &*source).map_err(Error::from)?,
            StoreLocation::Redis(options) => {
                let source = Arc::clone(&source);
                let keys = match step {
                    RotationStep::Promote => RedisStore::promoted_keys(options, source, clock).await,
                    _ => RedisStore::rotated_keys(options, source, clock).await,
                };
                keys.map_err(Error::from)?
            }
        };
        let kept = if step == RotationStep::Announce { keys.announced() } else { keys.clone() };
        match source.replace(&kept) {
            Ok(()) if step == RotationStep::Announce => console::result(&format!(
                "A new key is in {}, and seals nothing yet. Give a copy of the file to every server, then run this with --promote.",
                source.place()
            )),
            Ok(()) => {
                console::result(&format!(
                    "The records of {} are sealed with a new key from now on. Records that are not written stay under their key, \
                     which is kept in {} until no record needs it.",
                    place(store),
                    source.place()
                ));
                if step == RotationStep::Promote {
                    console::notice("Give a copy of the file to every server again, and restart them one by one.");
                }
            }
            Err(KeyError::Fixed { .. }) if step == RotationStep::Print => {
                let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(",");
                console::notice(&format!(
                    "First set the first line in {} of all processes and restart them one by one, then the second.",
                    source.place()
                ));
                console::result(&line(&keys.announced().to_text()));
                console::result(&line(&keys.to_text()));
            }
            Err(error @ KeyError::Fixed { .. }) => {
                let text = format!("{error}: pass --print, and set what is printed there");
                return Err(CommandError::Usage(text));
            }
            Err(error) => return Err(CommandError::StoreKey(error)),
        }
    }
    Ok(())
}

/// Servers on other machines have copies of a key file. One that met a record under a key that is not in its copy could not open
/// it, and its caller would have to sign in again.
fn check_step(store: &StoreConfig, step: RotationStep, key_place: &str) -> Result<(), CommandError> {
    let is_copied = matches!(
        (&store.location, &store.key),
        (StoreLocation::Redis(_), StoreKeyPlace::File(_) | StoreKeyPlace::Vault { .. })
    );
    match (step, &store.location) {
        (RotationStep::All, _) if is_copied => Err(CommandError::Usage(format!(
            "other servers of {} may have copies of {key_place}, and could not open what a new key seals that is not in them: pass \
             --announce, give every server a copy of the file, then pass --promote, and give them copies again",
            place(store)
        ))),
        (RotationStep::Announce | RotationStep::Promote, StoreLocation::File(_)) => Err(CommandError::Usage(
            "all processes of a store in a file read the same key: neither --announce nor --promote is needed"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Writes the file with the wrapped data key of a store on the network, of which every server gets a copy. `from`: the file with
/// the key that the store has; without it, a new one is made.
pub async fn wrap_key(stores: &[StoreConfig], from: Option<&Path>) -> Result<(), CommandError> {
    let usage = |text: String| Err(CommandError::Usage(text));
    for store in some(stores)? {
        let StoreLocation::Redis(options) = &store.location else {
            let text = "it is no Redis store: the key of a store in a file is wrapped at the first start with --store-key-vault";
            return usage(text.to_owned());
        };
        if !matches!(store.key, StoreKeyPlace::Vault { .. }) {
            return usage("name the key in the vault with --store-key-vault".to_owned());
        }
        let source = key_source(&store.key, "".as_ref());
        if source.read().map_err(CommandError::StoreKey)?.is_some() {
            return usage(format!("{} has a wrapped key already", source.place()));
        }
        let keys = match from.map(KeyFile::new) {
            Some(file) => {
                let missing = || KeyError::Missing { place: file.place() };
                file.read().and_then(|keys| keys.ok_or_else(missing)).map_err(CommandError::StoreKey)?
            }
            None => DataKeys::generate().map_err(CommandError::StoreKey)?,
        };
        // The key of another store is refused before it is wrapped.
        let given =
            GivenDataKeys::new(keys.clone(), &from.map_or("a new key".to_owned(), |from| from.display().to_string()));
        RedisStore::check_key(options, Arc::new(given), clock()).await.map_err(Error::from)?;
        source.replace(&keys).map_err(CommandError::StoreKey)?;
        console::result(&format!(
            "The data key of {} is wrapped in {}. Give a copy of the file to every server, and delete the key itself wherever it is.",
            place(store),
            source.place()
        ));
    }
    Ok(())
}

async fn examine(store: &StoreConfig) -> Result<StoreReport, CommandError> {
    let clock = clock();
    match &store.location {
        StoreLocation::Memory => Err(memory()),
        StoreLocation::File(path) => {
            Ok(SqliteStore::check(path, &key_source(&store.key, path), &clock).map_err(Error::from)?)
        }
        StoreLocation::Redis(options) => {
            let source = key_source(&store.key, "".as_ref());
            Ok(RedisStore::check(options, source, clock).await.map_err(Error::from)?)
        }
    }
}

fn some(stores: &[StoreConfig]) -> Result<&[StoreConfig], CommandError> {
    match stores {
        [] => Err(CommandError::Usage("there is no store yet, or it is elsewhere: name it with --store".to_owned())),
        stores => Ok(stores),
    }
}

fn memory() -> CommandError {
    CommandError::Usage("the store is `memory`, which ends with its process".to_owned())
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// The store in words, without a password.
fn place(store: &StoreConfig) -> String {
    match &store.location {
        StoreLocation::Memory => "memory".to_owned(),
        StoreLocation::File(path) => path.display().to_string(),
        StoreLocation::Redis(options) => options.url.to_string(),
    }
}

fn as_value(place: &str, report: &StoreReport) -> Value {
    let StoreReport {
        records,
        bytes,
        expired,
        newest_key,
        earlier_keys,
        earlier_format,
        unknown_key,
        damaged,
        problems,
    } = report;
    json!({
        "store": place,
        "sound": report.is_sound(),
        "records": records,
        "bytes": bytes,
        "expired": expired,
        "newest_key": newest_key,
        "earlier_keys": earlier_keys,
        "earlier_format": earlier_format,
        "unknown_key": unknown_key,
        "damaged": damaged,
        "problems": problems,
    })
}

fn as_text(place: &str, report: &StoreReport) -> String {
    let mut text = format!("{place}: {} records, {} bytes", report.records, report.bytes);
    for (count, what) in [
        (report.newest_key, "under the newest key"),
        (report.earlier_keys, "under earlier keys"),
        (report.earlier_format, "of an earlier version, which cannot be examined"),
        (report.expired, "expired"),
        (report.unknown_key, "under a key that is not here"),
        (report.damaged, "damaged"),
    ] {
        if count > 0 {
            text.push_str(&format!("\n  {count} {what}"));
        }
    }
    for problem in &report.problems {
        text.push_str(&format!("\n  {problem}"));
    }
    text
}
