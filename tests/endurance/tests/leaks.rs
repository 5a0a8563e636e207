//! The private memory of a connection does not grow during long work.

use e2e::{Cluster, count, picture};
use endurance::private_memory;
use postgres::Client;

/// The amount that an allocator may keep or release between two measurements.
const NOISE_KB: i64 = 4 * 1024;

/// One image of each of five formats.
const PICTURES: [&str; 5] = ["progressive.jpg", "grey.png", "lossy.webp", "animated.gif", "lzw.tiff"];

/// Runs `work` ten times, and compares the memory after the second run (all caches are filled) with the memory after
/// the last run.
fn is_flat(what: &str, calls: u64, client: &mut Client, mut work: impl FnMut(&mut Client)) {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    let mut memory = Vec::new();
    for _ in 0..10 {
        work(client);
        memory.push(private_memory(pid));
    }
    let growth = memory[9] - memory[1];
    let slope = growth as f64 * 1024.0 / (calls as f64 * 0.8);
    println!("{what}: {calls} calls, {} kB, then {growth:+} kB: {slope:+.2} bytes a call", memory[1]);
    assert!(growth < NOISE_KB, "{what}: {memory:?}");
}

#[test]
fn a_million_cached_texts() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    is_flat("cached texts", 1_000_000, &mut client, |client| {
        client
            .batch_execute(
                "SELECT count(clip_embed_text('text ' || i % 100, 'emoji')) FROM generate_series(1, 100000) AS i",
            )
            .unwrap();
    });
}

#[test]
fn a_hundred_thousand_texts_that_are_not_cached() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let mut round = 0;
    is_flat("uncached texts", 100_000, &mut client, |client| {
        round += 1;
        client
            .batch_execute(&format!(
                "SELECT count(clip_embed_text('text {round} ' || i, 'emoji')) FROM generate_series(1, 10000) AS i"
            ))
            .unwrap();
    });
}

#[test]
fn half_a_million_classified_rows() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let mut round = 0;
    is_flat("classified rows, by two sets of labels in turns", 500_000, &mut client, |client| {
        round = 1 - round;
        client
            .batch_execute(&format!(
                "SELECT count(*) FROM clip_embed_texts(ARRAY['a', 'b'], 'emoji') AS e, generate_series(1, 25000) AS i,
                 LATERAL (SELECT FROM clip_classify(e.embedding, ARRAY(SELECT 'label {round} ' || n FROM generate_series(1, 100) AS n), '{{\"{{}}\"}}', 'emoji') WHERE i > 0 LIMIT 1) AS best"
            ))
            .unwrap();
    });
}

#[test]
fn fifty_thousand_searches() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE item (id int PRIMARY KEY, embedding vector(128));
             INSERT INTO item SELECT i, clip_embed_text('text ' || i, 'emoji') FROM generate_series(1, 1000) AS i;
             CREATE INDEX ON item USING hnsw (embedding vector_cosine_ops)",
        )
        .unwrap();
    is_flat("searches", 50_000, &mut client, |client| {
        client
            .batch_execute(
                "DO $$ BEGIN FOR i IN 1..5000 LOOP
                   PERFORM FROM clip_search('item', 'text ' || i % 100, 5, filter => 'id > 500', model => 'emoji');
                 END LOOP; END $$",
            )
            .unwrap();
    });
}

#[test]
fn twenty_thousand_pictures() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TEMPORARY TABLE picture (file bytea)").unwrap();
    for name in PICTURES {
        client.execute("INSERT INTO picture VALUES ($1)", &[&picture(name)]).unwrap();
    }
    is_flat("pictures", 20_000, &mut client, |client| {
        client
            .batch_execute("SELECT count(clip_embed_image(file, 'narrow')) FROM picture, generate_series(1, 400)")
            .unwrap();
    });
}

#[test]
fn fifty_thousand_unreadable_images() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TEMPORARY TABLE picture (file bytea)").unwrap();
    for name in PICTURES {
        let mut bytes = picture(name);
        bytes.truncate(bytes.len() / 3);
        client.execute("INSERT INTO picture VALUES ($1)", &[&bytes]).unwrap();
    }
    client
        .batch_execute(
            "CREATE FUNCTION pg_temp.try(file bytea) RETURNS text LANGUAGE plpgsql AS $$
             BEGIN PERFORM clip_embed_image(file, 'narrow'); RETURN 'embedded'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$",
        )
        .unwrap();
    is_flat("pictures that cannot be read", 50_000, &mut client, |client| {
        client.batch_execute("SELECT count(pg_temp.try(file)) FROM picture, generate_series(1, 1000)").unwrap();
    });
    assert_eq!(count(&mut client, "SELECT count(*) FROM picture WHERE pg_temp.try(file) = '22P03'"), 5);
}
