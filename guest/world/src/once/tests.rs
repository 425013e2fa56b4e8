//! `once` for the present uses: each of their policies, and what its callers see.

mod cached;
mod documents;
mod interleavings;
mod refresh;
