//! The store on a real folder, and its protocol on a simulated one.

mod files;
mod interleavings;
mod simulated;
