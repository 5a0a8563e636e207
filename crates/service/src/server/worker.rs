//! The threads that compute: they encode texts, decode images and run encoders.

use std::sync::Arc;

use clip::{Embedding, Error, Options, TextEmbedding, image_memory, image_tensor};

use super::cache::Cache;
use super::counters::Counters;
use super::decoding::Decoding;
use super::failure::{Failure, failure};
use super::lane::Waiting;
use super::models::Models;
use super::queue::{Item, Ready, tower_of};
use super::request::Request;
use super::running::Running;
use super::scheduler::{Scheduler, Stage};
use super::sessions::{Session, Sessions};
use super::work::{Reading, Run};
use crate::protocol::{Class, Kind};

/// The parts of the service that all threads use.
pub struct Service {
    pub options: Options,
    pub models: Models,
    pub sessions: Sessions,
    pub scheduler: Scheduler,
    pub running: Running,
    pub cache: Cache,
    pub decoding: Decoding,
    pub counters: Arc<Counters>,
}

impl Service {
    /// Works until the process ends.
    pub fn work(&self) {
        let mut done = None;
        loop {
            let job = self.scheduler.next(done);
            done = Some(job.done());
            match job.stage {
                Stage::Read => self.read(job.items),
                Stage::Run => self.run(job.items),
            }
        }
    }

    fn read(&self, items: Vec<Waiting<Item>>) {
        let mut ready = Vec::new();
        let mut left = 0;
        for Waiting { arrival, mut item } in items {
            if !item.request.wants(item.index, false) {
                item.request.dropped(1);
                left += 1;
                continue;
            }
            match self.read_one(&item.request, item.index) {
                Ok((length, read)) => {
                    item.ready = Some(read);
                    ready.push((arrival, length, item));
                }
                Err(failure) => {
                    left += 1;
                    self.fail(&item, failure);
                }
            }
        }
        self.scheduler.leave(left);
        // An input whose request failed meanwhile would wait in vain, and is dropped with the others of its request.
        let unwanted = ready.iter().find(|(_, _, item)| !item.request.wants(item.index, true));
        let unwanted = unwanted.map(|(_, _, item)| item.request.clone());
        self.scheduler.add_ready(ready);
        if let Some(request) = unwanted {
            self.scheduler.withdraw(&request);
        }
    }

    fn read_one(&self, request: &Arc<Request>, index: usize) -> Result<(usize, Ready), Failure> {
        let of_input = |error: Error| Failure::Failed(Error::Item { index, source: Box::new(error) });
        let manifest = &request.model.manifest;
        match request.inputs.kind {
            Kind::Texts => {
                let reader = request.model.text_reader(&self.options).map_err(failure)?;
                let encode = || reader.encode(request.inputs.text(index), request.overflow);
                let text = self.running.during(Reading(request.clone()), encode).map_err(of_input)?;
                let length = if manifest.text.natural_length { text.length() } else { 0 };
                Ok((length, Ready::Text(text)))
            }
            Kind::Images => {
                let (image, spec, limits) = (request.inputs.bytes(index), &manifest.image, &request.limits);
                let memory = image_memory(image, spec, limits);
                let decode = || self.running.during(Reading(request.clone()), || image_tensor(image, spec, limits));
                let tensor = self.decoding.with(memory, decode);
                Ok((0, Ready::Image(tensor.map_err(of_input)?)))
            }
        }
    }

    fn run(&self, items: Vec<Waiting<Item>>) {
        let mut wanted = Vec::new();
        for Waiting { item, .. } in items {
            match item.request.wants(item.index, true) {
                true => wanted.push(item),
                false => item.request.dropped(1),
            }
        }
        let Some(first) = wanted.first() else { return };
        let mut session = match self.sessions.take(&first.request.model, tower_of(first.request.inputs.kind)) {
            Ok(session) => session,
            Err(failure) => {
                self.models.check(&first.request.model);
                return wanted.iter().for_each(|item| self.fail(item, failure.clone()));
            }
        };
        self.run_batch(&mut session, wanted);
        self.sessions.give_back(session);
    }

    /// Runs a batch. If it fails, runs each of its inputs alone, so that an input fails only its own request. If all requests were
    /// canceled, it fails early, and no input remains.
    fn run_batch(&self, session: &mut Session, items: Vec<Item>) {
        let run = Run::of(&items, session);
        match self.running.during(run, || self.embed(session, &items)) {
            Ok(embedded) => {
                self.counters.batches.add(1);
                self.counters.items.add(items.len());
                for (item, embedded) in items.iter().zip(embedded) {
                    self.finish(item, embedded);
                }
            }
            Err(error) => match <[Item; 1]>::try_from(items) {
                Ok([item]) => self.fail(&item, of_input(error, item.index)),
                Err(items) => {
                    for item in items {
                        match item.request.is_canceled() {
                            true => item.request.dropped(1),
                            false => self.run_batch(session, vec![item]),
                        }
                    }
                }
            },
        }
    }

    fn embed(&self, session: &mut Session, items: &[Item]) -> Result<Vec<Embedded>, Error> {
        let mut texts = clip::reserve(items.len())?;
        let mut tensors = Vec::new();
        for item in items {
            match &item.ready {
                Some(Ready::Text(text)) => texts.push(text.clone()),
                Some(Ready::Image(tensor)) => {
                    if tensors.is_empty() {
                        tensors = clip::reserve(items.len() * tensor.len())?;
                    }
                    tensors.extend_from_slice(tensor);
                }
                None => unreachable!("an input runs before it was read. This is a bug."),
            }
        }
        match texts.is_empty() {
            true => {
                let embedded = session.model.embed_tensors(&tensors, &session.options)?;
                Ok(embedded.into_iter().map(Embedded::Image).collect())
            }
            false => {
                let embedded = session.model.embed_encoded(&texts, &session.options)?;
                Ok(embedded.into_iter().map(Embedded::Text).collect())
            }
        }
    }

    fn finish(&self, item: &Item, embedded: Embedded) {
        let request = &item.request;
        match embedded {
            Embedded::Text(text) => {
                request.embedded(item.index, text.embedding.clone());
                // Texts of tables are not asked again, and would displace those of searches.
                if request.class == Class::Search {
                    self.cache.add(&request.model.digest, request.inputs.text(item.index), text);
                }
            }
            Embedded::Image(embedding) => request.embedded(item.index, embedding),
        }
    }

    /// Cancels a request. It gets no answer, and the rest of it is not computed.
    pub fn cancel(&self, request: &Arc<Request>) {
        request.cancel();
        self.scheduler.withdraw(request);
        self.running.stop_unwanted();
    }

    fn fail(&self, item: &Item, failure: Failure) {
        item.request.failed(item.index, failure);
        self.scheduler.withdraw(&item.request);
    }
}

enum Embedded {
    Text(TextEmbedding),
    Image(Embedding),
}

/// Returns the failure of a batch of one input.
fn of_input(error: Error, index: usize) -> Failure {
    match error {
        Error::Item { source, .. } => Failure::Failed(Error::Item { index, source }),
        other => failure(other),
    }
}
