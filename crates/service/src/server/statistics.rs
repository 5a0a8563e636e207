//! The statistics of the service.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clip::Provider;

use super::connections::Connections;
use super::worker::Service;
use crate::protocol::{Statistics, VERSION};

pub struct Reporter {
    since: SystemTime,
    provider: Provider,
    isolation: String,
    threads: usize,
    pub connections: Arc<Connections>,
}

impl Reporter {
    pub fn new(provider: Provider, isolation: String, threads: usize) -> Arc<Self> {
        let since = SystemTime::now();
        Arc::new(Self { since, provider, isolation, threads, connections: Arc::default() })
    }

    pub fn statistics(&self, service: &Service) -> Statistics {
        let counters = &service.counters;
        let [p50_ms, p99_ms] = counters.percentiles([0.5, 0.99]);
        Statistics {
            process: std::process::id(),
            since: self.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            version: VERSION.into(),
            provider: self.provider.name().into(),
            isolation: self.isolation.clone(),
            threads: self.threads as u64,
            connections: self.connections.count(),
            models: service.sessions.list(),
            queued: service.scheduler.queued() as u64,
            requests: counters.requests.get(),
            items: counters.items.get(),
            batches: counters.batches.get(),
            cache_hits: counters.cache_hits.get(),
            p50_ms,
            p99_ms,
        }
    }
}
