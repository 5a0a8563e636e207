//! Managed columns of distributed tables.

use citus::{MATCHES, Nodes, answers, run_each, wait_for_queue};
use e2e::{code, count, wait_until};
use postgres::error::SqlState;

#[test]
fn each_node_embeds_its_shards() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    client
        .batch_execute(
            "CREATE TABLE item (id bigint PRIMARY KEY, body text);
             SELECT create_distributed_table('item', 'id');
             INSERT INTO item SELECT i, 'a red apple ' || i FROM generate_series(1, 100) AS i;
             SELECT clip_auto_embed('item', 'body', mode => 'queue')",
        )
        .unwrap();
    wait_for_queue(&mut client, "item");
    // One row, many rows, and rows through another node. Changed sources get new embeddings.
    client.batch_execute("INSERT INTO item VALUES (101, 'a blue car')").unwrap();
    client.batch_execute("INSERT INTO item SELECT i, 'a tree ' || i FROM generate_series(102, 150) AS i").unwrap();
    nodes.nodes[1].connect().batch_execute("INSERT INTO item VALUES (151, 'a fish'), (152, 'a bird')").unwrap();
    client.batch_execute("UPDATE item SET body = 'the moon ' || id::text WHERE id <= 10").unwrap();
    wait_for_queue(&mut client, "item");
    let status = client.query_one("SELECT * FROM clip_auto_embed_status", &[]).unwrap();
    let number = |name: &str| status.get::<_, i64>(name);
    assert_eq!([number("rows"), number("embedded"), number("pending"), number("failed")], [152, 152, 0, 0]);
    assert_eq!(count(&mut client, &format!("SELECT count(*) FROM item WHERE {MATCHES}")), 152);
    // The workers of both nodes, and not that of the coordinator, have worked on the shards there.
    let worked = "SELECT count(DISTINCT relation) FROM _clip.activity";
    let [coordinator, one, other] = answers(&mut client, worked).try_into().unwrap();
    assert_eq!((coordinator.as_str(), one.as_str(), other.as_str()), ("0", "4", "4"));
    // The same view on a worker.
    assert_eq!(count(&mut nodes.nodes[2].connect(), "SELECT sum(embedded)::bigint FROM clip_auto_embed_status"), 152);
}

#[test]
fn failures_are_seen_retried_and_cleared_on_all_nodes() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    nodes.create_role("alice");
    nodes.create_role("bob");
    client
        .batch_execute(
            "GRANT CREATE ON SCHEMA public TO alice; SET ROLE alice;
             CREATE TABLE pic (id bigint PRIMARY KEY, image bytea);
             SELECT create_distributed_table('pic', 'id');
             SELECT clip_auto_embed('pic', 'image', mode => 'queue', on_error => 'skip');
             INSERT INTO pic SELECT i, '\\x00' FROM generate_series(1, 20) AS i;
             RESET ROLE",
        )
        .unwrap();
    client.execute("INSERT INTO pic SELECT 100, $1", &[&e2e::flat_png(8, 8)]).unwrap();
    let mut alice = nodes.nodes[0].connect_as("alice");
    wait_until(&mut alice, "SELECT failed = 20 AND embedded = 1 AND pending = 0 FROM clip_auto_embed_status");
    let states =
        alice.query("SELECT DISTINCT relation, target, sqlstate, retry_at IS NULL FROM clip_failures", &[]).unwrap();
    assert_eq!(states.len(), 1, "{states:?}");
    let text = |column: usize| states[0].get::<_, &str>(column);
    assert_eq!([text(0), text(1), text(2)], ["pic", "embedding", "22P03"]);
    assert!(states[0].get::<_, bool>(3), "such a row is not retried by itself");
    assert_eq!(count(&mut alice, "SELECT count(DISTINCT key) FROM clip_failures"), 20);
    // A role that cannot read the table sees neither counts nor failures.
    let mut bob = nodes.nodes[0].connect_as("bob");
    assert_eq!(count(&mut bob, "SELECT count(*) FROM clip_failures"), 0);
    assert_eq!(count(&mut bob, "SELECT count(*) FROM clip_auto_embed_status WHERE rows IS NULL AND failed IS NULL"), 1);
    assert_eq!(code(&mut bob, "SELECT clip_retry('pic')"), Some(SqlState::INSUFFICIENT_PRIVILEGE));
    // Rows of other roles are hidden by row security, and so are their failures.
    run_each(&mut alice, &["GRANT SELECT ON pic TO bob", "ALTER TABLE pic ENABLE ROW LEVEL SECURITY"]);
    assert_eq!(count(&mut bob, "SELECT count(*) FROM clip_failures"), 0);
    alice.batch_execute("ALTER TABLE pic DISABLE ROW LEVEL SECURITY").unwrap();
    assert_eq!(count(&mut bob, "SELECT count(*) FROM clip_failures"), 20);
    // Rows that fail again are recorded again.
    assert_eq!(count(&mut alice, "SELECT clip_retry('pic')"), 20);
    wait_until(&mut alice, "SELECT failed = 20 AND pending = 0 FROM clip_auto_embed_status");
    alice.execute("UPDATE pic SET image = $1 WHERE id <= 5", &[&e2e::flat_png(9, 9)]).unwrap();
    wait_until(&mut alice, "SELECT failed = 15 AND embedded = 6 AND pending = 0 FROM clip_auto_embed_status");
    alice.batch_execute("SELECT clip_auto_embed_drop('pic')").unwrap();
    assert_eq!(count(&mut alice, "SELECT count(*) FROM clip_failures"), 0);
}

