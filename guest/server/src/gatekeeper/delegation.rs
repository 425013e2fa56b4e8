//! What is the same for tokens of remote callers and of the person at this machine: which combinations of permissions a
//! server has, and what the host is told where there is no token.

use base::settings::Settings;
use caller::NoToken;
use caller::local::{SignInError, accounts};
use entra::AcquireError;
use entra::graph::GraphError;
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
    match from {
        NoToken::Acquire(failed) => of_acquire(failed, clock.now()),
        NoToken::SignIn(failed) => of_sign_in(failed, clock.now()),
        NoToken::Unavailable(GraphError::NoToken(failed)) => of_acquire(failed, clock.now()),
        NoToken::Unavailable(too_many @ GraphError::TooMany(wait)) => DelegationError {
            retry_after: Some(u32::try_from(wait.as_secs().max(1)).unwrap_or(u32::MAX)),
            ..error(Category::Unavailable, DelegationError::TOO_MANY, &sentence(&too_many.to_string()))
        },
        NoToken::Unavailable(_) => {
            error(Category::Unavailable, "entra-unavailable", "Microsoft Entra ID cannot be asked now: try again later")
        }
    }
}

/// Seconds until this Unix time in seconds.
fn after(at: u64, now: u64) -> u32 {
    u32::try_from(at.saturating_sub(now)).unwrap_or(u32::MAX)
}

fn of_acquire(failed: &AcquireError, now: u64) -> DelegationError {
    let of = |category| error(category, &failed.reason(), &failed.public());
    match failed {
        AcquireError::NeedsPerson { claims, .. } | AcquireError::StepUp { claims, .. } => {
            DelegationError { claims: claims.clone(), ..of(Category::NeedsPerson) }
        }
        AcquireError::Refused(_) => of(Category::Refused),
        AcquireError::Unavailable(failed) => {
            DelegationError { retry_after: failed.retry_at(now).map(|at| after(at, now)), ..of(Category::Unavailable) }
        }
        AcquireError::Store(_) | AcquireError::Unrecorded(_) => of(Category::Unavailable),
    }
}

/// What the failure of a sign-in of the person at this machine means to the host.
pub(super) fn of_sign_in(failed: &SignInError, now: u64) -> DelegationError {
    let category = match failed {
        SignInError::Refused(_) | SignInError::Misconfigured { .. } => Category::Refused,
        SignInError::Unavailable(_)
        | SignInError::Authority(_)
        | SignInError::Store(_)
        | SignInError::Unrecorded(_) => Category::Unavailable,
        SignInError::InteractionRequired { .. }
        | SignInError::Declined
        | SignInError::TimedOut(_)
        | SignInError::Deferred { .. }
        | SignInError::Untrusted(_)
        | SignInError::AccountSelection(_)
        | SignInError::JoinedFailed(_)
        | SignInError::TakenOver
        | SignInError::ClientGone
        | SignInError::NoBrowser(_)
        | SignInError::Broker(_) => Category::NeedsPerson,
    };
    let retry_at = if let SignInError::Unavailable(failed) = failed { failed.retry_at(now) } else { None };
    let claims = if let SignInError::InteractionRequired { claims, .. } = failed { claims.clone() } else { None };
    DelegationError {
        claims,
        retry_after: retry_at.map(|at| after(at, now)),
        ..error(category, &failed.reason(), &sentence(&failed.to_string()))
    }
}

/// The text of an error as a sentence of its own.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase()).into_iter().flatten();
    let end = if text.ends_with(['.', ')']) { "" } else { "." };
    first.chain(letters).chain(end.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_that_failed_means_the_same_wherever_it_is_asked_for() {
        for (failed, category) in [
            (SignInError::Declined, Category::NeedsPerson),
            (SignInError::ClientGone, Category::NeedsPerson),
            (SignInError::Store(world::StoreError::Contended), Category::Unavailable),
        ] {
            let world = world::testing::World::default();
            let env = entra::testing::EntraWorlds::entra_remote(&world);
            let error = no_token(env.clock, &NoToken::SignIn(failed.clone()));
            assert_eq!((error.category, error.code.as_str()), (category, failed.reason().as_str()));
            assert_eq!(error, of_sign_in(&failed, env.clock.now()));
            assert!(error.message.ends_with('.'), "{}", error.message);
        }
    }

    #[test]
    fn a_caller_that_asks_too_often_is_told_when_to_ask_again() {
        let world = world::testing::World::default();
        let env = entra::testing::EntraWorlds::entra_remote(&world);
        let too_many = NoToken::Unavailable(GraphError::TooMany(std::time::Duration::from_secs(9)));
        let error = no_token(env.clock, &too_many);
        assert_eq!((error.category, error.code.as_str()), (Category::Unavailable, DelegationError::TOO_MANY));
        assert_eq!(error.retry_after, Some(9));
    }
}
