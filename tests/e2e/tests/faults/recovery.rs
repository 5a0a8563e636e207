//! Crashes during inserts into a table with a managed column and an index over embeddings.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use e2e::{Cluster, count, wait_until};
use postgres::Client;

const ROWS_OF_A_BATCH: i64 = 20;

/// Checks that the embeddings are those of the texts, and that the index finds them.
fn assert_sound(client: &mut Client, when: &str) {
    const WRONG: &str =
        "SELECT count(*) FROM item WHERE embedding IS NULL OR embedding <=> clip_embed_text(body, 'narrow') > 1e-6";
    assert_eq!(count(client, WRONG), 0, "{when}");
    client.batch_execute("SET enable_seqscan = off; SET hnsw.ef_search = 400").unwrap();
    let plan = client
        .query("EXPLAIN SELECT id FROM item ORDER BY embedding <=> (SELECT embedding FROM item LIMIT 1) LIMIT 1", &[])
        .unwrap();
    assert!(plan.iter().any(|row| row.get::<_, String>(0).contains("item_embedding_idx")), "{when}: no index");
    // Some texts have nearly the same embedding, so the search may return any of them.
    let lost = "SELECT count(*) FROM (SELECT * FROM item ORDER BY md5(id::text) LIMIT 50) AS i, \
        LATERAL (SELECT n.embedding <=> i.embedding AS distance FROM item AS n ORDER BY n.embedding <=> i.embedding LIMIT 1) AS n \
        WHERE n.distance > 1e-5";
    assert_eq!(count(client, lost), 0, "{when}: the index does not find what is there");
    client.batch_execute("RESET enable_seqscan").unwrap();
}

#[test]
fn a_crash_at_any_point_of_inserts_keeps_what_was_committed() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE item (id serial PRIMARY KEY, body text)").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'narrow')", &[]).unwrap();
    for round in 0..8_i64 {
        let before = count(&mut client, "SELECT count(*) FROM item");
        let acknowledged = Arc::new(AtomicI64::new(0));
        let mut writer = cluster.connect();
        let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
        let counter = acknowledged.clone();
        let writing = thread::spawn(move || {
            let insert = format!(
                "INSERT INTO item (body) SELECT 'text {round} ' || random() FROM generate_series(1, {ROWS_OF_A_BATCH})"
            );
            while writer.batch_execute(&insert).is_ok() {
                counter.fetch_add(ROWS_OF_A_BATCH, Ordering::SeqCst);
            }
        });
        // The crash comes after two to thirty batches, at any point of the next batch.
        while acknowledged.load(Ordering::SeqCst) < ROWS_OF_A_BATCH * (2 + round * 4) {
            thread::yield_now();
        }
        drop(client);
        match round % 2 {
            0 => cluster.kill(pid),
            _ => cluster.restart(),
        }
        writing.join().unwrap();
        client = cluster.reconnect();
        let rows = count(&mut client, "SELECT count(*) FROM item") - before;
        let acknowledged = acknowledged.load(Ordering::SeqCst);
        assert!(rows >= acknowledged, "round {round}: {acknowledged} rows were acknowledged, {rows} are there");
        assert_eq!(rows % ROWS_OF_A_BATCH, 0, "round {round}: half a batch is there");
        assert_sound(&mut client, &format!("round {round}"));
    }
}

#[test]
fn a_crash_in_one_large_insert_leaves_nothing_of_it() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE item (id serial PRIMARY KEY, body text)").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'narrow')", &[]).unwrap();
    client.batch_execute("INSERT INTO item (body) SELECT 'text ' || i FROM generate_series(1, 200) AS i").unwrap();
    for pages in [100, 300] {
        let mut writer = cluster.connect();
        let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
        let writing = thread::spawn(move || {
            writer.batch_execute("INSERT INTO item (body) SELECT 'large ' || i FROM generate_series(1, 1000000) AS i")
        });
        // The index already contains the rows. No other transaction sees them.
        wait_until(&mut client, &format!("SELECT pg_relation_size('item_embedding_idx') > {pages} * 8192"));
        drop(client);
        cluster.kill(pid);
        assert!(writing.join().unwrap().is_err());
        client = cluster.reconnect();
        assert_eq!(count(&mut client, "SELECT count(*) FROM item"), 200);
        assert_sound(&mut client, &format!("{pages} pages"));
        client.batch_execute("VACUUM item").unwrap();
        assert_sound(&mut client, "after VACUUM");
    }
}
