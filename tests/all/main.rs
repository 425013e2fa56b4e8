//! All behaviour tests, in one binary so that they link once.

#[cfg(test)]
mod emulator;
#[cfg(test)]
mod support;
#[cfg(test)]
mod token;
