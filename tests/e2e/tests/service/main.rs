//! The embedding service: all functions use it with the same results, it is supervised, and its end costs no connection.

mod answers;
mod deaths;
mod fallback;
mod impostors;
mod interrupts;
mod modes;
mod others;
mod upgrade;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Cluster, wait_until};
use postgres::Client;

/// The time after which a service that ended must be back.
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// Ends the load of a test, also if the test fails.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Starts a server with the service. Sessions do not compute themselves, so that a result proves that the service computed it.
fn served() -> Cluster {
    served_with(&["clip.service_fallback = off"])
}

fn served_with(settings: &[&str]) -> Cluster {
    let cluster =
        Cluster::start_with(&[&["shared_preload_libraries = 'pg_clip'", "clip.service = on"], settings].concat());
    running(&mut cluster.connect());
    cluster
}

/// Waits until the service runs, and returns its process.
fn running(client: &mut Client) -> i32 {
    wait_until(client, "SELECT state = 'running' AND pid IS NOT NULL FROM clip_service");
    client.query_one("SELECT pid::int FROM clip_service", &[]).unwrap().get(0)
}

/// Waits until another process is the service. Returns it, and the time since the call.
fn another(client: &mut Client, former: i32) -> (i32, Duration) {
    let begun = Instant::now();
    wait_until(client, &format!("SELECT state = 'running' AND pid <> {former} FROM clip_service"));
    let took = begun.elapsed();
    (running(client), took)
}

fn signal(process: i32, name: &str) {
    e2e::run(Command::new("kill").args([&format!("-{name}"), &process.to_string()]));
}

/// Changes a setting of the server, and waits until new sessions and this one see it.
fn set(client: &mut Client, setting: &str, value: &str) {
    client.batch_execute(&format!("ALTER SYSTEM SET {setting} = '{value}'")).unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_until(client, &format!("SELECT setting = '{value}' FROM pg_settings WHERE name = '{setting}'"));
}

/// Returns true if the process exists.
fn exists(process: i32) -> bool {
    std::path::Path::new("/proc").join(process.to_string()).exists()
}

/// Waits until a process has ended.
fn wait_for_end(process: i32, limit: Duration) {
    let begun = Instant::now();
    while exists(process) {
        assert!(begun.elapsed() < limit, "process {process} still exists after {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
