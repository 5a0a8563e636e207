//! The work of a thread, as `running` sees it.

use std::sync::Arc;
use std::time::Duration;

use clip::{Canceler, Provider};

use super::queue::{Item, tower_of};
use super::request::Request;
use super::running::Work;
use super::sessions::Session;

/// Time within which a run ends after it was canceled: after the current operator.
const RUN_ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Time within which work ends that cannot be canceled: reading one input, or a run with another provider than `cpu`, which can compute
/// the whole graph as one operator. The limits for images allow some seconds on an idle machine.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// The reading of an input of a request.
pub struct Reading(pub Arc<Request>);

impl Work for Reading {
    fn is_wanted(&self) -> bool {
        !self.0.is_canceled()
    }

    fn stop(&self) {}

    fn ends_within(&self) -> Duration {
        ENDS_WITHIN
    }

    fn name(&self) -> String {
        let tower = tower_of(self.0.inputs.kind);
        format!("reading an input of the {} encoder of model \"{}\"", tower.name(), self.0.model.manifest.name)
    }
}

/// The run of a batch of these requests.
pub struct Run {
    requests: Vec<Arc<Request>>,
    canceler: Option<Canceler>,
    provider: Provider,
}

impl Run {
    pub fn of(items: &[Item], session: &Session) -> Self {
        let mut requests: Vec<Arc<Request>> = items.iter().map(|item| item.request.clone()).collect();
        // Neighbors often belong to one request.
        requests.dedup_by(|one, other| Arc::ptr_eq(one, other));
        let canceler = session.canceler().cloned();
        // An earlier run may have been canceled.
        canceler.iter().for_each(Canceler::reset);
        Self { requests, canceler, provider: session.options.provider }
    }
}

impl Work for Run {
    fn is_wanted(&self) -> bool {
        !self.requests.iter().all(|request| request.is_canceled())
    }

    fn stop(&self) {
        self.canceler.iter().for_each(Canceler::cancel);
    }

    fn ends_within(&self) -> Duration {
        match self.provider {
            Provider::Cpu => RUN_ENDS_WITHIN,
            Provider::OpenVino | Provider::Cuda => ENDS_WITHIN,
        }
    }

    fn name(&self) -> String {
        let first = self.requests.first().map(|request| (tower_of(request.inputs.kind), &request.model.manifest.name));
        first
            .map(|(tower, model)| format!("a run of the {} encoder of model \"{model}\"", tower.name()))
            .unwrap_or_default()
    }
}
