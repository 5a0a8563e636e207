//! The loaded encoders. Each runs one batch at a time, so that there can be one for each thread. They are loaded when they are
//! needed, and unloaded least recently used first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use clip::{Canceler, Error, Model, Options, Provider, Tower};

use super::failure::{Failure, failure};
use super::locks::unpoisoned;
use super::models::Opened;
use crate::protocol::LoadedModel;

/// Memory of an encoder in addition to its weights: buffers of a run, and structures of ONNX Runtime.
const BYTES_PER_SESSION: u64 = 16 << 20;

/// Private memory of an encoder with another provider than `cpu`, in relation to its files: 3.6 was measured with OpenVINO and bf16
/// weights (`scripts/bench.sh providers`).
const PROVIDER_COPIES: u64 = 4;

/// Memory of a tokenizer in relation to its file.
const TOKENIZER_COPIES: u64 = 6;

type Key = (u64, &'static str);

/// A loaded encoder.
pub struct Session {
    pub model: Model,
    /// The options with which it was loaded.
    pub options: Options,
    opened: Arc<Opened>,
    tower: Tower,
    bytes: u64,
    used: Instant,
}

pub struct Sessions {
    options: Options,
    limit: u64,
    report: fn(&str),
    pool: Mutex<Pool>,
    changed: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Session>,
    loaded: HashMap<Key, Loaded>,
    /// Bytes of all sessions.
    used: u64,
    /// Threads that wait for memory, in their order.
    waiting: VecDeque<u64>,
    tickets: u64,
}

/// The sessions of an encoder.
struct Loaded {
    opened: Arc<Opened>,
    tower: Tower,
    sessions: usize,
    bytes: u64,
    /// That of the options, until it is rejected for this encoder.
    provider: Provider,
    /// True if sessions share the weights. None while the first session is loaded.
    shared: Option<bool>,
}

fn key(opened: &Opened, tower: Tower) -> Key {
    (opened.id, tower.name())
}

impl Sessions {
    pub fn new(options: Options, limit: u64, report: fn(&str)) -> Self {
        Self { options, limit, report, pool: Mutex::default(), changed: Condvar::new() }
    }

    /// Returns a session, which is loaded first if none is idle and memory suffices. Otherwise waits for other threads, which return
    /// their sessions after a run.
    pub fn take(&self, opened: &Arc<Opened>, tower: Tower) -> Result<Session, Failure> {
        let key = key(opened, tower);
        let mut pool = unpoisoned(&self.pool);
        let mut ticket = None;
        let bytes = loop {
            if let Some(place) = pool.idle.iter().rposition(|idle| idle.key() == key) {
                self.leave(&mut pool, ticket);
                return Ok(pool.idle.remove(place));
            }
            // While the first session is loaded, it is not known whether another one would share its weights.
            let is_next = pool.waiting.front().copied() == ticket && !pool.is_loading(key);
            let need = pool.need(opened, tower, self.options.provider);
            if is_next && pool.used + need <= self.limit {
                break need;
            }
            if is_next && !pool.loaded.contains_key(&key) {
                // Only the first session of an encoder displaces others.
                if pool.unload_oldest() {
                    continue;
                }
                if pool.loaded.is_empty() {
                    self.leave(&mut pool, ticket);
                    opened.unload_texts();
                    return Err(no_room(opened, need, self.limit));
                }
            }
            if ticket.is_none() {
                pool.tickets += 1;
                ticket = Some(pool.tickets);
                let number = pool.tickets;
                pool.waiting.push_back(number);
                continue;
            }
            pool = self.changed.wait(pool).unwrap_or_else(|poisoned| poisoned.into_inner());
        };
        self.leave(&mut pool, ticket);
        let provider = pool.add(opened, tower, bytes, self.options.provider);
        drop(pool);
        self.load(opened, tower, bytes, provider)
    }

    fn load(&self, opened: &Arc<Opened>, tower: Tower, bytes: u64, provider: Provider) -> Result<Session, Failure> {
        let load = |provider: Provider| -> Result<(Model, Options), Error> {
            let options = Options { provider, ..self.options.clone() };
            let name = &opened.manifest.name;
            let mut model = Model::open(&opened.folder, name, self.options.interrupted)?;
            if *model.manifest() != opened.manifest {
                return Err(Error::ModelChanged { model: name.clone(), file: clip::MANIFEST_FILE.into() });
            }
            model.load_tower(tower, &options)?;
            Ok((model, options))
        };
        let loaded = load(provider).or_else(|error| match error {
            Error::Provider { .. } => {
                let (name, tower) = (&opened.manifest.name, tower.name());
                (self.report)(&format!("the {tower} encoder of model \"{name}\" is computed by \"cpu\": {error}"));
                load(Provider::Cpu)
            }
            other => Err(other),
        });
        let mut pool = unpoisoned(&self.pool);
        match loaded {
            Ok((model, options)) => {
                let shared = model.usage(tower).is_some_and(|usage| usage.shared);
                if let Some(loaded) = pool.loaded.get_mut(&key(opened, tower)) {
                    (loaded.shared, loaded.provider) = (Some(shared), options.provider);
                }
                self.changed.notify_all();
                Ok(Session { model, options, opened: opened.clone(), tower, bytes, used: Instant::now() })
            }
            Err(error) => {
                pool.subtract(opened, tower, bytes);
                self.changed.notify_all();
                Err(failure(error))
            }
        }
    }

    /// Returns a session after a run.
    pub fn give_back(&self, mut session: Session) {
        session.used = Instant::now();
        unpoisoned(&self.pool).idle.push(session);
        self.changed.notify_all();
    }

    pub fn list(&self) -> Vec<LoadedModel> {
        let pool = unpoisoned(&self.pool);
        let mut models: Vec<_> = pool.loaded.values().map(Loaded::describe).collect();
        models.sort_by(|a, b| (&a.name, &a.digest, &a.tower).cmp(&(&b.name, &b.digest, &b.tower)));
        models
    }

    /// Leaves the line of threads that wait.
    fn leave(&self, pool: &mut Pool, ticket: Option<u64>) {
        if let Some(ticket) = ticket {
            pool.waiting.retain(|&other| other != ticket);
            self.changed.notify_all();
        }
    }
}

impl Session {
    /// Returns the canceler of its runs.
    pub fn canceler(&self) -> Option<&Canceler> {
        self.model.canceler(self.tower)
    }

    fn key(&self) -> Key {
        key(&self.opened, self.tower)
    }
}

impl Pool {
    fn is_loading(&self, key: Key) -> bool {
        self.loaded.get(&key).is_some_and(|loaded| loaded.shared.is_none())
    }

    /// Returns the memory that one more session takes.
    fn need(&self, opened: &Opened, tower: Tower, provider: Provider) -> u64 {
        let loaded = self.loaded.get(&key(opened, tower));
        let copies = match loaded.map_or(provider, |loaded| loaded.provider) {
            Provider::Cpu => 1,
            Provider::OpenVino | Provider::Cuda => PROVIDER_COPIES,
        };
        let manifest = &opened.manifest;
        let tokenizer = match tower {
            Tower::Text => manifest.files.get(&manifest.text.tokenizer).map_or(0, |file| file.size),
            Tower::Image => 0,
        };
        let weights = copies * manifest.tower_bytes(tower);
        match loaded {
            Some(Loaded { shared: Some(true), .. }) => BYTES_PER_SESSION,
            Some(_) => BYTES_PER_SESSION + weights,
            None => BYTES_PER_SESSION + weights + TOKENIZER_COPIES * tokenizer,
        }
    }

    /// Counts a session. Returns the provider that computes it.
    fn add(&mut self, opened: &Arc<Opened>, tower: Tower, bytes: u64, provider: Provider) -> Provider {
        let none = || Loaded { opened: opened.clone(), tower, sessions: 0, bytes: 0, provider, shared: None };
        let loaded = self.loaded.entry(key(opened, tower)).or_insert_with(none);
        loaded.sessions += 1;
        loaded.bytes += bytes;
        self.used += bytes;
        loaded.provider
    }

    fn subtract(&mut self, opened: &Opened, tower: Tower, bytes: u64) {
        self.used -= bytes;
        let key = key(opened, tower);
        let Some(loaded) = self.loaded.get_mut(&key) else { return };
        loaded.sessions -= 1;
        loaded.bytes -= bytes;
        if loaded.sessions == 0 {
            self.loaded.remove(&key);
            if tower == Tower::Text {
                opened.unload_texts();
            }
        }
    }

    /// Unloads the idle encoder that was used least recently, with all its sessions that are idle.
    fn unload_oldest(&mut self) -> bool {
        let newest = |key: Key| self.idle.iter().filter(|idle| idle.key() == key).map(|idle| idle.used).max();
        let Some(oldest) = self.idle.iter().map(Session::key).min_by_key(|&key| newest(key)) else { return false };
        let (unloaded, kept) = std::mem::take(&mut self.idle).into_iter().partition(|idle| idle.key() == oldest);
        self.idle = kept;
        let unloaded: Vec<Session> = unloaded;
        // The largest part is the first session's, whose bytes include the weights that others share.
        unloaded.iter().for_each(|session| self.subtract(&session.opened, session.tower, session.bytes));
        !unloaded.is_empty()
    }
}

impl Loaded {
    fn describe(&self) -> LoadedModel {
        LoadedModel {
            name: self.opened.manifest.name.clone(),
            digest: self.opened.digest.to_string(),
            tower: self.tower.name().into(),
            provider: self.provider.name().into(),
            bytes: self.bytes,
            sessions: self.sessions as u64,
        }
    }
}

fn no_room(opened: &Opened, need: u64, limit: u64) -> Failure {
    let name = &opened.manifest.name;
    Failure::Declined(format!("Model \"{name}\" needs {need} bytes of memory, and the service may use {limit} bytes"))
}
