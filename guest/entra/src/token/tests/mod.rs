//! Tests of the validation as a whole; those of a single part are in its file.

mod controls;
mod given_keys;
mod groups;
pub(in crate::token) mod host;
mod id_tokens;
mod key_life;
mod memory;
mod properties;
mod rejections;
mod vectors;
