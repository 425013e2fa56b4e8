//! Refusals of Entra ID: one constant for each AADSTS code. [`answers`](super::answers) has their JSON and text form.
//!
//! The numbers, the OAuth `error` each goes with and the message texts follow Microsoft's published list (*Microsoft
//! Entra authentication and authorization error codes*) and error reports of MSAL users. Entra ID itself warns that
//! texts change, so a client should look at `error`, `suberror` and `error_codes` only.

use http::StatusCode;

/// An error code of Entra ID.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Aadsts {
    pub(crate) number: u32,
    pub(crate) error: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) suberror: Option<&'static str>,
}

impl Aadsts {
    const fn new(number: u32, error: &'static str) -> Self {
        Self { number, error, status: StatusCode::BAD_REQUEST, suberror: None }
    }

    const fn unauthorized(number: u32, error: &'static str) -> Self {
        Self { number, error, status: StatusCode::UNAUTHORIZED, suberror: None }
    }

    const fn sub(mut self, suberror: &'static str) -> Self {
        self.suberror = Some(suberror);
        self
    }

    pub(crate) fn because(&'static self, message: impl Into<String>) -> Refusal {
        Refusal { code: self, message: message.into(), claims: None }
    }
}

/// A code with the message for this one case.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: &'static Aadsts,
    pub(crate) message: String,
    pub(crate) claims: Option<String>,
}

impl Refusal {
    pub(crate) fn with_claims(mut self, claims: impl Into<String>) -> Self {
        self.claims = Some(claims.into());
        self
    }
}

// Parties and places: tenants, applications, users.
pub(crate) static USER_OF_OTHER_TENANT: Aadsts = Aadsts::new(50020, "invalid_request");
pub(crate) static NO_SUCH_USER: Aadsts = Aadsts::new(50034, "invalid_grant");
pub(crate) static PASSWORD_EXPIRED: Aadsts = Aadsts::new(50055, "invalid_grant");
pub(crate) static USER_DISABLED: Aadsts = Aadsts::new(50057, "invalid_grant");
pub(crate) static NO_SESSION: Aadsts = Aadsts::new(50058, "login_required");
pub(crate) static WRONG_PASSWORD: Aadsts = Aadsts::new(50126, "invalid_grant");
pub(crate) static NOT_ASSIGNED: Aadsts = Aadsts::new(50105, "interaction_required");
pub(crate) static NO_TENANT: Aadsts = Aadsts::new(50059, "invalid_request");
pub(crate) static NOT_MULTI_TENANT: Aadsts = Aadsts::new(50194, "invalid_request");
pub(crate) static TENANT_NOT_FOUND: Aadsts = Aadsts::new(90002, "invalid_request");
pub(crate) static APPLICATION_NOT_FOUND: Aadsts = Aadsts::new(700016, "unauthorized_client");
pub(crate) static APPLICATION_DISABLED: Aadsts = Aadsts::unauthorized(7000112, "unauthorized_client");
pub(crate) static NOT_PROVISIONED: Aadsts = Aadsts::unauthorized(7000229, "unauthorized_client");
pub(crate) static NOT_FOR_CONSUMERS: Aadsts = Aadsts::new(9002331, "invalid_request");
pub(crate) static WORK_ACCOUNTS_ONLY: Aadsts = Aadsts::new(50020, "invalid_grant");

