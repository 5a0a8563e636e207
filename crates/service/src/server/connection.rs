//! A connection: a thread reads its requests, and another one writes the answers.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::budget::{Budget, MAX_BYTES};
use super::cache::Cache;
use super::inlet::{Closed, Inlet};
use super::outlet::Outlet;
use super::request::{Inputs, Request, Terms};
use super::scheduler::{MAX_INPUTS, Rejected};
use super::statistics::Reporter;
use super::worker::Service;
use crate::protocol::{Class, FromService, Kind, PROTOCOL, ToService, VERSION};

/// Stack of a thread of a connection, which reads messages as deep as the protocol's.
const STACK: usize = 256 * 1024;

pub struct Connection {
    service: Arc<Service>,
    budget: Arc<Budget>,
    reporter: Arc<Reporter>,
    outlet: Arc<Outlet<Request>>,
}

/// Starts the threads of a connection. If none can be started, the connection is closed.
pub fn start(stream: UnixStream, service: Arc<Service>, budget: Arc<Budget>, reporter: Arc<Reporter>) {
    let named = |name: &str| thread::Builder::new().name(name.into()).stack_size(STACK);
    let work = move || -> std::io::Result<()> {
        let stream = Arc::new(stream);
        let connections = &reporter.connections;
        let _open = connections.add(&stream);
        let (outlet, write) = Outlet::new(stream.clone())?;
        let writing = named("answers").spawn(write)?;
        let connection = Connection { service, budget, reporter: reporter.clone(), outlet };
        // An error means that the peer has gone.
        connection.converse(&mut Inlet::new(stream.clone())).err();
        connection.cancel_all();
        drop(connection);
        if connections.is_closing() {
            // No request has an answer to come, so the thread ends after it has written the others.
            writing.join().ok();
        }
        stream.shutdown(Shutdown::Both)
    };
    named("requests").spawn(|| drop(work())).ok();
}

impl Connection {
    fn converse(&self, inlet: &mut Inlet) -> Result<(), Closed> {
        self.outlet.send_now(&FromService::Hello { protocol: PROTOCOL, version: VERSION.into() }, &[]);
        match inlet.next()? {
            (ToService::Hello { protocol: PROTOCOL, .. }, 0) => {}
            _ => return Err(Closed),
        }
        loop {
            self.outlet.wait_for_peer();
            let (message, size) = inlet.next()?;
            match message {
                message @ ToService::Embed { .. } => self.embed(message, size, inlet)?,
                _ if size > 0 => return Err(Closed),
                ToService::Cancel { number } => {
                    if let Some(request) = self.outlet.remove(number).and_then(|request| request.upgrade()) {
                        self.service.cancel(&request);
                    }
                }
                ToService::Ping => self.outlet.send_now(&FromService::Pong, &[]),
                ToService::Statistics => {
                    let statistics = Box::new(self.reporter.statistics(&self.service));
                    self.outlet.send_now(&FromService::Statistics(statistics), &[]);
                }
                ToService::Hello { .. } => return Err(Closed),
            }
        }
    }

    fn embed(&self, message: ToService, size: usize, inlet: &mut Inlet) -> Result<(), Closed> {
        let begun = Instant::now();
        let ToService::Embed { number, class, model, digest, kind, sizes, overflow, limits } = message else {
            return Err(Closed);
        };
        let busy = |reason: String| self.outlet.send_now(&FromService::Busy { number, reason }, &[]);
        if sizes.len() > MAX_INPUTS {
            inlet.skip(size)?;
            self.decline(number, format!("The request has more than {MAX_INPUTS} inputs"));
            return Ok(());
        }
        let Some(reserved) = self.budget.reserve(size as u64, class) else {
            inlet.skip(size)?;
            busy(format!("Inputs of {MAX_BYTES} bytes wait"));
            return Ok(());
        };
        let inputs = Inputs::new(kind, inlet.body(size)?, &sizes, reserved)?;
        self.service.counters.requests.add(1);
        let model = match self.service.models.find(&model, &digest) {
            Ok(model) => model,
            Err(failure) => {
                self.outlet.send_now(&failure.answer(number), &[]);
                return Ok(());
            }
        };
        let terms = Terms { number, class, overflow, limits };
        let counters = self.service.counters.clone();
        let request = Request::new(terms, model, inputs, begun, self.outlet.clone(), counters);
        if !self.outlet.keep(number, &request) {
            return Err(Closed);
        }
        let missing = self.answer_from(&self.service.cache, &request);
        if missing.is_empty() {
            request.answer_now();
            return Ok(());
        }
        match self.service.scheduler.submit(&request, &missing) {
            Ok(()) => {}
            Err(rejected) if self.outlet.remove(number).is_some() => match rejected {
                Rejected::Full => busy(format!("{} inputs wait", self.service.scheduler.queued())),
                Rejected::Closing => self.outlet.send_now(&FromService::Ending { number }, &[]),
            },
            Err(_) => {}
        }
        Ok(())
    }

    /// Records the cached embeddings of a request. Returns the other inputs.
    fn answer_from(&self, cache: &Cache, request: &Request) -> Vec<usize> {
        let all = 0..request.inputs.len();
        if request.inputs.kind == Kind::Images || request.class == Class::Bulk {
            return all.collect();
        }
        let limit = request.model.manifest.text.context_length;
        let is_missing = |&index: &usize| {
            let Some(known) = cache.find(&request.model.digest, request.inputs.text(index)) else { return true };
            // A text that is rejected for its length takes the usual way.
            let Ok(embedding) = known.checked(limit, request.overflow) else { return true };
            self.service.counters.cache_hits.add(1);
            request.known(index, embedding.clone());
            false
        };
        all.filter(is_missing).collect()
    }

    fn decline(&self, number: u64, reason: String) {
        self.outlet.send_now(&FromService::Declined { number, reason }, &[]);
    }

    fn cancel_all(&self) {
        for request in self.outlet.remove_all().iter().filter_map(std::sync::Weak::upgrade) {
            self.service.cancel(&request);
        }
    }
}
