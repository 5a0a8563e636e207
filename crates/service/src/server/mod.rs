//! The service: one process for all sessions.
//!
//! Reading order: `listener` (the socket), `connection` (requests and answers), `scheduler`, `queue` and `lane` (the order of the work),
//! `worker` (the work), `running` (its end if nobody waits for it), `sessions` (the loaded models).
//!
//! Invariants: each request gets at most one answer; no thread that computes waits for a peer; everything that a peer can enlarge is
//! bounded.

mod budget;
mod cache;
mod connection;
mod connections;
mod counters;
mod decoding;
mod failure;
mod inlet;
mod lane;
mod listener;
mod locks;
mod models;
mod outlet;
mod queue;
mod request;
mod running;
mod scheduler;
mod sessions;
mod statistics;
mod work;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clip::{Format, Interrupted, Limits, MAX_TEXT_BATCH, Options, Overflow, Provider, check_provider};

use rustix::process::{Resource, getrlimit, setrlimit};

use budget::Budget;
use cache::Cache;
use counters::Counters;
use decoding::Decoding;
use listener::Listener;
use models::Models;
use running::Running;
use scheduler::Scheduler;
use sessions::Sessions;
use statistics::Reporter;
use worker::Service;

use crate::isolation::{Needs, isolate};

/// Open connections, at most. PostgreSQL has one for each session that embeds.
const MAX_CONNECTIONS: u64 = 4096;

/// Open files, at most: connections, and the files of models while they are loaded.
const MAX_DESCRIPTORS: u64 = MAX_CONNECTIONS + 1024;

/// Private memory in addition to the models: 2 GB for the threads of all connections, 1 GB for decoders, and the rest for inputs, the
/// cache and threads that compute.
const MEMORY_BESIDE: u64 = 4 << 30;

/// Time for requests in progress when the service ends, and for the last answers. Its supervisor waits for two seconds.
const FINISH_WITHIN: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// Interval of the checks for work that does not end.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Pause after a failure to accept a connection, for example if all descriptors are in use.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub struct Settings {
    pub socket: PathBuf,
    pub model_paths: Vec<PathBuf>,
    /// ONNX Runtime's library.
    pub runtime: PathBuf,
    /// Computes the models.
    pub provider: Provider,
    /// The directory of prepared files, if they are not in the directories of the models.
    pub prepared: Option<PathBuf>,
    /// Threads that compute.
    pub threads: usize,
    /// Bytes of models in memory.
    pub memory: u64,
    /// Inputs that wait.
    pub max_inputs: usize,
    /// Returns true if long work must stop.
    pub interrupted: Interrupted,
    /// Restricts the process for the rest of its life: see `isolation`. It must have one thread.
    pub isolated: bool,
    /// Called with events for a log, in words.
    pub report: fn(&str),
    /// Ends the process, for this reason. Called if work that nobody waits for does not end.
    pub fail: fn(&str),
}

/// The number of inputs that wait, at most, unless a caller wants another one.
pub const DEFAULT_MAX_INPUTS: usize = scheduler::MAX_INPUTS;

/// Serves until `wait` returns, which gets the restrictions in force in words. Returns the reason if the service cannot start.
pub fn serve(settings: Settings, wait: impl FnOnce(&str)) -> Result<(), String> {
    let threads = settings.threads.max(1);
    let options = Options {
        runtime: settings.runtime,
        provider: settings.provider,
        prepared: settings.prepared,
        // Each thread has a session of its own.
        threads: 1,
        batch_size: MAX_TEXT_BATCH,
        // Those of a request count.
        overflow: Overflow::Truncate,
        limits: Limits { bytes: 0, pixels: 0, formats: Format::ALL.to_vec() },
        interrupted: settings.interrupted,
    };
    check_provider(options.provider, &options.runtime).map_err(|error| error.to_string())?;
    raise_descriptors();
    let listener = Arc::new(Listener::bind(&settings.socket)?);
    let isolation = match settings.isolated {
        true => restrict(&settings.model_paths, &options, settings.memory)?,
        false => "none".into(),
    };
    let service = Arc::new(Service {
        models: Models::new(settings.model_paths, options.clone()),
        sessions: Sessions::new(options.clone(), settings.memory, settings.report),
        scheduler: Scheduler::new(threads, settings.max_inputs),
        running: Running::default(),
        cache: Cache::new(),
        decoding: Decoding::new(decoding::MAX_BYTES),
        counters: Arc::new(Counters::default()),
        options,
    });
    for _ in 0..threads {
        let service = service.clone();
        spawn("embeddings", move || service.work())?;
    }
    let reporter = Reporter::new(settings.provider, isolation.clone(), threads);
    let accepting = {
        let (listener, service, reporter) = (listener.clone(), service.clone(), reporter.clone());
        move || accept(&listener, &service, &reporter)
    };
    spawn("connections", accepting)?;
    let watching = {
        let service = service.clone();
        move || watch(&service.running, settings.fail)
    };
    spawn("watchdog", watching)?;
    wait(&isolation);
    listener.close();
    service.scheduler.close(FINISH_WITHIN);
    reporter.connections.close(ANSWER_WITHIN);
    Ok(())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = thread::Builder::new().name(name.into()).spawn(work);
    started.map(drop).map_err(|error| format!("a thread could not be started: {error}"))
}

/// Reports work that nobody waits for and that does not end: its thread is lost for other work.
fn watch(running: &Running, fail: fn(&str)) {
    loop {
        thread::sleep(WATCH_EVERY);
        if let Some(name) = running.overdue(WATCH_EVERY) {
            fail(&format!("{name} does not end after all its requests were canceled; the process exits"));
        }
    }
}

fn restrict(model_paths: &[PathBuf], options: &Options, memory: u64) -> Result<String, String> {
    let directories: Vec<&Path> = model_paths.iter().chain(&options.prepared).map(PathBuf::as_path).collect();
    let memory = Some(memory.saturating_add(MEMORY_BESIDE));
    let needs = Needs { directories: &directories, runtime: &options.runtime, memory };
    isolate(&needs).map_err(|error| format!("the process could not be isolated: {error}"))
}

/// Raises the limit of open files: each connection is one.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(MAX_DESCRIPTORS);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        // If it cannot be raised, fewer connections are accepted.
        setrlimit(Resource::Nofile, limit).ok();
    }
}

fn accept(listener: &Listener, service: &Arc<Service>, reporter: &Arc<Reporter>) {
    let budget = Budget::new(budget::MAX_BYTES);
    loop {
        match listener.accept() {
            Ok(Some(stream)) if reporter.connections.count() < MAX_CONNECTIONS => {
                connection::start(stream, service.clone(), budget.clone(), reporter.clone());
            }
            Ok(_) => {}
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
}
