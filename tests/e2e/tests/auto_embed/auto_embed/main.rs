//! Managed columns under concurrent use, and after killed processes.

mod backfills;
mod copies;

use std::process::Command;
use std::thread;

use e2e::{Cluster, count, pg_config, run, wait_until};
use postgres::{Client, NoTls};

/// Creates a table with texts that have no embedding yet, and a record of every stored embedding.
fn table(client: &mut Client, rows: i32) {
    client
        .batch_execute(&format!(
            "CREATE TABLE item (id int PRIMARY KEY, body text);
             INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, {rows}) AS i;
             CREATE TABLE stored (id int);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO public.stored VALUES (NEW.id); RETURN NULL; END $$"
        ))
        .unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'narrow', create_index => false)", &[]).unwrap();
    client
        .batch_execute(
            "CREATE TRIGGER note AFTER UPDATE ON item FOR EACH ROW
             WHEN (OLD.embedding IS NULL AND NEW.embedding IS NOT NULL) EXECUTE FUNCTION note()",
        )
        .unwrap();
}
