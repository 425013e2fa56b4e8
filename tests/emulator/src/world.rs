//! What all endpoints share: the addresses, the clock, the keys, the configuration, and what changes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::clock::Clock;
use super::config::Config;
use super::faults::Faults;
use super::keys::{KeyError, KeyRing};
use super::random::Random;
use super::requests::RequestLog;
use super::state::State;
use super::state::device_code::DeviceScript;

/// Everything the endpoints share.
pub(crate) struct World {
    /// The emulator's own address, without a slash at the end.
    pub(crate) base: String,
    /// Graph's address, without the version.
    pub(crate) graph: String,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) keys: KeyRing,
    config: RwLock<Arc<Config>>,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    log: Mutex<RequestLog>,
    device_script: Mutex<DeviceScript>,
    challenges: AtomicU32,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("base", &self.base).finish_non_exhaustive()
    }
}

// A panic while a lock is held would be a defect of one request; the others go on with what is there.
impl World {
    /// A world in which nothing has happened yet.
    pub(crate) fn new(
        base: String,
        graph: String,
        clock: Clock,
        random: Random,
        config: Config,
    ) -> Result<Self, KeyError> {
        Ok(Self {
            base,
            graph,
            clock,
            random,
            keys: KeyRing::new()?,
            config: RwLock::new(Arc::new(config)),
            state: Mutex::default(),
            faults: Mutex::default(),
            log: Mutex::default(),
            device_script: Mutex::default(),
            challenges: AtomicU32::new(0),
        })
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn change_config<T>(&self, change: impl FnOnce(&mut Config) -> T) -> T {
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut config))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, RequestLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn device_script(&self) -> DeviceScript {
        self.device_script.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_device_script(&self, script: DeviceScript) {
        *self.device_script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }

    pub(crate) fn set_challenges(&self, times: u32) {
        self.challenges.store(times, Ordering::SeqCst);
    }

    /// Whether this Graph request is one of those to challenge.
    pub(crate) fn take_challenge(&self) -> bool {
        self.challenges.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    /// The issuer of a tenant's v2 tokens.
    pub(crate) fn issuer(&self, tenant: &str) -> String {
        format!("{}/{tenant}/v2.0", self.base)
    }

    /// Host and port.
    pub(crate) fn host(&self) -> &str {
        self.base.split_once("://").map_or(self.base.as_str(), |(_, host)| host)
    }

    /// A cookie of the sign-in pages.
    pub(crate) fn cookie(&self, name: &str, value: &str) -> String {
        let secure = if self.base.starts_with("https:") { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}")
    }
}
