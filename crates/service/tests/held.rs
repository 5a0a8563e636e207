//! Runs that are held: a batch ends when all its requests were canceled, or the process must end. The end of the service waits for
//! requests that it has begun.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;

use service::protocol::{Class, FromService, ToService};
use support::{Client, Running, wait_until};

/// Holds runs that have begun.
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    is_closed: bool,
    is_holding: bool,
    passes: u32,
}

impl Gate {
    const fn new() -> Self {
        let state = State { is_closed: false, is_holding: false, passes: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Called by a thread that computes when a run has begun, and during the run by a second thread.
    fn interrupted(&self) -> bool {
        if thread::current().name() == Some("embeddings") {
            let mut state = self.lock();
            while state.is_closed && state.passes == 0 {
                state.is_holding = true;
                state = self.changed.wait(state).unwrap();
            }
            state.passes = state.passes.saturating_sub(1);
        }
        false
    }

    fn close(&self) {
        self.lock().is_closed = true;
    }

    fn wait_for_run(&self) {
        wait_until(|| self.lock().is_holding);
    }

    /// Lets the run go on that is held.
    fn pass(&self) {
        let mut state = self.lock();
        assert!(state.is_holding);
        (state.is_holding, state.passes) = (false, 1);
        self.changed.notify_all();
    }

    fn open(&self) {
        self.lock().is_closed = false;
        self.changed.notify_all();
    }
}

/// Starts a service with one thread, and loads its model.
fn start(interrupted: fn() -> bool, fail: fn(&str)) -> (Running, Client) {
    let running = Running::with(|settings| {
        (settings.threads, settings.interrupted, settings.fail) = (1, interrupted, fail);
    });
    let mut client = running.connect();
    client.embed_texts(Class::Bulk, &["warm"]);
    (running, client)
}

#[test]
fn a_batch_ends_when_all_its_requests_were_canceled() {
    static GATE: Gate = Gate::new();
    let (running, mut client) = start(|| GATE.interrupted(), |reason| panic!("{reason}"));
    for all in [false, true] {
        let before = client.statistics();
        GATE.close();
        let first = client.texts(Class::Bulk, &["first"]);
        GATE.wait_for_run();
        // These wait in the meantime, and share the next run.
        let (mut one, mut other) = (running.connect(), running.connect());
        one.texts(Class::Bulk, &["a red car"]);
        let kept = other.texts(Class::Bulk, &["a red bus"]);
        wait_until(|| client.statistics().queued == 2);
        GATE.pass();
        client.embedded(first, 1);
        GATE.wait_for_run();
        let open = client.statistics().connections;
        drop(one);
        wait_until(|| client.statistics().connections == open - 1);
        if all {
            other.send(&ToService::Cancel { number: kept }, &[]);
            // The service handles the messages of a connection in their order.
            other.statistics();
        }
        GATE.open();
        if !all {
            other.embedded(kept, 1);
        }
        assert_eq!(other.embed_texts(Class::Bulk, &["the next one"]).len(), 1);
        let after = client.statistics();
        let (batches, items) = if all { (2, 2) } else { (3, 4) };
        assert_eq!((after.batches - before.batches, after.items - before.items, after.queued), (batches, items, 0));
    }
}

#[test]
fn a_canceled_run_that_does_not_end_is_reported() {
    static GATE: Gate = Gate::new();
    static REPORTED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let (running, mut client) = start(|| GATE.interrupted(), |reason| REPORTED.lock().unwrap().push(reason.into()));
    GATE.close();
    let number = client.texts(Class::Search, &["a red car"]);
    GATE.wait_for_run();
    client.send(&ToService::Cancel { number }, &[]);
    wait_until(|| !REPORTED.lock().unwrap().is_empty());
    let reported = REPORTED.lock().unwrap()[0].clone();
    assert!(reported.starts_with("a run of the text encoder of model \"emoji\" does not end"), "{reported}");
    // The statistics still arrive, as the answers to pings do.
    assert_eq!(running.connect().statistics().queued, 0);
    GATE.open();
}

#[test]
fn a_request_that_arrives_while_the_service_ends_is_not_begun() {
    static GATE: Gate = Gate::new();
    let (mut running, mut client) = start(|| GATE.interrupted(), |reason| panic!("{reason}"));
    let mut late = running.connect();
    GATE.close();
    let begun = client.texts(Class::Bulk, &["a red car"]);
    GATE.wait_for_run();
    let socket = running.directory.socket();
    thread::scope(|scope| {
        scope.spawn(|| running.end().unwrap());
        wait_until(|| !socket.exists());
        // The pong is the first answer as long as requests are accepted.
        loop {
            let number = late.texts(Class::Search, &["too late"]);
            late.send(&ToService::Ping, &[]);
            match late.next().unwrap().message {
                FromService::Pong => {}
                message => break assert_eq!(message, FromService::Ending { number }),
            }
        }
        GATE.open();
        client.embedded(begun, 1);
    });
    assert!(client.next().is_none());
}
