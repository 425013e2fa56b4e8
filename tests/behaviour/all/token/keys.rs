//! Keys rotate, their endpoint fails or lies, and strangers ask for keys that do not exist.

use std::time::Duration;

use entra_mcp_emulator::{Endpoint, Fault, Rotation};
use entra_mcp_plugin::token_validator::TokenErrorCategory;

use super::Validator;

const HOUR: u64 = 3600;

#[tokio::test]
async fn keys_are_fetched_once_for_all_instances() {
    let validator = Validator::with(|builder| builder.max_calls_per_instance(1)).await;
    for number in 0..20 {
        validator.validate(&validator.token(&number.to_string())).await.unwrap();
    }
    assert_eq!((validator.metadata_requests(), validator.key_requests()), (1, 1));
}

#[tokio::test]
async fn a_token_of_a_new_key_is_accepted_after_one_request() {
    let validator = Validator::new().await;
    let old = validator.token("old");
    validator.validate(&old).await.unwrap();
    validator.advance(HOUR);
    validator.lab.control().rotate_keys(Rotation::Switch).unwrap();
    validator.validate(&validator.token("new")).await.unwrap();
    validator.validate(&old).await.unwrap();
    assert_eq!((validator.metadata_requests(), validator.key_requests()), (1, 2));
}

#[tokio::test]
async fn an_announced_rotation_costs_no_extra_request() {
    let validator = Validator::new().await;
    validator.validate(&validator.token("before")).await.unwrap();
    validator.lab.control().rotate_keys(Rotation::Add).unwrap();
    // The daily refresh, ahead of time, brings the new key before it signs.
    validator.advance(20 * HOUR);
    validator.validate(&validator.token("refresh")).await.unwrap();
    validator.lab.control().rotate_keys(Rotation::Retire).unwrap();
    validator.validate(&validator.token("after")).await.unwrap();
    assert_eq!(validator.key_requests(), 2);
}

#[tokio::test]
async fn tokens_of_a_withdrawn_key_end_with_the_next_refresh() {
    let validator = Validator::new().await;
    let old = validator.token("old");
    let key_id = validator.lab.control().signing_key_id();
    validator.validate(&old).await.unwrap();
    validator.lab.control().rotate_keys(Rotation::Replace).unwrap();
    validator.validate(&old).await.unwrap();
    validator.advance(20 * HOUR);
    validator.validate(&validator.token("new")).await.unwrap();
    let refused = validator.validate(&old).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.text("key-id")), ("key-unknown", Some(key_id.as_str())));
}

