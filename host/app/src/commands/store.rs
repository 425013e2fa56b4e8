//! `entra-mcp store`: examines the records that are kept, and replaces the key that seals them.

use std::sync::Arc;

use entra_mcp_plugin::Error;
use entra_mcp_plugin::clock::{Clock, SystemClock};
use entra_mcp_plugin::secret_store::{KeyError, RedisStore, SqliteStore, StoreReport};
use serde_json::{Value, json};

use super::CommandError;
use crate::composition::store::key_source;
use crate::config::{StoreConfig, StoreLocation};
use crate::console;

/// Opens every record of the stores, and says what is there and what is damaged.
pub async fn check(stores: &[StoreConfig], as_json: bool) -> Result<(), CommandError> {
    let mut reports = Vec::with_capacity(stores.len());
    for store in some(stores)? {
        reports.push((place(store), examine(store).await?));
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

/// Puts a new data key before the present ones. Records are sealed with it as they are written. `print`: shows the keys,
/// where this program cannot put them.
pub async fn rotate_key(stores: &[StoreConfig], print: bool) -> Result<(), CommandError> {
    for store in some(stores)? {
        let (location, clock) = (&store.location, clock());
        let path = match location {
            StoreLocation::File(path) => path.as_path(),
            _ => "".as_ref(),
        };
        let source = key_source(&store.key, path);
        let keys = match location {
            StoreLocation::Memory => return Err(memory()),
            StoreLocation::File(path) => SqliteStore::rotated_keys(path, &*source).map_err(Error::from)?,
            StoreLocation::Redis(options) => {
                RedisStore::rotated_keys(options, Arc::clone(&source), clock).await.map_err(Error::from)?
            }
        };
        match source.replace(&keys) {
            Ok(()) => console::result(&format!(
                "The records of {} are sealed with a new key from now on. Records that are not written stay under their key, \
                 which is kept in {} until no record needs it.",
                place(store),
                source.place()
            )),
            Err(KeyError::Fixed { .. }) if print => {
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
