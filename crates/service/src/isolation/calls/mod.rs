//! System calls, by seccomp. Two filters decide about each call; the kernel takes the stricter answer.
//!
//! The first filter is a list of the allowed calls. All others fail with ENOSYS, as on a kernel that lacks them, so that
//! libraries use an older call instead: glibc starts threads with `clone` if `clone3` fails with ENOSYS, and only then.
//! Calls that future kernels add fail, too. The second filter is a list of the forbidden calls, which fail with EPERM.
//! Each of them would fail by the first filter, too, with few exceptions (arguments of `mmap` and `openat`). The error
//! is clearer, and a mistake in one list does not open what the other one closes.
//!
//! No call ends the process, because a library that tries one and carries on would end the service with it.

mod allowed;
mod call;
mod forbidden;

use std::collections::BTreeMap;

use call::{Call, Condition};
use seccompiler::{BackendError, BpfProgram, Error, SeccompAction, SeccompFilter, apply_filter};

/// Forbids all system calls that serving requests does not need.
pub(super) fn restrict() -> Result<String, String> {
    apply().map(|()| String::new()).map_err(|error| error.to_string())
}

fn apply() -> Result<(), Error> {
    let own = u64::from(std::process::id());
    let absent = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let first = compile(allowed::calls(own), SeccompAction::Allow, absent)?;
    let second = compile(forbidden::calls(own), denied, SeccompAction::Allow)?;
    // If several filters answer with an error, the kernel takes the last one's. So the clearer error comes last. The
    // first filter must allow `seccomp` therefore, and the second forbids it.
    apply_filter(&first)?;
    apply_filter(&second)
}

fn compile(calls: Vec<Call>, found: SeccompAction, other: SeccompAction) -> Result<BpfProgram, BackendError> {
    let mut rules = BTreeMap::new();
    for (number, conditions) in calls {
        rules.insert(number, conditions.into_iter().map(Condition::rule).collect::<Result<_, _>>()?);
    }
    SeccompFilter::new(rules, other, found, std::env::consts::ARCH.try_into()?)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_call_is_listed_once() {
        for calls in [allowed::calls(1), forbidden::calls(1)] {
            let numbers: BTreeSet<i64> = calls.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers.len(), calls.len());
        }
    }

    #[test]
    fn calls_are_in_both_lists_only_for_their_arguments() {
        let forbidden = forbidden::calls(1);
        for (number, conditions) in allowed::calls(1) {
            let other = forbidden.iter().find(|(other, _)| *other == number);
            let Some((_, others)) = other else { continue };
            // `seccomp` is allowed for the second filter.
            assert!(number == libc::SYS_seccomp || !conditions.is_empty() || !others.is_empty(), "{number}");
        }
    }

    /// Without Landlock. Seccomp restricts one thread of the tests.
    #[test]
    fn seccomp_alone_denies_writing_programs_and_sockets() {
        let path = std::env::temp_dir().join(format!("pg_clip-seccomp-{}", std::process::id()));
        let inside = || {
            restrict().unwrap();
            // Seccomp does not know paths.
            std::fs::read("/etc/passwd").unwrap();
            let failures = [
                std::fs::File::create(&path).unwrap_err(),
                std::fs::File::options().write(true).open("/etc/passwd").unwrap_err(),
                std::net::TcpStream::connect("127.0.0.1:9").unwrap_err(),
                std::os::unix::net::UnixListener::bind(&path).unwrap_err(),
                std::process::Command::new("/bin/true").status().unwrap_err(),
            ];
            for failure in failures {
                assert_eq!(failure.raw_os_error(), Some(libc::EPERM), "{failure}");
            }
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn programs_are_shorter_than_the_kernel_permits() {
        let allowed = compile(allowed::calls(1), SeccompAction::Allow, SeccompAction::Errno(1)).unwrap();
        assert!(allowed.len() < 4096, "{}", allowed.len());
    }
}
