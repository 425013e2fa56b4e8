//! The groups of a user whose token does not list them: `POST /users/{id}/getMemberObjects`.
//!
//! Graph is asked with a token of the application in the user's own tenant, at the configured address. The token
//! that is being validated is not sent anywhere, and the address that it names for its groups is not looked at.
//!
//! Threat: the holder of a genuine token decides how often a validation asks. Answers are remembered for five minutes
//! and failures for five seconds, in the store. One call asks, once, while the others wait for two seconds: a slow or
//! throttled Graph must not hold an instance for each call of one caller. Where callers are bounded, each question counts.

use std::time::Duration;

use async_trait::async_trait;
use base::principal::{Principal, PrincipalKind};
use base::settings::Settings;
use base::{Identity, Secret};
use serde::Deserialize;
use serde_json::json;
use world::BodyOnce;
use world::once::{Failure, OnceError as _, Policy, once};
use world::records::{Namespace, Partition, Ttl};
use world::{Clock, RateLimiter, StoreError, limits};
use zeroize::Zeroizing;

use super::app_token::AppTokens;
use super::client::{self, GraphChallenge, TokenSource};
use super::error::{Evidence, GraphError};
use crate::acquire::AcquireError;
use crate::entra_world::EntraWorld;
use crate::tenants::is_guid;
use crate::token::GroupResolver;

/// How long an answer is remembered, and with it how long a change of membership may go unnoticed.
const CACHE: Duration = Duration::from_secs(300);

/// A longer wait that Graph asks for is cut to this, so that a broken answer cannot turn all callers away for days.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How the calls of one caller share a question. It is asked once, without retries, so it does not take long.
const POLICY: Policy = Policy { lease: Duration::from_secs(10), patience: Duration::from_secs(2), ..Policy::ANSWER };

/// Questions to Graph of one caller, as an operation of the rate limiter.
const GRAPH_REQUEST: &str = "graph-request";

/// The most that Graph lists; for a user in more groups it answers with an error. The answer then has 430 KB, the
/// record 176 KB: below the limits of a response (1 MiB) and of a record (256 KiB).
const MAX_GROUPS: usize = 11_000;

/// By the address of Graph, application, tenant and object.
const GROUPS: Namespace<GroupIds> =
    Namespace::with_encoding(Partition::Store, "groups", Ttl::For(CACHE), GroupIds::encode, GroupIds::decode)
        .absent_if_unreadable();
/// When Graph may be asked again that has asked to wait, by its address, application, tenant and object. Unix time in
/// seconds.
const THROTTLED: Namespace<u64> =
    Namespace::json(Partition::Store, "groups-throttled", Ttl::Kept).absent_if_unreadable();

/// Asks Graph as the application.
struct GraphGroupResolver;

/// How groups in overage are resolved: not at all by a public client, which has no token of its own.
pub fn resolver(settings: &Settings) -> Option<&'static dyn GroupResolver> {
    if settings.is_public_client() { None } else { Some(&GraphGroupResolver) }
}

#[async_trait(?Send)]
impl GroupResolver for GraphGroupResolver {
    async fn groups(&self, env: &EntraWorld<'_>, principal: &Principal) -> Result<Vec<String>, Failure> {
        let Principal { tenant_id, object_id, client_id, .. } = principal;
        let groups = of(env, principal.kind, Identity { tenant_id, object_id, client_id }, None);
        groups.await.map_err(|error| error.failure(env.clock.now()).unwrap_or_else(|| Failure::new(error.to_string())))
    }
}

/// Object ids of all groups that a user is in, transitively. Only for a confidential client. With a limiter, a question to
/// Graph counts for the user.
#[inline(never)]
pub fn of<'f>(
    env: &'f EntraWorld<'_>,
    kind: PrincipalKind,
    who: Identity<'f>,
    limiter: Option<&'f dyn RateLimiter>,
) -> BodyOnce<'f, Result<Vec<String>, GraphError>> {
    Box::pin(async move {
        let Identity { tenant_id, object_id, .. } = who;
        if kind != PrincipalKind::User {
            return Err(Failure::new("the groups of an application are not resolved").into());
        }
        // Both become parts of a URL. The validation has checked them; this is where it matters.
        if !is_guid(tenant_id) || !is_guid(object_id) {
            return Err(Failure::new("the principal is not identified by GUIDs").into());
        }
        let settings = env.settings;
        let key = [settings.graph.as_str(), &settings.client_id, tenant_id, object_id];
        let ask = async |_| ask_unless_throttled(env, who, limiter).await;
        let policy = if limiter.is_some() { &POLICY } else { &Policy::ANSWER };
        let groups: GroupIds = once(&env.records, &GROUPS, &key, policy, |_| true, ask).await?;
        Ok(groups.0)
    })
}

