//! Many calls at once, on many instances, share one fetch. The clock runs by itself, because calls have to wait for
//! each other, and a test can put it forward, so that no test waits long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use entra_mcp_emulator::{Clock, Endpoint, Fault};
use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::clock::{Clock as HostClock, SystemClock};
use entra_mcp_plugin::token_validator::TokenError;
use serde_json::json;

use super::{build, nothing, settings, verdict};
use crate::support::lab::{CONTOSO, Lab, REMOTE, app};

const CALLS: usize = 16;

/// The machine's clock, put forward.
#[derive(Default)]
struct Shifted {
    clock: SystemClock,
    seconds: AtomicU64,
}

impl Shifted {
    fn shift(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl HostClock for Shifted {
    fn now(&self) -> Duration {
        self.clock.now() + self.shift()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic() + self.shift()
    }

    async fn sleep_until(&self, deadline: Duration) {
        self.clock.sleep_until(deadline.saturating_sub(self.shift())).await;
    }
}

struct Crowd {
    lab: Lab,
    plugin: Arc<Plugin>,
    clock: Arc<Shifted>,
}

impl Crowd {
    async fn new() -> Self {
        let lab = Lab::with(|builder| builder.clock(Clock::real())).await;
        let clock = Arc::new(Shifted::default());
        let builder = Plugin::builder(settings(&lab)).max_instances(CALLS);
        let plugin = build(builder.clock(Arc::clone(&clock) as Arc<dyn HostClock>));
        Self { lab, plugin: Arc::new(plugin), clock }
    }

    fn token(&self, number: usize) -> String {
        let now = self.lab.control().now();
        let claims = json!({
            "aud": app(REMOTE), "iss": format!("{}/{CONTOSO}/v2.0", self.lab.endpoints().authority),
            "iat": now, "nbf": now, "exp": now + 3600, "azp": app(1), "ver": "2.0", "tid": CONTOSO,
            "oid": "11111111-0000-4000-a000-000000000001", "sub": "subject", "scp": "Mcp.Access", "uti": number,
        });
        self.lab.control().sign(&claims, false).unwrap()
    }

    /// The errors of as many calls at once as there are instances.
    async fn validate(&self) -> Vec<TokenError> {
        let calls: Vec<_> = (0..CALLS)
            .map(|number| {
                let (plugin, token) = (Arc::clone(&self.plugin), self.token(number));
                tokio::spawn(async move { verdict(plugin.validate_token(&token, &nothing()).await).err() })
            })
            .collect();
        let mut errors = Vec::new();
        for call in calls {
            errors.extend(call.await.unwrap());
        }
        errors
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_at_once_ask_a_slow_key_endpoint_once() {
    let crowd = Crowd::new().await;
    crowd.lab.control().inject(Fault { delay_ms: 1_000, ..Fault::anywhere().always() });
    let errors = crowd.validate().await;
    assert!(errors.is_empty(), "{errors:?}");
    let control = crowd.lab.control();
    assert_eq!((control.request_count(Endpoint::OpenidConfiguration), control.request_count(Endpoint::Keys)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_at_once_ask_a_failing_key_endpoint_once() {
    let crowd = Crowd::new().await;
    crowd.lab.control().inject(Fault { delay_ms: 200, ..Fault::on(Endpoint::Keys).always().status(500) });
    let errors = crowd.validate().await;
    assert_eq!(errors.len(), CALLS);
    assert!(errors.iter().all(|error| error.code == "keys-unavailable"), "{errors:?}");
    assert_eq!(crowd.lab.control().request_count(Endpoint::Keys), 1);
    crowd.lab.control().clear_faults();
    crowd.clock.seconds.store(6, Ordering::Relaxed);
    let errors = crowd.validate().await;
    assert!(errors.is_empty(), "{errors:?}");
}
