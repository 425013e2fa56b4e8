//! One question at a time, and its answer remembered, for everybody who shares the secret store.
//!
//! Instances are many and short-lived. Whoever has to ask a service takes a lease in the store; the others wait for
//! its answer. A failure is remembered too, briefly, so that a flood of calls does not become a flood of requests.

use std::fmt::Display;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::capabilities::{Ask, Keep, Store, StoreError};
use crate::random::random_token;

/// How long one call may hold the right to ask: longer than a question with its retries usually takes. After that
/// one of those that wait asks in its place, so a call that was cancelled in the middle holds nobody up longer.
const LEASE: Duration = Duration::from_secs(25);
/// How long a call waits for another one's answer. Longer than the lease, so that somebody takes it over.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at another call's question.
const POLL: Duration = Duration::from_millis(100);
/// How long a failure is remembered.
const FAILURE: Duration = Duration::from_secs(5);
/// The longest reason that is kept of a failure, in bytes.
const MAX_REASON: usize = 512;

/// The right to do what one call at a time should do. It ends by itself after its time, so a call that went away in
/// the middle holds nobody up for longer.
pub struct Lease<'w> {
    store: &'w dyn Store,
    record: String,
    holder: String,
}

impl<'w> Lease<'w> {
    /// Takes the lease, if nobody holds it.
    pub fn take(world: &'w dyn Keep, record: &str, time: Duration) -> Result<Option<Self>, StoreError> {
        let (store, holder) = (world.store(), random_token(world.random()));
        let lease = Self { store, record: record.to_owned(), holder };
        let taken = store.compare_and_swap(record, None, lease.holder.as_bytes(), Some(time))?;
        Ok(taken.then_some(lease))
    }

    /// Gives the lease back, if it has not run out and become another call's. A store that fails here costs the
    /// others a wait, nothing else.
    pub fn release(self) {
        if matches!(self.store.get(&self.record), Ok(Some(now)) if now.reveal() == self.holder.as_bytes()) {
            let _ = self.store.delete(&self.record);
        }
    }
}

/// An answer that can be kept in the store.
pub trait Answer: Sized {
    /// As it is stored.
    fn to_bytes(&self) -> Zeroizing<Vec<u8>>;
    /// The inverse; `None` for what an older or newer version has stored.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
    /// How long it is kept, from `now` on.
    fn lifetime(&self, now: u64) -> Duration;
}

/// The answer in the record, if it is there and `wanted`; else what `ask` answers. The error is for the log.
pub async fn ask_once<A: Answer, E: Display>(
    world: &(impl Ask + Keep),
    record: &str,
    wanted: impl Fn(&A) -> bool,
    ask: impl AsyncFnOnce() -> Result<A, E>,
) -> Result<A, String> {
    let (lease, failed) = (format!("{record}/asking"), format!("{record}/failed"));
    let began = world.clock().monotonic();
    let lease = loop {
        if let Some(answer) = remembered(world, record)?.filter(&wanted) {
            return Ok(answer);
        }
        if let Some(reason) = read(world, &failed)? {
            return Err(String::from_utf8_lossy(&reason).into_owned());
        }
        if let Some(lease) = Lease::take(world, &lease, LEASE).map_err(store)? {
            break lease;
        }
        if world.clock().monotonic().saturating_sub(began) >= PATIENCE {
            return Err("another call has been asking for too long".to_owned());
        }
        world.clock().sleep(POLL).await;
    };
    // Another call may have been answered between our look and our lease.
    let result = match remembered(world, record)?.filter(&wanted) {
        Some(answer) => Ok(answer),
        None => {
            let result = ask().await.map_err(|error| shortened(error.to_string()));
            // An answer that cannot be kept is an answer nevertheless.
            let _ = match &result {
                Ok(answer) => world.store().put(record, &answer.to_bytes(), Some(answer.lifetime(world.clock().now()))),
                Err(reason) => world.store().put(&failed, reason.as_bytes(), Some(FAILURE)),
            };
            result
        }
    };
    lease.release();
    result
}

