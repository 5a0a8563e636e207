//! Files, by Landlock: the process reads a few directories and writes nothing.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::needs::Needs;

/// The newest version of Landlock whose rights are known and tested here: Linux 6.15. The crate leaves out the rights
/// that the running kernel lacks. Rights of later versions (UDP, sockets with a path) are not needed, because seccomp
/// forbids all sockets.
const VERSION: ABI = ABI::V7;

/// Files of the system that libraries read while they load, and the process's own entry in /proc. ONNX Runtime reads the
/// processor's topology, and glibc opens libraries by its cache.
const SYSTEM: [&str; 9] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/ld.so.cache",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system",
];

/// Restricts files, TCP, signals and abstract sockets. Returns the version of Landlock that is in force.
pub(super) fn restrict(needs: &Needs<'_>) -> Result<String, String> {
    let status = apply(needs).map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => Err("the kernel has it turned off".into()),
        (RulesetStatus::NotEnforced, _) => Err("the kernel does not have it".into()),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok((effective_abi.min(VERSION) as u32).to_string()),
        (_, status) => Err(format!("{status:?}")),
    }
}

fn apply(needs: &Needs<'_>) -> Result<landlock::RestrictionStatus, RulesetError> {
    // The right to execute is not among them. Libraries are mapped, which needs the right to read only.
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let resolved = needs.runtime.canonicalize().ok();
    let libraries = [Some(needs.runtime), resolved.as_deref()].into_iter().flatten();
    let around = libraries.clone().filter_map(Path::parent).filter(|directory| directory.parent().is_some());
    let paths = SYSTEM.iter().map(Path::new).chain(needs.directories.iter().copied()).chain(libraries).chain(around);
    // Rights that no rule grants are denied: writing, executing, and all of TCP.
    Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::from_all(VERSION))?
        .scope(Scope::from_all(VERSION))?
        .create()?
        .add_rules(path_beneath_rules(paths, read))?
        .restrict_self()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::ErrorKind::PermissionDenied;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::process::Command;
    use std::{env, fs, thread};

    use super::*;

    /// Without seccomp. Landlock restricts one thread of the tests.
    #[test]
    fn landlock_alone_denies_writing_programs_tcp_and_foreign_sockets() {
        let directory = env::temp_dir().join(format!("pg_clip-landlock-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("file"), "content").unwrap();
        let name = SocketAddr::from_abstract_name(directory.as_os_str().as_encoded_bytes()).unwrap();
        let _abstract = UnixListener::bind_addr(&name).unwrap();
        let inside = || {
            let version = restrict(&Needs { directories: &[&directory], runtime: Path::new("/none"), memory: None });
            let version: u32 = version.unwrap().parse().unwrap();
            assert_eq!(fs::read_to_string(directory.join("file")).unwrap(), "content");
            let mut failures = vec![
                File::create(directory.join("new")).unwrap_err(),
                File::options().write(true).open(directory.join("file")).unwrap_err(),
                fs::remove_file(directory.join("file")).unwrap_err(),
                fs::read("/etc/passwd").unwrap_err(),
                fs::read_dir("/").unwrap_err(),
                Command::new("/bin/true").status().unwrap_err(),
            ];
            // Versions 4 and 6 added these.
            if version >= 4 {
                failures.push(TcpListener::bind("127.0.0.1:0").unwrap_err());
                failures.push(TcpStream::connect("127.0.0.1:9").unwrap_err());
            }
            if version >= 6 {
                failures.push(UnixStream::connect_addr(&name).unwrap_err());
            }
            for failure in failures {
                assert_eq!(failure.kind(), PermissionDenied, "{failure}");
            }
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap());
        fs::remove_dir_all(&directory).unwrap();
    }
}
