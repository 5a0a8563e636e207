//! `pgclip serve`: the embedding service.

use std::thread;

use nix::sys::signal::{SigSet, Signal};
use service::server::{DEFAULT_MAX_INPUTS, Settings, serve};

use crate::commands::session::Session;
use crate::failure::Failure;
use crate::serve_arguments::ServeArguments;

/// The signals that end the service in order.
const END: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

impl Session {
    pub fn serve(&self, arguments: &ServeArguments) -> Result<(), Failure> {
        abort_after_panics();
        die_of_faults();
        let threads = match arguments.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let provider = arguments.provider;
        let settings = Settings {
            // The path of a socket has at most 107 bytes, so a relative one stays as it is.
            socket: arguments.socket.clone(),
            model_paths: self.place.all_models()?,
            runtime: self.place.runtime_with(provider)?,
            provider,
            prepared: self.place.prepared()?,
            threads,
            memory: arguments.memory,
            max_inputs: DEFAULT_MAX_INPUTS,
            // The service finishes its requests before it ends.
            interrupted: || false,
            isolated: true,
            report: |event| eprintln!("pgclip: {event}"),
            fail: |reason| {
                eprintln!("pgclip: {reason}");
                exit(1);
            },
        };
        // All threads inherit the mask, so that only this one gets the signals.
        let signals = SigSet::from_iter(END);
        signals.thread_block().map_err(Failure::new)?;
        let wait_for_signal = |isolation: &str| {
            eprintln!("pgclip: the embedding service is ready; restrictions in force: {isolation}");
            // It fails only for an invalid set of signals.
            signals.wait().ok();
        };
        serve(settings, wait_for_signal).map_err(Failure::new)?;
        exit(0)
    }
}

/// Ends the process. Its supervisor starts it again after a code other than 0.
fn exit(code: i32) -> ! {
    // SAFETY: ends the process. Other threads may still run ONNX Runtime, whose destructors must not run before.
    unsafe { libc::_exit(code) }
}

/// Rust's own handlers ignore the first SIGSEGV and SIGBUS that another process sends. Without them, the process ends.
fn die_of_faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the default action needs no handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// A thread that panics leaves requests without an answer. The end of the process is noticed at once, and it is started again.
fn abort_after_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
}
