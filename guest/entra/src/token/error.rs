//! Why a token is refused: fixed variants with evidence. `evidence.rs` says which category and evidence of `wit/types.wit`
//! each of them is.
//!
//! `Display` and the fields are for the log. What a client may see is [`TokenError::public_text`] and
//! [`TokenError::challenge`]: what to do, and nothing that tells an attacker which check stopped a forged token.

use base::principal::CallerKind;

/// A part of a compact token, or a document it was checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The first part.
    Header,
    /// The second part.
    Claims,
    /// The third part.
    Signature,
}

impl Part {
    /// As in texts and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Signature => "signature",
        }
    }
}

/// Why a key of the authority's key set must not verify this token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    /// `kty` or `crv` does not fit the token's algorithm.
    Type,
    /// `use` or `key_ops` says that the key is not for signatures.
    Use,
    /// `alg` is not the token's algorithm, or the algorithm needs a key that names it.
    Algorithm,
    /// The modulus is shorter than 2048 or longer than 8192 bits.
    Size,
    /// The public exponent is below 65537, even, or above 2^33 - 1.
    Exponent,
    /// A member is missing or malformed, or the point is not on the curve.
    Malformed,
    /// The key's own `issuer` is not the token's, or is missing where several tenants share the key set.
    Issuer,
    /// The set publishes private members of the key.
    Private,
    /// Several keys with this `kid` fit.
    Ambiguous,
}