// What policy demands of the user.
pub(crate) static MFA_REQUIRED: Aadsts = Aadsts::new(50076, "invalid_grant").sub("basic_action");
pub(crate) static MFA_REQUIRED_ON_BEHALF: Aadsts = Aadsts::new(50076, "interaction_required").sub("basic_action");
pub(crate) static MFA_ENROLMENT_REQUIRED: Aadsts = Aadsts::new(50079, "invalid_grant").sub("basic_action");
pub(crate) static MFA_ENROLMENT_ON_BEHALF: Aadsts = Aadsts::new(50079, "interaction_required").sub("basic_action");
pub(crate) static WRONG_MFA_CODE: Aadsts = Aadsts::new(500121, "invalid_grant");
pub(crate) static CONDITIONAL_ACCESS: Aadsts = Aadsts::new(53003, "invalid_grant").sub("message_only");
pub(crate) static CONDITIONAL_ACCESS_ON_BEHALF: Aadsts = Aadsts::new(53003, "interaction_required").sub("message_only");
pub(crate) static CONDITIONAL_ACCESS_PAGE: Aadsts = Aadsts::new(53003, "access_denied");
pub(crate) static CONSENT_REQUIRED: Aadsts = Aadsts::new(65001, "invalid_grant").sub("consent_required");
pub(crate) static CONSENT_NEEDS_PAGE: Aadsts = Aadsts::new(65001, "consent_required");
pub(crate) static PREAUTHORIZATION_REQUIRED: Aadsts = Aadsts::new(65002, "invalid_request");
pub(crate) static CONSENT_DECLINED: Aadsts = Aadsts::new(65004, "access_denied");
pub(crate) static ADMIN_CONSENT_REQUIRED: Aadsts = Aadsts::new(90094, "consent_required");
pub(crate) static ADMIN_CONSENT_FOR_GRANT: Aadsts = Aadsts::new(90094, "invalid_grant").sub("consent_required");

// The request.
pub(crate) static NOT_POST: Aadsts = Aadsts::new(900561, "invalid_request");
pub(crate) static MISSING_PARAMETER: Aadsts = Aadsts::new(900144, "invalid_request");
pub(crate) static REPEATED_PARAMETER: Aadsts = Aadsts::new(9000411, "invalid_request");
pub(crate) static INVALID_REQUEST: Aadsts = Aadsts::new(9002313, "invalid_request");
pub(crate) static UNKNOWN_GRANT: Aadsts = Aadsts::new(70003, "unsupported_grant_type");
pub(crate) static UNKNOWN_RESPONSE_TYPE: Aadsts = Aadsts::new(700054, "unsupported_response_type");
pub(crate) static BAD_RESPONSE_MODE: Aadsts = Aadsts::new(70007, "unsupported_response_mode");
pub(crate) static REDIRECT_MISMATCH: Aadsts = Aadsts::new(50011, "invalid_request");
pub(crate) static NO_REPLY_ADDRESS: Aadsts = Aadsts::new(900971, "invalid_request");
pub(crate) static NO_REPLY_ADDRESS_REGISTERED: Aadsts = Aadsts::new(500113, "invalid_request");
pub(crate) static REQUEST_EXPIRED: Aadsts = Aadsts::new(90038, "invalid_request");
pub(crate) static CLAIMS_UNREADABLE: Aadsts = Aadsts::new(50101, "invalid_request");

// Scopes and resources.
pub(crate) static SEVERAL_RESOURCES: Aadsts = Aadsts::new(28000, "invalid_request");
pub(crate) static EMPTY_SCOPE: Aadsts = Aadsts::new(28003, "invalid_request");
pub(crate) static INVALID_SCOPE: Aadsts = Aadsts::new(70011, "invalid_scope");
pub(crate) static TOKEN_FOR_ITSELF: Aadsts = Aadsts::new(90009, "invalid_request");
pub(crate) static UNKNOWN_RESOURCE: Aadsts = Aadsts::new(500011, "invalid_resource");
pub(crate) static NO_SUCH_SCOPE: Aadsts = Aadsts::new(650053, "invalid_client");
pub(crate) static RESOURCE_MISMATCH: Aadsts = Aadsts::new(9010010, "invalid_target");
pub(crate) static DEFAULT_SCOPE_ONLY: Aadsts = Aadsts::new(1002012, "invalid_scope");

