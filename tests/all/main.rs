//! All behaviour tests, in one binary so that they link once.

#[cfg(test)]
#[cfg(unix)]
mod clients;
#[cfg(test)]
mod emulator;
#[cfg(test)]
mod sign_in;
#[cfg(test)]
mod support;
