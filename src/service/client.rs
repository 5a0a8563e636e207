//! The request of a session: sends it, sends it again if the service ends, and decides what happens if there is no service.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clip::{Embedding, Error};
use pgrx::PgSqlErrorCode;

use super::broken::Broken;
use super::failure::Failure;
use super::link::{Answer, Link};
use super::request::{Class, Request};
use super::settings;
use super::state::{self, Phase};
use super::wait;
use crate::pg::messages::{new, warn};

/// Time within which a service that listens must answer a connection attempt, and a ping.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Time that a request waits for a service that starts, and the interval of its attempts. The supervisor needs less than two seconds.
const PATIENCE: Duration = Duration::from_secs(3);
const TRY_EVERY: Duration = Duration::from_millis(10);

/// Time without such waits after one was in vain.
const NO_PATIENCE_FOR: Duration = Duration::from_secs(60);

/// Services that may end one after the other before one of them has the whole request.
const ENDINGS: u32 = 10;

/// Pause of bulk work if the queue of the service is full.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// The reason to wait for a service that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    None,
    /// The supervisor of this server is starting the service.
    WithSupervisor,
    /// The service has just ended.
    AfterEnd,
}

/// Most bytes of one request, unless one input is larger.
const MAX_BYTES: usize = 32 << 20;

thread_local! {
    /// The connection of this process, and the path of its socket. It is taken out while it is used, so that an error of Postgres
    /// closes it.
    static LINK: RefCell<Option<(PathBuf, Link)>> = const { RefCell::new(None) };
    static WARNED: Cell<bool> = const { Cell::new(false) };
    static NO_PATIENCE_BEFORE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Embeds inputs in the service. Returns None if this process should compute.
pub fn embed(request: &Request<'_>) -> Result<Option<Vec<Embedding>>, Failure> {
    let (first, mut rest) = request.inputs.split(MAX_BYTES);
    let Some(mut embedded) = embed_at_once(&Request { inputs: first, ..request.clone() })? else { return Ok(None) };
    while rest.count() > 0 {
        let (next, others) = rest.split(MAX_BYTES);
        match embed_at_once(&Request { inputs: next, ..request.clone() }) {
            Ok(Some(more)) => embedded.extend(more),
            Ok(None) => return Ok(None),
            Err(failure) => return Err(failure.after(embedded.len())),
        }
        rest = others;
    }
    Ok(Some(embedded))
}

fn embed_at_once(request: &Request<'_>) -> Result<Option<Vec<Embedding>>, Failure> {
    let (mut has_ended, mut endings) = (false, 0);
    loop {
        let patience = if has_ended || request.suspect { Patience::AfterEnd } else { Patience::WithSupervisor };
        let broken = match with_link(patience, |link| link.embed(request)) {
            Ok(Answer::Embedded(embedded)) => return Ok(Some(embedded)),
            Ok(Answer::Failed(error)) => return Err(error.into()),
            // Bulk work waits for its turn.
            Ok(Answer::Busy(_)) if request.class == Class::Bulk => {
                wait::for_time(BUSY_PAUSE)?;
                continue;
            }
            Ok(Answer::Busy(reason)) => return Err(Failure::Busy { reason }),
            Ok(Answer::Declined(reason)) => return decline(request, reason),
            Err(broken) => broken,
        };
        match broken {
            Broken::Interrupted => return Err(Error::Interrupted.into()),
            // The next attempt finds the service that follows, or none.
            Broken::Ending if endings < ENDINGS => endings += 1,
            // The inputs may be the cause of the end. If this process computed them, it could end in the same way, and all sessions
            // with it.
            Broken::Ended(_) | Broken::Silent if has_ended => return Err(Failure::Crash),
            Broken::Ended(_) | Broken::Silent => has_ended = true,
            _ if has_ended => return Err(Failure::Crash),
            Broken::Absent(_) | Broken::Refused(_) | Broken::Damaged | Broken::Ending => {
                return decline(request, broken.to_string());
            }
        }
    }
}

/// Lets this process compute, with one warning, or fails.
fn decline<T>(request: &Request<'_>, reason: String) -> Result<Option<T>, Failure> {
    if request.suspect || !settings::has_fallback() {
        return Err(Failure::Unavailable { reason });
    }
    if !WARNED.replace(true) {
        let report =
            new(PgSqlErrorCode::ERRCODE_WARNING, "this session computes embeddings without the embedding service")
                .set_detail(format!("{reason}."))
                .set_hint("The view clip_service and the server's log show the state of the service.");
        warn(report);
    }
    Ok(None)
}

/// Calls `act` with the connection of this process, which is opened first if necessary. The connection is closed if `act` fails.
pub fn with_link<T>(patience: Patience, act: impl FnOnce(&mut Link) -> Result<T, Broken>) -> Result<T, Broken> {
    let path = settings::socket();
    let kept = LINK.take().filter(|(kept, link)| *kept == path && link.is_usable());
    let mut link = match kept {
        Some((_, link)) => link,
        None => open(&path, patience)?,
    };
    let done = act(&mut link)?;
    LINK.set(Some((path, link)));
    Ok(done)
}

/// Connects. Waits for a service that will probably answer soon.
fn open(path: &Path, patience: Patience) -> Result<Link, Broken> {
    let begun = Instant::now();
    let is_late = NO_PATIENCE_BEFORE.get().is_some_and(|time| begun < time);
    let is_impatient = is_late && patience != Patience::AfterEnd;
    loop {
        match Link::open(path, ANSWER_WITHIN) {
            Err(Broken::Absent(_) | Broken::Ended(_) | Broken::Silent)
                if !is_impatient && begun.elapsed() < PATIENCE && comes_back(patience) =>
            {
                wait::for_time(TRY_EVERY)?;
            }
            // A process that does not greet has not had the request.
            Err(broken @ (Broken::Ended(_) | Broken::Silent)) => return Err(Broken::Absent(broken.to_string())),
            Err(broken @ Broken::Absent(_)) if begun.elapsed() >= PATIENCE => {
                NO_PATIENCE_BEFORE.set(Some(Instant::now() + NO_PATIENCE_FOR));
                return Err(broken);
            }
            other => return other,
        }
    }
}

/// Returns true if a service that does not answer is probably being started.
fn comes_back(patience: Patience) -> bool {
    match state::read().filter(|_| settings::is_supervised()) {
        _ if patience == Patience::None => false,
        // Off: the supervisor has not read the setting yet.
        Some(state) => state.phase != Phase::Failing,
        // Other supervisors start a process again, too.
        None => patience == Patience::AfterEnd,
    }
}
