//! Counts of the work since the start, and the durations of recent requests.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::locks::unpoisoned;

/// Requests whose durations give the percentiles.
const RECENT: usize = 4096;

#[derive(Default)]
pub struct Counters {
    pub requests: Count,
    pub items: Count,
    pub batches: Count,
    pub cache_hits: Count,
    durations: Mutex<Durations>,
}

#[derive(Default)]
pub struct Count(AtomicU64);

/// A ring of durations in microseconds.
#[derive(Default)]
struct Durations {
    ring: Vec<u32>,
    next: usize,
}

impl Count {
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub fn add_duration(&self, duration: Duration) {
        let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
        let mut durations = unpoisoned(&self.durations);
        let next = durations.next;
        match durations.ring.get_mut(next) {
            Some(oldest) => *oldest = micros,
            None => durations.ring.push(micros),
        }
        durations.next = (next + 1) % RECENT;
    }

    /// Returns the duration in milliseconds that a part of the recent requests did not exceed.
    pub fn percentiles<const N: usize>(&self, parts: [f64; N]) -> [Option<f64>; N] {
        let mut sorted = unpoisoned(&self.durations).ring.clone();
        sorted.sort_unstable();
        parts.map(|part| {
            let rank = (part * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).map(|&micros| f64::from(micros) / 1000.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_recent_durations() {
        let counters = Counters::default();
        assert_eq!(counters.percentiles([0.5]), [None]);
        for _ in 0..40 {
            (1..=100).for_each(|ms| counters.add_duration(Duration::from_millis(ms)));
        }
        assert_eq!(counters.percentiles([0.5, 0.99]), [Some(50.0), Some(99.0)]);
        (0..RECENT).for_each(|_| counters.add_duration(Duration::from_millis(7)));
        assert_eq!(counters.percentiles([0.0, 1.0]), [Some(7.0); 2]);
    }
}
