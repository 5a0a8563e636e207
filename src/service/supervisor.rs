//! The background worker that starts the service, checks that it answers, and starts it again after it ended. It has no database
//! connection.

use std::cell::RefCell;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;

use super::broken::Broken;
use super::link::Link;
use super::process::{CommandLine, Process};
use super::settings;
use super::state::{self, Phase};
use crate::pg::interrupt::handle_signal;
use crate::worker::process::{attach_signals, nap};

/// The name of the process. It has no database connection, so pg_stat_activity does not list it.
const NAME: &str = "pg_clip service";

/// Interval between two checks of a running service, and the time within which it must answer. Together with a start they take two
/// seconds, after which the service must be back.
const CHECK_EVERY: Duration = Duration::from_millis(300);
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);

/// Interval of the attempts to reach a service that was started, and the time within which it must answer. It loads no model before.
const TRY_EVERY: Duration = Duration::from_millis(10);
const START_WITHIN: Duration = Duration::from_secs(10);

/// Longest pause before a service that answered is started again, and before one that did not.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE_OF_FAILURE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Starts in vain after which sessions do not wait for another one.
const FAILURES: u32 = 4;

const STOPPED: &str = "was stopped by a signal";

/// A service that ran for this time is started again without a pause.
const LONG_LIFE: Duration = Duration::from_secs(10);

/// Time between two looks at the settings while no service is wanted. A reload ends the pause.
const IDLE: Duration = Duration::from_secs(3600);

thread_local! {
    /// The service of this process. A callback ends it when this process exits.
    static PROCESS: RefCell<Option<Process>> = const { RefCell::new(None) };
}

/// Registers the supervisor while the server starts.
pub fn register() {
    BackgroundWorkerBuilder::new(NAME)
        .set_type(NAME)
        .set_library("pg_clip")
        .set_function("clip_service_main")
        .enable_shmem_access(None)
        // Standbys answer queries, too.
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

/// Supervises the service until the server ends.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn clip_service_main(_argument: pg_sys::Datum) {
    handle_signal(libc::SIGCHLD, wake_up);
    attach_signals();
    // SAFETY: the function lives as long as this library, which is never unloaded.
    unsafe { pg_sys::before_shmem_exit(Some(end_service), pg_sys::Datum::null()) };
    let mut supervisor =
        Supervisor { line: None, link: None, since: Instant::now(), failures: 0, ends: 0, phase: Phase::Off };
    supervisor.enter(Phase::Off);
    loop {
        nap(supervisor.step());
    }
}

/// Handles SIGCHLD: the end of the service ends a pause.
unsafe extern "C-unwind" fn wake_up(_signal: i32) {
    // SAFETY: sets the latch of this process, as the server's own handlers do, and keeps the error number of the interrupted code.
    unsafe {
        let number = *libc::__errno_location();
        pg_sys::SetLatch(pg_sys::MyLatch);
        *libc::__errno_location() = number;
    }
}

/// Called by the server when this process exits.
#[pg_guard]
extern "C-unwind" fn end_service(_code: i32, _argument: pg_sys::Datum) {
    let process = PROCESS.with(|process| process.try_borrow_mut().ok().and_then(|mut process| process.take()));
    if let Some(mut process) = process {
        process.stop();
    }
    state::write(Phase::Off, 0);
}

struct Supervisor {
    /// The command line of the running or ended service.
    line: Option<CommandLine>,
    /// The connection for checks.
    link: Option<Link>,
    /// The begin of the phase, and of the life of a process.
    since: Instant,
    /// Starts in a row after which the service did not answer.
    failures: u32,
    /// Ends in a row of a service that had answered.
    ends: u32,
    phase: Phase,
}

impl Supervisor {
    /// Does the next step. Returns the time until the one after that.
    fn step(&mut self) -> Duration {
        let wanted = (settings::is_on() && settings::is_supervised()).then(CommandLine::from_settings);
        if let Some(how) = with_process(Process::ended).flatten() {
            self.ended(&described(how));
        }
        if self.line != wanted {
            if self.line.take().is_some() {
                self.stop();
            }
            (self.failures, self.ends) = (0, 0);
            self.enter(Phase::Off);
        }
        let Some(line) = wanted else { return IDLE };
        match self.phase {
            Phase::Off => self.start(line),
            Phase::Starting => self.try_to_reach(),
            Phase::Running => self.check(),
            Phase::Restarting | Phase::Failing => match self.pause().checked_sub(self.since.elapsed()) {
                Some(left) if !left.is_zero() => left,
                _ => self.start(line),
            },
        }
    }

