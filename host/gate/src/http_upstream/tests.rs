//! Servers over HTTP that do what they should not.
