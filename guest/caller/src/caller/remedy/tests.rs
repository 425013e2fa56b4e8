use entra::graph::error::Evidence;
use entra::oauth::error::EntraRefusal;
use world::http_error::NotConnected;
use world::once::Failure;
use world::{HttpError, StoreError, Unrecorded};

use super::*;
use crate::local::Untrusted;

const CLAIMS: &str = r#"{"access_token":{}}"#;
const UNREACHABLE: HttpError = HttpError::Connect(NotConnected::Refused);

fn claims() -> Option<String> {
    Some(CLAIMS.to_owned())
}

fn refusal() -> EntraRefusal {
    EntraRefusal::new("invalid_client", &[7_000_215], None)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Another call was told to wait until 1000.
fn not_asked() -> Failure {
    Failure { retry_at: Some(1_000), ..Failure::new("another call was told to wait") }
}

#[test]
fn each_failure_to_get_a_token_has_a_remedy_a_reason_and_a_text() {
    let acquire = NoToken::Acquire;
    let unavailable = |error| NoToken::Acquire(AcquireError::Unavailable(error));
    let sign_in = NoToken::SignIn;
    let needs_person = || AcquireError::NeedsPerson { reason: "Sign in again.".to_owned(), claims: claims() };
    let interaction = SignInError::InteractionRequired { reason: "no account".to_owned(), claims: claims() };
    for (error, remedy, reason, told) in [
        (
            acquire(needs_person()),
            Remedy::SignIn { claims: Some(CLAIMS) },
            "interaction-required",
            "Sign in again.".to_owned(),
        ),
        (
            acquire(AcquireError::StepUp { reason: "Once more.".to_owned(), claims: claims() }),
            Remedy::StepUp { claims: Some(CLAIMS) },
            "step-up-required",
            "Once more.".to_owned(),
        ),
        (acquire(AcquireError::Refused(refusal())), Remedy::Refused, "aadsts-7000215", refusal().public_advice()),
        (
            unavailable(OAuthError::Throttled(seconds(30))),
            Remedy::Later(Some(RetryPause::For(seconds(30)))),
            "entra-unavailable",
            "Microsoft Entra ID asks to wait 30 seconds before the next attempt".to_owned(),
        ),
        (
            unavailable(OAuthError::NotAsked(not_asked())),
            Remedy::Later(Some(RetryPause::Until(1_000))),
            "entra-unavailable",
            "Microsoft Entra ID cannot be reached now. Try again later.".to_owned(),
        ),
        (
            unavailable(OAuthError::ServerError(500)),
            Remedy::Later(None),
            "entra-unavailable",
            "Microsoft Entra ID is not available now (HTTP status 500); try again later".to_owned(),
        ),
        (
            acquire(AcquireError::Store(StoreError::Contended)),
            Remedy::Later(None),
            "store",
            "other calls change the record all the time".to_owned(),
        ),
        (acquire(AcquireError::Unrecorded(Unrecorded)), Remedy::Later(None), "audit", Unrecorded::PUBLIC.to_owned()),
        (
            sign_in(interaction),
            Remedy::SignIn { claims: Some(CLAIMS) },
            "interaction-required",
            "No account.".to_owned(),
        ),
        (sign_in(SignInError::Refused(refusal())), Remedy::Refused, "aadsts-7000215", sentence(&refusal().advice())),
        (
            sign_in(SignInError::Misconfigured {
                refusal: Box::new(refusal()),
                message: "the ids are wrong".to_owned(),
            }),
            Remedy::Refused,
            "aadsts-7000215",
            "The ids are wrong.".to_owned(),
        ),
        (
            sign_in(SignInError::Unavailable(OAuthError::Throttled(seconds(7)))),
            Remedy::Later(Some(RetryPause::For(seconds(7)))),
            "entra-unavailable",
            "Microsoft Entra ID asks to wait 7 seconds before the next attempt.".to_owned(),
        ),
        (
            sign_in(SignInError::Store(StoreError::Contended)),
            Remedy::Later(None),
            "store",
            "Other calls change the record all the time.".to_owned(),
        ),
        (
            NoToken::Unavailable(GraphError::NoToken(needs_person())),
            Remedy::SignIn { claims: Some(CLAIMS) },
            "interaction-required",
            "Sign in again.".to_owned(),
        ),
        (
            NoToken::Unavailable(GraphError::TooMany(seconds(9))),
            Remedy::TooMany(seconds(9)),
            "graph-too-many",
            "Too many requests to Microsoft Graph in a short time: try again in 9 seconds.".to_owned(),
        ),
        (
            NoToken::Unavailable(GraphError::Unreachable(UNREACHABLE)),
            Remedy::Later(None),
            "entra-unavailable",
            "Microsoft Entra ID cannot be asked now: try again later".to_owned(),
        ),
    ] {
        assert_eq!(Remedy::from(&error), remedy, "{error:?}");
        assert_eq!((error.reason(), error.told()), (reason.to_owned(), told), "{error:?}");
    }
}

#[test]
fn a_sign_in_that_was_not_finished_is_tried_again() {
    for error in [
        SignInError::Declined,
        SignInError::TimedOut(None),
        SignInError::Untrusted(Untrusted::NoIdToken),
        SignInError::AccountSelection("several accounts".to_owned()),
        SignInError::JoinedFailed("declined".to_owned()),
        SignInError::TakenOver,
        SignInError::ClientGone,
    ] {
        assert_eq!(Remedy::from(&error), Remedy::SignIn { claims: None }, "{error:?}");
    }
}

#[test]
fn a_tool_that_asks_graph_leads_to_a_sign_in_only_for_a_token_of_the_caller() {
    let needs_person = || AcquireError::NeedsPerson { reason: "Sign in again.".to_owned(), claims: claims() };
    let evidence = Evidence::default;
    let throttled = AcquireError::Unavailable(OAuthError::Throttled(seconds(30)));
    let pause = |pause| Remedy::Later(Some(pause));
    let errors: [(GraphError, Remedy<'_>); 12] = [
        (GraphError::Token(needs_person()), Remedy::SignIn { claims: Some(CLAIMS) }),
        (GraphError::NoToken(needs_person()), Remedy::Refused),
        (GraphError::NoToken(throttled), pause(RetryPause::For(seconds(30)))),
        (GraphError::TooMany(seconds(9)), Remedy::TooMany(seconds(9))),
        (GraphError::Throttled { after: Some(seconds(5)), evidence: evidence() }, pause(RetryPause::For(seconds(5)))),
        (GraphError::Throttled { after: None, evidence: evidence() }, Remedy::Later(None)),
        (GraphError::NotAsked(not_asked()), pause(RetryPause::Until(1_000))),
        (GraphError::Unreachable(UNREACHABLE), Remedy::Later(None)),
        (GraphError::Unavailable { status: 503, evidence: evidence() }, Remedy::Later(None)),
        (GraphError::Unauthorised(evidence()), Remedy::Refused),
        (GraphError::Forbidden(evidence()), Remedy::Refused),
        (GraphError::NotConsented { permission: "User.Read", code: 65001 }, Remedy::Refused),
    ];
    for (error, remedy) in errors {
        assert_eq!(Remedy::from(&error), remedy, "{error:?}");
    }
}

#[test]
fn a_pause_is_counted_from_the_call_that_was_told_of_it() {
    assert_eq!(RetryPause::For(seconds(30)).seconds(990), 30);
    assert_eq!(RetryPause::Until(1_000).seconds(990), 10);
    assert_eq!(RetryPause::Until(1_000).seconds(1_001), 0);
}