    fn start(&mut self, line: CommandLine) -> Duration {
        match Process::start(&line) {
            Ok(process) => {
                PROCESS.set(Some(process));
                self.enter(Phase::Starting);
                self.line = Some(line);
                TRY_EVERY
            }
            Err(error) => {
                let program = line.program();
                self.line = Some(line);
                self.ended(&format!("could not be started from \"{program}\": {error}"));
                Duration::ZERO
            }
        }
    }

    fn try_to_reach(&mut self) -> Duration {
        if is_stopped() {
            return self.kill(STOPPED);
        }
        match Link::open(&settings::socket(), CHECK_EVERY) {
            Ok(link) => {
                self.link = Some(link);
                self.failures = 0;
                self.enter(Phase::Running);
                log!("pg_clip: the embedding service runs as process {}", id());
                CHECK_EVERY
            }
            Err(_) if self.since.elapsed() < START_WITHIN => TRY_EVERY,
            Err(failure) => self.kill(&format!("did not start to answer: {failure}")),
        }
    }

    fn check(&mut self) -> Duration {
        if self.since.elapsed() > LONG_LIFE {
            self.ends = 0;
        }
        if is_stopped() {
            return self.kill(STOPPED);
        }
        let answered = match &mut self.link {
            Some(link) => answer(link),
            None => Link::open(&settings::socket(), ANSWER_WITHIN).map(|link| self.link = Some(link)),
        };
        match answered {
            Ok(()) => CHECK_EVERY,
            // The server wants this process to end, which the next pause does.
            Err(Broken::Interrupted) => Duration::ZERO,
            // The end of a connection may be the end of the process, which the next step finds. One broken connection is no hang.
            Err(Broken::Ended(_) | Broken::Absent(_)) => {
                self.link = None;
                TRY_EVERY
            }
            Err(failure) => self.kill(&format!("does not answer: {failure}")),
        }
    }

    /// Kills a process that does not answer.
    fn kill(&mut self, reason: &str) -> Duration {
        // It may have ended by itself, which gives a better reason.
        let reason = with_process(Process::ended).flatten().map_or_else(|| reason.into(), described);
        with_process(Process::kill);
        self.ended(&reason);
        Duration::ZERO
    }

    fn stop(&mut self) {
        self.link = None;
        if with_process(Process::stop).is_some() {
            PROCESS.set(None);
            log!("pg_clip: the embedding service was stopped");
        }
    }

    /// Records an unexpected end of the service.
    fn ended(&mut self, reason: &str) {
        let process = id();
        self.link = None;
        PROCESS.set(None);
        state::count_restart();
        let count = if self.phase == Phase::Running { &mut self.ends } else { &mut self.failures };
        *count += 1;
        self.enter(if self.failures < FAILURES { Phase::Restarting } else { Phase::Failing });
        let pause = self.pause();
        // A LOG message reaches the log with the default settings, and a WARNING has the level of an event that needs attention.
        warning!("pg_clip: the embedding service (process {process}) {reason}; it is started again in {pause:?}");
    }

    /// Returns the pause before the next start.
    fn pause(&self) -> Duration {
        let (count, limit) = match self.phase {
            Phase::Failing => (self.failures, LONGEST_PAUSE_OF_FAILURE),
            _ => (self.ends.max(self.failures), LONGEST_PAUSE),
        };
        match count {
            0 | 1 => Duration::ZERO,
            more => FIRST_PAUSE.saturating_mul(1 << (more - 2).min(16)).min(limit),
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
        state::write(phase, id());
    }
}

fn with_process<T>(act: impl FnOnce(&mut Process) -> T) -> Option<T> {
    PROCESS.with_borrow_mut(|process| process.as_mut().map(act))
}

/// Asks the service for a sign of life, and waits for it. A stopped process gives none.
fn answer(link: &mut Link) -> Result<(), Broken> {
    link.ping(ANSWER_WITHIN)?;
    let begun = Instant::now();
    loop {
        match link.pong(CHECK_EVERY) {
            Err(Broken::Silent) if begun.elapsed() < ANSWER_WITHIN && !is_stopped() => (),
            other => return other,
        }
    }
}

fn is_stopped() -> bool {
    with_process(|process| process.is_stopped()) == Some(true)
}

fn id() -> i32 {
    PROCESS.with_borrow(|process| process.as_ref().map_or(0, Process::id))
}

fn described(how: ExitStatus) -> String {
    match (how.signal(), how.code()) {
        (Some(signal), _) => format!("was terminated by signal {signal}"),
        (None, code) => format!("exited with code {}", code.unwrap_or_default()),
    }
}
