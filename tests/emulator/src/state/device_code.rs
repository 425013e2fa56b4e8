//! Device codes, and what a test says of those that are issued.

use serde::{Deserialize, Serialize};

use super::Grant;
use crate::tenants::Authority;

/// A device code with what became of it.
#[derive(Clone, Debug)]
pub(crate) struct DeviceCode {
    pub(crate) user_code: String,
    pub(crate) client: String,
    pub(crate) authority: Authority,
    pub(crate) scope: String,
    pub(crate) expires: i64,
    pub(crate) outcome: Outcome,
    pub(crate) slow_down: u32,
}

/// What became of a device code.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Pending,
    Approved(Grant),
    Declined,
    Expired,
    Redeemed,
}

/// What happens to the device codes issued from now on.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceScript {
    /// The interval to announce, in seconds; 0 lets a test poll without waiting.
    pub interval: Option<i64>,
    /// The life to announce, in seconds.
    pub expires_in: Option<i64>,
    /// How many polls are answered with `slow_down` first.
    pub slow_down: u32,
    /// The end, without a person typing the code.
    pub outcome: Option<DeviceOutcome>,
}

/// How a scripted device code ends.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceOutcome {
    /// The person declined.
    Declined,
    /// The code was not typed in time.
    Expired,
    /// This user (by user name) approved, without any page.
    ApprovedBy(String),
}
