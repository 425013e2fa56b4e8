//! The capabilities of a [`World`].

use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use base::audit::AuditEvent;

use super::World;
use crate::capabilities::*;
use crate::http_error::HttpError;
use crate::store::{Store, StoreError};

#[async_trait(?Send)]
impl Http for World {
    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError> {
        self.0.sent.borrow_mut().push(request.clone());
        let next = self.0.responders.borrow_mut().pop_front();
        match next {
            Some(mut responder) => responder(&request),
            None => match self.0.fallback.borrow_mut().as_mut() {
                Some(responder) => responder(&request),
                None => panic!("unexpected request: {} {}", request.method(), request.uri()),
            },
        }
    }
}

#[async_trait(?Send)]
impl Store for World {
    async fn get(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        self.operate()?;
        self.open(key)?;
        Ok(self.read(key))
    }

    async fn put(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        self.operate()?;
        self.write(key, value, ttl);
        Ok(())
    }

    async fn take(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        self.operate()?;
        self.open(key)?;
        let found = self.read(key);
        self.0.records.borrow_mut().remove(key);
        Ok(found)
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        self.operate()?;
        self.open(key)?;
        if self.read(key).as_ref().map(|secret| secret.reveal().as_slice()) != expected {
            return Ok(false);
        }
        self.write(key, value, ttl);
        Ok(true)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.operate()?;
        self.0.unreadable.borrow_mut().remove(key);
        self.0.records.borrow_mut().remove(key);
        Ok(())
    }
}

#[async_trait(?Send)]
impl Clock for World {
    fn now(&self) -> u64 {
        World::now(self)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed.get()
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

impl Random for World {
    /// SplitMix64: different on every call, the same in every run.
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let state = self.0.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
            self.0.random.set(state);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

impl UserAgent for World {
    fn open_browser(&self, _url: &str) -> Result<(), UserAgentError> {
        Err(UserAgentError::Unsupported)
    }

    fn prompt(&self, message: &str) {
        self.0.prompts.borrow_mut().push(message.to_owned());
    }

    fn listen(&self) -> Result<Box<dyn LoopbackListener>, UserAgentError> {
        if self.0.listens.get() { Ok(Box::new(FakeListener(self.clone()))) } else { Err(UserAgentError::Unsupported) }
    }

    fn attach(&self, id: &str) -> Result<Box<dyn LoopbackListener>, UserAgentError> {
        let mut detached = self.0.detached.borrow_mut();
        let at = detached.iter().position(|known| known == id).ok_or(UserAgentError::NoSuchListener)?;
        detached.remove(at);
        Ok(Box::new(FakeListener(self.clone())))
    }
}

/// A listener that no redirect ever reaches.
struct FakeListener(World);

impl LoopbackListener for FakeListener {
    fn redirect_uri(&self) -> String {
        "http://localhost:49152".to_owned()
    }

    fn wait(&self, timeout: Duration) -> Option<String> {
        self.0.advance(timeout);
        None
    }

    fn respond(&self, _page: Page) {}

    fn detach(&self, _lifetime: Duration) -> String {
        let mut detached = self.0.0.detached.borrow_mut();
        let id = format!("listener-{}", detached.len() + 1);
        detached.push(id.clone());
        id
    }
}

impl Channel for World {
    fn notify(&self, _method: &str, _params: &serde_json::Value) {}

    fn request(&self, method: &str, params: &serde_json::Value, _timeout: Duration) -> Box<dyn PendingRequest> {
        self.0.asked.borrow_mut().push((method.to_owned(), params.clone()));
        Box::new(FakeAnswer(self.0.answers.borrow_mut().pop_front()))
    }

    fn state(&self) -> Option<String> {
        self.0.state.borrow().clone()
    }

    fn set_state(&self, value: &str) {
        *self.0.state.borrow_mut() = Some(value.to_owned());
    }
}

/// An answer of the client, which cannot be asked without one.
struct FakeAnswer(Option<serde_json::Value>);

impl PendingRequest for FakeAnswer {
    fn wait(&self, _timeout: Duration) -> Option<Result<serde_json::Value, ChannelError>> {
        Some(self.0.clone().ok_or(ChannelError::Unsupported))
    }
}

impl ClientCredential for World {
    fn obtain(&self, _audience: &str) -> Result<Credential, CredentialError> {
        let secret = self.0.credential.borrow();
        Ok(secret.as_deref().map_or(Credential::None, |secret| Credential::Secret(Secret::from(secret))))
    }

    fn replacement(&self, _audience: &str, _refused: &Credential) -> Result<Credential, CredentialError> {
        Ok(Credential::None)
    }
}

impl RateLimiter for World {
    fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration> {
        assert!(subject.len() <= 2048, "the contract of `rate-limiter` promises hosts no more");
        if let Some(after) = self.0.exceeded.borrow().get(operation) {
            return Err(*after);
        }
        let Some((count, per)) = self.0.bounds.borrow().get(operation).copied() else { return Ok(()) };
        let now = self.elapsed();
        let mut counted = self.0.counted.borrow_mut();
        let counts =
            |(other, who, at): &&(String, String, Duration)| other == operation && who == subject && *at + per > now;
        let times: Vec<_> = counted.iter().filter(counts).map(|(_, _, at)| *at).collect();
        match times.first() {
            Some(first) if times.len() >= count => Err(*first + per - now),
            _ => {
                counted.push((operation.to_owned(), subject.to_owned(), now));
                Ok(())
            }
        }
    }
}

impl ClientMetadata for World {
    fn fetch(&self, url: &str, _: Option<&str>) -> Result<Document, FetchError> {
        self.0.fetched.borrow_mut().push(url.to_owned());
        let missing = || Err(FetchError::Unavailable("no such host".to_owned()));
        self.0.documents.borrow().get(url).cloned().unwrap_or_else(missing)
    }
}

impl Audit for World {
    fn record(&self, event: AuditEvent) -> Result<(), String> {
        if self.0.audit_refused.get() {
            return Err("the sink is full".to_owned());
        }
        self.0.audited.borrow_mut().push(event);
        Ok(())
    }
}

impl Log for World {
    fn note(&self, line: &str) {
        self.0.notes.borrow_mut().push(line.to_owned());
    }
}
