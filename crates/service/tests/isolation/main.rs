//! Isolates a process and proves each restriction in it, and that the work of the service succeeds.
//!
//! The test starts itself again for each case, with the name of the case, because a process is isolated for the rest of
//! its life. It has no harness, because a harness starts threads, and `isolate` rejects a process with several.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod acts;
mod embedding;
mod files;
mod limits;
mod place;
mod sockets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use place::Place;

/// A case: the part that runs in the isolated process, and the part that starts it and checks the result.
struct Case {
    name: &'static str,
    inside: fn(&Place),
    outside: fn(&Place, &str),
}

impl Case {
    /// A case that is decided inside.
    const fn inside(name: &'static str, inside: fn(&Place)) -> Self {
        Self { name, inside, outside: |place, name| place.succeeds(name) }
    }
}

const CASES: [Case; 19] = [
    Case::inside("description", limits::description),
    Case::inside("limits", limits::limits),
    Case::inside("memory", limits::memory),
    Case::inside("memory_without_a_limit", limits::memory_without_a_limit),
    Case::inside("memory_that_is_not_counted", limits::memory_that_is_not_counted),
    Case { name: "growing_files", inside: limits::growing_files, outside: limits::ends_by_the_file_size },
    Case { name: "growing_logs", inside: limits::growing_logs, outside: limits::log_grows },
    Case::inside("several_threads", acts::several_threads),
    Case::inside("system_calls", acts::system_calls),
    Case::inside("processes", acts::processes),
    Case::inside("threads", acts::threads),
    Case::inside("signals", acts::signals),
    Case::inside("reading", files::reading),
    Case::inside("writing", files::writing),
    Case::inside("proc", files::proc),
    Case::inside("sockets", sockets::sockets),
    Case { name: "listener", inside: sockets::listener, outside: sockets::connects },
    Case { name: "embedding", inside: embedding::inside, outside: embedding::is_equal },
    Case { name: "prepared_files", inside: embedding::prepared_files, outside: embedding::is_equal },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, place] = arguments.as_slice()
        && flag == place::INSIDE
    {
        let case = CASES.iter().find(|case| case.name == name).unwrap();
        (case.inside)(&Place::at(place));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = CASES.iter().filter(|case| filters.is_empty() || filters.iter().any(|part| case.name.contains(*part)));
    let mut failed = Vec::new();
    for case in chosen {
        let place = Place::new(case.name);
        let passed = catch_unwind(AssertUnwindSafe(|| (case.outside)(&place, case.name))).is_ok();
        println!("test {} ... {}", case.name, if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(case.name);
        }
    }
    println!("\n{} failed: {}", failed.len(), failed.join(", "));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
