//! Warm instances of the component, reused from call to call.
//!
//! An instance serves one call at a time, so the pool grows with the number of concurrent calls, up to a bound. The
//! pool discards an instance after a number of calls, when its memory has grown, and whenever a call did not return:
//! after a trap, and when the caller stopped waiting.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::bindings::{Bundled as Exports, BundledPre};
use crate::client_channel::ClientChannel;
use crate::error::Error;
use crate::instance::{InstanceResources, InstanceState, Runaway, link};
use warm::Warm;

pub(crate) mod warm;

/// Concurrent instances. A call that waits for a person occupies one, so there are as many as the transport admits
/// calls: the transport refuses further calls as busy, whereas a call in the pool's queue would wait without an answer.
/// An instance costs some 200 KiB.
pub const DEFAULT_MAX_INSTANCES: usize = 256;

/// Idle instances that stay warm. A client rarely has more calls in flight.
const MAX_IDLE_INSTANCES: usize = 8;

/// How long an idle instance stays warm. After a burst its memory is given back.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

/// Calls after which an instance is replaced, so that a slow leak never matters.
const MAX_CALLS: u32 = 1_000;

/// Memory above which an instance is not kept. WebAssembly memory never shrinks.
const MAX_KEPT_MEMORY_BYTES: usize = 16 * 1024 * 1024;

/// Resources above which an instance is not kept, so that the next call has room for its own. Between calls there should
/// be hardly any, but `wasmtime-wasi-http` keeps the options of every outgoing request for the life of the instance.
const MAX_KEPT_RESOURCES: usize = 500;

/// Length of an epoch: how often a computing guest lets other tasks run.
pub(crate) const EPOCH: Duration = Duration::from_millis(100);

/// Epochs for which a guest may compute without a pause: 10 s. The longest honest computation, the verification of a
/// token, takes a few milliseconds.
const MAX_COMPUTING_EPOCHS: u32 = 100;

/// Bounds of the pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolLimits {
    pub(crate) max_instances: usize,
    pub(crate) max_idle_instances: usize,
    /// Calls that may wait for an instance.
    pub(crate) max_queue: usize,
    /// How long a call may wait for an instance; `None`: as long as its caller does.
    pub(crate) max_wait: Option<Duration>,
    pub(crate) max_calls: u32,
    pub(crate) max_kept_memory_bytes: usize,
    pub(crate) max_computing_epochs: u32,
}

impl PoolLimits {
    /// For a pool beside this one with so many instances at most, whose calls are bounded themselves, in number and time.
    pub(crate) fn beside(self, most: usize) -> Self {
        Self {
            max_instances: self.max_instances.min(most),
            max_idle_instances: self.max_idle_instances.min(MAX_IDLE_INSTANCES),
            max_queue: usize::MAX,
            max_wait: None,
            ..self
        }
    }

    /// The same for calls that come as often as those of this pool: all of its instances stay warm. To make an instance costs
    /// more than most calls.
    pub(crate) fn warm_beside(self, most: usize) -> Self {
        Self { max_idle_instances: self.max_idle_instances.min(most), ..self.beside(most) }
    }
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            max_instances: DEFAULT_MAX_INSTANCES,
            max_idle_instances: MAX_IDLE_INSTANCES,
            max_queue: usize::MAX,
            max_wait: None,
            max_calls: MAX_CALLS,
            max_kept_memory_bytes: MAX_KEPT_MEMORY_BYTES,
            max_computing_epochs: MAX_COMPUTING_EPOCHS,
        }
    }
}

/// The present state of the pool, and its counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStatistics {
    /// Instances that serve a call.
    pub busy: usize,
    /// Warm instances.
    pub idle: usize,
    /// Calls that wait for an instance.
    pub waiting: usize,
    /// Instances that were made.
    pub created: u64,
    /// Instances that were replaced in good order.
    pub recycled: u64,
    /// Instances that were discarded because a call failed.
    pub trapped: u64,
    /// Instances that were discarded with a call because its caller stopped waiting.
    pub cancelled: u64,
}

#[derive(Debug, Default)]
struct PoolCounts {
    created: AtomicU64,
    recycled: AtomicU64,
    trapped: AtomicU64,
    cancelled: AtomicU64,
}

/// The pool.
pub(crate) struct InstancePool {
    pre: BundledPre<InstanceState>,
    world: Arc<InstanceResources>,
    limits: PoolLimits,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    idle: Warm<Box<PooledInstance>>,
    ticker: Arc<Ticker>,
    counts: PoolCounts,
}

/// Why a call got no instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// Too many calls wait, or this one has waited too long.
    #[error("all instances are busy")]
    Busy,
    /// The pool cannot make an instance.
    #[error(transparent)]
    Failed(#[from] wasmtime::Error),
}

