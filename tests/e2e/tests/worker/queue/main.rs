//! Mode "queue": no row is lost, embedded twice or stale, whichever process dies.

mod databases;
mod processes;
mod rows;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::{Cluster, count, create_citext, picture, run, wait_until};
use postgres::{Client, NoTls};

/// Starts a server, and restarts it with these settings.
fn cluster_with(settings: &[(&str, &str)]) -> Cluster {
    let cluster = Cluster::start();
    set(&cluster, settings);
    cluster
}

fn set(cluster: &Cluster, settings: &[(&str, &str)]) {
    let mut client = cluster.connect();
    for (name, value) in settings {
        // A library that is not loaded cannot check its settings.
        client.batch_execute("LOAD 'pg_clip'").unwrap();
        client.batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).unwrap();
    }
    drop(client);
    cluster.restart();
}

/// Creates a table of texts in mode "queue", and a record of every stored embedding.
fn queued_table(client: &mut Client, rows: i32) {
    client
        .batch_execute(
            "CREATE TABLE item (id int PRIMARY KEY, body text);
             CREATE TABLE stored (id int);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO public.stored VALUES (NEW.id); RETURN NULL; END $$",
        )
        .unwrap();
    client
        .execute(
            "SELECT clip_auto_embed('item', 'body', model => 'narrow', mode => 'queue', create_index => false)",
            &[],
        )
        .unwrap();
    client
        .batch_execute(
            "CREATE TRIGGER note AFTER UPDATE ON item FOR EACH ROW
               WHEN (OLD.embedding IS NULL AND NEW.embedding IS NOT NULL) EXECUTE FUNCTION note()",
        )
        .unwrap();
    insert(client, rows);
}

fn insert(client: &mut Client, rows: i32) {
    client.execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, $1) AS i", &[&rows]).unwrap();
}

const ALL_DONE: &str = "SELECT count(*) = 0 FROM item WHERE embedding IS NULL AND body IS NOT NULL";

/// Checks that every row has the embedding of its own text, and got it once.
fn assert_complete(client: &mut Client, rows: i64) {
    assert_eq!(count(client, "SELECT count(embedding) FROM item"), rows);
    assert_eq!(count(client, "SELECT count(*) FROM stored"), rows, "stored twice, or not at all");
    assert_eq!(count(client, "SELECT count(DISTINCT id) FROM stored"), rows);
    let wrong = "SELECT count(*) FROM item JOIN clip_embed_texts((SELECT array_agg(body ORDER BY id) FROM item), 'narrow') AS e \
        ON e.ordinality = id WHERE item.embedding <=> e.embedding > 1e-5";
    assert_eq!(count(client, wrong), 0);
}
