//! The error codes of Entra ID, and what a person can do about each.
//!
//! Source: Microsoft's reference "Microsoft Entra authentication and authorization error codes".

/// Finds the number of `AADSTS65001: …` in an error description.
pub fn number_in(description: &str) -> Option<u32> {
    let digits = description.split_once("AADSTS")?.1;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

/// The person has declined to consent.
pub const DECLINED: u32 = 65004;

/// A device code that is wrong, or whose sign-in the person did not approve: `authorization_declined` tells these apart.
pub const NOT_APPROVED: u32 = 70018;

/// One sentence that says what to do about an error. The code is part of it, so that it can be looked up. The code decides
/// before the OAuth error does, which is the same for many causes.
pub fn advice(error: &str, code: u32) -> String {
    match (code, sentence(code)) {
        (0, _) => oauth_advice(error),
        (NOT_APPROVED, _) if error == "authorization_declined" => format!("{} (AADSTS{code})", oauth_advice(error)),
        (_, Some(sentence)) => format!("{sentence} (AADSTS{code})"),
        // It is not known what a code means that no sentence is about; `access_denied` with one is no decision of the
        // person.
        (_, None) if error == "access_denied" => format!("Microsoft Entra ID refused the sign-in. (AADSTS{code})"),
        (_, None) => format!("{} (AADSTS{code})", oauth_advice(error)),
    }
}

/// Whether a sentence is about the code.
pub fn is_known(code: u32) -> bool {
    sentence(code).is_some()
}

fn sentence(code: u32) -> Option<&'static str> {
    Some(match code {
        16000 | 50058 => "No account is signed in there, or several are; sign in again and choose an account.",
        50011 => {
            "The redirect URI is not registered: add `http://localhost` under Authentication > Mobile and desktop \
             applications in the app registration."
        }
        50020 => {
            "The account does not belong to this tenant: sign in with an account of the tenant, or have it invited \
             as a guest."
        }
        50034 => "The account does not exist in this tenant: check the user name and the tenant id.",
        50053 => "The account is locked after too many attempts: wait a few minutes, or reset the password.",
        50055 => "The password has expired: sign in to a Microsoft site to change it.",
        50057 => "The account is disabled: ask an administrator.",
        50059 | 90002 => "The tenant was not found: check the tenant id (Directory ID) in the settings.",
        50072 | 50074 | 50076 | 50079 => "Multifactor authentication is required: sign in again and complete it.",
        50105 => "The account is not assigned to the application: ask an administrator to assign it.",
        50126 => "The user name or the password is wrong.",
        50173 | 70043 | 700_082 | 700_084 | 50132 | 50133 => "The session has ended: sign in again.",
        53000 | 53001 => "The device does not satisfy the organisation's policy: use a compliant, joined device.",
        53003 | 530_032 => "Conditional access blocks this sign-in: ask an administrator which policy applies.",
        54005 | 70008 => "The authorization code was used already or has expired: sign in again.",
        65001 => {
            "Consent is missing: sign in again and consent, or ask an administrator to grant it for the application."
        }
        DECLINED => "The consent was declined: sign in again and accept the permissions to go on.",
        90094 => "An administrator has to consent: ask one to grant the permissions of the application.",
        70011 | 650_053 | 90009 | 28003 => {
            "The requested scope does not exist: check the API permissions of the application."
        }
        28000 => "A token can be for one API only: request the scopes of one API at a time.",
        70016 => "The sign-in is still pending.",
        NOT_APPROVED..=70020 => "The device code has expired or is not valid: start the sign-in again.",
        70002 | 7_000_218 => {
            "The application has to be a public client: switch on 'Allow public client flows' under Authentication \
             in the app registration."
        }
        700_016 => {
            "The application was not found in the tenant: check the client id (Application ID) and the tenant id."
        }
        700_021 | 700_023 => {
            "The client assertion is for another application or tenant: check the client id, the tenant id and the \
             authority."
        }
        700_024 => {
            "The client assertion is not valid at this time: correct the date and time of this machine or, with a \
             federated token, see that its file is renewed."
        }
        700_025 => {
            "The application has no credential at all: add the certificate or the federated credential under \
             Certificates & secrets in the app registration."
        }
        700_027 => {
            "The certificate is not one of the application's: compare the thumbprint in the log of this program with \
             those under Certificates & secrets in the app registration, and upload the certificate there."
        }
        700_030 | 7_000_216 => "The client assertion is not valid: check the certificate of the application.",
        700_211 => {
            "No federated credential of the application has the issuer of the token: compare it with `iss`, under \
             Certificates & secrets > Federated credentials in the app registration."
        }
        700_212 => {
            "No federated credential of the application has the audience of the token: it has to be \
             `api://AzureADTokenExchange` on both sides, under Certificates & secrets > Federated credentials."
        }
        700_213 => {
            "No federated credential of the application has the subject of the token: of a managed identity it is the \
             object (principal) id, of Kubernetes `system:serviceaccount:NAMESPACE:NAME`. Correct it under Certificates \
             & secrets > Federated credentials."
        }
        700_222 | 700_236 => {
            "Entra ID accepts a token of its own as a credential only if it is one of a managed identity of the \
             application's tenant."
        }
        7_000_114 => "An application token cannot be exchanged on behalf of a user: call with a user's token.",
        7_000_215 => {
            "The client secret is wrong: use the secret's value, not its id, from Certificates & secrets in the app \
             registration."
        }
        7_000_222 => "The client secret has expired: create a new one under Certificates & secrets.",
        900_971 => "No reply address is registered: add `http://localhost` under Authentication.",
        9_010_010 => "The resource does not match the scopes: check the App ID URI in the settings.",
        _ => return None,
    })
}