#[test]
fn rows_are_embedded_when_they_are_written() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    // The name of the column is so long that the name of the trigger on a shard has no room for the number of the shard.
    let long = "e".repeat(60);
    client
        .batch_execute(&format!(
            "CREATE TABLE item (id bigint PRIMARY KEY, body text);
             SELECT create_distributed_table('item', 'id');
             SELECT clip_auto_embed('item', 'body');
             SELECT clip_auto_embed('item', 'body', '{long}');
             INSERT INTO item SELECT i, 'a red apple ' || i FROM generate_series(1, 20) AS i;
             UPDATE item SET body = 'a pear' WHERE id = 1;
             INSERT INTO item VALUES (21, 'a fish', NULL) ON CONFLICT (id) DO NOTHING"
        ))
        .unwrap();
    assert_eq!(count(&mut client, &format!("SELECT count(*) FROM item WHERE {MATCHES} AND {long} = embedding")), 21);
    // A trigger of the application that fires later brings the check trigger, whose argument names no shard.
    run_each(
        &mut client,
        &[
            "CREATE FUNCTION upper_body() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.body := upper(NEW.body); RETURN NEW; END'",
            "SET citus.enable_unsafe_triggers = on",
            "CREATE TRIGGER zzz_upper BEFORE INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION upper_body()",
        ],
    );
    assert_eq!(
        code(&mut client, "INSERT INTO item VALUES (30, 'lower')"),
        Some(SqlState::TRIGGERED_DATA_CHANGE_VIOLATION)
    );
    run_each(&mut client, &["INSERT INTO item VALUES (30, 'UPPER')", "DROP TRIGGER zzz_upper ON item"]);
    assert_eq!(count(&mut client, &format!("SELECT count(*) FROM item WHERE {MATCHES}")), 22);
    // Rows from before the trigger, and rows whose embedding was cleared, are embedded by a backfill on the nodes.
    run_each(
        &mut client,
        &[
            "ALTER TABLE item DISABLE TRIGGER zz_clip_embedding",
            "UPDATE item SET embedding = NULL",
            "ALTER TABLE item ENABLE TRIGGER zz_clip_embedding",
        ],
    );
    assert_eq!(count(&mut client, "SELECT pending FROM clip_auto_embed_status WHERE target = 'embedding'"), 22);
    client.batch_execute("CALL clip_backfill('item')").unwrap();
    assert_eq!(count(&mut client, &format!("SELECT count(*) FROM item WHERE {MATCHES}")), 22);
    client.batch_execute("RESET citus.enable_unsafe_triggers").unwrap();
    for statement in [
        "SELECT clip_backfill_batch('item')",
        "CALL clip_reembed('item', 'embedding', 'wide')",
        "SELECT clip_auto_embed('item', 'body', 'e2', mode => 'statement')",
    ] {
        assert_eq!(code(&mut client, statement), Some(SqlState::FEATURE_NOT_SUPPORTED), "{statement}");
    }
    // The record of the model stays, on all nodes.
    client.batch_execute("SELECT clip_auto_embed_drop('item')").unwrap();
    let mode = "SELECT string_agg(DISTINCT COALESCE(mode, 'none'), ',') FROM clip_auto_embed_status WHERE target = 'embedding'";
    assert_eq!(answers(&mut client, mode), ["none", "none", "none"]);
    client.batch_execute("INSERT INTO item VALUES (40, 'no embedding')").unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM item WHERE embedding IS NULL"), 1);
    client.batch_execute("SELECT clip_auto_embed_drop('item', keep_column => false)").unwrap();
    assert_eq!(
        count(
            &mut client,
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'item'::regclass AND attname = 'embedding'"
        ),
        0
    );
}

