//! Failures: roles that see them and roles that clear them.

use super::*;

#[test]
fn failures_are_visible_to_roles_that_can_read_all_rows() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(&format!(
            "CREATE ROLE guest LOGIN; CREATE ROLE tenant LOGIN; CREATE ROLE reader LOGIN;
             CREATE TABLE secret (id text PRIMARY KEY, body text, tenant text);
             GRANT SELECT ON secret TO tenant, reader;
             SELECT clip_auto_embed('secret', 'body', model => 'narrow', on_error => 'null', create_index => false);
             INSERT INTO _clip.activity VALUES ('secret'::regclass, 'zz_clip_embedding', pg_backend_pid(), 'backfill', now(), now(), 10, 1, 1);
             SET clip.text_overflow = 'error'; INSERT INTO secret VALUES ('a secret key', {TOO_LONG}, 'another')"
        ))
        .unwrap();
    let seen = |client: &mut Client| count(client, "SELECT count(*) FROM clip_failures");
    let (mut guest, mut tenant, mut reader) =
        (cluster.connect_as_caller("guest"), cluster.connect_as_caller("tenant"), cluster.connect_as_caller("reader"));
    assert_eq!((seen(&mut guest), seen(&mut tenant), seen(&mut reader)), (0, 1, 1));
    client.batch_execute("BEGIN").unwrap();
    for view in ["clip_failures", "_clip.failed", "_clip.work_done", "clip_progress"] {
        assert_eq!(count(&mut reader, &format!("SELECT count(*) FROM {view}")), 1, "{view}");
    }
    // A cheap condition would reveal the rows that it sees, by an error or by its own message.
    guest
        .batch_execute(
            "CREATE FUNCTION pg_temp.tell(text) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS $$BEGIN RAISE 'told'; END$$",
        )
        .unwrap();
    for view in ["clip_failures", "_clip.failed", "_clip.work_done", "clip_progress"] {
        for condition in ["v::text::int = 1", "pg_temp.tell(v::text)"] {
            assert_eq!(
                code(&mut guest, &format!("SELECT FROM {view} AS v WHERE {condition}")),
                None,
                "{view}: {condition}"
            );
        }
    }
    client.batch_execute("COMMIT").unwrap();
    // A role that is subject to row security sees only some rows. It sees no failures, because keys and digests reveal
    // rows.
    client
        .batch_execute(
            "ALTER TABLE secret ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON secret USING (tenant = current_user)",
        )
        .unwrap();
    assert_eq!((seen(&mut tenant), seen(&mut client)), (0, 1));
    assert_eq!(count(&mut tenant, "SELECT count(*) FROM _clip.failed"), 0);
    // The owner sees the failures, although row security is forced upon the owner, too.
    client
        .batch_execute(
            "CREATE ROLE owner LOGIN; GRANT CREATE ON SCHEMA public TO owner; ALTER TABLE secret OWNER TO owner; ALTER TABLE secret FORCE ROW LEVEL SECURITY",
        )
        .unwrap();
    assert_eq!(seen(&mut cluster.connect_as_caller("owner")), 1);
}

#[test]
fn recorded_failures_contain_no_path_and_are_retried() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE by_row (id int PRIMARY KEY, body text); CREATE TABLE by_queue (id int PRIMARY KEY, body text);
             SELECT clip_auto_embed('by_row', 'body', model => 'narrow', on_error => 'null', create_index => false);
             SELECT clip_auto_embed('by_queue', 'body', model => 'narrow', mode => 'queue', on_error => 'skip', create_index => false)",
        )
        .unwrap();
    client.batch_execute("ALTER SYSTEM SET clip.onnxruntime_path = '/nowhere/libonnxruntime.so'").unwrap();
    drop(client);
    // A running worker has read the former setting.
    cluster.restart();
    let mut client = cluster.connect();
    client.batch_execute("INSERT INTO by_row VALUES (1, 'a text'); INSERT INTO by_queue VALUES (1, 'a text')").unwrap();
    wait_until(&mut client, "SELECT count(*) = 2 FROM clip_failures");
    let noted = "SELECT message || ' ' || (retry_at IS NOT NULL) FROM clip_failures WHERE sqlstate = '58P01'";
    assert_eq!(strings(&mut client, noted), ["could not load ONNX Runtime true"; 2]);
    client.batch_execute("ALTER SYSTEM RESET clip.onnxruntime_path").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    drop(client);
    let mut client = cluster.connect();
    // Both columns are retried without clip_retry.
    wait_until(&mut client, "SELECT count(embedding) = 1 FROM by_queue");
    wait_until(
        &mut client,
        "SELECT retry_at < now() FROM clip_failures WHERE relation OPERATOR(pg_catalog.~) 'by_row'",
    );
    client.batch_execute("CALL clip_backfill('by_row')").unwrap();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM by_row"), 1);
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_failures"), 0);
}