#[tokio::test]
async fn an_outage_is_survived_for_48_hours_and_reported() {
    let validator = Validator::new().await;
    let token = validator.token("token");
    validator.validate(&token).await.unwrap();
    validator.lab.control().inject(Fault::anywhere().always().status(503));
    validator.advance(47 * HOUR);
    validator.validate(&token).await.unwrap();
    assert_eq!(validator.failures(), ["openid-metadata-status", "jwks-status"]);
    validator.advance(2 * HOUR);
    let undecided = validator.validate(&token).await.unwrap_err();
    assert_eq!((undecided.code.as_str(), undecided.category), ("keys-unavailable", TokenErrorCategory::Unavailable));
    validator.lab.control().clear_faults();
    validator.advance(31);
    validator.validate(&token).await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_set_back_or_stands_still_after_the_start_is_named() {
    for set_back in [true, false] {
        let validator = Validator::new().await;
        validator.validate(&validator.token("before")).await.unwrap();
        validator.advance(HOUR);
        if set_back {
            // The wall clock only: the monotonic one goes on.
            validator.clock.set_back(Duration::from_secs(600));
        } else {
            // The machine sleeps, and both of its clocks stand still.
            validator.lab.advance(600);
        }
        let early = validator.validate(&validator.token("after")).await.unwrap_err();
        assert_eq!((early.code.as_str(), early.number("ahead-seconds")), ("not-yet-valid", Some(600)));
        assert_eq!(early.number("clock-behind-seconds"), Some(600));
        assert_eq!(validator.key_requests(), 2);
    }
}

#[tokio::test]
async fn an_outage_at_the_start_is_no_refusal() {
    let validator = Validator::new().await;
    let token = validator.token("token");
    validator.lab.control().inject(Fault::on(Endpoint::OpenidConfiguration).status(500));
    let outage = validator.validate(&token).await.unwrap_err();
    assert_eq!((outage.code.as_str(), outage.status(), outage.challenge), ("keys-unavailable", 503, None));
    validator.advance(outage.retry_after.unwrap().as_secs());
    validator.validate(&token).await.unwrap();
}

#[tokio::test]
async fn a_poisoned_key_set_never_replaces_a_good_one() {
    let faults = [
        Fault::on(Endpoint::Keys).body("<html>sign in to the hotel network</html>"),
        Fault::on(Endpoint::Keys).body(r#"{"keys":[]}"#),
        Fault::on(Endpoint::Keys).body(r#"{"keys":[{"kty":"RSA","kid":"evil","use":"sig","n":"AQAB","e":"AQAB"}]}"#),
        Fault::on(Endpoint::Keys).status(302).header("location", "https://evil.example/keys"),
        Fault { pad_body: Some(200 * 1024), ..Fault::on(Endpoint::Keys) },
        Fault { pad_body: Some(3 * 1024 * 1024), ..Fault::on(Endpoint::Keys) },
        Fault { truncate_body: Some(100), ..Fault::on(Endpoint::Keys) },
        Fault { drop_connection: true, ..Fault::on(Endpoint::Keys) },
    ];
    for fault in faults {
        let validator = Validator::with(|builder| builder.max_calls_per_instance(1)).await;
        validator.validate(&validator.token("before")).await.unwrap();
        validator.lab.control().inject(fault.clone().always());
        validator.advance(25 * HOUR);
        validator.validate(&validator.token("during")).await.unwrap();
        let failures = validator.failures();
        assert!(matches!(failures.as_slice(), [reason] if reason.starts_with("jwks-")), "{fault:?}: {failures:?}");
        validator.lab.control().clear_faults();
        validator.advance(31);
        validator.validate(&validator.token("after")).await.unwrap();
        assert_eq!(validator.failures().len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_one_request_in_30_seconds_whatever_instance_it_meets() {
    for calls_per_instance in [1, 1_000] {
        let validator = Validator::with(|builder| builder.max_calls_per_instance(calls_per_instance)).await;
        validator.validate(&validator.token("good")).await.unwrap();
        validator.advance(30);
        for number in 0..100 {
            let token = validator.token_of_unknown_key(&format!("unknown-{number}"));
            assert_eq!(validator.validate(&token).await.unwrap_err().code, "key-unknown");
        }
        assert_eq!(validator.key_requests(), 2);
        validator.advance(30);
        validator.validate(&validator.token_of_unknown_key("another")).await.unwrap_err();
        assert_eq!(validator.key_requests(), 3);
        validator.validate(&validator.token("still good")).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_of_one_tenant_does_not_sign_for_another() {
    use crate::support::lab::{CONTOSO, FABRIKAM};
    let configure = |settings: &mut entra_mcp_plugin::environment::Settings| {
        settings.tenant = "organizations".into();
        settings.token.allowed_tenants = vec![CONTOSO.into(), FABRIKAM.into()];
    };
    let validator = Validator::configured(configure, |builder| builder).await;
    validator.validate(&validator.token("template")).await.unwrap();
    let validator = Validator::configured(configure, |builder| builder).await;
    validator.lab.control().restrict_keys_to_tenant(Some(FABRIKAM));
    let refused = validator.validate(&validator.token("restricted")).await.unwrap_err();
    assert_eq!(refused.code, "key-not-allowed");
}
