//! Limits of the kernel: memory, files, core dumps.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;

use super::restrictions::Restrictions;

/// Largest number of open files and connections. A server has one connection for each session that embeds.
const DESCRIPTORS: u64 = 65_536;

/// Address space in addition to the private memory: weights that are mapped from files, and reserved but unused ranges.
/// It bounds the memory that the kernel takes for page tables of ranges that are only read: 1/512 of it.
const MAPPED: u64 = 256 << 30;

/// Applies all limits. Returns the limit of memory in words.
pub(super) fn apply(memory: Option<u64>, restrictions: &mut Restrictions) -> Option<String> {
    let mut missing = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            restrictions.missing.push(format!("no {what} ({error})"));
        }
    };
    // Other processes of the same user can neither trace this one nor read its memory, and it leaves no core dump.
    missing("protection from tracing", set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from));
    missing("no_new_privs", set_no_new_privs(true).map_err(io::Error::from));
    missing("limit of core dumps", lower(Resource::Core, 0));
    missing("limit of open files", lower(Resource::Nofile, DESCRIPTORS));
    missing("limit of locked memory", lower(Resource::Memlock, 0));
    // A log file that is the standard output must grow, and the process can open no other file to write.
    if !standard_output_is_a_file() {
        missing("limit of file sizes", lower(Resource::Fsize, 0));
    }
    let memory = memory?;
    // RLIMIT_DATA counts private memory that can be written, not files that are mapped to be read.
    let limited = lower(Resource::Data, memory);
    missing("limit of address space", lower(Resource::As, memory.saturating_add(MAPPED)));
    match limited {
        Ok(()) => Some(format!("memory {} MB", memory >> 20)),
        Err(error) => {
            missing("limit of memory", Err(error));
            None
        }
    }
}

/// Sets both limits of a resource to `limit`, or to the hard limit if that is lower.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Some(limit.min(hard));
    Ok(setrlimit(resource, Rlimit { current: limit, maximum: limit })?)
}

fn standard_output_is_a_file() -> bool {
    let (output, errors) = (io::stdout(), io::stderr());
    let is_file = |descriptor: BorrowedFd<'_>| {
        let file = descriptor.try_clone_to_owned().map(File::from);
        file.and_then(|file| file.metadata()).is_ok_and(|metadata| metadata.is_file())
    };
    is_file(output.as_fd()) || is_file(errors.as_fd())
}