/// Asks, unless Graph wants to be left alone. The wait holds for the user who was asked about: what Graph counts
/// besides (the application, the tenant) another user's question finds out by itself, and one user's requests must not
/// keep the tools from all others.
async fn ask_unless_throttled(
    env: &EntraWorld<'_>,
    who: Identity<'_>,
    limiter: Option<&dyn RateLimiter>,
) -> Result<GroupIds, GraphError> {
    let Identity { tenant_id, object_id, .. } = who;
    let key = [env.settings.graph.as_str(), &env.settings.client_id, tenant_id, object_id];
    if let Some(retry_at) = env.records.get(&THROTTLED, &key).await? {
        let failure = Failure::new("Microsoft Graph has asked to wait");
        return Err(Failure { retry_at: Some(retry_at), ..failure }.into());
    }
    if let Some(limiter) = limiter
        && limits::admit_caller(limiter, env.trail, GRAPH_REQUEST, who).await.is_err()
    {
        return Err(Failure::new("the caller has asked Microsoft Graph too often").into());
    }
    let answer = ask(env, who, limiter.is_none()).await;
    if let Err(GraphError::Throttled { after: Some(after), .. }) = &answer {
        let wait = MAX_RETRY_AFTER.min(*after);
        let retry_at = env.clock.now().saturating_add(wait.as_secs());
        // A wait that cannot be remembered costs a request.
        let _ = env.records.put(&THROTTLED.kept_for(wait), &key, &retry_at).await;
    }
    answer
}

/// The application's tokens. A question that a remote caller causes is not repeated: what Graph cannot answer now is
/// remembered as a failure.
struct GroupTokens<'a> {
    tokens: AppTokens<'a>,
    is_patient: bool,
}

#[async_trait(?Send)]
impl TokenSource for GroupTokens<'_> {
    type Error = AcquireError;

    async fn token(&self, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, GraphError> {
        self.tokens.token(challenge).await
    }

    async fn forbidden(&self) {
        self.tokens.forbidden().await;
    }

    async fn wait(&self, clock: &dyn Clock, time: Duration) -> bool {
        self.is_patient && self.tokens.wait(clock, time).await
    }
}

async fn ask(env: &EntraWorld<'_>, who: Identity<'_>, is_patient: bool) -> Result<GroupIds, GraphError> {
    let Identity { tenant_id, object_id, .. } = who;
    #[derive(Deserialize)]
    struct GroupPage {
        value: Vec<String>,
        #[serde(rename = "@odata.nextLink")]
        next: Option<serde::de::IgnoredAny>,
    }
    let tokens = GroupTokens { tokens: AppTokens { env, tenant: tenant_id }, is_patient };
    let path = format!("/users/{object_id}/getMemberObjects");
    let answer = client::post_read_only(env, &tokens, &path, &json!({ "securityEnabledOnly": true })).await?;
    let malformed = || GraphError::Malformed(Evidence::default());
    let page = GroupPage::deserialize(answer).map_err(|_| malformed())?;
    // Graph documents one whole answer. A part of it would say of the rest that it is not there.
    if page.next.is_some() || page.value.len() > MAX_GROUPS || !page.value.iter().all(|id| is_guid(id)) {
        return Err(malformed());
    }
    Ok(GroupIds(page.value))
}

/// Object ids, stored as 16 bytes each: as text they would not fit into a record.
#[derive(Debug, PartialEq, Eq)]
struct GroupIds(Vec<String>);

impl GroupIds {
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let ids = self.0.iter().filter_map(|id| u128::from_str_radix(&id.replace('-', ""), 16).ok());
        Ok(Zeroizing::new(ids.flat_map(u128::to_be_bytes).collect()))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (ids, rest) = bytes.as_chunks::<16>();
        rest.is_empty().then(|| Self(ids.iter().map(|id| guid(u128::from_be_bytes(*id))).collect()))
    }
}

fn guid(id: u128) -> String {
    let part = |from: u32, bits: u32| (id >> from) & ((1 << bits) - 1);
    format!("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", part(96, 32), part(80, 16), part(64, 16), part(48, 16), part(0, 48))
}

#[cfg(test)]
mod tests {
    use http::Response;
    use serde_json::Value;

