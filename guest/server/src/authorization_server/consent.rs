//! What people have consented to, remembered so that the same question is not asked again.
//!
//! A consent is for one person, one client, these scopes, this redirect URI and the tools that there were. It is never
//! remembered for a redirect to the person's own machine (RFC 8252 section 8.6; MCP's "Localhost Redirect URI Risks"). Any
//! program there can name the client and listen on a port, or claim a scheme, so it may be another one that asks again. For an https redirect the code goes where it went before, whichever program asks.

use std::time::Duration;

use serde_json::json;
use world::StoreError;
use world::records::{Namespace, Partition, Ttl};

use super::browser::RememberedUser;
use super::client::Client;
use super::offer::{self, Offered};
use super::redirect_uri;
use crate::server_world::ServerWorld;

/// How long a consent is remembered.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// Consents by [`Consent::key`]. What one holds says nothing.
const CONSENTS: Namespace<u8> =
    Namespace::json(Partition::AuthorizationServer, "consent", Ttl::For(LIFETIME)).hashed().absent_if_unreadable();

/// That a person has consented and was sent to this client at this redirect URI, by [`RememberedUser::key`] and
/// [`redirect`].
const REDIRECTS: Namespace<()> =
    Namespace::marks(Partition::AuthorizationServer, "consent-redirect", Ttl::For(LIFETIME)).hashed();

/// A consent: the person that gave it, the client it is for, what the client may do, and where the answer goes.
#[derive(Debug, Clone, Copy)]
pub struct Consent<'a> {
    /// The person that gives it.
    pub user: &'a RememberedUser,
    /// The client that it is for.
    pub client: &'a Client,
    /// What is allowed, in the short form. The order has no meaning.
    pub scopes: &'a [String],
    /// Where the code is sent.
    pub redirect_uri: &'a str,
    /// Where the client wants to go with it: a resource of this server.
    pub resource: &'a str,
}

/// Whether the consent was given within the last 90 days and may stand in for the page. Never for a redirect to
/// the person's own machine.
///
/// The page may be skipped only if the same person then signs in: compare the account at the callback with
/// [`super::browser::Browser::remembered_user`], or ask here again for the person who did sign in.
pub async fn is_remembered(env: &ServerWorld<'_>, consent: &Consent<'_>) -> Result<bool, StoreError> {
    if redirect_uri::leads_to_a_program(consent.redirect_uri) {
        return Ok(false);
    }
    let [user, what] = consent.key(env).await;
    // One that cannot be read is none: the person is asked.
    env.entra.records.exists(&CONSENTS, &[user.as_str(), &what]).await
}

/// Remembers a consent, once the person who gave it has signed in. Does nothing where it must not be remembered.
pub async fn remember(env: &ServerWorld<'_>, consent: &Consent<'_>) -> Result<(), StoreError> {
    if redirect_uri::leads_to_a_program(consent.redirect_uri) {
        return Ok(());
    }
    let [user, what] = consent.key(env).await;
    env.entra.records.put(&CONSENTS, &[user.as_str(), &what], &1).await?;
    let redirect = redirect(consent.client, consent.redirect_uri);
    env.entra.records.put(&REDIRECTS, &[user.as_str(), &redirect], &()).await
}

/// Whether the person has consented to whatever the client asked for, within the last 90 days, and was sent to this
/// redirect URI then. It stands in for no page of consent; it says that an error may go there.
pub async fn is_redirect_known(
    env: &ServerWorld<'_>,
    user: &RememberedUser,
    client: &Client,
    redirect_uri: &str,
) -> Result<bool, StoreError> {
    let redirect = redirect(client, redirect_uri);
    env.entra.records.exists(&REDIRECTS, &[user.key().as_str(), &redirect]).await
}

/// As JSON, in which no part can pass for another.
fn redirect(client: &Client, redirect_uri: &str) -> String {
    json!([client.client_id, redirect_uri]).to_string()
}

impl RememberedUser {
    fn key(&self) -> String {
        json!([self.tenant_id, self.object_id]).to_string()
    }
}