/// The same for people who use a server that another party operates. The code in the audit record tells the operator
/// what is wrong with the configuration; the people cannot do anything about it, and need not know.
pub fn public_advice(error: &str, code: u32) -> String {
    match (is_configuration(error, code), code) {
        (false, _) => advice(error, code),
        (true, 0) => NOT_SET_UP.to_owned(),
        (true, _) => format!("{NOT_SET_UP} (AADSTS{code})"),
    }
}

/// Whether what is configured, here or in the app registration, has to be changed.
pub fn is_configuration(error: &str, code: u32) -> bool {
    match code {
        28000
        | 28003
        | 50011
        | 50059
        | 90002
        | 70001
        | 70002
        | 70011
        | 90009
        | 500_011
        | 650_053
        | 700_016
        | 700_021..=700_025
        | 700_027
        | 700_030
        | 700_211..=700_213
        | 700_222
        | 700_236 => true,
        900_971 | 7_000_112 | 7_000_114 | 7_000_215 | 7_000_216 | 7_000_218 | 7_000_222 | 9_010_010 => true,
        _ => matches!(error, "invalid_client" | "unauthorized_client" | "invalid_scope" | "invalid_resource"),
    }
}

const NOT_SET_UP: &str = "The server is not set up correctly at Microsoft Entra ID: ask its operator.";

/// The error codes of OAuth and OpenID Connect, and those that Entra ID adds.
const KNOWN: [&str; 21] = [
    "access_denied",
    "account_selection_required",
    "authorization_declined",
    "authorization_pending",
    "bad_verification_code",
    "consent_required",
    "expired_token",
    "interaction_required",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_resource",
    "invalid_scope",
    "invalid_target",
    "login_required",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_response_type",
];

/// The error code, if it is a known one.
pub fn known(error: &str) -> Option<&'static str> {
    KNOWN.into_iter().find(|known| *known == error)
}

fn oauth_advice(error: &str) -> String {
    match error {
        "access_denied" | "authorization_declined" => "The sign-in was declined.".to_owned(),
        "expired_token" => "The code expired before the sign-in was finished: start again.".to_owned(),
        "invalid_grant" | "interaction_required" | "login_required" => {
            "The session has ended: sign in again.".to_owned()
        }
        "consent_required" => "Consent is missing: sign in again and consent.".to_owned(),
        "invalid_client" | "unauthorized_client" => {
            "Microsoft Entra ID does not accept the application: check the client id and its credential.".to_owned()
        }
        "temporarily_unavailable" | "server_error" => {
            "Microsoft Entra ID is not available now: try again later.".to_owned()
        }
        // The value comes from outside: it is shown only if it is a plain OAuth error code (RFC 6749 section 5.2).
        other if other.len() <= 64 && other.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
            format!("Microsoft Entra ID refused the sign-in ({other}).")
        }
        _ => "Microsoft Entra ID refused the sign-in.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_at_the_start_and_in_the_middle_of_a_description() {
        assert_eq!(number_in("AADSTS65001: The user has not consented"), Some(65001));
        assert_eq!(number_in("x (AADSTS7000215) y"), Some(7_000_215));
        assert_eq!(number_in("no code here"), None);
        assert_eq!(number_in("AADSTS99999999999999"), None);
    }

    #[test]
    fn a_known_code_says_what_to_do_and_names_itself() {
        let advice = advice("invalid_grant", 65001);
        assert!(advice.starts_with("Consent is missing"));
        assert!(advice.ends_with("(AADSTS65001)"));
    }

    #[test]
    fn an_unknown_code_falls_back_to_the_oauth_error_and_keeps_the_number() {
        assert_eq!(advice("invalid_grant", 12345), "The session has ended: sign in again. (AADSTS12345)");
    }

    #[test]
    fn a_code_decides_before_the_oauth_error_does() {
        let blocked = advice("access_denied", 53003);
        assert_eq!(
            blocked,
            "Conditional access blocks this sign-in: ask an administrator which policy applies. (AADSTS53003)"
        );
        assert_eq!(advice("access_denied", 0), "The sign-in was declined.");
        let unknown = advice("access_denied", 12345);
        assert_eq!(unknown, "Microsoft Entra ID refused the sign-in. (AADSTS12345)", "no person has decided that");
    }

    #[test]
    fn the_users_of_a_server_are_told_what_they_can_do_themselves_only() {
        assert_eq!(public_advice("invalid_grant", 53003), advice("invalid_grant", 53003));
        assert_eq!(public_advice("access_denied", 0), advice("access_denied", 0));
        assert_eq!(public_advice("invalid_client", 0), NOT_SET_UP);
        assert_eq!(public_advice("invalid_client", 7_000_299), format!("{NOT_SET_UP} (AADSTS7000299)"));
        assert_eq!(public_advice("invalid_request", 50011), format!("{NOT_SET_UP} (AADSTS50011)"));
    }

    #[test]
    fn an_error_that_is_not_a_plain_code_is_not_repeated() {
        assert_eq!(advice("<script>", 0), "Microsoft Entra ID refused the sign-in.");
        assert_eq!(advice("odd_error", 0), "Microsoft Entra ID refused the sign-in (odd_error).");
    }
}
