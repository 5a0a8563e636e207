//! Processes: starts, stops, kills, and a server without free processes.

use super::*;

/// Returns the process of a worker that is embedding.
pub fn busy_worker(client: &mut Client) -> i32 {
    wait_until(client, "SELECT count(*) > 0 FROM stored");
    wait_until(
        client,
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'pg_clip worker' AND query LIKE 'embedding%'",
    );
    let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_clip worker' LIMIT 1";
    client.query_one(pid, &[]).unwrap().get(0)
}

#[test]
fn a_killed_worker_and_a_killed_server_lose_and_repeat_nothing() {
    const ROWS: i32 = 20_000;
    let cluster =
        cluster_with(&[("shared_preload_libraries", "pg_clip"), ("clip.worker_naptime", "1s"), ("fsync", "on")]);
    let mut client = cluster.connect();
    queued_table(&mut client, ROWS);
    for _ in 0..3 {
        let stored = count(&mut client, "SELECT count(*) FROM stored");
        wait_until(&mut client, &format!("SELECT count(*) > {stored} FROM stored"));
        let pid = busy_worker(&mut client);
        cluster.kill(pid);
        client = cluster.reconnect();
    }
    // No session commits from here on: the launcher finds the remaining rows.
    let stored = count(&mut client, "SELECT count(*) FROM stored");
    wait_until(&mut client, &format!("SELECT count(*) > {stored} FROM stored"));
    assert!(count(&mut client, "SELECT count(*) FROM item WHERE embedding IS NULL") > 0, "too fast to be killed");
    drop(client);
    cluster.kill(cluster.postmaster());
    cluster.restart();
    let mut client = cluster.connect();
    wait_until(&mut client, ALL_DONE);
    assert_complete(&mut client, i64::from(ROWS));
}

#[test]
fn without_preloading_the_next_commit_finds_what_a_crash_left() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    queued_table(&mut client, 5_000);
    let pid = busy_worker(&mut client);
    cluster.kill(pid);
    let mut client = cluster.reconnect();
    client.batch_execute("INSERT INTO item VALUES (5001, 'text 5001')").unwrap();
    wait_until(&mut client, ALL_DONE);
    assert_complete(&mut client, 5_001);
    // A rolled-back row is not pending.
    client.batch_execute("BEGIN; INSERT INTO item VALUES (5002, 'text 5002'); ROLLBACK").unwrap();
    assert_complete(&mut client, 5_001);
}

