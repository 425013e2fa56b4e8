//! A version of a record: where it is, and its bytes.

use std::time::Duration;

use world::{Random, StoreError, sealing};
use zeroize::Zeroizing;

use super::{BYTES, StoreKey};

/// The layout of the bytes. Files with another one cannot be opened.
const FORMAT: u8 = 1;
const VALUE: u8 = 0;
const GONE: u8 = 1;
/// Stands for a value that does not expire.
const NEVER: u64 = u64::MAX;
/// What the keys of values are derived for.
const VALUES: &str = "entra-mcp folder values 1";

/// Where a version is.
#[derive(Debug, Clone)]
pub(super) struct RecordPlace {
    pub(super) record: String,
    pub(super) incarnation: String,
    pub(super) number: u64,
}

impl RecordPlace {
    pub(super) fn incarnation_folder(&self) -> String {
        format!("{}/{}", self.record, self.incarnation)
    }

    pub(super) fn folder(&self) -> String {
        format!("{}/{}", self.incarnation_folder(), self.number)
    }

    pub(super) fn file(&self) -> String {
        format!("{}/{BYTES}", self.folder())
    }

    /// The place after this one.
    pub(super) fn next(&self) -> Self {
        Self { number: self.number.saturating_add(1), ..self.clone() }
    }
}

/// A version that is known to have been written at a time. Numbers before it may be removed some time later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) number: u64,
    pub(super) at: u64,
}

/// What a version says.
pub(super) enum VersionContent {
    /// The record has this value. The expiry is in Unix seconds.
    Value { expires_at: Option<u64>, sealed: Vec<u8> },
    /// There is no record any more, and no version comes after this one.
    Gone,
    /// Its bytes are not those of a version.
    Damaged,
}

pub(super) struct WrittenVersion {
    pub(super) checkpoint: Checkpoint,
    pub(super) content: VersionContent,
}

impl WrittenVersion {
    /// Reads the bytes of a file.
    pub(super) fn read(bytes: &[u8]) -> Self {
        Self::parse(bytes)
            .unwrap_or(Self { checkpoint: Checkpoint { number: 0, at: 0 }, content: VersionContent::Damaged })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let ([FORMAT, kind], rest) = bytes.split_first_chunk::<2>()? else { return None };
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let checkpoint = Checkpoint { number: u64::from_be_bytes(*number), at: u64::from_be_bytes(*at) };
        let content = match *kind {
            GONE => VersionContent::Gone,
            VALUE => {
                let (expires_at, sealed) = rest.split_first_chunk::<8>()?;
                let expires_at = Some(u64::from_be_bytes(*expires_at)).filter(|at| *at != NEVER);
                VersionContent::Value { expires_at, sealed: sealed.to_vec() }
            }
            _ => return None,
        };
        Some(Self { checkpoint, content })
    }

    /// The bytes of its file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let kind = if matches!(self.content, VersionContent::Value { .. }) { VALUE } else { GONE };
        let mut bytes = vec![FORMAT, kind];
        bytes.extend_from_slice(&self.checkpoint.number.to_be_bytes());
        bytes.extend_from_slice(&self.checkpoint.at.to_be_bytes());
        if let VersionContent::Value { expires_at, sealed } = &self.content {
            bytes.extend_from_slice(&expires_at.unwrap_or(NEVER).to_be_bytes());
            bytes.extend_from_slice(sealed);
        }
        bytes
    }

    /// Numbers below may be removed.
    pub(super) fn prunable(&self, now: u64, after: Duration) -> Option<u64> {
        (now.saturating_sub(self.checkpoint.at) >= after.as_secs()).then_some(self.checkpoint.number)
    }

    /// The checkpoint of the version that is written now, after this one.
    pub(super) fn checkpoint_after(&self, place: &RecordPlace, now: u64, after: Duration) -> Checkpoint {
        match self.prunable(now, after) {
            Some(_) => Checkpoint { number: place.next().number, at: now },
            None => self.checkpoint,
        }
    }

    /// Whether it says that there is no record: it is gone, or has expired by what it says.
    pub(super) fn is_over(&self, now: u64) -> bool {
        match &self.content {
            VersionContent::Value { expires_at, .. } => expires_at.is_some_and(|at| at <= now),
            VersionContent::Gone => true,
            VersionContent::Damaged => false,
        }
    }
}

/// What a value is bound to. Each part but the last has a fixed length, so none runs into another.
fn bound(key: &str, place: &RecordPlace, expires_at: Option<u64>) -> Vec<u8> {
    let mut bound = vec![FORMAT];
    bound.extend_from_slice(&expires_at.unwrap_or(NEVER).to_be_bytes());
    bound.extend_from_slice(&place.number.to_be_bytes());
    bound.extend_from_slice(&u64::try_from(place.incarnation.len()).unwrap_or_default().to_be_bytes());
    bound.extend_from_slice(place.incarnation.as_bytes());
    bound.extend_from_slice(key.as_bytes());
    bound
}

pub(super) fn seal(
    random: &dyn Random,
    sealing_key: &StoreKey,
    key: &str,
    place: &RecordPlace,
    expires_at: Option<u64>,
    value: &[u8],
) -> Result<Vec<u8>, StoreError> {
    sealing::seal(random, sealing_key.reveal(), VALUES, &bound(key, place, expires_at), value)
}

pub(super) fn open(
    sealing_key: &StoreKey,
    key: &str,
    place: &RecordPlace,
    expires_at: Option<u64>,
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    sealing::open(sealing_key.reveal(), VALUES, &bound(key, place, expires_at), sealed)
}