#[test]
fn roles_hear_only_of_tables_that_they_can_read() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    nodes.create_role("bob");
    run_each(
        &mut client,
        &[
            "CREATE SCHEMA hidden",
            "CREATE TABLE hidden.item (id bigint PRIMARY KEY, body text)",
            "SELECT create_distributed_table('hidden.item', 'id')",
            "SELECT clip_auto_embed('hidden.item', 'body')",
            "CREATE TABLE item (id bigint PRIMARY KEY, body text)",
            "SELECT create_distributed_table('item', 'id')",
            "SELECT clip_auto_embed('item', 'body')",
            "GRANT SELECT ON item TO bob",
        ],
    );
    let (mut bob, heard) = nodes.nodes[0].listen("bob");
    // A role that can read none, and cannot connect to the nodes, sees empty views.
    run_each(&mut client, &["CREATE ROLE quiet", "SET ROLE quiet"]);
    if let Some(schema) = e2e::schema() {
        run_each(&mut client, &["RESET ROLE", &format!("GRANT USAGE ON SCHEMA {schema} TO quiet"), "SET ROLE quiet"]);
    }
    assert_eq!(
        count(&mut client, "SELECT (SELECT count(*) FROM clip_failures) + (SELECT count(*) FROM clip_progress)"),
        0
    );
    run_each(&mut client, &["RESET ROLE", "GRANT SELECT ON item TO quiet", "SET ROLE quiet"]);
    assert_eq!(code(&mut client, "SELECT * FROM clip_failures"), Some(SqlState::CONNECTION_EXCEPTION));
    run_each(&mut client, &["RESET ROLE"]);
    let known = "SELECT count(*) FROM clip_auto_embed_status WHERE rows IS NOT NULL";
    assert_eq!(count(&mut bob, known), 1);
    assert_eq!(e2e::drain(&heard), Vec::<String>::new());
    assert_eq!(code(&mut bob, "CALL clip_backfill('item')"), Some(SqlState::INSUFFICIENT_PRIVILEGE));
    // A session sees the backfills of all nodes.
    run_each(
        &mut client,
        &[
            "SET citus.enable_unsafe_triggers = on",
            "ALTER TABLE item DISABLE TRIGGER zz_clip_embedding",
            "INSERT INTO item SELECT i, repeat('a red apple ', 9) || i FROM generate_series(1, 6000) AS i",
            "ALTER TABLE item ENABLE TRIGGER zz_clip_embedding",
        ],
    );
    let backfill = std::thread::spawn(move || client.batch_execute("CALL clip_backfill('item')").unwrap());
    wait_until(
        &mut bob,
        "SELECT count(*) = 2 AND bool_and(relation = 'item' AND kind = 'backfill' AND total > 0) FROM clip_progress",
    );
    backfill.join().unwrap();
    assert_eq!(count(&mut bob, "SELECT count(*) FROM clip_progress"), 0);
    assert_eq!(count(&mut bob, "SELECT pending FROM clip_auto_embed_status WHERE rows IS NOT NULL"), 0);
}
