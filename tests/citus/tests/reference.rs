//! Managed columns of tables that have copies on several nodes.

use citus::{MATCHES, Nodes, answers, run_each, wait_for_queue};
use e2e::{code, count, wait_until};
use postgres::error::SqlState;

#[test]
fn a_reference_table_is_equal_on_all_nodes() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    client
        .batch_execute("CREATE TABLE kind (id bigint PRIMARY KEY, body text); SELECT create_reference_table('kind')")
        .unwrap();
    assert_eq!(code(&mut client, "SELECT clip_auto_embed('kind', 'body')"), Some(SqlState::FEATURE_NOT_SUPPORTED));
    client
        .batch_execute(
            "INSERT INTO kind SELECT i, 'a red apple ' || i FROM generate_series(1, 30) AS i;
             SELECT clip_auto_embed('kind', 'body', mode => 'queue')",
        )
        .unwrap();
    nodes.nodes[1].connect().batch_execute("INSERT INTO kind VALUES (31, 'a fish')").unwrap();
    client.batch_execute("UPDATE kind SET body = 'the moon' WHERE id = 1").unwrap();
    wait_for_queue(&mut client, "kind");
    assert_eq!(count(&mut client, &format!("SELECT count(*) FROM kind WHERE {MATCHES}")), 31);
    let contents =
        answers(&mut client, "SELECT md5(string_agg(id || body || embedding::text, ',' ORDER BY id)) FROM kind");
    assert!(contents.iter().all(|content| *content == contents[0]), "{contents:?}");
    // Only the coordinator embeds.
    let worked = "SELECT count(DISTINCT relation) FROM _clip.activity";
    assert_eq!(answers(&mut client, worked), ["1", "0", "0"]);
    // Only the coordinator has failures to clear.
    let retry = "SELECT clip_retry('kind')";
    assert_eq!(code(&mut nodes.nodes[1].connect(), retry), Some(SqlState::FEATURE_NOT_SUPPORTED));
    assert_eq!(count(&mut client, retry), 0);
    // Each copy of a shard would get embeddings of its own.
    run_each(
        &mut client,
        &[
            "SET citus.shard_replication_factor = 2",
            "CREATE TABLE copied (id bigint PRIMARY KEY, body text)",
            "SELECT create_distributed_table('copied', 'id')",
            "RESET citus.shard_replication_factor",
        ],
    );
    for mode in ["row", "queue"] {
        let statement = format!("SELECT clip_auto_embed('copied', 'body', mode => '{mode}')");
        assert_eq!(code(&mut client, &statement), Some(SqlState::FEATURE_NOT_SUPPORTED), "{mode}");
    }
    // While the worker embeds a row, no node can change it.
    let mut holds = nodes.coordinator();
    let mut transaction = holds.transaction().unwrap();
    transaction
        .batch_execute(
            "SELECT id FROM ONLY kind AS t WHERE id = 2 ORDER BY id LIMIT 1 FOR NO KEY UPDATE OF t SKIP LOCKED",
        )
        .unwrap();
    for node in &nodes.nodes {
        let mut other = node.connect();
        let statement = "SET statement_timeout = '1s'; UPDATE kind SET body = 'changed' WHERE id = 2";
        assert_eq!(code(&mut other, statement), Some(SqlState::QUERY_CANCELED));
    }
}

#[test]
fn reference_tables_of_ordinary_roles_are_embedded() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    nodes.create_role("alice");
    run_each(&mut client, &["GRANT CREATE ON SCHEMA public TO alice"]);
    let mut alice = nodes.nodes[0].connect_as("alice");
    // A failed row of a reference table does not stop the others.
    run_each(
        &mut alice,
        &[
            "CREATE TABLE kind (id bigint PRIMARY KEY, image bytea)",
            "SELECT create_reference_table('kind')",
            "SELECT clip_auto_embed('kind', 'image', mode => 'queue', on_error => 'skip')",
            "INSERT INTO kind VALUES (1, '\\x00'), (2, '\\x00')",
        ],
    );
    let status = "FROM clip_auto_embed_status WHERE relation = 'kind'";
    wait_until(&mut alice, &format!("SELECT failed = 2 AND pending = 0 {status}"));
    alice.execute("INSERT INTO kind VALUES (3, $1)", &[&e2e::flat_png(8, 8)]).unwrap();
    wait_until(&mut alice, &format!("SELECT failed = 2 AND embedded = 1 AND pending = 0 {status}"));
    run_each(&mut alice, &["DELETE FROM kind WHERE id = 1", "CALL clip_backfill('kind')"]);
    assert_eq!(count(&mut alice, "SELECT sum((key ->> 'id')::int) FROM clip_failures"), 2);
    // Under forced policies, the owner could write other rows on each node.
    run_each(
        &mut alice,
        &[
            "CREATE POLICY odd ON kind USING (id % 2 = 1)",
            "ALTER TABLE kind ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE kind FORCE ROW LEVEL SECURITY",
        ],
    );
    for id in [4i64, 5] {
        client.execute("INSERT INTO kind VALUES ($1, $2)", &[&id, &e2e::flat_png(8, 8)]).unwrap();
    }
    wait_until(&mut client, "SELECT count(*) = 1 FROM clip_failures WHERE key IS NULL AND sqlstate = '0A000'");
    assert_eq!(code(&mut alice, "CALL clip_backfill('kind')"), Some(SqlState::FEATURE_NOT_SUPPORTED));
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM kind"), 1);
    run_each(&mut alice, &["ALTER TABLE kind NO FORCE ROW LEVEL SECURITY", "SELECT clip_retry('kind')"]);
    wait_until(&mut alice, &format!("SELECT failed = 1 AND embedded = 3 AND pending = 0 {status}"));
    let embedded =
        answers(&mut client, "SELECT string_agg(id::text, ',' ORDER BY id) FROM kind WHERE embedding IS NOT NULL");
    assert_eq!(embedded, ["3,4,5", "3,4,5", "3,4,5"]);
}
