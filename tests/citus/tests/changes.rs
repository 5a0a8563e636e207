//! Changes of distributed tables: partitions, and columns that one transaction adds, changes and drops.

use citus::{MATCHES, Nodes, answers, run_each, wait_for_queue};
use e2e::{code, count};
use postgres::Client;
use postgres::error::SqlState;

#[test]
fn partitions_are_attached_and_detached() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    let matching = |client: &mut Client, table: &str| {
        wait_for_queue(client, table);
        count(client, &format!("SELECT count(*) FROM {table} WHERE {MATCHES}"))
    };
    run_each(
        &mut client,
        &[
            "CREATE TABLE visit (id bigint, day date, body text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
            "CREATE TABLE january PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
            "SELECT create_distributed_table('visit', 'id')",
            "SELECT clip_auto_embed('visit', 'body', mode => 'queue')",
            "CREATE TABLE february PARTITION OF visit FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
            "INSERT INTO visit SELECT i, '2026-01-10', 'cat ' || i FROM generate_series(1, 20) AS i",
            "INSERT INTO visit SELECT i, '2026-02-10', 'dog ' || i FROM generate_series(1, 20) AS i",
        ],
    );
    assert_eq!(matching(&mut client, "visit"), 40);
    // A detached partition keeps its column, on each shard under the name that Citus uses.
    run_each(
        &mut client,
        &[
            "ALTER TABLE visit DETACH PARTITION january",
            "INSERT INTO january SELECT i, '2026-01-11', 'fish ' || i FROM generate_series(1, 20) AS i",
            "UPDATE january SET body = 'tree' WHERE id = 1",
        ],
    );
    assert_eq!(matching(&mut client, "january"), 40);
    run_each(&mut client, &["SELECT clip_auto_embed_drop('january')"]);
    let maintained = "SELECT count(*) FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'january%' AND tgname LIKE 'zz_clip%' AND tgenabled <> 'D'";
    assert_eq!(answers(&mut client, maintained), ["0", "0", "0"]);
    // Citus cannot look into a table while it becomes a partition, so its embeddings must be known.
    let attach = "ALTER TABLE visit ATTACH PARTITION january FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')";
    assert_eq!(code(&mut client, attach), Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE));
    run_each(
        &mut client,
        &[
            "SELECT clip_auto_embed('january', 'body', mode => 'queue')",
            attach,
            "INSERT INTO visit VALUES (30, '2026-01-12', 'bird')",
        ],
    );
    assert_eq!(matching(&mut client, "visit"), 61);
    run_each(&mut client, &["SELECT clip_auto_embed_drop('visit', keep_column => false)"]);
}

#[test]
fn a_transaction_can_attach_change_and_drop_a_column() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    // The nodes do not see the table, and then not its column, before the commit.
    run_each(
        &mut client,
        &[
            "BEGIN",
            "CREATE TABLE item (id bigint PRIMARY KEY, body varchar(20))",
            "SELECT create_distributed_table('item', 'id')",
            "SELECT clip_auto_embed('item', 'body', mode => 'queue')",
            "SELECT clip_retry('item')",
            "SELECT * FROM clip_auto_embed_status",
            "SELECT clip_auto_embed_drop('item', keep_column => false)",
            "COMMIT",
            "BEGIN",
            "SELECT clip_auto_embed('item', 'body', mode => 'queue')",
            "INSERT INTO item SELECT i, 'cat ' || i FROM generate_series(1, 20) AS i",
            "SELECT clip_auto_embed_drop('item')",
            "SELECT clip_auto_embed('item', 'body', mode => 'queue')",
            "COMMIT",
        ],
    );
    wait_for_queue(&mut client, "item");
    // The type of a source column, which its trigger names. Citus cannot check that new values have no old embedding.
    run_each(
        &mut client,
        &[
            "ALTER TABLE item ALTER COLUMN body TYPE varchar(30)",
            "INSERT INTO item VALUES (21, 'a yellow submarine below')",
        ],
    );
    let computed = "ALTER TABLE item ALTER COLUMN body TYPE text USING upper(body)";
    assert_eq!(code(&mut client, computed), Some(SqlState::FEATURE_NOT_SUPPORTED));
    wait_for_queue(&mut client, "item");
    assert_eq!(count(&mut client, &format!("SELECT count(*) FROM item WHERE {MATCHES}")), 21);
    let triggers =
        "SELECT count(*) FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'item%' AND tgname LIKE 'zz_clip%'";
    assert_eq!(answers(&mut client, triggers), ["1", "5", "5"]);
}