/// An instance with its store.
struct PooledInstance {
    store: Store<InstanceState>,
    exports: Exports,
    runaway: Arc<Runaway>,
    calls: u32,
}

impl InstancePool {
    /// Checks that the component imports only what is granted. Instances are made on demand.
    pub(crate) fn new(
        engine: &Engine,
        component: &Component,
        world: InstanceResources,
        limits: PoolLimits,
    ) -> Result<Self, Error> {
        let mut linker = Linker::new(engine);
        link(&mut linker).map_err(Error::Engine)?;
        let pre = linker.instantiate_pre(component).and_then(BundledPre::new).map_err(Error::Component)?;
        let ticker = Ticker::start(engine).map_err(Error::Thread)?;
        Ok(Self::of(pre, Arc::new(world), limits, Arc::new(ticker)))
    }

    /// Another pool of the same component, with its own bounds: calls in one never wait for instances of the other.
    pub(crate) fn beside(&self, limits: PoolLimits) -> Self {
        Self::of(self.pre.clone(), Arc::clone(&self.world), limits, Arc::clone(&self.ticker))
    }

    fn of(
        pre: BundledPre<InstanceState>,
        world: Arc<InstanceResources>,
        limits: PoolLimits,
        ticker: Arc<Ticker>,
    ) -> Self {
        Self {
            pre,
            world,
            limits,
            permits: Arc::new(Semaphore::new(limits.max_instances)),
            waiting: AtomicUsize::new(0),
            idle: Warm::new(limits.max_idle_instances, MAX_IDLE_TIME),
            ticker,
            counts: PoolCounts::default(),
        }
    }

    /// Waits for a place, then takes a warm instance or makes one, for a call that came in on `channel`.
    pub(crate) async fn lease(self: &Arc<Self>, channel: Arc<dyn ClientChannel>) -> Result<InstanceLease, LeaseError> {
        // What is rare is in boxes: the future of every call is moved several times.
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => Box::pin(self.wait()).await?,
        };
        let ticking = self.ticker.call();
        let mut instance = match self.idle.take() {
            Some(instance) => instance,
            None => Box::pin(self.instantiate()).await?,
        };
        instance.store.data_mut().begin(channel);
        instance.store.set_epoch_deadline(1);
        instance.runaway.reset();
        Ok(InstanceLease { pool: Arc::clone(self), instance, ticking, _permit: permit })
    }

    pub(crate) fn statistics(&self) -> PoolStatistics {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        PoolStatistics {
            busy: self.limits.max_instances.saturating_sub(self.permits.available_permits()),
            idle: self.idle.len(),
            waiting: self.waiting.load(Ordering::Relaxed),
            created: read(&self.counts.created),
            recycled: read(&self.counts.recycled),
            trapped: read(&self.counts.trapped),
            cancelled: read(&self.counts.cancelled),
        }
    }

    /// Waits for a place in the queue, which is first come, first served.
    async fn wait(&self) -> Result<OwnedSemaphorePermit, LeaseError> {
        let _place = Place::take(&self.waiting, self.limits.max_queue).ok_or(LeaseError::Busy)?;
        let room = Arc::clone(&self.permits).acquire_owned();
        let permit = match self.limits.max_wait {
            None => room.await,
            Some(limit) => tokio::time::timeout(limit, room).await.map_err(|_| LeaseError::Busy)?,
        };
        // The semaphore is never closed.
        permit.map_err(|_| LeaseError::Busy)
    }

    async fn instantiate(&self) -> wasmtime::Result<Box<PooledInstance>> {
        let mut store = Store::new(self.pre.engine(), InstanceState::new(&self.world));
        store.limiter(|state| &mut state.limits);
        let runaway = Arc::new(Runaway::default());
        let (watched, limit) = (Arc::clone(&runaway), self.limits.max_computing_epochs);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            if watched.computing() < limit {
                Ok(UpdateDeadline::Yield(1))
            } else {
                Err(wasmtime::Error::msg("the component computed for too long without a pause"))
            }
        });
        let exports = Watched::run(self.pre.instantiate_async(&mut store), Arc::clone(&runaway)).await?;
        self.counts.created.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(PooledInstance { store, exports, runaway, calls: 0 }))
    }
}

