//! Whether the application can work as it is configured: asked once, when a server starts, so that a wrong setting is not
//! first met by a person.

use base::settings::Settings;
use world::BodyOnce;

use crate::clock_offset;
use crate::entra_world::EntraWorld;
use crate::oauth::{OAuthError, client_credentials};
use crate::tenants::Tenant;
use crate::token::{self, AuthorityFault};

/// What a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A setting.
    Settings,
    /// The tenant, or the way to it: its metadata.
    Authority,
    /// Its signing keys.
    SigningKeys,
    /// What the application proves its identity with.
    ClientCredential,
    /// The clock of this machine.
    Clock,
}

/// Something that does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub about: Subject,
    /// A stable code: `aadsts-700016`, `unreachable` …
    pub code: String,
    /// A sentence for the operator.
    pub message: String,
}

/// Asks Entra ID for the metadata and the keys of the tenant and, as a confidential client, for a token of the
/// application itself. Without the tenant, nothing else is asked.
#[inline(never)]
pub fn authority<'f>(env: &'f EntraWorld<'_>) -> BodyOnce<'f, Vec<Problem>> {
    Box::pin(async move {
        let mut problems = Vec::new();
        match token::check_authority(env).await {
            Err(fault) => problems.push(of_fault(env.settings, Subject::Authority, &fault)),
            Ok(()) => {
                if let Err(fault) = token::check_keys(env).await {
                    problems.push(of_fault(env.settings, Subject::SigningKeys, &fault));
                }
                problems.extend(credential(env).await);
            }
        }
        if let Some(offset) = clock_offset::current(env) {
            let message = format!("{offset}: correct the date and time of this machine");
            problems.push(Problem { about: Subject::Clock, code: "clock-offset".to_owned(), message });
        }
        problems
    })
}

fn of_fault(settings: &Settings, about: Subject, fault: &AuthorityFault) -> Problem {
    let message = match fault {
        AuthorityFault::Refused(refusal) => refusal.advice_for(settings),
        other => other.to_string(),
    };
    Problem { about, code: fault.reason(), message }
}

/// A token of the application itself proves its id, its tenant and its credential at once. It is used for nothing.
async fn credential(env: &EntraWorld<'_>) -> Option<Problem> {
    // An authority of several tenants has none that the application is at home in.
    if env.settings.is_public_client() || !matches!(Tenant::of(&env.settings.tenant), Tenant::Id(_) | Tenant::Domain(_))
    {
        return None;
    }
    let scope = format!("{}/.default", env.settings.graph_resource);
    let error = client_credentials::request(env, &env.settings.tenant, &scope, None).await.err()?;
    let message = match &error {
        OAuthError::Refused(refusal) => refusal.advice_for(env.settings),
        other => other.to_string(),
    };
    Some(Problem { about: Subject::ClientCredential, code: error.reason(), message })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use world::HttpError;
    use world::http_error::NotConnected;
    use world::testing::{CLIENT, TENANT, json as response, run};

    use super::*;
    use crate::testing::{EntraWorlds as _, FakeAuthority, change};

    fn server() -> FakeAuthority {
        let mut authority = FakeAuthority::new();
        authority.env = authority.world.entra_remote();
        let token = json!({ "token_type": "Bearer", "access_token": "a", "expires_in": 3600 });
        authority.publish("/token", response(200, &token));
        authority
    }

    fn problems(authority: &FakeAuthority) -> Vec<(Subject, String)> {
        run(super::authority(&authority.env)).into_iter().map(|problem| (problem.about, problem.code)).collect()
    }

    #[test]
    fn a_server_that_is_set_up_has_no_problem() {
        let authority = server();
        assert_eq!(problems(&authority), []);
        assert_eq!((authority.requests("openid-configuration"), authority.key_requests()), (1, 1));
        assert!(authority.world.sent_bodies().iter().any(|body| body.contains("grant_type=client_credentials")));
    }

    #[test]
    fn a_wrong_tenant_is_named_with_the_ids() {
        let authority = server();
        let unknown = json!({ "error": "invalid_tenant", "error_description": "AADSTS90002: Tenant not found." });
        authority.publish("/v2.0/.well-known/openid-configuration", response(400, &unknown));
        let problems = run(super::authority(&authority.env));
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!((problem.about, problem.code.as_str()), (Subject::Authority, "aadsts-90002"));
        assert_eq!(
            problem.message,
            format!(
                "The tenant was not found: check the tenant id (Directory ID) in the settings. (AADSTS90002) The tenant id \
                 is {TENANT}, the client id is {CLIENT}."
            )
        );
        assert_eq!(authority.requests("/token"), 0, "nothing else is asked");
    }

    #[test]
    fn a_wrong_secret_is_found_before_a_person_meets_it() {
        let authority = server();
        let wrong = json!({ "error": "invalid_client", "error_codes": [7_000_215] });
        authority.publish("/token", response(401, &wrong));
        assert_eq!(problems(&authority), [(Subject::ClientCredential, "aadsts-7000215".to_owned())]);
    }

    #[test]
    fn an_authority_out_of_reach_is_one_problem_in_a_sentence() {
        let authority = server();
        *authority.outage.borrow_mut() = Some(HttpError::Connect(NotConnected::NameNotFound));
        let problems = run(super::authority(&authority.env));
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!((problem.about, problem.code.as_str()), (Subject::Authority, "entra-unavailable"));
        assert!(
            problem.message.starts_with("Microsoft Entra ID cannot be reached: its name was not found"),
            "{problem:?}"
        );
        // What was asked a moment ago is not asked again, and is known all the same.
        assert_eq!(run(super::authority(&authority.env)), problems);
        assert_eq!(authority.world.sent().len(), 1);
    }

    #[test]
    fn keys_that_cannot_be_used_and_a_wrong_clock_are_named() {
        let authority = server();
        let mut keys = response(200, &json!({ "keys": [] }));
        keys.headers_mut().insert("date", "Thu, 01 Jan 2026 01:00:00 GMT".parse().unwrap());
        authority.publish("/discovery/v2.0/keys", keys);
        let expected =
            [(Subject::SigningKeys, "entra-malformed".to_owned()), (Subject::Clock, "clock-offset".to_owned())];
        assert_eq!(problems(&authority), expected);
    }

    #[test]
    fn where_there_is_no_home_tenant_the_credential_is_not_tried() {
        let mut authority = server();
        change(&mut authority.env, |settings| settings.tenant = "organizations".to_owned());
        authority.publish_metadata("organizations", "{tenantid}");
        assert_eq!(problems(&authority), []);
        assert_eq!(authority.requests("/token"), 0);
    }
}
