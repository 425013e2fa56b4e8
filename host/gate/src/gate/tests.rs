//! The gate with servers behind it that do what they should not.
