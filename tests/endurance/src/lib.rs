//! The common parts of the long tests. The crate `e2e` provides the servers.

/// Returns the private memory of a process in kilobytes, without files and shared memory.
pub fn private_memory(pid: i32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")).unwrap();
    line.parse().unwrap()
}
