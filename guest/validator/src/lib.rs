//! The token validator as a component of its own, for a host that only wants a verdict: imports of WASI and nothing else, and
//! no state but caches. It decides nothing: an export makes the world of the call, converts types and delegates to `entra`.
//!
//! `.ci/validators` builds two components from this source: with the feature `http`, it fetches the keys of the
//! authority; without it, each call hands the keys in.

#[cfg(target_family = "wasm")]
mod bindings;
#[cfg(all(target_family = "wasm", feature = "http"))]
mod fetch;
#[cfg(all(target_family = "wasm", feature = "http"))]
mod interfaces;
#[cfg(target_family = "wasm")]
mod no_system;
#[cfg(target_family = "wasm")]
mod wasi;

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, unreachable_pub, reason = "the export macro defines the component's entry points")]
mod exports {
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};

    use base::principal::Principal;
    use base::settings::Settings;
    use base::settings_document::verdict;
    use entra::EntraWorld;
    use entra::token::{self, GivenKeys, Requirements, TokenError, ValidatedToken};
    use world::records::{Partitions, Records};
    use world::trail::Recorder;
    use world::{Http, NoAudit, NoCredential, NoStore, SessionNames, Trail};

    use crate::bindings::{export, unreadable, verdicts as wit};
    use crate::wasi::Wasi;

    struct Component;

    #[cfg(feature = "http")]
    impl wit::token_verdict::Guest for Component {
        fn validate(
            token: String,
            settings: String,
            needs: Option<wit::types::Requirements>,
        ) -> Result<wit::types::Principal, wit::types::TokenError> {
            let settings = verdict::read(&settings).map_err(unreadable)?;
            let needs = needs.map(Requirements::from).unwrap_or_default();
            let judged = with_world(&settings, &crate::fetch::Fetch, async |env| {
                token::validate_access_token_with(env, &token, &needs, None).await
            });
            answer(judged)
        }
    }

    impl wit::token_verdict_with_keys::Guest for Component {
        fn validate_with_keys(
            token: String,
            jwks: String,
            settings: String,
            needs: Option<wit::types::Requirements>,
        ) -> Result<wit::types::Principal, wit::types::TokenError> {
            let settings = verdict::read(&settings).map_err(unreadable)?;
            let needs = needs.map(Requirements::from).unwrap_or_default();
            let judged = GivenKeys::new(&settings, &jwks).and_then(|keys| {
                with_world(&settings, &keys, async |env| {
                    token::validate_access_token_by_keys(env, &token, &needs, &keys).await
                })
            });
            answer(judged)
        }
    }

    /// The verdict, without the proof.
    fn answer(judged: Result<Rc<ValidatedToken>, TokenError>) -> Result<wit::types::Principal, wit::types::TokenError> {
        let principal: Principal = Rc::unwrap_or_clone(judged?).into_principal();
        Ok(principal.into())
    }

    /// Does something in the world of this call.
    fn with_world<T>(settings: &Settings, http: &dyn Http, judge: impl AsyncFnOnce(&EntraWorld<'_>) -> T) -> T {
        let partitions = Partitions::of(settings);
        let names = SessionNames::default();
        let records = Records::new(&NoStore, &Wasi, &Wasi, &partitions);
        let trail = Trail::unnamed(Recorder { audit: &NoAudit, records, random: &Wasi, settings, names: &names });
        block_on(judge(&EntraWorld {
            settings,
            http,
            records,
            clock: &Wasi,
            random: &Wasi,
            signatures: None,
            credential: &NoCredential,
            trail: &trail,
        }))
    }

    /// Runs a future whose capabilities block: it is ready when it is polled.
    fn block_on<F: Future>(future: F) -> F::Output {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
        }
    }

    export!(Component with_types_in crate::bindings);
}
