//! The work that threads do now. Work that nobody waits for is stopped. If it does not stop, the process must end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::locks::unpoisoned;

/// Work of one thread.
pub trait Work: Send {
    /// Returns false if nobody waits for the result, which never changes back.
    fn is_wanted(&self) -> bool;

    /// Ends the work early, if that is possible.
    fn stop(&self);

    /// Returns the time within which the work must end after nobody waits for it.
    fn ends_within(&self) -> Duration;

    /// Returns a name for the log.
    fn name(&self) -> String;
}

/// The work of all threads.
#[derive(Default)]
pub struct Running(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    numbers: u64,
    by_number: BTreeMap<u64, Entry>,
}

struct Entry {
    work: Box<dyn Work>,
    unwanted_for: Duration,
}

impl Running {
    /// Calls `act`, which does the work.
    pub fn during<T>(&self, work: impl Work + 'static, act: impl FnOnce() -> T) -> T {
        let number = self.begin(Box::new(work));
        let done = act();
        let ended = unpoisoned(&self.0).by_number.remove(&number);
        // The last owner of large inputs may be dropped here, without the lock.
        drop(ended);
        done
    }

    fn begin(&self, work: Box<dyn Work>) -> u64 {
        let mut entries = unpoisoned(&self.0);
        // Nobody may have waited since before it was here.
        if !work.is_wanted() {
            work.stop();
        }
        entries.numbers += 1;
        let number = entries.numbers;
        entries.by_number.insert(number, Entry { work, unwanted_for: Duration::ZERO });
        number
    }

    /// Stops the work that nobody waits for.
    pub fn stop_unwanted(&self) {
        // With the lock, the work has not ended, and its thread does no other work.
        let entries = unpoisoned(&self.0);
        entries.by_number.values().filter(|entry| !entry.work.is_wanted()).for_each(|entry| entry.work.stop());
    }

    /// Returns the name of work that should have ended. Called in intervals of this length. An interval counts once, however late the
    /// call is: a process that was stopped by a signal, or has had no processor, did not work in the meantime.
    pub fn overdue(&self, interval: Duration) -> Option<String> {
        let mut entries = unpoisoned(&self.0);
        let unwanted = entries.by_number.values_mut().filter(|entry| !entry.work.is_wanted());
        let mut overdue = None;
        for Entry { work, unwanted_for } in unwanted {
            *unwanted_for += interval;
            if *unwanted_for > work.ends_within() {
                overdue = Some(work.name());
            }
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

    use super::*;

    #[derive(Clone, Default)]
    struct Fake(Arc<State>);

    #[derive(Default)]
    struct State {
        is_abandoned: AtomicBool,
        stops: AtomicU32,
    }

    impl Fake {
        fn abandon(&self) {
            self.0.is_abandoned.store(true, SeqCst);
        }

        fn stops(&self) -> u32 {
            self.0.stops.load(SeqCst)
        }
    }

    impl Work for Fake {
        fn is_wanted(&self) -> bool {
            !self.0.is_abandoned.load(SeqCst)
        }

        fn stop(&self) {
            self.0.stops.fetch_add(1, SeqCst);
        }

        fn ends_within(&self) -> Duration {
            Duration::from_secs(10)
        }

        fn name(&self) -> String {
            "the fake".into()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn is_overdue(running: &Running, seconds: u32) -> bool {
        (0..seconds).any(|_| running.overdue(SECOND).is_some())
    }

    #[test]
    fn only_work_that_nobody_waits_for_is_stopped() {
        let running = Running::default();
        let (one, other) = (Fake::default(), Fake::default());
        running.during(one.clone(), || {
            running.during(other.clone(), || {
                running.stop_unwanted();
                one.abandon();
                running.stop_unwanted();
                assert_eq!((one.stops(), other.stops()), (1, 0));
            });
        });
        running.stop_unwanted();
        assert_eq!(one.stops(), 1);
        // It was abandoned before it began.
        running.during(one.clone(), || assert_eq!(one.stops(), 2));
    }

    #[test]
    fn work_may_take_any_time_until_nobody_waits_for_it() {
        let running = Running::default();
        let work = Fake::default();
        running.during(work.clone(), || {
            assert!(!is_overdue(&running, 100_000));
            work.abandon();
            assert!(!is_overdue(&running, 10));
            assert_eq!(running.overdue(SECOND).as_deref(), Some("the fake"));
        });
        assert!(!is_overdue(&running, 100));
    }
}
