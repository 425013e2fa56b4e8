//! What the attackers of one attack do, and what they are answered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Counts what attackers do.
#[derive(Default)]
pub(crate) struct Tally {
    begun: AtomicUsize,
    held: AtomicUsize,
    most_held: AtomicUsize,
    /// By what was asked for, and status; 0 for no answer.
    answers: Mutex<BTreeMap<(&'static str, u16), usize>>,
}

/// Something that an attacker occupies, until this is dropped.
pub(crate) struct Held(Arc<Tally>);

impl Tally {
    /// An attacker begins with something.
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// An attacker occupies something.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        let held = self.held.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_held.fetch_max(held, Ordering::Relaxed);
        Held(Arc::clone(self))
    }

    /// An attacker got an answer, or (`None`) none.
    pub(crate) fn answer(&self, to: &'static str, status: Option<u16>) {
        *self.answers.lock().unwrap().entry((to, status.unwrap_or(0))).or_default() += 1;
    }

    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// What is occupied at this moment.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The most that was occupied at the same time.
    pub(crate) fn most_held(&self) -> usize {
        self.most_held.load(Ordering::Relaxed)
    }

    pub(crate) fn answered(&self) -> usize {
        self.answers.lock().unwrap().values().sum()
    }

    /// The answers with this status.
    pub(crate) fn with(&self, to: &'static str, status: u16) -> usize {
        self.answers.lock().unwrap().get(&(to, status)).copied().unwrap_or(0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = None;
        for ((to, status), count) in &*self.answers.lock().unwrap() {
            match last {
                Some(last) if last == *to => write!(f, ", ")?,
                Some(_) => write!(f, "; {to}: ")?,
                None => write!(f, "{to}: ")?,
            }
            last = Some(*to);
            match status {
                0 => write!(f, "no answer × {count}")?,
                status => write!(f, "{status} × {count}")?,
            }
        }
        match (last, self.most_held()) {
            (None, 0) => write!(f, "nothing"),
            (_, 0) => Ok(()),
            (None, most) => write!(f, "at most {most} held at a time, no answer yet"),
            (Some(_), most) => write!(f, "; at most {most} held at a time"),
        }
    }
}
