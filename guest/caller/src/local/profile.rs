//! The profile of the person at this machine, remembered for a while.

use std::error::Error;
use std::time::Duration;

use entra::EntraWorld;
use entra::graph::{GraphError, Source, profile};
use serde_json::Value;

use super::accounts::{CachedProfile, PROFILES};

/// Reads the profile, from the cache if it is fresh enough. The cache belongs to one account: `account`, as far as it is
/// known before a token is, and then the account that `owner` names, to which the token belongs.
pub async fn me<E: Error + 'static>(
    env: &EntraWorld<'_>,
    tokens: &Source<'_, E>,
    account: Option<&str>,
    owner: impl FnOnce() -> Option<String>,
) -> Result<Value, GraphError<E>> {
    let lifetime = env.settings.profile_cache;
    if let Some(account) = account
        && let Some(profile) = cached(env, account, lifetime).await
    {
        return Ok(profile);
    }
    let profile = profile::read(env, tokens).await?;
    if !lifetime.is_zero()
        && let Some(owner) = owner()
    {
        let entry = CachedProfile { read_at: env.clock.now(), profile: profile.clone() };
        // A cache that cannot be written costs a request, not the answer.
        let _ = env.records.put(&PROFILES.kept_for(lifetime), &owner, &entry).await;
    }
    Ok(profile)
}

async fn cached(env: &EntraWorld<'_>, account: &str, lifetime: Duration) -> Option<Value> {
    if lifetime.is_zero() {
        return None;
    }
    let cached = env.records.get(&PROFILES, account).await.ok()??;
    (env.clock.now().saturating_sub(cached.read_at) < lifetime.as_secs()).then_some(cached.profile)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use async_trait::async_trait;
    use base::Secret;
    use entra::graph::{GraphChallenge, TokenSource};
    use entra::testing::{EntraWorlds as _, change};
    use serde_json::json;
    use world::testing::{self, World, run};

    use super::*;
    use crate::local::SignInError;

    /// Gives `token-1`, and after a challenge `token-2`; remembers the challenges.
    #[derive(Default)]
    struct Tokens(RefCell<Vec<GraphChallenge>>);

    #[async_trait(?Send)]
    impl TokenSource for Tokens {
        type Error = SignInError;

        async fn token(&self, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, GraphError<SignInError>> {
            if let Some(challenge) = challenge {
                self.0.borrow_mut().push(challenge.clone());
            }
            Ok(Secret::new(format!("token-{}", self.0.borrow().len() + 1)))
        }
    }

    /// The account that the tokens belong to.
    fn owner() -> Option<String> {
        Some("o.t".to_owned())
    }

    #[test]
    fn a_profile_is_read_once_a_minute_for_one_account() {
        let world = World::default();
        world.always(|_| Ok(testing::json(200, &json!({ "id": "o" }))));
        let env = world.entra();
        let read = |account: Option<&str>| run(me(&env, &Tokens::default(), account, owner)).unwrap();
        read(None);
        read(Some("o.t"));
        assert_eq!(world.sent().len(), 1, "the second answer is the cached one");
        read(Some("other.t"));
        assert_eq!(world.sent().len(), 2, "another account's profile is not this one's");
        world.advance(Duration::from_secs(60));
        read(Some("o.t"));
        assert_eq!(world.sent().len(), 3, "a minute later it is read again");
    }

    #[test]
    fn a_profile_is_never_cached_when_the_cache_is_off() {
        let world = World::default();
        world.always(|_| Ok(testing::json(200, &json!({ "id": "o" }))));
        let mut env = world.entra();
        change(&mut env, |settings| settings.profile_cache = Duration::ZERO);
        for _ in 0..3 {
            run(me(&env, &Tokens::default(), Some("o.t"), owner)).unwrap();
        }
        assert_eq!(world.sent().len(), 3);
    }
}
