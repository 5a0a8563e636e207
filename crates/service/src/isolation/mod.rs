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

use std::path::Path;
use std::{fs, io};

/// The needs of the process after it is isolated.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// Directories of models and of prepared files. Files that appear there later can be read, too. A directory that
    /// does not exist, or is replaced later, cannot be read.
    pub directories: &'a [&'a Path],
    /// ONNX Runtime's library. Its directory can be read, because its providers are next to it.
    pub runtime: &'a Path,
    /// Bytes of private memory: the heap, copies of weights, and the whole stacks of threads (up to 8 MiB each). Weights
    /// that are mapped from prepared files do not count.
    pub memory: Option<u64>,
}

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

/// The restrictions in force, and the missing ones with the reason.
#[derive(Default)]
struct Restrictions {
    in_force: Vec<String>,
    missing: Vec<String>,
}

impl Restrictions {
    /// Adds a restriction by its name, with the detail that `result` has. An empty detail is left out.
    fn add(&mut self, name: &str, result: Result<String, String>) {
        match result {
            Ok(detail) if detail.is_empty() => self.in_force.push(name.into()),
            Ok(detail) => self.in_force.push(format!("{name} {detail}")),
            Err(reason) => self.missing.push(format!("no {name} ({reason})")),
        }
    }
}

impl std::fmt::Display for Restrictions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<&str> = self.in_force.iter().chain(&self.missing).map(String::as_str).collect();
        formatter.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_restrictions_are_named_last() {
        let mut restrictions = Restrictions::default();
        restrictions.add("landlock", Err("the kernel does not have it".into()));
        restrictions.add("seccomp", Ok(String::new()));
        restrictions.add("memory", Ok("64 MB".into()));
        assert_eq!(restrictions.to_string(), "seccomp, memory 64 MB, no landlock (the kernel does not have it)");
    }

    #[test]
    fn processes_with_several_threads_are_rejected() {
        let error = std::thread::spawn(|| {
            let needs = Needs { directories: &[], runtime: Path::new("/"), memory: None };
            isolate(&needs).unwrap_err().to_string()
        });
        assert!(error.join().unwrap().ends_with(" threads already"));
    }
}
