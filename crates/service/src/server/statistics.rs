//! The statistics of the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use clip::Provider;

use super::worker::Service;
use crate::protocol::{Statistics, VERSION};

pub struct Reporter {
    since: SystemTime,
    provider: Provider,
    isolation: String,
    threads: usize,
    connections: AtomicU64,
}

/// An open connection. Dropping it reduces the count.
pub struct Open(Arc<Reporter>);

impl Reporter {
    pub fn new(provider: Provider, isolation: String, threads: usize) -> Arc<Self> {
        let since = SystemTime::now();
        Arc::new(Self { since, provider, isolation, threads, connections: AtomicU64::new(0) })
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn count_connection(self: &Arc<Self>) -> Open {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
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
            connections: self.connections(),
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

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
