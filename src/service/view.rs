//! The row of `clip_service`, and the line of `clip_diagnose()`.

use std::time::{Duration, SystemTime};

use ::service::protocol::{LoadedModel, Statistics};
use pgrx::prelude::*;

use super::broken::Broken;
use super::client::{ANSWER_WITHIN, Patience, with_link};
use super::settings;
use super::state::{self, Phase, State};
use crate::pg::text::Text;
use crate::pg::timestamp::timestamp;

/// The answer of the service, or the reason why there is none. None if sessions do not use a service.
fn ask() -> Option<Result<Statistics, Broken>> {
    settings::is_on().then(|| with_link(Patience::None, |link| link.statistics(ANSWER_WITHIN)))
}

/// Returns the state of the supervised service.
fn supervised() -> Option<State> {
    state::read().filter(|_| settings::is_supervised())
}

/// Returns the state in a word.
fn word(answer: Option<&Result<Statistics, Broken>>) -> &'static str {
    match (answer, supervised().map(|state| state.phase)) {
        (None, _) => "off",
        (Some(Ok(_)), _) => "running",
        (Some(Err(_)), Some(Phase::Off | Phase::Starting)) => "starting",
        (Some(Err(_)), Some(Phase::Restarting)) => "restarting",
        (Some(Err(_)), Some(Phase::Failing)) => "failing",
        (Some(Err(_)), Some(Phase::Running) | None) => "unavailable",
    }
}

/// Returns the state in a word.
pub fn summary() -> String {
    let answer = ask();
    interrupt(&answer);
    word(answer.as_ref()).into()
}

/// Raises the error of a cancel, a timeout or a termination during the question.
fn interrupt(answer: &Option<Result<Statistics, Broken>>) {
    if let Some(Err(Broken::Interrupted)) = answer {
        pgrx::check_for_interrupts!();
    }
}

/// Returns the start of the service as a time since the epoch of Unix.
fn since(found: &Statistics) -> Duration {
    Duration::try_from_secs_f64(found.since).unwrap_or_default()
}

/// Returns the loaded encoders in JSON. A name of a model consists of letters, digits and "._-".
fn models(models: &[LoadedModel]) -> String {
    let encoders = models.iter().map(|LoadedModel { name, digest, tower, provider, bytes, sessions }| {
        format!(r#"{{"name": {name:?}, "digest": {digest:?}, "tower": {tower:?}, "provider": {provider:?}, "bytes": {bytes}, "sessions": {sessions}}}"#)
    });
    format!("[{}]", encoders.collect::<Vec<_>>().join(", "))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns are the type")]
fn clip_service() -> TableIterator<
    'static,
    (
        name!(state, &'static str),
        name!(reason, Option<Text>),
        name!(pid, Option<i64>),
        name!(since, Option<TimestampWithTimeZone>),
        name!(version, Option<Text>),
        name!(provider, Option<Text>),
        name!(isolation, Option<Text>),
        name!(threads, Option<i64>),
        name!(connections, Option<i64>),
        name!(models, Option<Text>),
        name!(queued, Option<i64>),
        name!(requests, Option<i64>),
        name!(batches, Option<i64>),
        name!(mean_batch_size, Option<f64>),
        name!(cache_hits, Option<i64>),
        name!(p50_ms, Option<f64>),
        name!(p99_ms, Option<f64>),
        name!(restarts, Option<i64>),
    ),
> {
    let answer = ask();
    interrupt(&answer);
    let state = word(answer.as_ref());
    let restarts = supervised().map(|state| state.restarts as i64);
    let (reason, found) = match answer {
        None => (None, None),
        Some(Ok(found)) => (None, Some(found)),
        Some(Err(broken)) => (Some(Text(broken.to_string())), None),
    };
    let of = |look: fn(&Statistics) -> u64| found.as_ref().map(|found| look(found) as i64);
    let text = |look: fn(&Statistics) -> &String| found.as_ref().map(|found| Text(look(found).clone()));
    let milliseconds = |look: fn(&Statistics) -> Option<f64>| found.as_ref().and_then(look);
    TableIterator::once((
        state,
        reason,
        supervised()
            .filter(|state| state.process > 0)
            .map(|state| i64::from(state.process))
            .or(of(|found| u64::from(found.process))),
        found.as_ref().map(|found| timestamp(SystemTime::UNIX_EPOCH + since(found))),
        text(|found| &found.version),
        text(|found| &found.provider),
        text(|found| &found.isolation),
        of(|found| found.threads),
        of(|found| found.connections),
        found.as_ref().map(|found| Text(models(&found.models))),
        of(|found| found.queued),
        of(|found| found.requests),
        of(|found| found.batches),
        milliseconds(|found| (found.batches > 0).then(|| found.items as f64 / found.batches as f64)),
        of(|found| found.cache_hits),
        milliseconds(|found| found.p50_ms),
        milliseconds(|found| found.p99_ms),
        restarts,
    ))
}