impl KeyFault {
    /// As in texts and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Use => "use",
            Self::Algorithm => "algorithm",
            Self::Size => "size",
            Self::Exponent => "exponent",
            Self::Malformed => "malformed",
            Self::Issuer => "issuer",
            Self::Private => "private",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// Why a token is refused, or why that cannot be decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is longer than 16 KiB.
    #[error("the token has {length} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes of the token.
        length: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Not exactly three parts (RFC 7515 section 7.1). Five parts are an encrypted token.
    #[error("the token has {parts} parts, a signed token has 3")]
    NotCompact {
        /// How many parts there are.
        parts: u64,
    },
    /// A part is empty or not canonical base64url without padding (RFC 7515 section 2).
    #[error("the {} is not canonical base64url", .part.name())]
    EncodingInvalid {
        /// Which part.
        part: Part,
    },
    /// A part is not a JSON object in UTF-8, or is nested too deeply.
    #[error("the {} is not a JSON object", .part.name())]
    JsonInvalid {
        /// Which part.
        part: Part,
    },
    /// A name occurs twice in one object (RFC 7515 section 4, RFC 7519 section 4).
    #[error("the {} names {name:?} twice", .part.name())]
    NameDuplicate {
        /// Which part.
        part: Part,
        /// The name.
        name: String,
    },
    /// The algorithm is not RS256, PS256 or ES256 (RFC 8725 section 3.1).
    #[error("the algorithm {algorithm:?} is not allowed")]
    AlgorithmNotAllowed {
        /// `alg` as sent.
        algorithm: String,
    },
    /// A header parameter is present that brings its own key, or that has to be understood (RFC 8725 section 3.10).
    #[error("the header parameter {name:?} is not allowed")]
    HeaderNotAllowed {
        /// Name of the parameter.
        name: String,
    },
    /// A header parameter that is needed is missing.
    #[error("the header has no {name:?}")]
    HeaderMissing {
        /// Name of the parameter.
        name: String,
    },
    /// A header parameter has the wrong type or is too long.
    #[error("the header parameter {name:?} is malformed")]
    HeaderMalformed {
        /// Name of the parameter.
        name: String,
    },
    /// `typ` names another kind of object (RFC 8725 section 3.11).
    #[error("the token is of type {actual:?}")]
    TypeNotAllowed {
        /// `typ` as sent.
        actual: String,
    },
    /// A claim that is needed is missing.
    #[error("the claim {name:?} is missing")]
    ClaimMissing {
        /// Name of the claim.
        name: String,
    },
    /// A claim has the wrong type or form: a date that is no integer or beyond the year 9999, an id that is no GUID.
    #[error("the claim {name:?} is malformed")]
    ClaimMalformed {
        /// Name of the claim.
        name: String,
    },
    /// `ver` is neither `1.0` nor `2.0`.
    #[error("the token version {actual:?} is not supported")]
    VersionNotSupported {
        /// `ver` as sent.
        actual: String,
    },
    /// An ID token where an access token is needed, or the reverse (RFC 8725 section 3.12).
    #[error("this is not an {expected}: see the claim {claim:?}")]
    WrongTokenUse {
        /// `access token` or `ID token`.
        expected: String,
        /// The claim that shows it.
        claim: String,
    },
    /// `iss` is not the issuer of the token's tenant at the configured authority, in the form of `ver`.
    #[error("the issuer is {actual:?}, expected is {expected:?}")]
    IssuerMismatch {
        /// The issuer this tenant has.
        expected: String,
        /// `iss` as sent.
        actual: String,
    },
    /// The tenant is not accepted.
    #[error("the tenant {tenant_id:?} is not accepted")]
    TenantNotAllowed {
        /// `tid` as sent.
        tenant_id: String,
    },
    /// The authority's key set has no key with this `kid`, also after it was fetched anew.
    #[error("no signing key has the id {key_id:?}")]
    KeyUnknown {
        /// `kid` as sent.
        key_id: String,
    },
    /// The key exists and must not verify this token.
    #[error("the signing key {key_id:?} must not be used: {}", .fault.name())]
    KeyNotAllowed {
        /// `kid` as sent.
        key_id: String,
        /// What is wrong with the key.
        fault: KeyFault,
    },
    /// The signature does not verify.
    #[error("the signature does not verify with the key {key_id:?}")]
    SignatureInvalid {
        /// `kid` of the key it was checked with.
        key_id: String,
    },
    /// `aud` is not an accepted audience.
    #[error("the audience is {actual:?}, accepted are {expected:?}")]
    AudienceMismatch {
        /// The accepted audiences for this version of token.
        expected: Vec<String>,
        /// `aud` as sent.
        actual: String,
    },
    /// `exp` has passed, tolerance included.
    #[error("the token expired {seconds_ago} s ago")]
    Expired {
        /// Seconds since `exp`.
        seconds_ago: u64,
    },
    /// `nbf` is in the future, tolerance included.
    #[error("the token becomes valid in {seconds_ahead} s")]
    NotYetValid {
        /// Seconds until `nbf`.
        seconds_ahead: u64,
    },
    /// `iat` is in the future, tolerance included.
    #[error("the token will be issued in {seconds_ahead} s")]
    IssuedInFuture {
        /// Seconds until `iat`.
        seconds_ahead: u64,
    },
    /// Neither a scope nor a role: the token gives no access to anything.
    #[error("the token carries neither a scope nor a role")]
    NoPermissions,
    /// The token is bound to a key (`cnf`), so it is good only with a proof that its sender has the key (RFC 7800
    /// section 3). A bearer token has no such proof: the sender may be anyone who saw the token.
    #[error("the token is bound to a key, named by {methods:?}, and comes without a proof of possession")]
    KeyBound {
        /// How `cnf` names the key: its members, such as `jkt`, `kid` or `x5t#S256`.
        methods: Vec<String>,
    },
    /// The `nonce` of an ID token is not that of the sign-in it answers. Never returned for an access token.
    #[error("the nonce is not that of this sign-in")]
    NonceMismatch,
    /// The token is one of a person where one of an application or of an AI agent is required, and the like.
    #[error("the token stands for {actual}, required is {required}")]
    PrincipalKindMismatch {
        /// What is required.
        required: CallerKind,
        /// What the token stands for.
        actual: CallerKind,
    },
    /// The client application is not among the required ones.
    #[error("the client {actual:?} is not among the allowed {expected:?}")]
    ClientNotAllowed {
        /// Allowed client ids.
        expected: Vec<String>,
        /// The token's `azp` or `appid`.
        actual: String,
    },
    /// Some of the required scopes are missing.
    #[error("the scopes {missing:?} of {required:?} are missing")]
    ScopesMissing {
        /// All that are required.
        required: Vec<String>,
        /// Those that the token lacks.
        missing: Vec<String>,
    },
    /// None of the required roles is present.
    #[error("none of the roles {any_of:?} is present")]
    RolesMissing {
        /// One of these is required.
        any_of: Vec<String>,
    },
    /// The principal is in none of the required groups.
    #[error("the principal is in none of the groups {any_of:?}")]
    GroupsMissing {
        /// One of these is required.
        any_of: Vec<String>,
    },
    /// A group is required, the token's groups are in overage, and Microsoft Graph could not be asked.
    #[error("the groups could not be read from Microsoft Graph: {reason}")]
    GroupsUnavailable {
        /// For the log.
        reason: String,
        /// Seconds after which Microsoft Graph may be asked again, if it has said so.
        retry_after: Option<u64>,
    },
    /// There are no usable keys of the authority: it cannot be decided whether the token is genuine.
    #[error("the authority's signing keys are unavailable: {reason}")]
    KeysUnavailable {
        /// For the log.
        reason: String,
        /// Seconds after which a retry makes sense.
        retry_after: u64,
    },
    /// Nothing can be accepted as configured.
    #[error("the setting {setting:?} is missing or wrong")]
    ConfigurationInvalid {
        /// Name of the setting.
        setting: String,
    },
}

