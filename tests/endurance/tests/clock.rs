//! Sets the clock back and forward under a running server, with libfaketime.

use std::fs;
use std::path::Path;

use e2e::{Cluster, count, picture, run, wait_until};
use postgres::Client;

#[test]
fn a_clock_that_jumps_by_a_year_stops_no_worker() {
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH);
    assert!(Path::new(&library).exists(), "libfaketime is one of the packages that `make test-all` installs");
    let cluster = Cluster::start();
    let clock = cluster.directory.join("clock");
    fs::write(&clock, "+0").unwrap();
    run(cluster
        .script("restart")
        .env("LD_PRELOAD", &library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        // Imitates a clock that is set: the server reads it at each call, and the monotonic clock is not changed.
        .envs([("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("NO_FAKE_STAT", "1")]));
    let mut client = cluster.connect();
    let jump = |client: &mut Client, days: i32| {
        let next = cluster.directory.join("clock.next");
        fs::write(&next, format!("{days:+}d")).unwrap();
        fs::rename(&next, &clock).unwrap();
        let (from, to) = (days - 1, days + 1);
        let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let jumped = format!(
            "SELECT clock_timestamp() BETWEEN to_timestamp({real}) + '{from} days' AND to_timestamp({real}) + '{to} days'"
        );
        wait_until(client, &jumped);
    };
    client.batch_execute("CREATE TABLE photo (id serial PRIMARY KEY, file bytea)").unwrap();
    client.execute("SELECT clip_auto_embed('photo', 'file', model => 'wide', mode => 'queue')", &[]).unwrap();
    let mut embedded = 0;
    for days in [0, -365, 365, 0] {
        jump(&mut client, days);
        let failed = "SELECT count(*) FROM clip_failures WHERE key IS NOT NULL";
        let before = count(&mut client, failed);
        client
            .execute("INSERT INTO photo (file) SELECT $1 FROM generate_series(1, 20)", &[&picture("rgb_444.jpg")])
            .unwrap();
        client.batch_execute("INSERT INTO photo (file) VALUES ('broken')").unwrap();
        embedded += 20;
        wait_until(&mut client, &format!("SELECT count(embedding) = {embedded} FROM photo"));
        wait_until(&mut client, &failed.replace("count(*)", &format!("count(*) = {before} + 1")));
        client.batch_execute("TABLE clip_progress; TABLE clip_auto_embed_status").unwrap();
    }
    // A failure from the time when the clock was a year ahead is retried, although its retry time is far in the future.
    let future = "SELECT count(*) FROM clip_failures WHERE last_failed_at > clock_timestamp()";
    client.batch_execute("INSERT INTO photo (file) VALUES (NULL)").unwrap();
    wait_until(&mut client, &future.replace("count(*)", "count(*) = 0"));
    cluster.assert_no_crash();
}
