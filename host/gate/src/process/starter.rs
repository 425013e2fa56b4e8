//! The thread that starts programs.
//!
//! Linux kills a process when the *thread* ends that started it (`PR_SET_PDEATHSIG`). A thread of the runtime may end at any
//! time, so that one thread starts all programs of a server, and lives as long as the server.

use std::io;
use std::sync::{Mutex, PoisonError, mpsc};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// The thread, which begins with the first program. Dropping this ends it.
#[derive(Default)]
pub(super) struct Starter(Mutex<Option<mpsc::Sender<Job>>>);

impl Starter {
    /// Runs `start` in the thread.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        start: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = oneshot::channel();
        let runtime = Handle::current();
        let job: Job = Box::new(move || {
            let _runtime = runtime.enter();
            // A caller that has left drops what was started.
            let _ = done.send(start());
        });
        let gone = || io::Error::other("the thread that starts programs has ended");
        self.jobs()?.send(job).map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    fn jobs(&self) -> io::Result<mpsc::Sender<Job>> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = &*jobs {
            return Ok(jobs.clone());
        }
        let (sender, waiting) = mpsc::channel::<Job>();
        let work = move || waiting.into_iter().for_each(|job| job());
        std::thread::Builder::new().name("program-starter".to_owned()).spawn(work)?;
        *jobs = Some(sender.clone());
        Ok(sender)
    }
}
