//! What is the same for tokens of remote callers and of the person at this machine: which combinations of permissions a
//! server has, and what the host is told where there is no token.

use base::settings::Settings;
use caller::local::accounts;
use caller::{NoToken, Remedy};
use world::Clock;
use world::provided_tools::{DelegationError, DelegationErrorCategory as Category};

/// The combination of the server's permissions that is wanted, as the settings have it: the order of permissions has no
/// meaning. `None`: the server has no such combination.
pub(super) fn granted<'s>(settings: &'s Settings, server: &str, wanted: &[String]) -> Option<&'s [String]> {
    let wanted = accounts::scope_key(wanted);
    let server = settings.servers.iter().find(|known| known.name == server)?;
    let mut combinations = server.permissions.iter();
    let found = combinations.find(|combination| accounts::scope_key(combination) == wanted)?;
    (!wanted.is_empty()).then_some(found.as_slice())
}

pub(super) fn not_granted(server: &str, permissions: &[String]) -> DelegationError {
    let message = format!(
        "The server {server} is not granted {} in this combination: its `egress` in the configuration has to name it.",
        permissions.join(", ")
    );
    error(Category::NotGranted, "not-granted", &message)
}

pub(super) fn error(category: Category, code: &str, message: &str) -> DelegationError {
    let (code, message) = (code.to_owned(), message.to_owned());
    DelegationError { category, code, message, claims: None, retry_after: None }
}

/// What the host is told of a token that there is not.
pub(super) fn no_token(clock: &dyn Clock, from: &NoToken) -> DelegationError {
    let of = |category| error(category, &from.reason(), &from.told());
    match Remedy::from(from) {
        Remedy::SignIn { claims } | Remedy::StepUp { claims } => {
            DelegationError { claims: claims.map(str::to_owned), ..of(Category::NeedsPerson) }
        }
        Remedy::Refused => of(Category::Refused),
        Remedy::TooMany(after) => {
            DelegationError { retry_after: Some(bounded(after.as_secs().max(1))), ..of(Category::Unavailable) }
        }
        Remedy::Later(pause) => {
            let retry_after = pause.map(|pause| bounded(pause.seconds(clock.now())));
            DelegationError { retry_after, ..of(Category::Unavailable) }
        }
    }
}

/// Seconds as the host is told of them.
fn bounded(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use caller::local::SignInError;
    use entra::AcquireError;
    use entra::graph::GraphError;
    use entra::oauth::OAuthError;
    use world::once::Failure;
    use world::testing::START;

    use super::*;

    #[test]
    fn the_host_is_told_what_the_caller_can_do_with_claims_and_a_time_where_they_are_known() {
        let world = world::testing::World::default();
        let env = entra::testing::EntraWorlds::entra_remote(&world);
        let unavailable = |error| NoToken::Acquire(AcquireError::Unavailable(error));
        let sign_in = NoToken::SignIn;
        let claims = || Some("{}".to_owned());
        let sentence = || "Sign in again.".to_owned();
        let not_asked = |retry_at| Failure { retry_at: Some(retry_at), ..Failure::new("asked to wait") };
        for (failed, category, claims, retry_after) in [
            (
                NoToken::Acquire(AcquireError::NeedsPerson { reason: sentence(), claims: claims() }),
                Category::NeedsPerson,
                claims(),
                None,
            ),
            (
                NoToken::Acquire(AcquireError::StepUp { reason: sentence(), claims: claims() }),
                Category::NeedsPerson,
                claims(),
                None,
            ),
            (unavailable(OAuthError::Throttled(Duration::from_secs(7))), Category::Unavailable, None, Some(7)),
            (unavailable(OAuthError::NotAsked(not_asked(START + 5))), Category::Unavailable, None, Some(5)),
            (unavailable(OAuthError::NotAsked(not_asked(START - 5))), Category::Unavailable, None, Some(0)),
            (unavailable(OAuthError::ServerError(500)), Category::Unavailable, None, None),
            (
                sign_in(SignInError::InteractionRequired { reason: sentence(), claims: claims() }),
                Category::NeedsPerson,
                claims(),
                None,
            ),
            (sign_in(SignInError::Declined), Category::NeedsPerson, None, None),
            (sign_in(SignInError::ClientGone), Category::NeedsPerson, None, None),
            (sign_in(SignInError::Store(world::StoreError::Contended)), Category::Unavailable, None, None),
            (
                NoToken::Unavailable(GraphError::TooMany(Duration::from_millis(300))),
                Category::Unavailable,
                None,
                Some(1),
            ),
        ] {
            let (code, message) = (failed.reason(), failed.told());
            let expected = DelegationError { category, code, message, claims, retry_after };
            assert_eq!(no_token(env.clock, &failed), expected, "{failed:?}");
        }
    }

    #[test]
    fn a_caller_that_asks_too_often_is_told_when_to_ask_again() {
        let world = world::testing::World::default();
        let env = entra::testing::EntraWorlds::entra_remote(&world);
        let too_many = NoToken::Unavailable(GraphError::TooMany(Duration::from_secs(9)));
        let error = no_token(env.clock, &too_many);
        assert_eq!((error.category, error.code.as_str()), (Category::Unavailable, DelegationError::TOO_MANY));
        assert_eq!(error.retry_after, Some(9));
    }
}
