//! Threads with all signals blocked, and a watcher that stops long work when the caller is interrupted.
//! A signal that arrives in a second thread of a server process would run the server's handler there. A thread inherits
//! the mask of the thread that starts it, so all signals are blocked while one is started. External crate: `nix`.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, Builder, JoinHandle, Scope, ScopedJoinHandle};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::error::Error;

/// Returns true if the caller wants running work to stop. Called from a second thread, so it may only read memory.
pub type Interrupted = fn() -> bool;

/// Interval of the watcher's checks: a tenth of the 100 ms within which a cancel must take effect.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Stack of the watcher, which calls one function and sleeps. Every libc accepts 64 KiB.
const WATCHER_STACK: usize = 64 * 1024;

/// Runs `start` with all signals blocked in the calling thread, and restores its mask afterwards.
fn with_signals_blocked<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let started = start();
    before.thread_set_mask()?;
    started
}

/// Starts a thread that outlives the call, with all signals blocked.
pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    with_signals_blocked(|| Builder::new().name("pg_clip pool".into()).spawn(work))
}

fn spawn_scoped<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    builder: Builder,
    work: impl FnOnce() + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, ()>> {
    with_signals_blocked(|| builder.spawn_scoped(scope, work))
}

/// Returns how many threads can work at once, this one included: as many as are wanted, or fewer if the system allows
/// no more.
pub(crate) fn startable(wanted: usize) -> usize {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let closed = unpoisoned(&gate);
        let wait = || drop(unpoisoned(&gate));
        let others: Vec<_> = (1..wanted).map_while(|_| spawn_scoped(scope, Builder::new(), wait).ok()).collect();
        drop(closed);
        1 + others.into_iter().filter_map(|other| other.join().ok()).count()
    })
}

/// Runs `work` on each job, in this thread and in `threads - 1` others that end before this function returns.
/// Jobs start in their order. After a failure no job starts. Of several failures the first in order is returned.
pub(crate) fn in_parallel<J: Send>(
    threads: usize,
    jobs: impl Iterator<Item = J> + Send,
    work: impl Fn(J) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let jobs = Mutex::new(jobs.enumerate());
    let failed = AtomicBool::new(false);
    let first: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let work_through = || {
        loop {
            let job = if failed.load(Ordering::Acquire) { None } else { unpoisoned(&jobs).next() };
            let Some((index, job)) = job else { return };
            if let Err(error) = work(job) {
                failed.store(true, Ordering::Release);
                let mut first = unpoisoned(&first);
                if first.as_ref().is_none_or(|&(other, _)| index < other) {
                    *first = Some((index, error));
                }
            }
        }
    };
    thread::scope(|scope| {
        let others = 1..threads;
        // If a thread cannot be started, the others do the work.
        let others: Vec<_> = others
            .map_while(|_| spawn_scoped(scope, Builder::new().name("pg_clip worker".into()), work_through).ok())
            .collect();
        work_through();
        for other in others {
            // A worker does not panic, because the panics of decoders are caught. If it does, its result is not used.
            if let Err(panic) = other.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    match first.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

pub(crate) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs `work` in this thread while a second one calls `stop` as soon as `interrupted` returns true.
/// The second thread ends before this function returns, even if `work` panics.
pub(crate) fn interruptible<T>(
    interrupted: Interrupted,
    stop: impl Fn() + Send + Sync,
    work: impl FnOnce() -> T,
) -> Result<T, Error> {
    if interrupted() {
        return Err(Error::Interrupted);
    }
    let done = AtomicBool::new(false);
    let stopped = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        let builder = Builder::new().name("pg_clip watcher".into()).stack_size(WATCHER_STACK);
        let watcher = spawn_scoped(scope, builder, || {
            while !done.load(Ordering::Acquire) {
                if interrupted() {
                    stopped.store(true, Ordering::Release);
                    stop();
                    return;
                }
                thread::park_timeout(LOOK_EVERY);
            }
        });
        // If no second thread can be started (a limit on processes), the work runs without being interruptible.
        let _finish = Finish { done: &done, watcher: watcher.ok() };
        work()
    });
    if stopped.load(Ordering::Acquire) { Err(Error::Interrupted) } else { Ok(result) }
}

/// Ends the watcher when the work is over, and joins its thread. A scope alone would return while the system still has
/// the thread.
struct Finish<'a, 'scope> {
    done: &'a AtomicBool,
    watcher: Option<ScopedJoinHandle<'scope, ()>>,
}

impl Drop for Finish<'_, '_> {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        if let Some(watcher) = self.watcher.take() {
            watcher.thread().unpark();
            // The watcher does not panic. If it did, the work is over anyway.
            watcher.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn finished_work_is_not_stopped() {
        assert_eq!(interruptible(|| false, || panic!("stopped"), || 7), Ok(7));
    }

    #[test]
    fn work_ends_when_stop_is_called() {
        static ASKED: AtomicBool = AtomicBool::new(false);
        let (sender, receiver) = mpsc::channel();
        let work = || {
            ASKED.store(true, Ordering::Release);
            receiver.recv().unwrap();
        };
        let stop = || sender.send(()).unwrap();
        assert_eq!(interruptible(|| ASKED.load(Ordering::Acquire), stop, work), Err(Error::Interrupted));
    }

    #[test]
    fn jobs_are_done_once_each_by_several_threads() {
        let mut done = [0; 100];
        in_parallel(4, done.iter_mut(), |place| {
            *place += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(done, [1; 100]);
    }

    #[test]
    fn of_several_failures_the_first_in_order_is_told_and_no_more_is_begun() {
        let begun = Mutex::new(Vec::new());
        let both = std::sync::Barrier::new(2);
        let failed = in_parallel(2, 0..100_u64, |job| {
            unpoisoned(&begun).push(job);
            // The second job has failed when the first one does.
            match job {
                0 => {
                    both.wait();
                    Err(Error::OutOfMemory { bytes: Some(0) })
                }
                _ => {
                    let failure = Err(Error::OutOfMemory { bytes: Some(job) });
                    both.wait();
                    failure
                }
            }
        });
        assert_eq!(failed, Err(Error::OutOfMemory { bytes: Some(0) }));
        assert!(begun.into_inner().unwrap().len() <= 3);
    }

    #[test]
    fn threads_are_born_with_signals_blocked() {
        let before = SigSet::thread_get_mask().unwrap();
        let (sender, receiver) = mpsc::channel();
        spawn(move || sender.send(SigSet::thread_get_mask().unwrap()).unwrap()).unwrap().join().unwrap();
        let inside = receiver.recv().unwrap();
        for signal in [nix::sys::signal::SIGINT, nix::sys::signal::SIGTERM, nix::sys::signal::SIGALRM] {
            assert!(inside.contains(signal));
        }
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}
