//! The service is killed under load: no connection is lost, no row is lost, and it is back within two seconds.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use e2e::{Cluster, count, sqlstate, wait_until};
use postgres::error::SqlState;

use super::{BACK_WITHIN, Over, another, running, served_with, signal};

const CONNECTIONS: usize = 32;
const DEATHS: usize = 50;

/// Errors of requests that were lost twice. The writer repeats the statement.
static FAILED: AtomicU32 = AtomicU32::new(0);

/// Inserts rows and asks for embeddings until the end, and returns how many rows it has inserted.
fn work(cluster: &Cluster, number: usize, is_over: &AtomicBool) -> i64 {
    let mut client = cluster.connect();
    let pid = e2e::pid(&mut client);
    let table = ["rows", "statements", "queues"][number % 3];
    let mut done = 0;
    while !is_over.load(Ordering::Relaxed) {
        let id = done * CONNECTIONS as i64 + number as i64;
        let statements = [
            format!("INSERT INTO {table} VALUES ({id}, 'text {id}')"),
            format!("SELECT * FROM clip_search('rows', 'query {id}', 3)"),
            format!(
                "SELECT count(embedding) FROM clip_embed_texts(ARRAY(SELECT 'batch {id} ' || i FROM generate_series(1, 20) AS i), 'emoji')"
            ),
        ];
        for statement in &statements {
            while let Err(error) = client.batch_execute(statement) {
                // A broken connection has no SQLSTATE, and fails the test here.
                assert_eq!(sqlstate(&error), &SqlState::EXTERNAL_ROUTINE_EXCEPTION, "{statement}: {error:?}");
                FAILED.fetch_add(1, Ordering::Relaxed);
            }
        }
        done += 1;
    }
    assert_eq!(e2e::pid(&mut client), pid);
    done
}

#[test]
fn fifty_deaths_under_load_lose_no_connection_and_no_row() {
    let cluster = Arc::new(served_with(&["max_connections = 60", "clip.max_workers = 2", "max_worker_processes = 16"]));
    let mut client = cluster.connect();
    client.batch_execute("SET client_min_messages = error").unwrap();
    for (table, mode) in [("rows", "row"), ("statements", "statement"), ("queues", "queue")] {
        client
            .batch_execute(&format!(
                "CREATE TABLE {table} (id bigint PRIMARY KEY, title text); SELECT clip_auto_embed('{table}', 'title', model => 'emoji', mode => '{mode}')"
            ))
            .unwrap();
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Over(is_over.clone());
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let (cluster, is_over) = (cluster.clone(), is_over.clone());
            thread::spawn(move || work(&cluster, number, &is_over))
        })
        .collect();
    let mut service = running(&mut client);
    let slowest = Mutex::new(Duration::ZERO);
    for number in 0..DEATHS {
        // SIGSTOP: the process hangs, and the supervisor kills it.
        let kind = ["KILL", "SEGV", "STOP", "ABRT", "TERM"][number % 5];
        signal(service, kind);
        let (next, took) = another(&mut client, service);
        service = next;
        let mut slowest = slowest.lock().unwrap();
        *slowest = took.max(*slowest);
        assert!(took < BACK_WITHIN + Duration::from_secs(1), "{kind}: the service was back after {took:?}");
        thread::sleep(Duration::from_millis(100));
    }
    drop(over);
    let rows: i64 = workers.into_iter().map(|worker| worker.join().expect("a connection was lost")).sum();
    println!(
        "{DEATHS} deaths: {rows} rows by {CONNECTIONS} connections, {} repeated statements, back after at most {:?}",
        FAILED.load(Ordering::Relaxed),
        slowest.lock().unwrap()
    );
    assert!(rows > 100, "{rows} rows are no load");
    wait_until(&mut client, "SELECT count(*) = count(embedding) FROM queues");
    let all = "SELECT (SELECT count(*) FROM rows) + (SELECT count(*) FROM statements) + (SELECT count(*) FROM queues)";
    assert_eq!(count(&mut client, all), rows);
    assert!(count(&mut client, "SELECT restarts FROM clip_service") >= DEATHS as i64);
    // The vectors are those that this session computes itself.
    super::set(&mut client, "clip.service", "off");
    for table in ["rows", "statements", "queues"] {
        let wrong = format!(
            "SELECT count(*) FROM {table} WHERE (embedding <=> clip_embed_text(title, 'emoji') < 1e-5) IS NOT TRUE"
        );
        assert_eq!(count(&mut client, &wrong), 0, "{table}");
    }
    cluster.assert_no_crash();
}
