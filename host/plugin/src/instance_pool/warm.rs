//! Warm instances, kept by the thread that used them last.
//!
//! The data of an instance is in the cache of a processor core, and so are its host-side structures. A thread that
//! takes the instance it used last finds them there, and shares no lock with other threads. A thread without such an
//! instance looks at those of the others.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often to look for idle instances. Looking takes every thread's lock.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Values that are not in use.
pub(crate) struct Warm<T> {
    /// One shelf for each processor, which is the number of threads of the runtime. The last value of a shelf was used
    /// last.
    shelves: Vec<Mutex<VecDeque<Shelved<T>>>>,
    /// Values on all shelves, including those that are being added.
    count: AtomicUsize,
    /// Most values to keep.
    limit: usize,
    /// How long an idle value stays.
    lifetime: Duration,
    /// When to look for idle values next: a reading of the monotonic clock, in milliseconds.
    next_look: AtomicU64,
}

struct Shelved<T> {
    value: T,
    /// When the value was last used: a reading of the monotonic clock.
    used_at: Duration,
}

impl<T> Warm<T> {
    pub(crate) fn new(limit: usize, lifetime: Duration) -> Self {
        let shelves = thread::available_parallelism().map_or(1, usize::from);
        Self {
            shelves: (0..shelves).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            limit,
            lifetime,
            next_look: AtomicU64::new(0),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The value that this thread used last, or else one of another thread's.
    pub(crate) fn take(&self) -> Option<T> {
        let own = shelf_of_this_thread();
        let taken = (0..self.shelves.len()).find_map(|next| self.shelf(own.wrapping_add(next))?.pop_back())?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(taken.value)
    }

    /// Keeps a value, unless there are enough.
    pub(crate) fn put(&self, value: T, now: Duration) -> Result<(), T> {
        if self.count.fetch_add(1, Ordering::Relaxed) < self.limit
            && let Some(mut shelf) = self.shelf(shelf_of_this_thread())
        {
            shelf.push_back(Shelved { value, used_at: now });
            return Ok(());
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        Err(value)
    }

    /// Takes out values that were idle for too long: at most one per shelf and [`LOOK_PAUSE`], so that no call has to
    /// wait while many are dropped.
    pub(crate) fn unneeded(&self, now: Duration) -> Vec<T> {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (due, next) = (self.next_look.load(Ordering::Relaxed), milliseconds(now.saturating_add(LOOK_PAUSE)));
        let is_due = milliseconds(now) >= due
            && self.next_look.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !is_due {
            return Vec::new();
        }
        let is_unneeded = |coldest: &mut Shelved<T>| now.saturating_sub(coldest.used_at) > self.lifetime;
        let shelves = 0..self.shelves.len();
        let unneeded: Vec<_> = shelves.filter_map(|number| self.shelf(number)?.pop_front_if(is_unneeded)).collect();
        self.count.fetch_sub(unneeded.len(), Ordering::Relaxed);
        unneeded.into_iter().map(|unneeded| unneeded.value).collect()
    }

    fn shelf(&self, number: usize) -> Option<MutexGuard<'_, VecDeque<Shelved<T>>>> {
        let shelf = self.shelves.get(number.checked_rem(self.shelves.len())?)?;
        Some(shelf.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The shelf of the current thread. Threads are numbered in the order in which they come.
fn shelf_of_this_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_thread_gets_the_one_that_it_used_last() {
        let warm = Warm::new(8, MINUTE);
        for value in ["first", "second"] {
            warm.put(value, Duration::ZERO).unwrap();
        }
        assert_eq!([warm.take(), warm.take(), warm.take()], [Some("second"), Some("first"), None]);
        assert_eq!(warm.len(), 0);
    }

    #[test]
    fn a_thread_that_has_none_gets_one_of_another_threads() {
        let warm = Warm::new(64, MINUTE);
        thread::scope(|scope| {
            for value in 0..8 {
                let warm = &warm;
                scope.spawn(move || warm.put(value, Duration::ZERO));
            }
        });
        let mut taken: Vec<_> = std::iter::from_fn(|| warm.take()).collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn no_more_are_kept_than_the_limit_says_on_all_shelves_together() {
        let warm = Warm::new(3, MINUTE);
        let kept = thread::scope(|scope| {
            let warm = &warm;
            let putting: Vec<_> = (0..8).map(|value| scope.spawn(move || warm.put(value, Duration::ZERO))).collect();
            putting.into_iter().map(|thread| thread.join().unwrap()).filter(Result::is_ok).count()
        });
        assert_eq!((kept, warm.len()), (3, 3));
    }

    #[test]
    fn what_nobody_needs_is_given_up_after_its_time_whoever_used_it() {
        let warm = Warm::new(8, MINUTE);
        thread::scope(|scope| {
            for value in 0..4 {
                let warm = &warm;
                scope.spawn(move || warm.put(value, Duration::ZERO));
            }
        });
        assert_eq!(warm.unneeded(MINUTE), [0; 0]);
        assert_eq!(warm.unneeded(MINUTE + Duration::from_millis(1)), [0; 0], "the pause since the last look goes on");
        let looks = (1..=4).map(|look| warm.unneeded(MINUTE + look * LOOK_PAUSE));
        let mut unneeded: Vec<_> = looks.flatten().collect();
        unneeded.sort_unstable();
        assert_eq!(unneeded, [0, 1, 2, 3]);
        assert_eq!((warm.take(), warm.len()), (None, 0));
    }
}