/// The `error` of a `WWW-Authenticate: Bearer` challenge (RFC 6750 section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BearerChallenge {
    /// `invalid_token`, `insufficient_scope`, or nothing where a new token would not help.
    pub error: Option<&'static str>,
    /// `error_description`: the public text.
    pub error_description: &'static str,
    /// The scopes to ask for, in short form. The caller qualifies them.
    pub scopes: Vec<String>,
}

impl TokenError {
    /// The code in `wit/types.wit`: stable, also the reason in audit events and in `--json`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::NotCompact { .. } => "not-compact",
            Self::EncodingInvalid { .. } => "encoding-invalid",
            Self::JsonInvalid { .. } => "json-invalid",
            Self::NameDuplicate { .. } => "name-duplicate",
            Self::AlgorithmNotAllowed { .. } => "algorithm-not-allowed",
            Self::HeaderNotAllowed { .. } => "header-not-allowed",
            Self::HeaderMissing { .. } => "header-missing",
            Self::HeaderMalformed { .. } => "header-malformed",
            Self::TypeNotAllowed { .. } => "type-not-allowed",
            Self::ClaimMissing { .. } => "claim-missing",
            Self::ClaimMalformed { .. } => "claim-malformed",
            Self::VersionNotSupported { .. } => "version-not-supported",
            Self::WrongTokenUse { .. } => "wrong-token-use",
            Self::IssuerMismatch { .. } => "issuer-mismatch",
            Self::TenantNotAllowed { .. } => "tenant-not-allowed",
            Self::KeyUnknown { .. } => "key-unknown",
            Self::KeyNotAllowed { .. } => "key-not-allowed",
            Self::SignatureInvalid { .. } => "signature-invalid",
            Self::AudienceMismatch { .. } => "audience-mismatch",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not-yet-valid",
            Self::IssuedInFuture { .. } => "issued-in-future",
            Self::NoPermissions => "no-permissions",
            Self::KeyBound { .. } => "key-bound",
            Self::NonceMismatch => "nonce-mismatch",
            Self::PrincipalKindMismatch { .. } => "principal-kind-mismatch",
            Self::ClientNotAllowed { .. } => "client-not-allowed",
            Self::ScopesMissing { .. } => "scopes-missing",
            Self::RolesMissing { .. } => "roles-missing",
            Self::GroupsMissing { .. } => "groups-missing",
            Self::GroupsUnavailable { .. } => "groups-unavailable",
            Self::KeysUnavailable { .. } => "keys-unavailable",
            Self::ConfigurationInvalid { .. } => "configuration-invalid",
        }
    }

    /// The HTTP status for a client that presented the token: 401 get another token, 403 this principal may
    /// not, 503 not decided now, 500 wrong configuration.
    pub fn status(&self) -> u16 {
        match self {
            Self::PrincipalKindMismatch { .. }
            | Self::ClientNotAllowed { .. }
            | Self::ScopesMissing { .. }
            | Self::RolesMissing { .. }
            | Self::GroupsMissing { .. } => 403,
            Self::GroupsUnavailable { .. } | Self::KeysUnavailable { .. } => 503,
            Self::ConfigurationInvalid { .. } => 500,
            _ => 401,
        }
    }

    /// Parameters of the `WWW-Authenticate` header; `None` where the client can do nothing about it.
    pub fn challenge(&self) -> Option<BearerChallenge> {
        let error = match (self.status(), self) {
            (401, _) => Some("invalid_token"),
            (403, Self::ScopesMissing { .. }) => Some("insufficient_scope"),
            // Stepping up, which `insufficient_scope` asks for, would bring the same roles again.
            (403, _) => None,
            _ => return None,
        };
        let scopes = match self {
            Self::ScopesMissing { required, .. } => required.clone(),
            _ => Vec::new(),
        };
        Some(BearerChallenge { error, error_description: self.public_text(), scopes })
    }

    /// What the client may know. All that a forger could learn from is one and the same text.
    pub fn public_text(&self) -> &'static str {
        match self {
            // Said only of tokens whose signature has been verified.
            Self::Expired { .. } => "the access token has expired",
            Self::KeyBound { .. } => {
                "the access token is bound to a key (cnf), which this server cannot check: get a plain bearer token"
            }
            Self::ScopesMissing { .. } => "the access token lacks a required scope",
            Self::PrincipalKindMismatch { .. }
            | Self::ClientNotAllowed { .. }
            | Self::RolesMissing { .. }
            | Self::GroupsMissing { .. } => "access is not allowed for this account or application",
            Self::GroupsUnavailable { .. } | Self::KeysUnavailable { .. } => {
                "the token cannot be checked at the moment, try again later"
            }
            Self::ConfigurationInvalid { .. } => "the server is not configured to accept access tokens",
            _ => "the access token is not valid for this server",
        }
    }

    /// Whether the token was refused; otherwise it could not be decided, and the same token may pass later.
    pub fn is_refusal(&self) -> bool {
        self.status() < 500
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_is_answered_with_401_and_invalid_token() {
        let error = TokenError::SignatureInvalid { key_id: "k".to_owned() };
        assert_eq!(error.status(), 401);
        assert_eq!(
            error.challenge(),
            Some(BearerChallenge {
                error: Some("invalid_token"),
                error_description: "the access token is not valid for this server",
                scopes: Vec::new()
            })
        );
    }

    #[test]
    fn missing_scopes_are_answered_with_403_and_all_that_are_needed() {
        let error =
            TokenError::ScopesMissing { required: vec!["A".to_owned(), "B".to_owned()], missing: vec!["B".to_owned()] };
        assert_eq!(error.status(), 403);
        let challenge = error.challenge().unwrap();
        assert_eq!(challenge.error, Some("insufficient_scope"));
        assert_eq!(challenge.scopes, ["A", "B"]);
    }

    #[test]
    fn a_missing_role_does_not_ask_the_client_to_step_up() {
        let error = TokenError::RolesMissing { any_of: vec!["Admin".to_owned()] };
        assert_eq!((error.status(), error.challenge().unwrap().error), (403, None));
    }

    #[test]
    fn an_outage_is_not_the_clients_fault() {
        let error = TokenError::KeysUnavailable { reason: "timed out".to_owned(), retry_after: 5 };
        assert_eq!((error.status(), error.challenge(), error.is_refusal()), (503, None, false));
    }

    #[test]
    fn a_token_that_is_bound_to_a_key_is_answered_with_what_to_get_instead() {
        let error = TokenError::KeyBound { methods: vec!["jkt".to_owned()] };
        let challenge = error.challenge().unwrap();
        assert_eq!((error.status(), challenge.error), (401, Some("invalid_token")));
        assert!(challenge.error_description.contains("bound to a key"), "{}", challenge.error_description);
        assert!(!challenge.error_description.contains(['"', '\\']), "it stands in a quoted string of a header");
    }

    #[test]
    fn a_forger_learns_nothing_from_the_public_text() {
        let texts = [
            TokenError::KeyUnknown { key_id: String::new() }.public_text(),
            TokenError::SignatureInvalid { key_id: String::new() }.public_text(),
            TokenError::IssuerMismatch { expected: String::new(), actual: String::new() }.public_text(),
            TokenError::TenantNotAllowed { tenant_id: String::new() }.public_text(),
            TokenError::AlgorithmNotAllowed { algorithm: String::new() }.public_text(),
        ];
        assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
    }
}