/// Forgets a consent.
pub async fn forget(env: &ServerWorld<'_>, consent: &Consent<'_>) -> Result<(), StoreError> {
    let [user, what] = consent.key(env).await;
    env.entra.records.delete(&REDIRECTS, &[user.as_str(), &redirect(consent.client, consent.redirect_uri)]).await?;
    env.entra.records.delete(&CONSENTS, &[user.as_str(), &what]).await
}

impl Consent<'_> {
    /// The record is named after all of it, as JSON, in which no part can pass for another.
    async fn key(&self, env: &ServerWorld<'_>) -> [String; 2] {
        let mut scopes: Vec<&str> = self.scopes.iter().map(String::as_str).collect();
        scopes.sort_unstable();
        scopes.dedup();
        let offered = offer::of(env, self.resource).await;
        let tools: Vec<&str> = offered.iter().map(Offered::name).collect();
        let what = json!([self.client.client_id, scopes, self.redirect_uri, tools]);
        [self.user.key(), what.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use base::policy::{Rule, ToolRule};
    use world::testing::{PUBLIC_URL, World, run};

    use super::*;
    use crate::authorization_server::client::ClientOrigin;
    use crate::testing::{ServerWorlds as _, configure};

    const REDIRECT: &str = "https://app.example.com/callback";

    fn user(object_id: &str) -> RememberedUser {
        RememberedUser { tenant_id: "tenant".to_owned(), object_id: object_id.to_owned() }
    }

    fn client(client_id: &str) -> Client {
        Client {
            client_id: client_id.to_owned(),
            name: None,
            origin: ClientOrigin::Registration,
            redirect_uris: vec![REDIRECT.to_owned(), "https://app.example.com/other".to_owned()],
            secret_hash: None,
        }
    }

    fn scopes(scopes: &[&str]) -> Vec<String> {
        scopes.iter().map(|scope| (*scope).to_owned()).collect()
    }

    #[test]
    fn a_consent_is_remembered_for_ninety_days() {
        let world = World::default();
        let env = world.remote();
        let (user, client, scopes) = (user("alice"), client("a"), scopes(&["User.Read"]));
        let consent =
            Consent { user: &user, client: &client, scopes: &scopes, redirect_uri: REDIRECT, resource: PUBLIC_URL };
        assert_eq!(run(is_remembered(&env, &consent)), Ok(false));
        run(remember(&env, &consent)).unwrap();
        assert_eq!(run(is_remembered(&env, &consent)), Ok(true));
        world.advance(LIFETIME - Duration::from_secs(1));
        assert_eq!(run(is_remembered(&env, &consent)), Ok(true));
        world.advance(Duration::from_secs(1));
        assert_eq!(run(is_remembered(&env, &consent)), Ok(false));
    }

    #[test]
    fn a_consent_is_for_this_person_client_scopes_and_redirect_only() {
        let env = World::default().remote();
        let (alice, bob) = (user("alice"), user("bob"));
        let (one, other) = (client("one"), client("other"));
        let (little, much) = (scopes(&["User.Read"]), scopes(&["User.Read", "Mail.Read"]));
        let given =
            Consent { user: &alice, client: &one, scopes: &little, redirect_uri: REDIRECT, resource: PUBLIC_URL };
        run(remember(&env, &given)).unwrap();
        for another in [
            Consent { user: &bob, ..given },
            Consent { client: &other, ..given },
            Consent { scopes: &much, ..given },
            Consent { scopes: &[], ..given },
            Consent { redirect_uri: "https://app.example.com/other", ..given },
        ] {
            assert_eq!(run(is_remembered(&env, &another)), Ok(false), "{another:?}");
        }
        assert_eq!(run(is_remembered(&env, &given)), Ok(true));
    }

    #[test]
    fn who_has_consented_to_some_tools_is_asked_again_when_there_are_others() {
        let mut env = World::default().remote();
        let (user, client, scopes) = (user("alice"), client("a"), scopes(&["User.Read"]));
        let consent =
            Consent { user: &user, client: &client, scopes: &scopes, redirect_uri: REDIRECT, resource: PUBLIC_URL };
        let only = |tool: &'static str| Some(vec![ToolRule::for_tool(tool, Rule::users())]);
        configure(&mut env, |http| http.access = only("getUserDetails"));
        run(remember(&env, &consent)).unwrap();
        assert_eq!(run(is_remembered(&env, &consent)), Ok(true));
        configure(&mut env, |http| http.access = only("listMyGroups"));
        assert_eq!(run(is_remembered(&env, &consent)), Ok(false));
    }

    #[test]
    fn a_redirect_is_known_to_the_person_who_was_sent_there_whatever_the_scopes() {
        let world = World::default();
        let env = world.remote();
        let (alice, bob) = (user("alice"), user("bob"));
        let (one, other) = (client("one"), client("other"));
        let much = scopes(&["User.Read", "Mail.Read"]);
        let given = Consent { user: &alice, client: &one, scopes: &much, redirect_uri: REDIRECT, resource: PUBLIC_URL };
        let known = |user, client, redirect_uri| run(is_redirect_known(&env, user, client, redirect_uri)).unwrap();
        assert!(!known(&alice, &one, REDIRECT));
        run(remember(&env, &given)).unwrap();
        assert!(known(&alice, &one, REDIRECT));
        assert!(!known(&bob, &one, REDIRECT) && !known(&alice, &other, REDIRECT));
        assert!(!known(&alice, &one, "https://app.example.com/other"));
        world.advance(LIFETIME);
        assert!(!known(&alice, &one, REDIRECT));
        run(remember(&env, &given)).unwrap();
        run(forget(&env, &given)).unwrap();
        assert!(!known(&alice, &one, REDIRECT));
    }

    #[test]
    fn the_order_of_scopes_has_no_meaning() {
        let env = World::default().remote();
        let (user, client) = (user("alice"), client("a"));
        let (one, other) = (scopes(&["A", "B"]), scopes(&["B", "A", "B"]));
        let consent =
            Consent { user: &user, client: &client, scopes: &one, redirect_uri: REDIRECT, resource: PUBLIC_URL };
        run(remember(&env, &consent)).unwrap();
        assert_eq!(run(is_remembered(&env, &Consent { scopes: &other, ..consent })), Ok(true));
    }

    #[test]
    fn a_consent_for_a_program_on_this_machine_is_never_remembered() {
        let world = World::default();
        let env = world.remote();
        let (user, client, scopes) = (user("alice"), client("a"), scopes(&["User.Read"]));
        for redirect_uri in
            ["http://localhost:1/", "http://127.0.0.1:1/", "http://[::1]:1/", "https://localhost/", "cursor://x/"]
        {
            let consent = Consent { user: &user, client: &client, scopes: &scopes, redirect_uri, resource: PUBLIC_URL };
            run(remember(&env, &consent)).unwrap();
            assert_eq!(run(is_remembered(&env, &consent)), Ok(false), "{redirect_uri}");
        }
        assert_eq!(world.record_names(), [""; 0]);
    }

    #[test]
    fn a_consent_can_be_forgotten() {
        let env = World::default().remote();
        let (user, client, scopes) = (user("alice"), client("a"), scopes(&["User.Read"]));
        let consent =
            Consent { user: &user, client: &client, scopes: &scopes, redirect_uri: REDIRECT, resource: PUBLIC_URL };
        run(remember(&env, &consent)).unwrap();
        run(forget(&env, &consent)).unwrap();
        assert_eq!(run(is_remembered(&env, &consent)), Ok(false));
    }

    #[test]
    fn the_name_of_a_record_fits_the_store_and_tells_nothing() {
        let world = World::default();
        let env = world.remote();
        let (user, client) = (user(&"alice".repeat(100)), client(&format!("https://{}", "x".repeat(2000))));
        let consent =
            Consent { user: &user, client: &client, scopes: &[], redirect_uri: REDIRECT, resource: PUBLIC_URL };
        run(remember(&env, &consent)).unwrap();
        let names = world.record_names();
        assert!(names.iter().all(|name| name.len() < 512 && !name.contains("alice")), "{names:?}");
    }
}
