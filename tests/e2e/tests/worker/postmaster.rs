//! A killed postmaster: each process of its server exits within a second, in any state, and the server starts again at
//! once. A remaining process would hold the shared memory, and no other server could use the data.

use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use e2e::{Cluster, count, flat_png, picture, wait_until};
use postgres::Client;

/// The limit that the documentation promises.
const SOON: Duration = Duration::from_secs(1);

/// Kills the postmaster, waits for the exit of the other processes, and starts the server.
fn kill_and_start(cluster: &Cluster, doing: &str) {
    let processes = cluster.processes().len();
    assert!(processes > 5, "{doing}: {processes} processes");
    let postmaster = cluster.postmaster();
    e2e::run(Command::new("kill").args(["-KILL", &postmaster.to_string()]));
    let killed = Instant::now();
    loop {
        let left = cluster.processes();
        if left.is_empty() {
            break;
        }
        let names: Vec<_> = left.iter().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline"))).collect();
        assert!(killed.elapsed() < SOON, "{doing}: {left:?} outlive their postmaster by {SOON:?}: {names:?}");
        thread::sleep(Duration::from_millis(2));
    }
    println!("{doing}: {processes} processes were gone {:?} after the signal", killed.elapsed());
    // The process number is free after the parent process has collected it.
    cluster.kill(postmaster);
    cluster.start_again();
}

/// Runs a statement in its own session, and returns when it runs.
fn busy(cluster: &Cluster, client: &mut Client, statement: &'static str) -> JoinHandle<()> {
    let mut other = cluster.connect();
    let pid = e2e::pid(&mut other);
    let images = statement.contains("$1").then(|| picture("rgb_444.jpg"));
    let working = thread::spawn(move || {
        let done = match &images {
            Some(image) => other.execute(statement, &[image]).map(drop),
            None => other.batch_execute(statement),
        };
        assert!(done.is_err(), "{statement}: it had ended already");
    });
    wait_until(client, &format!("SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'"));
    working
}

#[test]
fn every_process_exits_with_its_postmaster_and_the_server_starts_again() {
    let settings = ["shared_preload_libraries = 'pg_clip'", "clip.worker_naptime = '1s'", "clip.max_workers = 2"];
    let cluster = Cluster::start_with(&settings);
    cluster.add("slow");
    idle(&cluster);
    a_worker_in_a_run(&cluster);
    a_worker_between_runs(&cluster);
    sessions(&cluster);
}

/// The launcher and a worker that wait.
fn idle(cluster: &Cluster) {
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE item (id serial PRIMARY KEY, body text)").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'emoji', mode => 'queue')", &[]).unwrap();
    client.batch_execute("INSERT INTO item (body) VALUES ('a cat')").unwrap();
    wait_until(&mut client, "SELECT count(embedding) = 1 FROM item");
    let waiting = "SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type IN ('pg_clip launcher', 'pg_clip worker') \
        AND wait_event = 'Extension'";
    wait_until(&mut client, waiting);
    kill_and_start(cluster, "launcher and worker that wait");
}

/// A worker in the middle of one run, which takes seconds.
fn a_worker_in_a_run(cluster: &Cluster) {
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE photo (id serial PRIMARY KEY, file bytea)").unwrap();
    client.execute("SELECT clip_auto_embed('photo', 'file', model => 'slow', mode => 'queue')", &[]).unwrap();
    client
        .execute("INSERT INTO photo (file) SELECT $1::bytea FROM generate_series(1, 10)", &[&picture("rgb_444.jpg")])
        .unwrap();
    wait_until(
        &mut client,
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'embedding public.photo.embedding'",
    );
    // The model is loaded by now, and the run has begun.
    thread::sleep(Duration::from_millis(1500));
    kill_and_start(cluster, "worker in a run");
    let mut client = cluster.connect();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM photo"), 0, "the worker was not in its first run");
    client.batch_execute("DROP TABLE photo").unwrap();
}

/// A worker with short runs. Between the runs it stores embeddings, also in an index.
fn a_worker_between_runs(cluster: &Cluster) {
    let mut client = cluster.connect();
    client.batch_execute("INSERT INTO item (body) SELECT 'text ' || i FROM generate_series(1, 50000) AS i").unwrap();
    for embedded in [500, 1500, 3000] {
        wait_until(&mut client, &format!("SELECT count(embedding) > {embedded} FROM item"));
        kill_and_start(cluster, "worker in a batch");
        client = cluster.connect();
    }
    assert!(count(&mut client, "SELECT count(*) FROM item WHERE embedding IS NULL") > 0, "too fast to be killed");
    client.batch_execute("DROP TABLE item").unwrap();
}

/// Sessions in the middle of long statements.
fn sessions(cluster: &Cluster) {
    let mut client = cluster.connect();
    client
        .batch_execute("CREATE TABLE item (id serial PRIMARY KEY, body text); CREATE TABLE picture (file bytea)")
        .unwrap();
    client.batch_execute("INSERT INTO item (body) SELECT 'text ' || i FROM generate_series(1, 50000) AS i").unwrap();
    client.execute("INSERT INTO picture VALUES ($1)", &[&flat_png(6000, 6000)]).unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'narrow', mode => 'statement')", &[]).unwrap();
    for (statement, ready) in [
        ("CALL clip_backfill('item', batch_size => 200)", "SELECT count(embedding) > 1000 FROM item"),
        (
            "CALL clip_reembed('item', 'embedding', 'emoji')",
            "SELECT count(*) > 0 FROM clip_progress WHERE embedded > 1000",
        ),
        (
            "SELECT count(embedding) FROM clip_embed_texts(ARRAY(SELECT 'text ' || i FROM generate_series(1, 200000) AS i), 'emoji')",
            "SELECT true",
        ),
        ("SELECT clip_embed_image($1, 'slow')", "SELECT true"),
        // The decoder of one image cannot be interrupted. This is the longest time for an image of 36 megapixels.
        ("SELECT clip_embed_image(file, 'narrow') FROM picture, generate_series(1, 100000)", "SELECT true"),
    ] {
        let working = busy(cluster, &mut client, statement);
        wait_until(&mut client, ready);
        thread::sleep(Duration::from_millis(700));
        kill_and_start(cluster, statement);
        working.join().unwrap();
        client = cluster.connect();
    }
}
