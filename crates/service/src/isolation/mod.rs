//! The restrictions of the service's process, for the case that a damaged image, model or library takes control of it.
//!
//! Landlock decides which files the process can open. Seccomp decides which system calls it can make. Limits bound its
//! memory. The three overlap on purpose: each of them holds on kernels where another one is missing.
//!
//! Landlock and seccomp apply to the calling thread and to the threads that it starts later. Therefore `isolate` runs
//! while the process has one thread, and fails otherwise. Seccomp could reach running threads, and Landlock can since
//! Linux 7.0, but a process that restricts only a part of its threads restricts nothing.
//!
//! External crates: `landlock` (by the author of Landlock in the kernel), `seccompiler` (of rust-vmm; Firecracker's
//! and Cloud Hypervisor's filters come from it), `rustix` (limits). `docs/operations/isolation.md` describes the result.

mod calls;
mod files;
mod limits;
mod needs;
mod restrictions;

use std::{fs, io};

pub use needs::Needs;

use restrictions::Restrictions;

/// Restricts this process for the rest of its life, and returns the restrictions in force, in words. If the kernel
/// lacks one, the others apply, and the text contains the missing one with the reason.
///
/// Call it after the socket listens and before the first thread starts.
pub fn isolate(needs: &Needs<'_>) -> io::Result<String> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("the process has {threads} threads already")));
    }
    let mut restrictions = Restrictions::default();
    // The limits come first, because seccomp forbids to change them. Seccomp comes last, because it forbids Landlock.
    let memory = limits::apply(needs.memory, &mut restrictions);
    restrictions.add("landlock", files::restrict(needs));
    restrictions.add("seccomp", calls::restrict());
    restrictions.in_force.extend(memory);
    Ok(restrictions.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn processes_with_several_threads_are_rejected() {
        let error = std::thread::spawn(|| {
            let needs = Needs { directories: &[], runtime: Path::new("/"), memory: None };
            isolate(&needs).unwrap_err().to_string()
        });
        assert!(error.join().unwrap().ends_with(" threads already"));
    }
}
