//! A sign-in on its way, and where it leads.

use super::{Challenge, Contexts, Platform};
use crate::tenants::Authority;

/// A sign-in on its way, from the authorize request (or a typed device code) to its end.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) client: String,
    pub(crate) authority: Authority,
    pub(crate) purpose: Purpose,
    pub(crate) scope: String,
    pub(crate) prompt: Prompt,
    pub(crate) login_hint: Option<String>,
    /// The client asked for a second factor through the `claims` parameter.
    pub(crate) wants_mfa: bool,
    /// The authentication contexts that the client asked for in the same way.
    pub(crate) contexts: Contexts,
    /// Guards the forms against other sites.
    pub(crate) canary: String,
    pub(crate) browser: String,
    pub(crate) created: i64,
    pub(crate) progress: Progress,
}

/// How far a sign-in has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// The home object id of the chosen account.
    pub(crate) user: Option<String>,
    pub(crate) password_given: bool,
    pub(crate) with_mfa: bool,
    pub(crate) consented: bool,
    pub(crate) confirmed: bool,
    /// The person asked for the user-name page instead of the account picker.
    pub(crate) other_account: bool,
}

/// What a sign-in ends in.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    Redirect(Redirect),
    Device { device_code: String },
}

/// Where and how the answer goes back.
#[derive(Clone, Debug)]
pub(crate) struct Redirect {
    pub(crate) uri: String,
    pub(crate) platform: Platform,
    pub(crate) mode: ResponseMode,
    pub(crate) state: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) challenge: Option<Challenge>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ResponseMode {
    Query,
    Fragment,
    FormPost,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Prompt {
    AsNeeded,
    None,
    Login,
    SelectAccount,
    Consent,
}