#[test]
fn a_worker_stops_when_it_is_told_to() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    queued_table(&mut client, 20_000);
    let pid = busy_worker(&mut client);
    // A termination ends the worker in the middle of a batch, and harms no other process.
    client.execute("SELECT pg_terminate_backend($1, 5000)", &[&pid]).unwrap();
    assert_eq!(count(&mut client, &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")), 0);
    client.batch_execute("INSERT INTO item VALUES (20001, 'text 20001')").unwrap();
    busy_worker(&mut client);
    // No worker is allowed, so rows stay pending.
    client.batch_execute("ALTER SYSTEM SET clip.max_workers = 0").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_until(&mut client, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_clip worker'");
    client.batch_execute("INSERT INTO item VALUES (20002, 'text 20002')").unwrap();
    assert!(count(&mut client, "SELECT count(*) FROM item WHERE embedding IS NULL") > 0);
    // A fast shutdown does not wait.
    client.batch_execute("ALTER SYSTEM RESET clip.max_workers").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_until(&mut client, "SELECT current_setting('clip.max_workers') = '1'");
    client.batch_execute("INSERT INTO item VALUES (20003, 'text 20003')").unwrap();
    wait_until(
        &mut client,
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'embedding%' AND backend_type = 'pg_clip worker'",
    );
    drop(client);
    let begun = Instant::now();
    run(Command::new("setpriv")
        .current_dir("/")
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
        .arg(e2e::pg_config("--bindir") + "/pg_ctl")
        .args(["stop", "--mode=fast", "--wait", "--pgdata"])
        .arg(cluster.directory.join("data")));
    assert!(begun.elapsed() < Duration::from_secs(10));
    let log = fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert!(!log.contains("PANIC") && !log.contains("terminated by signal"), "{log}");
}

#[test]
fn without_free_processes_rows_stay_pending_and_commits_succeed() {
    let cluster = cluster_with(&[("max_worker_processes", "0")]);
    let mut client = cluster.connect();
    queued_table(&mut client, 50);
    for id in 51..=100 {
        client.execute("INSERT INTO item VALUES ($1, 'text ' || $1::int)", &[&id]).unwrap();
    }
    assert_eq!(count(&mut client, "SELECT pending FROM clip_auto_embed_status"), 100);
    let log = fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert_eq!(log.matches("could not start a background worker").count(), 1, "{log}");
    // Work that needs no new process continues.
    client.batch_execute("CALL clip_backfill('item', batch_size => 60)").unwrap();
    assert_complete(&mut client, 100);
    set(&cluster, &[("max_worker_processes", "8")]);
    let mut client = cluster.connect();
    client.batch_execute("INSERT INTO item VALUES (101, 'text 101')").unwrap();
    wait_until(&mut client, ALL_DONE);
    assert_complete(&mut client, 101);
}

#[test]
fn rows_of_a_prepared_transaction_are_found_by_the_launcher() {
    let settings =
        [("shared_preload_libraries", "pg_clip"), ("clip.worker_naptime", "1s"), ("max_prepared_transactions", "2")];
    let cluster = cluster_with(&settings);
    let mut client = cluster.connect();
    queued_table(&mut client, 0);
    client
        .batch_execute("BEGIN; INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 50) AS i; PREPARE TRANSACTION 'later'")
        .unwrap();
    client.batch_execute("COMMIT PREPARED 'later'").unwrap();
    wait_until(&mut client, ALL_DONE);
    assert_complete(&mut client, 50);
}

/// The number of sessions of a busy application.
const COMMITTERS: i32 = 50;

#[test]
fn with_one_free_process_the_rows_of_many_sessions_are_embedded() {
    let settings = ["max_worker_processes = 1", "max_logical_replication_workers = 0", "max_connections = 60"];
    let cluster = Cluster::start_with(&settings);
    let mut client = cluster.connect();
    queued_table(&mut client, 1);
    wait_until(&mut client, ALL_DONE);
    // The lock of a worker that serves a database.
    let held = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 3 AND database <> 0";
    let mut rows = 1;
    for _ in 0..3 {
        let start = std::sync::Barrier::new(COMMITTERS as usize);
        std::thread::scope(|scope| {
            for id in rows + 1..=rows + COMMITTERS {
                let (start, mut own) = (&start, cluster.connect());
                scope.spawn(move || {
                    start.wait();
                    own.execute("INSERT INTO item VALUES ($1, 'text ' || $1::int)", &[&id]).unwrap();
                });
            }
        });
        rows += COMMITTERS;
        // No session commits from here on.
        wait_until(&mut client, ALL_DONE);
        // The only process slot belongs to a worker that has released its lock and is exiting. For some milliseconds,
        // no other worker can start.
        let mut own = cluster.connect();
        let insert = own.prepare("INSERT INTO item VALUES ($1, 'text ' || $1::int)").unwrap();
        let is_held = own.prepare(held).unwrap();
        own.execute(&insert, &[&(rows + 1)]).unwrap();
        wait_until(&mut client, ALL_DONE);
        let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_clip worker'";
        let pid: i32 = client.query_one(pid, &[]).unwrap().get(0);
        client.execute("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
        while own.query_one(&is_held, &[]).unwrap().get(0) {}
        rows += 2;
        own.execute(&insert, &[&rows]).unwrap();
        wait_until(&mut client, ALL_DONE);
    }
    assert_complete(&mut client, i64::from(rows));
}