/// A place in the queue, given back when it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let place = Self(waiting);
        // If there is no place, dropping the guard takes the call back out of the count.
        (waiting.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An instance on loan. It returns to the pool only after a successful [`InstanceLease::call`]. Dropped otherwise, it is
/// destroyed together with the current call.
pub(crate) struct InstanceLease {
    pool: Arc<InstancePool>,
    instance: Box<PooledInstance>,
    ticking: Ticking,
    _permit: OwnedSemaphorePermit,
}

impl InstanceLease {
    /// Runs one call. The instance survives only if the call returns.
    pub(crate) async fn call<T>(
        self,
        call: impl AsyncFnOnce(&Exports, &mut Store<InstanceState>) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        let Self { pool, mut instance, ticking: _ticking, _permit } = self;
        let runaway = Arc::clone(&instance.runaway);
        let mut end = CallWatch { pool: &pool, returned: false };
        let result = Watched::run(call(&instance.exports, &mut instance.store), runaway).await;
        end.returned = true;
        let result = result.inspect_err(|_| {
            pool.counts.trapped.fetch_add(1, Ordering::Relaxed);
        })?;
        instance.calls = instance.calls.saturating_add(1);
        instance.store.data_mut().end();
        let kept = instance.calls < pool.limits.max_calls
            && instance.store.data().limits.memory_bytes <= pool.limits.max_kept_memory_bytes
            && instance.store.data_mut().resources() <= MAX_KEPT_RESOURCES;
        let now = pool.world.imports.clock.monotonic();
        let surplus = if kept { pool.idle.put(instance, now).err() } else { Some(instance) };
        let unneeded = pool.idle.unneeded(now);
        let recycled = u64::from(surplus.is_some()).saturating_add(unneeded.len() as u64);
        if recycled > 0 {
            pool.counts.recycled.fetch_add(recycled, Ordering::Relaxed);
        }
        Ok(result)
    }
}

/// Notices a call with a future that is dropped before it returns.
struct CallWatch<'a> {
    pool: &'a InstancePool,
    returned: bool,
}

impl Drop for CallWatch<'_> {
    fn drop(&mut self) {
        if !self.returned {
            self.pool.counts.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Tells [`Runaway`] about every suspension of the guest's future.
pub(crate) struct Watched<F> {
    future: F,
    runaway: Arc<Runaway>,
}

impl<F: Future> Watched<F> {
    pub(crate) async fn run(future: F, runaway: Arc<Runaway>) -> F::Output {
        let future = pin!(future);
        Watched { future, runaway }.await
    }
}

impl<F: Future + Unpin> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let poll = Pin::new(&mut self.future).poll(context);
        if poll.is_pending() {
            self.runaway.suspended();
        }
        poll
    }
}

/// A thread that ends an epoch every [`EPOCH`] while calls are running. It ends with the pool.
pub(crate) struct Ticker {
    shared: Arc<TickerShared>,
}

#[derive(Default)]
struct TickerShared {
    /// Running calls. Every call changes the number, so it is not behind the lock.
    calls: AtomicUsize,
    /// The thread waits for a call, or is about to.
    resting: AtomicBool,
    ended: Mutex<bool>,
    changed: Condvar,
}

/// Keeps the ticker going.
pub(crate) struct Ticking {
    shared: Arc<TickerShared>,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::<TickerShared>::default();
        let (engine, thread_shared) = (engine.weak(), Arc::clone(&shared));
        thread::Builder::new().name("epoch".into()).spawn(move || {
            while thread_shared.next_epoch() {
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => break,
                }
            }
        })?;
        Ok(Self { shared })
    }

    pub(crate) fn call(&self) -> Ticking {
        // The thread sets `resting` before it reads the number of calls, and a call is counted before it reads
        // `resting`. In the total order of these steps, one of the two sees the other.
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        // In the middle of an epoch the thread needs no waking, which would cost every call a switch of threads.
        if self.shared.resting.load(Ordering::SeqCst) {
            self.shared.wake(|_| ());
        }
        Ticking { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.wake(|ended| *ended = true);
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.shared.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

impl TickerShared {
    /// The lock ensures that the thread is not between its check and its wait.
    fn wake(&self, change: impl FnOnce(&mut bool)) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut ended);
        self.changed.notify_one();
    }

    /// Waits until calls are running and another epoch has passed. Returns false if the pool is gone.
    fn next_epoch(&self) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        self.resting.store(true, Ordering::SeqCst);
        let resting = |ended: &mut bool| self.calls.load(Ordering::SeqCst) == 0 && !*ended;
        let ended = self.changed.wait_while(ended, resting).unwrap_or_else(PoisonError::into_inner);
        self.resting.store(false, Ordering::SeqCst);
        let waited = self.changed.wait_timeout_while(ended, EPOCH, |ended| !*ended);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_instances_of_a_pool_beside_stay_warm_as_its_calls_need() {
        let limits = PoolLimits { max_idle_instances: 256, ..PoolLimits::default() };
        let bounds = |limits: PoolLimits| (limits.max_instances, limits.max_idle_instances);
        assert_eq!(bounds(limits.beside(16)), (16, MAX_IDLE_INSTANCES));
        assert_eq!(bounds(limits.warm_beside(16)), (16, 16));
        assert_eq!(bounds(PoolLimits::default().warm_beside(16)), (16, MAX_IDLE_INSTANCES));
        assert_eq!(bounds(PoolLimits { max_instances: 4, ..limits }.warm_beside(16)), (4, 16));
    }
}
