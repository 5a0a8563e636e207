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