    use super::*;
    use crate::testing::{FakeAuthority, GROUP, OBJECT, OTHER_TENANT, TestKey, app_claims, header, sign};
    use crate::testing::{change, user_claims, with};
    use crate::token::{Requirements, TokenError, validate_access_token_with};
    use base::Secret;
    use base::principal::Groups;
    use base::settings::Mode;
    use world::testing::{TENANT, World, json as response, run};
    use world::{ClientCredential, Credential, CredentialError};

    struct TestSecret;

    impl ClientCredential for TestSecret {
        fn obtain(&self, audience: &str) -> Result<Credential, CredentialError> {
            assert!(audience.ends_with(&format!("/{TENANT}/oauth2/v2.0/token")));
            Ok(Credential::Secret(Secret::from("the-secret")))
        }

        fn replacement(&self, _: &str, _: &Credential) -> Result<Credential, CredentialError> {
            Ok(Credential::None)
        }
    }

    /// A confidential client, and a Graph that answers with this.
    fn confidential(answer: Response<Vec<u8>>) -> FakeAuthority {
        let mut authority = FakeAuthority::new();
        change(&mut authority.env, |settings| settings.mode = Mode::Validator);
        authority.env.credential = &TestSecret;
        let token = json!({ "token_type": "Bearer", "access_token": "app-token", "expires_in": 3600 });
        authority.publish("/oauth2/v2.0/token", response(200, &token));
        authority.publish("/getMemberObjects", answer);
        authority
    }

    fn listing(groups: &[&str]) -> Response<Vec<u8>> {
        response(200, &json!({ "value": groups }))
    }

    fn overage(claims: Value) -> Value {
        let elsewhere = json!({ "src1": { "endpoint": "https://attacker.example/getMemberObjects" } });
        with(claims, json!({ "_claim_names": { "groups": "src1" }, "_claim_sources": elsewhere }))
    }

    fn validate(authority: &FakeAuthority, claims: Value) -> Result<(), TokenError> {
        let env = &authority.env;
        let token = sign(&header("RS256", "rsa"), &claims, &TestKey::named("rsa"));
        let needs = Requirements { any_group: vec![GROUP.to_owned()], ..Requirements::default() };
        run(validate_access_token_with(env, &token, &needs, resolver(env.settings))).map(drop)
    }

    fn user(authority: &FakeAuthority) -> Result<(), TokenError> {
        validate(authority, overage(user_claims()))
    }

    /// What was sent to others than the metadata and the keys: request and body.
    fn asked(world: &World) -> Vec<(String, String)> {
        let all = world.sent().into_iter().zip(world.sent_bodies());
        all.filter(|(request, _)| request.starts_with("POST ")).collect()
    }

    fn unavailable(reason: &str) -> Result<(), TokenError> {
        Err(TokenError::GroupsUnavailable { reason: reason.to_owned(), retry_after: None })
    }

