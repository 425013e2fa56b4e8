//! All behaviour tests, in one binary so that they link once.

#![allow(clippy::disallowed_methods, reason = "tests start programs and ask which tools there are")]

#[cfg(all(test, unix))]
mod clients;
#[cfg(test)]
mod emulator;
#[cfg(all(test, unix))]
mod host;
#[cfg(test)]
mod sign_in;
#[cfg(test)]
mod support;
