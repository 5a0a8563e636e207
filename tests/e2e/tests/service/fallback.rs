//! Sessions without a service: they compute themselves with one warning, or fail with an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Cluster, count, drain, sqlstate, wait_until};
use postgres::error::SqlState;

use super::{Over, another, running, served_with, set};

const WARNING: &str = "WARNING: this session computes embeddings without the embedding service";

/// A socket of which no process listens.
fn without_service(settings: &[&str]) -> Cluster {
    Cluster::start_with(&[&["clip.service = on", "clip.service_socket = '/nowhere/socket'"], settings].concat())
}

#[test]
fn a_session_without_a_service_computes_with_one_warning() {
    let cluster = without_service(&[]);
    let (mut client, heard) = cluster.listen("postgres");
    let begun = Instant::now();
    client.batch_execute("SELECT clip_embed_text('a', 'wide')").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "a service that was never there is not waited for");
    client.batch_execute("SELECT clip_embed_text('b', 'wide'), clip_embed_text('c', 'narrow')").unwrap();
    let heard = drain(&heard);
    assert_eq!(heard.iter().filter(|text| text.starts_with(WARNING)).count(), 1, "{heard:?}");
    assert!(heard.iter().any(|text| text.contains("No such file")), "{heard:?}");
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models"), 2);
    let row = client.query_one("SELECT state, reason, restarts FROM clip_service", &[]).unwrap();
    assert_eq!(row.get::<_, String>(0), "unavailable");
    assert!(row.get::<_, String>(1).contains("No such file"), "{row:?}");
    assert_eq!(row.get::<_, Option<i64>>(2), None);
}

#[test]
fn without_fallback_the_error_names_the_cause() {
    let cluster = without_service(&["clip.service_fallback = off"]);
    let mut client = cluster.connect();
    let error = client.batch_execute("SELECT clip_embed_text('a', 'wide')").unwrap_err();
    assert_eq!(sqlstate(&error), &SqlState::SYSTEM_ERROR);
    let error = error.as_db_error().unwrap();
    assert_eq!(error.message(), "embedding service is unavailable");
    assert!(error.detail().unwrap().contains("No such file"), "{error:?}");
    assert!(error.hint().unwrap().contains("clip.service_fallback"), "{error:?}");
    // The failure is about the server, so a later backfill repeats it.
    client
        .batch_execute(
            "CREATE TABLE item (id int PRIMARY KEY, title text);
             SELECT clip_auto_embed('item', 'title', model => 'wide', on_error => 'null');
             INSERT INTO item VALUES (1, 'a')",
        )
        .unwrap();
    let failed =
        "SELECT count(*) FROM clip_failures WHERE sqlstate = '58000' AND message = 'embedding service is unavailable'";
    assert_eq!(count(&mut client, failed), 1);
    set(&mut client, "clip.service", "off");
    client.batch_execute("SELECT clip_retry('item'); CALL clip_backfill('item')").unwrap_err();
    client.batch_execute("SELECT clip_retry('item')").unwrap();
    client.batch_execute("CALL clip_backfill('item')").unwrap();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM item"), 1);
}

/// A change of the settings starts the service again, and is no crash.
#[test]
fn settings_take_effect_on_a_running_service() {
    let cluster = served_with(&[]);
    let mut client = cluster.connect();
    let service = running(&mut client);
    set(&mut client, "clip.service_threads", "1");
    another(&mut client, service);
    assert_eq!(count(&mut client, "SELECT threads FROM clip_service"), 1);
    assert_eq!(count(&mut client, "SELECT restarts FROM clip_service"), 0);
}

/// Requests that meet a service in its end are sent to the next one, also without fallback.
#[test]
fn no_statement_fails_while_the_service_starts_again() {
    let cluster = served_with(&["clip.service_fallback = off"]);
    let mut client = cluster.connect();
    let mut service = running(&mut client);
    let is_over = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let _over = Over(is_over.clone());
        for session in 0..4 {
            let (cluster, is_over) = (&cluster, &is_over);
            scope.spawn(move || {
                let mut client = cluster.connect();
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    number += 1;
                    let embed = format!("SELECT clip_embed_text('{session} {number}', 'wide')");
                    client.batch_execute(&embed).unwrap();
                }
            });
        }
        for round in 0..10 {
            set(&mut client, "clip.service_threads", ["1", "2"][round % 2]);
            service = another(&mut client, service).0;
        }
    });
    assert_eq!(count(&mut client, "SELECT restarts FROM clip_service"), 0);
}

/// The server's log shows why the service cannot start, and sessions do not wait for it.
#[test]
fn a_service_that_cannot_start_is_tried_again() {
    let cluster = served_with(&[]);
    let mut client = cluster.connect();
    let directory = cluster.directory.join("data/pgsql_tmp_pg_clip");
    set(&mut client, "clip.service", "off");
    wait_until(&mut client, "SELECT state = 'off' FROM clip_service");
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::write(&directory, "in the way").unwrap();
    set(&mut client, "clip.service", "on");
    wait_until(&mut client, "SELECT state = 'failing' FROM clip_service");
    let begun = Instant::now();
    cluster.connect().batch_execute("SELECT clip_embed_text('a', 'wide')").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let log = std::fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert!(log.contains("WARNING:  pg_clip: the embedding service"), "{log}");
    std::fs::remove_file(&directory).unwrap();
    running(&mut client);
}

#[test]
fn off_is_off() {
    let cluster = served_with(&[]);
    let mut client = cluster.connect();
    let service = running(&mut client);
    client.batch_execute("SELECT clip_embed_text('a', 'wide')").unwrap();
    set(&mut client, "clip.service", "off");
    super::wait_for_end(service, Duration::from_secs(10));
    let (mut other, heard) = cluster.listen("postgres");
    other.batch_execute("SELECT clip_embed_text('a', 'wide')").unwrap();
    assert_eq!(drain(&heard), Vec::<String>::new());
    let row = other.query_one("SELECT state, reason IS NULL AND pid IS NULL FROM clip_service", &[]).unwrap();
    assert_eq!((row.get(0), row.get(1)), ("off", true));
    set(&mut client, "clip.service", "on");
    assert_ne!(running(&mut client), service);
}