    #[test]
    fn graph_is_asked_with_a_token_of_the_application_and_the_claim_is_not_followed() {
        let authority = confidential(listing(&[OTHER_TENANT, GROUP]));
        assert_eq!(user(&authority), Ok(()));
        let asked = asked(&authority.world);
        let [(token_request, form), (question, body)] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!(*token_request, format!("POST https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"));
        for parameter in [
            "grant_type=client_credentials",
            "client_secret=the-secret",
            "scope=https%3A%2F%2Fgraph.microsoft.com%2F.default",
        ] {
            assert!(form.split('&').any(|given| given == parameter), "{form}");
        }
        assert_eq!(*question, format!("POST https://graph.microsoft.com/v1.0/users/{OBJECT}/getMemberObjects"));
        assert_eq!(body, r#"{"securityEnabledOnly":true}"#);
        assert!(!authority.world.sent().iter().any(|sent| sent.contains("attacker")));
    }

    #[test]
    fn an_answer_is_remembered_for_this_user_only() {
        let authority = confidential(listing(&[GROUP]));
        assert_eq!((user(&authority), user(&authority)), (Ok(()), Ok(())));
        assert_eq!(asked(&authority.world).len(), 2);
        authority.publish("/getMemberObjects", listing(&[]));
        let other = with(overage(user_claims()), json!({ "oid": OTHER_TENANT }));
        assert_eq!(validate(&authority, other), Err(TokenError::GroupsMissing { any_of: vec![GROUP.to_owned()] }));
        assert_eq!(asked(&authority.world).len(), 3, "the application's token is still good");
    }

    /// Otherwise a user who was removed from a group would be a member for as long as Graph is out of reach.
    #[test]
    fn an_answer_counts_for_five_minutes_whether_or_not_graph_can_be_asked_again() {
        let authority = confidential(listing(&[GROUP]));
        assert_eq!(user(&authority), Ok(()));
        authority.publish("/getMemberObjects", response(400, &json!({})));
        authority.world.advance(Duration::from_secs(299));
        assert_eq!(user(&authority), Ok(()));
        authority.world.advance(Duration::from_secs(1));
        assert!(matches!(user(&authority), Err(TokenError::GroupsUnavailable { .. })));
    }

    #[test]
    fn a_token_about_to_expire_is_used_while_entra_is_out_of_reach() {
        let authority = confidential(listing(&[GROUP]));
        assert_eq!(user(&authority), Ok(()));
        authority.publish("/oauth2/v2.0/token", response(500, &json!({})));
        authority.world.advance(Duration::from_secs(3300));
        assert_eq!(user(&authority), Ok(()));
        authority.world.advance(Duration::from_secs(300));
        let reason = "there is no token to ask Microsoft Graph with: Microsoft Entra ID is not available now \
                      (HTTP status 500); try again later";
        assert_eq!(user(&authority), unavailable(reason));
    }

    #[test]
    fn a_public_client_and_an_applications_token_ask_nothing() {
        let mut authority = confidential(listing(&[GROUP]));
        assert_eq!(
            validate(&authority, overage(app_claims())),
            unavailable("the groups of an application are not resolved")
        );
        change(&mut authority.env, |settings| settings.mode = Mode::Local(world::testing::local_settings()));
        let reason = "the token's groups are in overage and nothing resolves them";
        assert_eq!(user(&authority), unavailable(reason));
        assert_eq!(asked(&authority.world), []);
    }

    #[test]
    fn an_id_that_is_not_a_guid_never_gets_into_a_url() {
        let authority = confidential(listing(&[GROUP]));
        let principal = |tenant_id: &str, object_id: &str| Principal {
            tenant_id: tenant_id.to_owned(),
            object_id: object_id.to_owned(),
            subject: "s".to_owned(),
            client_id: OBJECT.to_owned(),
            kind: PrincipalKind::User,
            scopes: Vec::new(),
            roles: Vec::new(),
            groups: Groups::Overage,
            issued_at: 0,
            expires_at: u64::MAX,
            guest: false,
            agent: None,
            contexts: Vec::new(),
            token_version: 2,
            token_id: None,
        };
        for principal in [principal("..", OBJECT), principal(TENANT, "../me"), principal(TENANT, "o?x=")] {
            assert!(run(GraphGroupResolver.groups(&authority.env, &principal)).is_err());
        }
        assert_eq!(asked(&authority.world), []);
    }

    #[test]
    fn what_is_not_a_whole_list_of_ids_grants_nothing() {
        let many: Vec<&str> = vec![GROUP; MAX_GROUPS + 1];
        for body in [
            json!({ "value": [GROUP], "@odata.nextLink": "https://graph.microsoft.com/v1.0/next" }),
            json!({ "value": [GROUP, "x"] }),
            json!({ "value": [GROUP, 1] }),
            json!({ "value": many }),
            json!({}),
        ] {
            let authority = confidential(response(200, &body));
            assert!(matches!(user(&authority), Err(TokenError::GroupsUnavailable { .. })));
        }
        assert_eq!(user(&confidential(listing(&many[1..]))), Ok(()));
    }

    #[test]
    fn a_throttled_graph_is_left_alone_by_all_calls_for_as_long_as_it_asks() {
        let mut throttled = response(429, &json!({}));
        throttled.headers_mut().insert("retry-after", http::HeaderValue::from_static("60"));
        let authority = confidential(throttled);
        assert!(matches!(user(&authority), Err(TokenError::GroupsUnavailable { .. })));
        authority.publish("/getMemberObjects", listing(&[GROUP]));
        authority.world.advance(Duration::from_secs(6));
        for (seconds, left) in [(0, 54), (48, 6)] {
            authority.world.advance(Duration::from_secs(seconds));
            let reason = "Microsoft Graph has asked to wait".to_owned();
            let waits = Err(TokenError::GroupsUnavailable { reason, retry_after: Some(left) });
            assert_eq!(validate(&authority, overage(user_claims())), waits);
        }
        assert_eq!(asked(&authority.world).len(), 2);
        // Another user's question is not held up.
        let other = with(overage(user_claims()), json!({ "oid": OTHER_TENANT }));
        assert_eq!(validate(&authority, other), Ok(()));
        authority.world.advance(Duration::from_secs(6));
        assert_eq!(user(&authority), Ok(()));
    }

    /// Each retry would hold an instance, for each call of the caller. A validator, which has no remote callers, tries
    /// again.
    #[test]
    fn a_question_of_a_remote_caller_is_asked_once_and_waits_for_nothing() {
        for (status, wait) in [(429, Some("2")), (429, None), (503, Some("2")), (504, None)] {
            let mut answer = response(status, &json!({}));
            if let Some(wait) = wait {
                answer.headers_mut().insert("retry-after", http::HeaderValue::from_static(wait));
            }
            let authority = confidential(answer);
            let before = authority.world.elapsed();
            let who = Identity { tenant_id: TENANT, object_id: OBJECT, client_id: "client" };
            let groups = run(of(&authority.env, PrincipalKind::User, who, Some(&authority.world)));
            assert!(groups.is_err(), "{status}");
            assert_eq!(asked(&authority.world).len(), 2, "{status}");
            assert_eq!(authority.world.elapsed(), before, "{status}");
            let throttled = authority.world.record_names().iter().any(|name| name.contains("groups-throttled"));
            assert_eq!(throttled, status == 429 && wait.is_some());
        }
        assert_eq!(POLICY.patience, Duration::from_secs(2));
    }

    #[test]
    fn a_question_counts_for_the_caller_and_an_answer_that_is_remembered_does_not() {
        let authority = confidential(listing(&[GROUP]));
        let who = Identity { tenant_id: TENANT, object_id: OBJECT, client_id: "client" };
        let groups = || run(of(&authority.env, PrincipalKind::User, who, Some(&authority.world)));
        authority.world.bound(GRAPH_REQUEST, 1, Duration::from_secs(900));
        assert_eq!((groups(), groups()), (Ok(vec![GROUP.to_owned()]), Ok(vec![GROUP.to_owned()])));
        authority.world.advance(CACHE);
        assert_eq!(groups().unwrap_err().to_string(), "the caller has asked Microsoft Graph too often");
        let counted = authority.world.counted();
        assert!(counted.contains(&(GRAPH_REQUEST.to_owned(), format!("{TENANT}/{OBJECT}"))), "{counted:?}");
        assert_eq!(asked(&authority.world).len(), 2);
    }

    #[test]
    fn a_pause_that_entra_id_asks_for_reaches_the_calls_that_have_not_asked() {
        let authority = confidential(listing(&[GROUP]));
        let mut busy = response(429, &json!({}));
        busy.headers_mut().insert("retry-after", http::HeaderValue::from_static("60"));
        authority.publish("/oauth2/v2.0/token", busy);
        let tokens = AppTokens { env: &authority.env, tenant: TENANT };
        let token = || run(crate::graph::TokenSource::token(&tokens, None)).map(drop);
        let throttled = |seconds| {
            let error = crate::oauth::OAuthError::Throttled(Duration::from_secs(seconds));
            Err(GraphError::NoToken(crate::AcquireError::Unavailable(error)))
        };
        assert_eq!(token(), throttled(60));
        authority.world.advance(Duration::from_secs(4));
        assert_eq!(token(), throttled(56), "as the remembered failure says");
        assert_eq!(asked(&authority.world).len(), 1);
    }

    #[test]
    fn a_token_whose_issue_could_not_be_recorded_is_no_failure_of_entra_id_to_any_call() {
        let authority = confidential(listing(&[GROUP]));
        authority.world.refuse_audit(true);
        let tokens = AppTokens { env: &authority.env, tenant: TENANT };
        let unrecorded = || GraphError::NoToken(crate::AcquireError::Unrecorded(world::Unrecorded));
        for _ in 0..2 {
            assert_eq!(run(crate::graph::TokenSource::token(&tokens, None)).map(drop), Err(unrecorded()));
        }
        assert_eq!(asked(&authority.world).len(), 1);
        let failure = unrecorded().failure(0).unwrap();
        assert_eq!(GraphError::from(failure), unrecorded(), "also where groups are asked for");
    }

    #[test]
    fn a_failure_of_the_store_is_not_shared() {
        let store = || crate::AcquireError::Store(StoreError::Contended);
        for error in [GraphError::Token(store()), GraphError::NoToken(store())] {
            assert_eq!(error.failure(0), None);
        }
    }

    #[test]
    fn stored_ids_are_the_ids_that_were_stored() {
        let ids = GroupIds([GROUP, TENANT, OBJECT, "00000000-0000-0000-0000-000000000001"].map(str::to_owned).into());
        let bytes = ids.encode().unwrap();
        assert_eq!(bytes.len(), 64);
        assert_eq!(GroupIds::decode(&bytes), Some(ids));
        assert_eq!(GroupIds::decode(&bytes[1..]), None);
    }
}