/// The answer in the record, whether or not it is still what anybody wants.
pub fn remembered<A: Answer>(world: &dyn Keep, record: &str) -> Result<Option<A>, String> {
    Ok(read(world, record)?.and_then(|bytes| A::from_bytes(&bytes)))
}

/// A record that cannot be opened is as good as none: it will be written anew.
fn read(world: &dyn Keep, record: &str) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    match world.store().get(record) {
        Ok(found) => Ok(found.map(|found| Zeroizing::new(found.reveal().clone()))),
        Err(StoreError::Unreadable) => Ok(None),
        Err(error) => Err(store(error)),
    }
}

fn store(error: StoreError) -> String {
    error.to_string()
}

fn shortened(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    reason
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::testing::{World, run};

    #[derive(Debug, PartialEq, Eq)]
    struct Number(u8);

    impl Answer for Number {
        fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
            Zeroizing::new(vec![self.0])
        }

        fn from_bytes(bytes: &[u8]) -> Option<Self> {
            if let [number] = bytes { Some(Self(*number)) } else { None }
        }

        fn lifetime(&self, _: u64) -> Duration {
            Duration::from_secs(60)
        }
    }

    /// Asks for a number; how often the service was asked.
    struct Service {
        world: World,
        asked: Cell<u8>,
    }

    impl Service {
        fn new() -> Self {
            Self { world: World::default(), asked: Cell::new(0) }
        }

        fn ask(&self, answer: Result<u8, &str>) -> Result<Number, String> {
            run(ask_once(
                &self.world,
                "number",
                |_| true,
                async || {
                    self.asked.set(self.asked.get() + 1);
                    answer.map(Number)
                },
            ))
        }
    }

    #[test]
    fn an_answer_is_remembered_for_its_lifetime() {
        let service = Service::new();
        assert_eq!(service.ask(Ok(1)), Ok(Number(1)));
        service.world.advance(Duration::from_secs(59));
        assert_eq!(service.ask(Ok(2)), Ok(Number(1)));
        service.world.advance(Duration::from_secs(1));
        assert_eq!(service.ask(Ok(2)), Ok(Number(2)));
        assert_eq!(service.asked.get(), 2);
        assert_eq!(service.world.record_names(), ["number"], "the lease is given back");
    }

    #[test]
    fn a_failure_is_remembered_briefly() {
        let service = Service::new();
        assert_eq!(service.ask(Err("down")), Err("down".to_owned()));
        service.world.advance(Duration::from_secs(4));
        assert_eq!(service.ask(Ok(1)), Err("down".to_owned()));
        service.world.advance(Duration::from_secs(1));
        assert_eq!(service.ask(Ok(1)), Ok(Number(1)));
        assert_eq!(service.asked.get(), 2);
    }

    #[test]
    fn a_call_that_asks_holds_the_others_up_until_its_lease_ends() {
        let service = Service::new();
        service.world.put("number/asking", b"another call", Some(LEASE)).unwrap();
        assert_eq!(service.ask(Ok(1)), Ok(Number(1)));
        assert_eq!((service.asked.get(), service.world.elapsed()), (1, LEASE));
    }

    #[test]
    fn a_call_that_never_ends_is_not_waited_for_for_ever() {
        let service = Service::new();
        service.world.put("number/asking", b"another call", None).unwrap();
        assert_eq!(service.ask(Ok(1)), Err("another call has been asking for too long".to_owned()));
        assert_eq!((service.asked.get(), service.world.elapsed()), (0, PATIENCE));
    }

    #[test]
    fn the_lease_of_whoever_has_taken_over_is_left_alone() {
        let service = Service::new();
        let answer = run(ask_once(
            &service.world,
            "number",
            |_| true,
            async || {
                service.world.put("number/asking", b"another call", Some(LEASE)).unwrap();
                Ok::<_, String>(Number(1))
            },
        ));
        assert_eq!(answer, Ok(Number(1)));
        assert_eq!(service.world.record_names(), ["number", "number/asking"]);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_asked_for_again() {
        let service = Service::new();
        service.world.put("number", b"not one byte", None).unwrap();
        assert_eq!(service.ask(Ok(1)), Ok(Number(1)));
    }
}
