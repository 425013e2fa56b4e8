//! Tokens for Microsoft Graph, of one session.

use async_trait::async_trait;
use base::Secret;
use entra::graph::{GraphChallenge, GraphError, TokenSource};
use entra::{AcquireError, EntraWorld};

use super::entra_tokens::{self, Scope, Wanted};
use super::{Session, lifecycle};

/// Gives tokens for Graph, in the name of the person of `session`. `scope` is one of Graph's, in the qualified form.
///
/// The tokens are the session's own, refreshed when they are about to expire or were refused. They fail with
/// `GraphError::Token(AcquireError::NeedsPerson { .. })` when Entra ID wants the person again. The session has ended
/// then, and its client has to sign in: answer 401 with a challenge. With `AcquireError::StepUp`, an API other than Graph
/// wants the person, and the session goes on.
pub fn tokens<'a>(env: &'a EntraWorld<'a>, session: &'a Session, scope: String) -> SessionTokens<'a> {
    SessionTokens { env, session, scope: Scope::of(env.settings, scope) }
}

/// See [`tokens`].
pub struct SessionTokens<'a> {
    env: &'a EntraWorld<'a>,
    session: &'a Session,
    scope: Scope,
}

#[async_trait(?Send)]
impl TokenSource for SessionTokens<'_> {
    type Error = AcquireError;

    async fn token(&self, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, GraphError> {
        let Self { env, session, .. } = *self;
        let (owner, wanted) = (session.owner(), challenge.map_or(Wanted::Live, Wanted::Other));
        let live = entra_tokens::live_for(env, &session.id, &owner, &self.scope, wanted).await?;
        lifecycle::note(&env.records, session, &live.membership).await;
        Ok(live.access_token)
    }

    async fn unsatisfied(&self, challenge: &GraphChallenge) -> Option<GraphError> {
        let Self { env, session, .. } = *self;
        let ended = entra_tokens::unsatisfied(env, &session.id, &session.owner(), &self.scope, challenge).await;
        Some(ended.unwrap_or_else(|error| error).into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use entra::AcquireError;
    use entra::testing::EntraWorlds as _;
    use serde_json::{Value, json};
    use world::testing::{self, World, run};

    use super::super::entra_tokens::EntraTokens;
    use super::super::{Owner, lifecycle};
    use super::*;

    const RESOURCE: &str = "https://mcp.example.com/mcp";
    const GROUPS: &str = "https://graph.microsoft.com/GroupMember.Read.All";
    const PROFILE: &str = "https://graph.microsoft.com/User.Read";

    struct Lab {
        world: World,
        env: EntraWorld<'static>,
        session: Session,
    }

    impl Lab {
        /// A session whose first tokens live for 4000 seconds.
        fn new() -> Self {
            Self::with(Some("refresh-1"))
        }

        fn with(refresh_token: Option<&str>) -> Self {
            let world = World::default();
            let env = world.entra_remote();
            let tokens = EntraTokens {
                access_token: Secret::from("profile-1"),
                expires_at: env.clock.now() + 4000,
                refresh_token: refresh_token.map(Secret::from),
                membership: Default::default(),
            };
            let owner = Owner {
                client_id: "client".to_owned(),
                tenant_id: "tenant".to_owned(),
                object_id: "object".to_owned(),
            };
            let scopes = vec!["User.Read".to_owned()];
            let beginning =
                lifecycle::Beginning { owner, resource: RESOURCE.to_owned(), scopes, tokens, username: None };
            let (_, begun) = run(lifecycle::begin(&env, beginning)).unwrap();
            let session = run(super::super::authenticate(&env, &begun.access_token, &[RESOURCE])).unwrap();
            Self { world, env, session }
        }

        fn token(&self, scope: &str, challenge: Option<&GraphChallenge>) -> Result<String, GraphError> {
            run(tokens(&self.env, &self.session, scope.to_owned()).token(challenge)).map(|token| token.reveal().clone())
        }

        /// Entra ID answers the next refresh with these tokens, each called by its number.
        fn grant(&self, number: u32) {
            let body = json!({
                "token_type": "Bearer", "access_token": format!("access-{number}"), "expires_in": 4000,
                "refresh_token": format!("refresh-{number}"),
            });
            self.world.once(move |_| Ok(testing::json(200, &body)));
        }

        fn refuse(&self, body: Value) {
            self.world.once(move |_| Ok(testing::json(400, &body)));
        }

        /// The refresh token and the scope of each request to Entra ID.
        fn asked(&self) -> Vec<(String, String)> {
            let bodies = self.world.sent_bodies().into_iter();
            let parameters = bodies.map(|body| {
                let find = |name: &str| {
                    let mut pairs = url::form_urlencoded::parse(body.as_bytes());
                    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
                };
                (find("refresh_token"), find("scope"))
            });
            parameters.collect()
        }
    }

    #[test]
    fn a_token_for_more_is_got_by_the_refresh_token_and_kept_beside_the_first() {
        let lab = Lab::new();
        lab.grant(2);
        for _ in 0..2 {
            assert_eq!(lab.token(GROUPS, None), Ok("access-2".to_owned()));
            assert_eq!(lab.token(PROFILE, None), Ok("profile-1".to_owned()), "it is another one's");
        }
        assert_eq!(lab.asked(), [("refresh-1".to_owned(), format!("{GROUPS} openid profile offline_access"))]);
        // Near their end both are refreshed, each with the refresh token that came last.
        lab.world.advance(Duration::from_secs(3900));
        lab.grant(3);
        lab.grant(4);
        assert_eq!(lab.token(PROFILE, None), Ok("access-3".to_owned()));
        assert_eq!(lab.token(GROUPS, None), Ok("access-4".to_owned()));
        let used: Vec<_> = lab.asked().into_iter().map(|(refresh, _)| refresh).collect();
        assert_eq!(used, ["refresh-1", "refresh-2", "refresh-3"]);
    }

    #[test]
    fn a_refused_token_is_replaced_and_the_others_stay() {
        let lab = Lab::new();
        lab.grant(2);
        assert_eq!(lab.token(GROUPS, None), Ok("access-2".to_owned()));
        lab.grant(3);
        let challenge = GraphChallenge { refused: Secret::from("access-2"), claims: None };
        assert_eq!(lab.token(GROUPS, Some(&challenge)), Ok("access-3".to_owned()));
        assert_eq!(lab.token(PROFILE, None), Ok("profile-1".to_owned()));
    }

    #[test]
    fn a_missing_consent_is_remembered_for_five_seconds_and_the_session_goes_on() {
        let lab = Lab::new();
        for _ in 0..2 {
            let before = lab.world.sent().len();
            lab.refuse(json!({ "error": "invalid_grant", "error_codes": [65001], "suberror": "consent_required" }));
            for _ in 0..3 {
                let result = lab.token(GROUPS, None);
                assert!(matches!(&result, Err(GraphError::Token(AcquireError::Refused(it))) if it.code == 65001));
            }
            assert_eq!(lab.world.sent().len(), before + 1);
            assert_eq!(lab.token(PROFILE, None), Ok("profile-1".to_owned()));
            lab.world.advance(Duration::from_secs(5));
        }
        lab.grant(2);
        assert_eq!(lab.token(GROUPS, None), Ok("access-2".to_owned()));
        let reasons: Vec<_> = lab.world.audited().into_iter().filter_map(|event| event.reason).collect();
        assert_eq!(reasons, ["aadsts-65001", "aadsts-65001"]);
    }

    #[test]
    fn a_refresh_token_that_is_revoked_ends_the_session_whatever_it_was_for() {
        for first in [GROUPS, ORDERS] {
            let lab = Lab::new();
            lab.refuse(json!({ "error": "invalid_grant", "error_codes": [50173] }));
            for scope in [first, PROFILE] {
                let result = lab.token(scope, None);
                assert!(matches!(result, Err(GraphError::Token(AcquireError::NeedsPerson { .. }))), "{scope}");
            }
            assert_eq!(lab.world.sent().len(), 1);
        }
    }

    #[test]
    fn an_entra_out_of_reach_costs_the_token_that_is_not_there_and_no_other() {
        let lab = Lab::new();
        lab.world.always(|_| Ok(testing::json(500, &json!({}))));
        assert!(matches!(lab.token(GROUPS, None), Err(GraphError::Token(AcquireError::Unavailable(_)))));
        assert_eq!(lab.token(PROFILE, None), Ok("profile-1".to_owned()));
    }

    #[test]
    fn a_session_without_a_refresh_token_has_its_profile_and_no_more() {
        let lab = Lab::with(None);
        let result = lab.token(GROUPS, None);
        assert!(
            matches!(&result, Err(GraphError::Token(AcquireError::Refused(it))) if it.needs_consent()),
            "{result:?}"
        );
        assert_eq!(lab.token(PROFILE, None), Ok("profile-1".to_owned()));
        assert_eq!(lab.world.sent(), [""; 0]);
    }

    const ORDERS: &str = "api://contoso/Orders.Read";
    const WANTED: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;

    #[test]
    fn what_another_api_wants_of_the_person_ends_no_session() {
        for refusal in [
            json!({ "error": "interaction_required", "error_codes": [50076], "claims": WANTED }),
            json!({ "error": "invalid_grant", "error_codes": [53003] }),
        ] {
            let lab = Lab::new();
            lab.refuse(refusal.clone());
            for _ in 0..3 {
                let error = lab.token(ORDERS, None).unwrap_err();
                let GraphError::Token(AcquireError::StepUp { claims, .. }) = error else { panic!("{refusal}") };
                assert_eq!(claims.as_deref(), refusal.get("claims").and_then(Value::as_str));
            }
            assert_eq!(lab.world.sent().len(), 1, "the refusal is remembered");
            assert_eq!(lab.token(PROFILE, None), Ok("profile-1".to_owned()));
            lab.grant(2);
            assert_eq!(lab.token(GROUPS, None), Ok("access-2".to_owned()), "the session goes on for Graph");
            assert!(lab.world.audited().iter().all(|event| event.name != "session.revoked"));
            let wanted = run(super::super::claims::wanted(&lab.env.records, &lab.session.owner())).unwrap();
            assert_eq!(wanted.as_deref(), refusal.get("claims").and_then(Value::as_str));
        }
    }

    #[test]
    fn a_challenge_of_another_api_that_stays_is_for_the_next_sign_in() {
        let lab = Lab::new();
        lab.grant(2);
        assert_eq!(lab.token(ORDERS, None), Ok("access-2".to_owned()));
        let challenge = GraphChallenge { refused: Secret::from("access-2"), claims: Some(WANTED.to_owned()) };
        lab.refuse(json!({ "error": "interaction_required", "error_codes": [50079] }));
        let error = lab.token(ORDERS, Some(&challenge)).unwrap_err();
        let GraphError::Token(AcquireError::StepUp { claims: Some(claims), .. }) = error else { panic!() };
        assert_eq!(claims, WANTED);
        let error = run(tokens(&lab.env, &lab.session, ORDERS.to_owned()).unsatisfied(&challenge)).unwrap();
        assert!(matches!(error, GraphError::Token(AcquireError::StepUp { .. })));
        assert_eq!(lab.token(PROFILE, None), Ok("profile-1".to_owned()));
        let wanted = run(super::super::claims::wanted(&lab.env.records, &lab.session.owner())).unwrap();
        assert_eq!(wanted.as_deref(), Some(WANTED));
    }

    #[test]
    fn without_a_refresh_token_a_challenge_of_another_api_ends_no_session() {
        let lab = Lab::with(None);
        let challenge = GraphChallenge { refused: Secret::from("any"), claims: Some(WANTED.to_owned()) };
        let error = lab.token(ORDERS, Some(&challenge)).unwrap_err();
        assert!(matches!(error, GraphError::Token(AcquireError::StepUp { .. })));
        assert_eq!(lab.token(PROFILE, None), Ok("profile-1".to_owned()));
    }

    #[test]
    fn an_account_that_another_api_does_not_know_is_refused_and_the_session_goes_on() {
        let lab = Lab::new();
        lab.refuse(json!({ "error": "invalid_grant", "error_codes": [50105] }));
        let error = lab.token(ORDERS, None).unwrap_err();
        assert!(matches!(error, GraphError::Token(AcquireError::Refused(it)) if it.code == 50105));
        assert_eq!(lab.token(PROFILE, None), Ok("profile-1".to_owned()));
    }

    #[test]
    fn a_session_ends_when_graph_refuses_the_newest_token_for_more_as_well() {
        let lab = Lab::new();
        lab.grant(2);
        assert_eq!(lab.token(GROUPS, None), Ok("access-2".to_owned()));
        for (refused, ends) in [("profile-1", false), ("an older one", false), ("access-2", true)] {
            let challenge = GraphChallenge { refused: Secret::from(refused), claims: Some("{}".to_owned()) };
            assert!(run(tokens(&lab.env, &lab.session, GROUPS.to_owned()).unsatisfied(&challenge)).is_some());
            let ended = lab.world.audited().iter().any(|event| event.name == "session.revoked");
            assert_eq!(ended, ends, "{refused}");
        }
    }
}