#[test]
fn a_writer_through_a_view_and_a_reader_of_a_closed_schema_have_no_errors() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE ROLE writer LOGIN; CREATE ROLE reader LOGIN;
             CREATE TABLE item (id int PRIMARY KEY, picture bytea); CREATE VIEW items AS SELECT id, picture FROM item;
             GRANT INSERT, UPDATE, SELECT ON items TO writer;
             SELECT clip_auto_embed('item', 'picture', model => 'narrow', on_error => 'null', create_index => false);
             CREATE TABLE parted (id int PRIMARY KEY, picture bytea) PARTITION BY RANGE (id);
             CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (100); GRANT INSERT ON part TO writer;
             SELECT clip_auto_embed('parted', 'picture', model => 'narrow', on_error => 'null', create_index => false);
             CREATE SCHEMA closed; CREATE TABLE closed.item (id int PRIMARY KEY, body text); GRANT SELECT ON closed.item TO reader;
             SELECT clip_auto_embed('closed.item', 'body', model => 'narrow', create_index => false)",
        )
        .unwrap();
    let mut writer = cluster.connect_as("writer");
    for written in ["INSERT INTO items VALUES (1, 'no picture')", "INSERT INTO part VALUES (2, 'no picture')"] {
        assert_eq!(code(&mut writer, written), None, "{written}");
    }
    assert_eq!(
        strings(&mut client, "SELECT relation || ' ' || key::text FROM clip_failures ORDER BY 1"),
        ["item {\"id\": 1}", "parted {\"id\": 2}"]
    );
    // A success removes the failure, too.
    let picture = e2e::picture("rgb_444.jpg");
    writer.execute("UPDATE items SET picture = $1 WHERE id = 1", &[&picture]).unwrap();
    assert_eq!(strings(&mut client, "SELECT relation::text FROM clip_failures"), ["parted"]);
    let mut reader = cluster.connect_as_caller("reader");
    assert_eq!(count(&mut reader, "SELECT count(*) FROM clip_auto_embed_status"), 3);
}

#[test]
fn a_backfill_by_a_role_that_cannot_see_failures_ends() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    create_citext(&mut client);
    client
        .batch_execute(
            "CREATE ROLE tenant LOGIN;
             CREATE TABLE item (id citext PRIMARY KEY, body text); GRANT ALL ON item TO tenant;
             SELECT clip_auto_embed('item', 'body', model => 'narrow', mode => 'statement', on_error => 'null', create_index => false);
             ALTER TABLE item ENABLE ROW LEVEL SECURITY; CREATE POLICY all_of_it ON item USING (true)",
        )
        .unwrap();
    let mut tenant = cluster.connect_as_caller("tenant");
    tenant
        .batch_execute(&format!(
            "SET clip.text_overflow = 'error'; SET statement_timeout = '60s'; INSERT INTO item SELECT 'row ' || i, {TOO_LONG} FROM generate_series(1, 10) AS i"
        ))
        .unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_failures"), 10);
    assert_eq!(count(&mut tenant, "SELECT count(*) FROM clip_failures"), 0);
    // The role cannot see the failures, and the key has no operator of the server's own. The backfill still ends.
    assert_eq!(count(&mut tenant, "SELECT clip_backfill_batch('item', batch_size => 3)"), 0);
    tenant.batch_execute("CALL clip_backfill('item', batch_size => 3)").unwrap();
    tenant.batch_execute("UPDATE item SET body = 'short'").unwrap();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM item"), 10);
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_failures"), 0);
}
