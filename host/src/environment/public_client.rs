//! A public client (RFC 6749 section 2.1): a local server on the user's own machine, without a credential.
