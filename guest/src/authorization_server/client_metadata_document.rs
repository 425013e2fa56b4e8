//! Client ID Metadata Documents: a client whose id is the URL of what it says of itself
//! (draft-ietf-oauth-client-id-metadata-document).
