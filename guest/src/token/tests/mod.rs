//! Tests of the validation as a whole; those of a single part are in its file.

mod controls;
mod id_tokens;
mod rejections;
