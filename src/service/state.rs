//! The state of the supervised service, in the shared memory of the server. Only the supervisor writes it.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use pgrx::prelude::*;
use pgrx::{PgAtomic, pg_shmem_init};

// SAFETY: no other library of a server has these names.
static PHASE: PgAtomic<AtomicUsize> = unsafe { PgAtomic::new(c"pg_clip service phase") };
// SAFETY: as above.
static PROCESS: PgAtomic<AtomicI32> = unsafe { PgAtomic::new(c"pg_clip service process") };
// SAFETY: as above.
static RESTARTS: PgAtomic<AtomicU64> = unsafe { PgAtomic::new(c"pg_clip service restarts") };

/// True in the processes of a server that has preloaded this library. Only these have the shared memory.
static IS_SHARED: AtomicBool = AtomicBool::new(false);

/// The phase of the supervised service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The setting is off, or names a service that runs on its own.
    Off,
    /// The process has been started, and does not answer yet.
    Starting,
    Running,
    /// The process has ended, and is started again within a second.
    Restarting,
    /// The process could not be started several times, and is started again later.
    Failing,
}

const PHASES: [Phase; 5] = [Phase::Off, Phase::Starting, Phase::Running, Phase::Restarting, Phase::Failing];

/// A copy of the state.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub phase: Phase,
    pub process: i32,
    pub restarts: u64,
}

/// Requests the shared memory while the server starts.
#[allow(unexpected_cfgs, reason = "the macro names releases of Postgres that this crate has no feature for")]
pub fn share() {
    IS_SHARED.store(true, Relaxed);
    pg_shmem_init!(PHASE);
    pg_shmem_init!(PROCESS);
    pg_shmem_init!(RESTARTS);
}

/// Returns the state, or None if the server has not preloaded this library.
pub fn read() -> Option<State> {
    if !IS_SHARED.load(Relaxed) {
        return None;
    }
    let phase = PHASES.get(PHASE.get().load(Relaxed)).copied().unwrap_or(Phase::Off);
    Some(State { phase, process: PROCESS.get().load(Relaxed), restarts: RESTARTS.get().load(Relaxed) })
}

/// Sets the phase and the process of the service.
pub fn write(phase: Phase, process: i32) {
    PROCESS.get().store(process, Relaxed);
    PHASE.get().store(phase as usize, Relaxed);
}

/// Counts an unexpected end of the service.
pub fn count_restart() {
    RESTARTS.get().fetch_add(1, Relaxed);
}
