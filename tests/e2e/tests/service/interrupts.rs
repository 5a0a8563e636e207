//! A cancel, a timeout and a termination end the wait for the service, and the service does not compute abandoned requests.

use std::time::{Duration, Instant};

use e2e::{count, picture, sqlstate, wait_until};
use postgres::NoTls;
use postgres::error::SqlState;

use super::{BACK_WITHIN, running, served, served_with, signal};

/// The documentation promises 100 ms. The rest is a reserve for busy machines.
const SOON: Duration = Duration::from_millis(300);

const SLOW: &str = "SELECT clip_embed_image($1, 'slow')::text";

#[test]
fn waits_for_the_service_can_be_interrupted() {
    let cluster = served();
    cluster.add("slow");
    let mut other = cluster.connect();
    let service = running(&mut other);
    let image = picture("rgb_444.jpg");

    let mut client = cluster.connect();
    client.batch_execute("SELECT clip_prewarm('slow', 'image'); SET statement_timeout = '200ms'").unwrap();
    let started = Instant::now();
    let error = client.query_one(SLOW, &[&image]).unwrap_err();
    println!("ended {:?} after the timeout", started.elapsed().saturating_sub(Duration::from_millis(200)));
    assert_eq!(sqlstate(&error), &SqlState::QUERY_CANCELED);
    assert!(started.elapsed() < Duration::from_millis(200) + SOON, "{:?}", started.elapsed());
    client.batch_execute("RESET statement_timeout").unwrap();

    let token = client.cancel_token();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        let asked = Instant::now();
        token.cancel_query(NoTls).unwrap();
        asked
    });
    let error = client.query_one(SLOW, &[&image]).unwrap_err();
    let ended = Instant::now();
    println!("ended {:?} after the cancel", ended - canceller.join().unwrap());
    assert_eq!(sqlstate(&error), &SqlState::QUERY_CANCELED);

    let pid = e2e::pid(&mut client);
    let again = image.clone();
    let working = std::thread::spawn(move || client.query_one(SLOW, &[&again]).unwrap_err());
    // Releases before 17 have one wait event for all extensions.
    wait_until(
        &mut other,
        &format!("SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event_type = 'Extension'"),
    );
    let gone = format!("SELECT pg_terminate_backend({pid}, {})", SOON.as_millis());
    assert!(other.query_one(&gone, &[]).unwrap().get::<_, bool>(0), "the session outlived its termination by {SOON:?}");
    let error = working.join().unwrap();
    assert!(error.is_closed() || sqlstate(&error) == &SqlState::ADMIN_SHUTDOWN, "{error:?}");

    // The abandoned requests leave the queue, and other requests are answered by the same process.
    wait_until(&mut other, "SELECT queued = 0 AND connections <= 2 FROM clip_service");
    other.batch_execute("SELECT clip_embed_text('still here', 'narrow')").unwrap();
    assert_eq!(running(&mut other), service);
    cluster.assert_no_crash();
}

/// The service has one thread, which a run of the slow model would occupy for many seconds.
#[test]
fn a_canceled_run_gives_its_thread_back() {
    let cluster = served_with(&["clip.service_fallback = off", "clip.service_threads = 1"]);
    cluster.add("slow");
    let (mut client, mut other) = (cluster.connect(), cluster.connect());
    let service = running(&mut other);
    let image = picture("rgb_444.jpg");
    other.batch_execute("SELECT clip_prewarm('slow', 'image'), clip_prewarm('narrow', 'text')").unwrap();
    client.batch_execute("SET statement_timeout = '500ms'").unwrap();
    let done = count(&mut other, "SELECT batches FROM clip_service");
    for number in 1..=3 {
        let error = client.query_one(SLOW, &[&image]).unwrap_err();
        assert_eq!(sqlstate(&error), &SqlState::QUERY_CANCELED);
        let started = Instant::now();
        other.batch_execute(&format!("SELECT clip_embed_text('search {number}', 'narrow')")).unwrap();
        println!("the next answer came {:?} after the timeout", started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        // The canceled run has ended, and only the other one has a result.
        assert_eq!(count(&mut other, "SELECT batches FROM clip_service"), done + number);
    }
    assert_eq!(count(&mut other, "SELECT queued FROM clip_service"), 0);
    assert_eq!(running(&mut other), service);
}

/// An error in the middle of a statement closes the connection to the service, also in a subtransaction.
#[test]
fn no_connection_to_the_service_is_left_open() {
    let cluster = served();
    cluster.add("slow");
    let mut client = cluster.connect();
    let pid = e2e::pid(&mut client);
    client
        .batch_execute(
            "SELECT clip_prewarm('slow', 'image'), clip_embed_text('a', 'wide'); SET statement_timeout = '20ms'",
        )
        .unwrap();
    let descriptors = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = descriptors();
    let image = picture("rgb_444.jpg");
    for _ in 0..50 {
        client.query_one(SLOW, &[&image]).unwrap_err();
    }
    client.batch_execute("RESET statement_timeout").unwrap();
    client.batch_execute("SELECT clip_embed_text('b', 'wide')").unwrap();
    assert!(descriptors() <= before + 1, "{before} descriptors became {}", descriptors());
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_service WHERE connections > 3"), 0);
}

/// A stopped service is killed and replaced while sessions wait.
#[test]
fn a_stopped_service_does_not_hold_sessions() {
    let cluster = served();
    let mut client = cluster.connect();
    let service = running(&mut client);
    client.batch_execute("SELECT clip_embed_text('before', 'wide')").unwrap();
    signal(service, "STOP");
    let started = Instant::now();
    client.batch_execute("SELECT clip_embed_text('during', 'wide')").unwrap();
    assert!(started.elapsed() < BACK_WITHIN + SOON, "{:?}", started.elapsed());
    assert_ne!(running(&mut client), service);
}