// Codes and refresh tokens.
pub(crate) static CODE_REDEEMED: Aadsts = Aadsts::new(54005, "invalid_grant");
pub(crate) static CODE_EXPIRED: Aadsts = Aadsts::new(70008, "invalid_grant");
pub(crate) static CODE_MALFORMED: Aadsts = Aadsts::new(9002313, "invalid_grant");
pub(crate) static CODE_OF_OTHER_CLIENT: Aadsts = Aadsts::new(70000, "invalid_grant");
pub(crate) static CODE_OF_OTHER_TENANT: Aadsts = Aadsts::new(700005, "invalid_grant");
pub(crate) static CODE_REDIRECT_MISMATCH: Aadsts = Aadsts::new(500112, "invalid_client");
pub(crate) static VERIFIER_MISMATCH: Aadsts = Aadsts::new(501481, "invalid_grant");
pub(crate) static VERIFIER_MISSING: Aadsts = Aadsts::new(50148, "invalid_grant");
pub(crate) static REFRESH_INACTIVE: Aadsts = Aadsts::new(700082, "invalid_grant");
pub(crate) static REFRESH_SPA_EXPIRED: Aadsts = Aadsts::new(700084, "invalid_grant");
pub(crate) static REFRESH_MALFORMED: Aadsts = Aadsts::new(9002313, "invalid_grant");
pub(crate) static REFRESH_REDEEMED: Aadsts = Aadsts::new(70000, "invalid_grant").sub("bad_token");
pub(crate) static REFRESH_OF_OTHER_CLIENT: Aadsts = Aadsts::new(700003, "invalid_grant").sub("client_mismatch");
pub(crate) static SESSION_REVOKED: Aadsts = Aadsts::new(50173, "invalid_grant").sub("bad_token");
pub(crate) static SESSION_TOO_OLD: Aadsts = Aadsts::new(70043, "invalid_grant").sub("token_expired");

// Browsers as clients.
pub(crate) static PKCE_REQUIRED_CROSS_ORIGIN: Aadsts = Aadsts::new(9002325, "invalid_request");
pub(crate) static ORIGIN_WITHOUT_SPA: Aadsts = Aadsts::new(9002326, "invalid_request");
pub(crate) static SPA_WITHOUT_ORIGIN: Aadsts = Aadsts::new(9002327, "invalid_request");

// Client credentials.
pub(crate) static WRONG_SECRET: Aadsts = Aadsts::unauthorized(7000215, "invalid_client");
pub(crate) static SECRET_EXPIRED: Aadsts = Aadsts::unauthorized(7000222, "invalid_client");
pub(crate) static CREDENTIAL_MISSING: Aadsts = Aadsts::unauthorized(7000218, "invalid_client");
pub(crate) static PUBLIC_CLIENT_WITH_CREDENTIAL: Aadsts = Aadsts::unauthorized(700025, "invalid_client");
pub(crate) static ASSERTION_SIGNATURE: Aadsts = Aadsts::unauthorized(700027, "invalid_client");
pub(crate) static ASSERTION_AUDIENCE: Aadsts = Aadsts::unauthorized(700023, "invalid_client");
pub(crate) static ASSERTION_LIFETIME: Aadsts = Aadsts::unauthorized(700024, "invalid_client");
pub(crate) static ASSERTION_ISSUER: Aadsts = Aadsts::unauthorized(700021, "invalid_client");
pub(crate) static ASSERTION_MALFORMED: Aadsts = Aadsts::unauthorized(50027, "invalid_client");
pub(crate) static ASSERTION_REPLAYED: Aadsts = Aadsts::unauthorized(7000277, "invalid_client");
pub(crate) static FEDERATION_ISSUER: Aadsts = Aadsts::unauthorized(700211, "invalid_client");
pub(crate) static FEDERATION_AUDIENCE: Aadsts = Aadsts::unauthorized(700212, "invalid_client");
pub(crate) static FEDERATION_SUBJECT: Aadsts = Aadsts::unauthorized(700213, "invalid_client");

// On-behalf-of.
pub(crate) static ON_BEHALF_APP_ONLY: Aadsts = Aadsts::new(7000114, "invalid_request");
pub(crate) static ON_BEHALF_ASSERTION: Aadsts = Aadsts::new(50013, "invalid_grant");
pub(crate) static ON_BEHALF_AUDIENCE: Aadsts = Aadsts::new(500131, "invalid_grant");
pub(crate) static ON_BEHALF_EXPIRED: Aadsts = Aadsts::new(500133, "invalid_grant");

// Device code.
pub(crate) static DEVICE_PENDING: Aadsts = Aadsts::new(70016, "authorization_pending");
pub(crate) static DEVICE_DECLINED: Aadsts = Aadsts::new(70018, "authorization_declined");
pub(crate) static DEVICE_EXPIRED: Aadsts = Aadsts::new(70020, "expired_token");
pub(crate) static DEVICE_UNKNOWN: Aadsts = Aadsts::new(70019, "bad_verification_code");
pub(crate) static DEVICE_SLOW_DOWN: Aadsts = Aadsts::new(70017, "slow_down");
