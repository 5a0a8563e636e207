//! Temporary failures, the attempts after them, and the waits in between. External crates: `httpdate`, `ureq`.

use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{HeaderMap, header};

use super::error::HubError;
use super::progress::{Interrupted, Progress};

/// Interval of the checks for an interrupt: a tenth of the 100 ms within which it must take effect.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Largest number of failed attempts in a row without a new byte.
const ATTEMPTS: u32 = 5;
/// Longest wait that a server can ask for, in seconds.
const MAX_WAIT: u64 = 300;

/// The failure of an attempt, with the error for the caller.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// The server cannot be reached. Another attempt makes sense only if it was reached before.
    Unreachable(HubError),
    /// A temporary failure. The server may have named a number of seconds.
    Passing {
        error: HubError,
        seconds: Option<u64>,
    },
    Final(HubError),
}

impl AttemptError {
    pub(super) fn passing(host: impl Into<String>, reason: impl Into<String>) -> Self {
        let error = HubError::Failing { host: host.into(), reason: reason.into() };
        Self::Passing { error, seconds: None }
    }
}

/// Returns the failure for an error below HTTP.
pub(super) fn attempt_error(error: ureq::Error, host: &str) -> AttemptError {
    use io::ErrorKind as Kind;
    use ureq::{Error, Timeout};
    let reason = error.to_string();
    let unreachable = HubError::Unreachable { host: host.into(), reason: reason.clone() };
    match error {
        Error::HostNotFound | Error::ConnectionFailed | Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            AttemptError::Unreachable(unreachable)
        }
        Error::Io(error) => match error.kind() {
            Kind::ConnectionRefused
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::AddrNotAvailable => AttemptError::Unreachable(unreachable),
            // An invalid certificate stays invalid.
            Kind::InvalidData | Kind::InvalidInput => AttemptError::Final(unreachable),
            _ => AttemptError::passing(host, reason),
        },
        Error::Timeout(_) | Error::Protocol(_) | Error::BodyStalled => AttemptError::passing(host, reason),
        _ => AttemptError::Final(unreachable),
    }
}

/// Returns the seconds to wait before the next request, if the server names them.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = text(header::RETRY_AFTER.as_str()).and_then(|text| text.parse().ok().or_else(|| seconds_until(text)));
    // The hub's own way: `"api";r=0;t=55`.
    let reset = || text("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse().ok());
    asked.or_else(reset).map(|seconds: u64| seconds.min(MAX_WAIT))
}

fn seconds_until(date: &str) -> Option<u64> {
    let then = httpdate::parse_http_date(date).ok()?;
    // A date in the past means no wait.
    let wait = then.duration_since(SystemTime::now()).unwrap_or_default();
    Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// Bounded attempts at one thing, with pauses that double.
pub(super) struct Attempts<'a> {
    failed: u32,
    second: Duration,
    interrupted: Interrupted,
    progress: &'a dyn Progress,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(second: Duration, interrupted: Interrupted, progress: &'a dyn Progress) -> Self {
        Self { failed: 0, second, interrupted, progress }
    }

    /// Resets the count of failures after progress.
    pub(super) fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next attempt, or returns the error.
    pub(super) fn wait(&mut self, failure: AttemptError) -> Result<(), HubError> {
        let (error, seconds) = match failure {
            AttemptError::Final(error) => return Err(error),
            AttemptError::Unreachable(error) => (error, None),
            AttemptError::Passing { error, seconds } => (error, seconds),
        };
        self.failed += 1;
        if self.failed >= ATTEMPTS {
            return Err(error);
        }
        let seconds = seconds.unwrap_or(1 << (self.failed - 1));
        self.progress.wait(&error.to_string(), seconds);
        let wait = u32::try_from(seconds).map_or(Duration::MAX, |seconds| self.second.saturating_mul(seconds));
        pause(wait, self.interrupted)
    }
}

/// Sleeps, unless the caller wants to stop.
pub(super) fn pause(wait: Duration, interrupted: Interrupted) -> Result<(), HubError> {
    let start = Instant::now();
    loop {
        if interrupted() {
            return Err(HubError::Interrupted);
        }
        match wait.checked_sub(start.elapsed()) {
            None | Some(Duration::ZERO) => return Ok(()),
            Some(left) => thread::sleep(left.min(LOOK_EVERY)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(name: &'static str, value: &str) -> Option<u64> {
        retry_after(&HeaderMap::from_iter([(header::HeaderName::from_static(name), value.parse().unwrap())]))
    }

    #[test]
    fn servers_say_how_long_to_wait() {
        assert_eq!(wait("retry-after", "7"), Some(7));
        assert_eq!(wait("retry-after", "86400"), Some(300));
        assert_eq!(wait("retry-after", "soon"), None);
        assert_eq!(wait("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), Some(0));
        assert_eq!(wait("retry-after", "Sat, 01 Jan 2124 00:00:00 GMT"), Some(300));
        assert_eq!(wait("ratelimit", "\"api\";r=0;t=55"), Some(55));
    }

    #[test]
    fn pauses_end_when_interrupted() {
        assert_eq!(pause(Duration::from_secs(3600), || true), Err(HubError::Interrupted));
        assert_eq!(pause(Duration::ZERO, || false), Ok(()));
    }
}
