//! Warm instances, kept by the thread that used them last.
//!
//! What an instance works with is in the cache of a processor core, and so are its host-side structures. A thread that
//! takes an instance of its own finds them there, and has no lock to share with others. Only a thread that has none
//! looks at those of the others.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Values that are not in use.
pub(super) struct Warm<T> {
    /// One for each processor, which is how many threads the runtime has. Of each, the last one was used last.
    shelves: Vec<Mutex<VecDeque<Kept<T>>>>,
    /// On all shelves, with those that are being put there.
    count: AtomicUsize,
    /// Most of them.
    limit: usize,
    /// How long one is kept that is not needed.
    lifetime: Duration,
    /// The shelf that is looked at next for what is not needed.
    inspected: AtomicUsize,
}

struct Kept<T> {
    value: T,
    /// Reading of the monotonic clock.
    used_at: Duration,
}

impl<T> Warm<T> {
    pub(super) fn new(limit: usize, lifetime: Duration) -> Self {
        let shelves = thread::available_parallelism().map_or(1, usize::from);
        Self {
            shelves: (0..shelves).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            limit,
            lifetime,
            inspected: AtomicUsize::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The one that this thread used last, or else one of another thread's.
    pub(super) fn take(&self) -> Option<T> {
        let own = shelf_of_this_thread();
        let taken = (0..self.shelves.len()).find_map(|next| self.shelf(own.wrapping_add(next))?.pop_back())?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(taken.value)
    }

    /// Keeps a value, unless there are enough.
    pub(super) fn put(&self, value: T, now: Duration) -> Result<(), T> {
        if self.count.fetch_add(1, Ordering::Relaxed) < self.limit
            && let Some(mut shelf) = self.shelf(shelf_of_this_thread())
        {
            shelf.push_back(Kept { value, used_at: now });
            return Ok(());
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        Err(value)
    }

    /// One that nobody has needed for long, if the shelf whose turn it is has one: to be given up.
    pub(super) fn unneeded(&self, now: Duration) -> Option<T> {
        let mut shelf = self.shelf(self.inspected.fetch_add(1, Ordering::Relaxed))?;
        shelf.pop_front_if(|coldest| now.saturating_sub(coldest.used_at) > self.lifetime).map(|unneeded| {
            self.count.fetch_sub(1, Ordering::Relaxed);
            unneeded.value
        })
    }

    fn shelf(&self, number: usize) -> Option<MutexGuard<'_, VecDeque<Kept<T>>>> {
        let shelf = self.shelves.get(number.checked_rem(self.shelves.len())?)?;
        Some(shelf.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Threads are numbered as they come.
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
        let unneeded = |now| (0..4 * warm.shelves.len()).filter_map(|_| warm.unneeded(now)).count();
        assert_eq!(unneeded(MINUTE), 0);
        assert_eq!(unneeded(MINUTE + Duration::from_nanos(1)), 4);
        assert_eq!(warm.take(), None);
    }
}
