//! The order of the work: searches before bulk work, and batches across all connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::budget::share;
use super::lane::{Lane, Waiting};
use super::locks::unpoisoned;
use super::queue::{Item, Queue, portion, tower_of};
use super::request::Request;
use crate::protocol::Class;

/// Inputs that wait, at most: those of 64 connections that embed a window of texts each.
pub const MAX_INPUTS: usize = 16_384;

/// Batches of searches after which bulk work has its turn.
const SEARCHES_IN_ROW: u32 = 8;

/// Time after a search during which one thread is kept free of bulk work, because the next search probably follows.
const SEARCHING: Duration = Duration::from_secs(2);

/// Work for one thread. All inputs are for one encoder.
pub struct Job {
    pub items: Vec<Waiting<Item>>,
    pub stage: Stage,
    class: Class,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Encode texts, or decode images.
    Read,
    Run,
}

pub struct Scheduler {
    threads: usize,
    max_inputs: usize,
    state: Mutex<State>,
    work: Condvar,
    idle: Condvar,
}

#[derive(Default)]
struct State {
    /// By model and encoder.
    queues: BTreeMap<(u64, &'static str), Queue>,
    arrivals: u64,
    queued: usize,
    busy: usize,
    bulk_busy: usize,
    running: usize,
    searches_in_row: u32,
    last_search: Option<Instant>,
    is_closing: bool,
}

/// The service takes no more requests.
#[derive(Debug)]
pub enum Rejected {
    Full,
    Closing,
}

impl Scheduler {
    pub fn new(threads: usize, max_inputs: usize) -> Self {
        Self { threads, max_inputs, state: Mutex::default(), work: Condvar::new(), idle: Condvar::new() }
    }

    /// Queues the inputs of a request.
    pub fn submit(&self, request: &Arc<Request>, indexes: &[usize]) -> Result<(), Rejected> {
        let mut state = unpoisoned(&self.state);
        if state.is_closing {
            return Err(Rejected::Closing);
        }
        let limit = share(self.max_inputs as u64, request.class) as usize;
        if state.queued > 0 && state.queued + indexes.len() > limit {
            return Err(Rejected::Full);
        }
        state.queued += indexes.len();
        for &index in indexes {
            state.arrivals += 1;
            let arrival = state.arrivals;
            let item = Item { request: request.clone(), index, ready: None };
            state.lane(request).add_unread(arrival, item);
        }
        if request.class == Class::Search {
            state.last_search = Some(Instant::now());
        }
        drop(state);
        match indexes.len() {
            1 => self.work.notify_one(),
            _ => self.work.notify_all(),
        }
        Ok(())
    }

    /// Puts inputs that were read back into their queue.
    pub fn add_ready(&self, items: Vec<(u64, usize, Item)>) {
        let mut state = unpoisoned(&self.state);
        for (arrival, length, item) in items {
            let request = item.request.clone();
            state.lane(&request).add_ready(arrival, length, item);
        }
    }

    /// Removes the inputs of a request that are not wanted any more.
    pub fn withdraw(&self, request: &Arc<Request>) {
        let mut state = unpoisoned(&self.state);
        let keeps = |item: &Item, is_read| !Arc::ptr_eq(&item.request, request) || request.wants(item.index, is_read);
        let dropped = state.lane(request).retain(keeps);
        state.queued -= dropped;
        state.queues.retain(|_, queue| !queue.is_empty());
        drop(state);
        request.dropped(dropped);
    }

    /// Counts inputs that were read and do not go back into a queue.
    pub fn leave(&self, count: usize) {
        unpoisoned(&self.state).queued -= count;
    }

    /// Waits for the next job. Takes the stage and class of the job that this thread has done.
    pub fn next(&self, done: Option<(Stage, Class)>) -> Job {
        let mut state = unpoisoned(&self.state);
        if let Some((stage, class)) = done {
            state.busy -= 1;
            state.bulk_busy -= usize::from(class == Class::Bulk);
            state.running -= usize::from(stage == Stage::Run);
        }
        loop {
            if let Some(job) = state.pick(self.threads) {
                state.busy += 1;
                state.bulk_busy += usize::from(job.class == Class::Bulk);
                state.running += usize::from(job.stage == Stage::Run);
                if !state.queues.is_empty() {
                    self.work.notify_one();
                }
                return job;
            }
            if state.busy == 0 && state.queued == 0 {
                self.idle.notify_all();
            }
            // Bulk work may be held back for a time.
            let held = state.last_search.map_or(SEARCHING, |time| SEARCHING.saturating_sub(time.elapsed()));
            state = match state.queues.is_empty() {
                true => self.work.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner()),
                false => self.work.wait_timeout(state, held).unwrap_or_else(|poisoned| poisoned.into_inner()).0,
            };
        }
    }

    pub fn queued(&self) -> usize {
        unpoisoned(&self.state).queued
    }

    /// Takes no more requests, and waits until the others are done, or for a time.
    pub fn close(&self, limit: Duration) {
        let mut state = unpoisoned(&self.state);
        state.is_closing = true;
        let is_busy = |state: &mut State| state.busy > 0 || state.queued > 0;
        drop(self.idle.wait_timeout_while(state, limit, is_busy));
    }
}

impl Job {
    pub fn done(&self) -> (Stage, Class) {
        (self.stage, self.class)
    }
}

impl State {
    fn lane(&mut self, request: &Request) -> &mut Lane<Item> {
        let tower = tower_of(request.inputs.kind);
        let queue = self.queues.entry((request.model.id, tower.name())).or_insert_with(|| Queue::of(request));
        queue.lane(request.class)
    }

    fn pick(&mut self, threads: usize) -> Option<Job> {
        let is_searching = self.last_search.is_some_and(|time| time.elapsed() < SEARCHING);
        let order = match self.searches_in_row >= SEARCHES_IN_ROW {
            true => [Class::Bulk, Class::Search],
            false => [Class::Search, Class::Bulk],
        };
        for class in order {
            let is_held = is_searching && threads > 1 && self.bulk_busy + 1 >= threads;
            if class == Class::Bulk && is_held {
                continue;
            }
            let free = threads - self.running.min(threads - 1);
            // Models take turns in the order of their oldest inputs.
            let oldest = self.queues.iter_mut().filter_map(|(key, queue)| Some((queue.lane(class).oldest()?, *key)));
            let Some((_, key)) = oldest.min() else { continue };
            let Some(queue) = self.queues.get_mut(&key) else { continue };
            let limits = queue.limits;
            let most = match class {
                Class::Search => limits.search,
                // One thread does everything: a search that follows waits for a short batch only.
                Class::Bulk if is_searching && threads == 1 => limits.bulk.div_ceil(8),
                Class::Bulk => limits.bulk,
            };
            let lane = queue.lane(class);
            let job = match lane.unread() > 0 && lane.ready() < limits.window {
                true => Job { items: lane.take_unread(portion()), stage: Stage::Read, class },
                false => Job { items: lane.take_batch(most, free), stage: Stage::Run, class },
            };
            if queue.is_empty() {
                self.queues.remove(&key);
            }
            if job.stage == Stage::Run {
                self.queued -= job.items.len();
            }
            self.searches_in_row = match class {
                Class::Bulk => 0,
                Class::Search => self.searches_in_row.saturating_add(u32::from(job.stage == Stage::Run)),
            };
            return Some(job);
        }
        None
    }
}
