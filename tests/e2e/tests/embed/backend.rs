//! Inference leaves nothing in the server's processes: no thread, no socket, no file, no signal mask.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::{Cluster, picture, pid};
use postgres::Client;

fn threads(pid: i32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // A thread may exit between the two calls.
    tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok()).collect()
}

/// Returns the threads, after waiting until there are no more than expected: the system lists a joined thread for some
/// microseconds more.
fn settled(pid: i32, expected: usize) -> Vec<String> {
    let begun = Instant::now();
    while threads(pid).len() > expected && begun.elapsed() < Duration::from_secs(1) {
        std::thread::yield_now();
    }
    threads(pid)
}

/// Returns the signals that a thread blocks, from its status.
fn blocked(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

/// Returns the open files of the process by their targets, because the numbers of descriptors may differ.
fn open_files(pid: i32) -> BTreeSet<String> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let names = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
    names.map(|name| name.display().to_string()).filter(|name| !name.contains("/data/")).collect()
}

fn work(client: &mut Client) {
    client.query_one("SELECT clip_embed_text('a cat', 'wide')::text", &[]).unwrap();
    client.query_one("SELECT clip_embed_image($1, 'wide')::text", &[&picture("rgb_444.jpg")]).unwrap();
}

#[test]
fn inference_with_one_thread_leaves_no_thread_socket_or_file() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let pid = pid(&mut client);
    client.batch_execute("LOAD 'pg_clip'; SELECT 1").unwrap();
    let mask = blocked(&threads(pid)[0]);
    let before = open_files(pid);
    work(&mut client);
    let after = settled(pid, 1);
    assert_eq!(after.len(), 1, "{after:#?}");
    assert_eq!(blocked(&after[0]), mask, "the signal mask was not restored");
    assert_eq!(open_files(pid), before);
    // Official builds of ONNX Runtime store their telemetry there.
    assert!(!cluster.directory.join(".cache").exists());
}

/// Checks the system calls of a whole session: its network connections and its writes.
#[test]
fn a_session_connects_to_nothing_and_writes_no_file() {
    let cluster = Cluster::start();
    let trace = cluster.directory.join("trace");
    let mut client = cluster.connect();
    let pid = pid(&mut client);
    let mut strace = std::process::Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=socket,connect,openat,clone,clone3,unlink,rename,mkdir", "-o"])
        .arg(&trace)
        .args(["-p", &pid.to_string()])
        .spawn()
        .expect("strace is one of the packages that `make setup` installs");
    let attached = |status: &str| status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
    while !attached(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap()) {
        std::thread::yield_now();
    }
    work(&mut client);
    drop(client);
    strace.wait().unwrap();
    let calls = fs::read_to_string(&trace).unwrap();
    assert!(calls.contains("libonnxruntime.so"), "the trace saw nothing");
    let ours = |line: &&str| !line.contains("/base/") && !line.contains("pg_wal") && !line.contains("pgstat");
    for line in calls.lines().filter(ours) {
        assert!(!line.contains(" socket(AF_INET") && !line.contains(" connect("), "{line}");
        assert!(!line.contains("O_WRONLY") && !line.contains("O_CREAT"), "{line}");
        assert!(!line.contains(" mkdir(") && !line.contains(" rename("), "{line}");
    }
}

#[test]
fn threads_of_the_pool_are_born_with_signals_blocked() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let pid = pid(&mut client);
    client.batch_execute("SET clip.threads = 3").unwrap();
    work(&mut client);
    let threads = settled(pid, 5);
    // Two encoders have two threads each, in addition to the backend's own thread.
    assert_eq!(threads.len(), 5, "{threads:#?}");
    // SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGALRM and SIGTERM: the bit of a signal is its number minus one.
    let handled: u64 = [1, 2, 10, 12, 14, 15].iter().map(|signal| 1 << (signal - 1)).sum();
    let pool: Vec<_> = threads.iter().filter(|status| !status.contains(&format!("Pid:\t{pid}\n"))).collect();
    assert_eq!(pool.len(), 4);
    for thread in pool {
        assert_eq!(blocked(thread) & handled, handled, "{thread}");
    }
    client.batch_execute("SET clip.threads = 1; SELECT clip_prewarm('wide')").unwrap();
    assert_eq!(settled(pid, 1).len(), 1, "towers were not loaded anew");
}

#[test]
fn the_postmaster_never_loads_onnx_runtime() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_clip'").unwrap();
    drop(client);
    cluster.restart();
    let mut client = cluster.connect();
    work(&mut client);
    let postmaster = cluster.postmaster();
    let maps = |pid: i32| fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("maps")).unwrap();
    assert!(maps(postmaster).contains("pg_clip.so"));
    assert!(!maps(postmaster).contains("libonnxruntime"));
    assert!(maps(pid(&mut client)).contains("libonnxruntime"));
    assert_eq!(threads(postmaster).len(), 1);
}

#[test]
fn a_missing_runtime_is_an_error_with_a_hint() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    for path in ["/nowhere/libonnxruntime.so", "relative.so", "/etc/hostname", ""] {
        client.batch_execute(&format!("SET clip.onnxruntime_path = '{path}'")).unwrap();
        let error = client.query_one("SELECT clip_embed_text('a', 'wide')::text", &[]).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "58P01", "{path}");
        assert!(error.hint().unwrap().contains("clip.onnxruntime_path"));
        assert!(!error.detail().unwrap().contains("pgrx"), "a backtrace: {error:?}");
    }
    // The same connection works after the setting is corrected.
    client.batch_execute("RESET clip.onnxruntime_path").unwrap();
    work(&mut client);
    client.batch_execute("SET clip.onnxruntime_path = '/nowhere/else.so'; SELECT clip_unload()").unwrap();
    let error = client.query_one("SELECT clip_embed_text('b', 'wide')::text", &[]).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "55000");
}

#[test]
fn parallel_workers_give_the_same_vectors() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE texts AS SELECT 'text number ' || i AS text FROM generate_series(1, 400) i;
         ALTER TABLE texts SET (parallel_workers = 2); ANALYZE texts",
        )
        .unwrap();
    let sum = "SELECT sum(v) FROM texts, unnest(clip_embed_text(text, 'wide')::real[]) AS v";
    client.batch_execute("SET max_parallel_workers_per_gather = 0").unwrap();
    let alone: f32 = client.query_one(sum, &[]).unwrap().get(0);
    client
        .batch_execute(
            "SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
         SET min_parallel_table_scan_size = 0",
        )
        .unwrap();
    let plan = client.query(&format!("EXPLAIN {sum}"), &[]).unwrap();
    assert!(plan.iter().any(|row| row.get::<_, String>(0).contains("Workers Planned: 2")));
    let together: f32 = client.query_one(sum, &[]).unwrap().get(0);
    assert!((alone - together).abs() < 1e-2, "{alone} {together}");
}
