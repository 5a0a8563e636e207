//! Policies, privileges, and messages to users.

use super::*;

/// The owner's policies, which are forced upon the owner, hide all rows from a worker without settings.
#[test]
fn rows_behind_forced_policies_are_embedded() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE ROLE tenants; CREATE SCHEMA app AUTHORIZATION tenants; SET ROLE tenants").unwrap();
    for mode in ["queue", "row"] {
        client
            .batch_execute(
                "DROP TABLE IF EXISTS app.t; CREATE TABLE app.t (id int PRIMARY KEY, tenant text, title text)",
            )
            .unwrap();
        client.batch_execute("INSERT INTO app.t VALUES (0, 'acme', 'before')").unwrap();
        attach(&mut client, "app.t", mode);
        client
            .batch_execute(
                "ALTER TABLE app.t ENABLE ROW LEVEL SECURITY; ALTER TABLE app.t FORCE ROW LEVEL SECURITY;
                 CREATE POLICY own ON app.t USING (tenant = current_setting('app.tenant', true));
                 SET app.tenant = 'acme'; INSERT INTO app.t VALUES (1, 'acme', 'a cat'); RESET app.tenant",
            )
            .unwrap();
        if mode == "row" {
            assert_eq!(
                count(&mut client, "SELECT pending FROM clip_auto_embed_status"),
                1,
                "the owner is told what waits"
            );
            client.batch_execute("CALL clip_backfill('app.t')").unwrap();
        }
        client.batch_execute("RESET ROLE").unwrap();
        wait_for_worker(&mut client, "app.t");
        assert_eq!(wrong(&mut client, "app.t"), 0, "{mode}");
        // Other roles keep their policies.
        client.batch_execute("SET ROLE tenants").unwrap();
        assert_eq!(count(&mut client, "SELECT count(*) FROM app.t"), 0);
    }
}

#[test]
fn roles_cannot_forge_failures_and_activities() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE ROLE writer; CREATE TABLE t (id int PRIMARY KEY, title text); GRANT INSERT ON t TO writer",
        )
        .unwrap();
    client
        .execute(
            "SELECT clip_auto_embed('t', 'title', model => 'narrow', on_error => 'null', create_index => false)",
            &[],
        )
        .unwrap();
    // No SQL function writes them for its caller: triggers, workers and backfills write them in Rust.
    let writers = "SELECT count(*) FROM pg_proc WHERE proname ~ '^_clip_(record_failure|report_activity)'";
    assert_eq!(count(&mut client, writers), 0);
    client.batch_execute("SET ROLE writer").unwrap();
    for call in [
        "SELECT _clip_forget_failures('t', 'zz_clip_embedding')",
        "SELECT _clip_backfill_step('t', 'zz_clip_embedding', 10, true)",
        "SELECT _clip_backfill_rows('t', 'zz_clip_embedding', 10)",
        "INSERT INTO _clip.failures SELECT 't'::regclass, 'zz_clip_embedding', 'null', '', '54000', 'forged', 1, now(), now(), 'infinity'",
        "SELECT * FROM _clip.failures",
        "DELETE FROM _clip.activity",
    ] {
        assert_eq!(code(&mut client, call), Some(SqlState::INSUFFICIENT_PRIVILEGE), "{call}");
    }
    client.batch_execute("RESET ROLE").unwrap();
    assert_eq!(
        count(&mut client, "SELECT (SELECT count(*) FROM _clip.failures) + (SELECT count(*) FROM _clip.activity)"),
        0
    );
    // Dropping a table removes its failures.
    client.batch_execute("SET clip.text_overflow = 'error'; INSERT INTO t VALUES (1, repeat('long ', 1000))").unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM _clip.failures"), 1);
    client.batch_execute("DROP TABLE t").unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM _clip.failures"), 0);
}

/// Both extensions are in a schema that ordinary roles cannot use.
#[test]
fn writers_need_rights_on_the_table_only() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "DROP EXTENSION pg_clip; DROP EXTENSION vector; CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext; CREATE EXTENSION pg_clip SCHEMA ext;
             SET search_path = app, ext; CREATE ROLE owner; CREATE ROLE writer; CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO owner, writer;
             CREATE TABLE made (id int, title text, e vector(32) GENERATED ALWAYS AS (clip_embed_text(title, 'narrow')) STORED);
             GRANT INSERT ON made TO writer",
        )
        .unwrap();
    for mode in ["row", "statement", "queue"] {
        client.batch_execute(&format!("CREATE TABLE t_{mode} (id int PRIMARY KEY, title text)")).unwrap();
        attach(&mut client, &format!("t_{mode}"), mode);
        client
            .batch_execute(&format!("ALTER TABLE t_{mode} OWNER TO owner; GRANT INSERT, SELECT (id, embedding), UPDATE (title, embedding) ON t_{mode} TO writer"))
            .unwrap();
    }
    let mut writer = cluster.connect();
    writer.batch_execute("SET ROLE writer; INSERT INTO app.made VALUES (1, 'a cat')").unwrap();
    for mode in ["row", "statement", "queue"] {
        writer.batch_execute(&format!("INSERT INTO app.t_{mode} VALUES (1, 'a cat'), (2, 'a dog'); UPDATE app.t_{mode} SET title = 'a cow' WHERE id = 1")).unwrap();
    }
    for mode in ["row", "statement", "queue"] {
        wait_for_worker(&mut client, &format!("t_{mode}"));
        assert_eq!(wrong(&mut client, &format!("t_{mode}")), 0, "{mode}");
    }
    // The owner has no right on that schema either, but can change the table like any other table.
    client.batch_execute("GRANT CREATE ON SCHEMA app TO owner; SET ROLE owner; ALTER TABLE app.t_row ALTER title TYPE varchar; INSERT INTO app.t_row VALUES (3, 'a horse'); RESET ROLE").unwrap();
    assert_eq!(wrong(&mut client, "t_row"), 0);
}

/// `clip_auto_embed` reports pending rows, and columns of addresses.
#[test]
fn attaching_a_column_reports_pending_rows_and_addresses() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, title text); INSERT INTO t VALUES (1, 'a cat'), (2, NULL);
             CREATE TABLE link (id int, url text); INSERT INTO link VALUES (1, 'https://example.org/a.jpg'), (2, 's3://bucket/b'), (3, 'img/c.png')",
        )
        .unwrap();
    for (call, expected) in [
        ("SELECT clip_auto_embed('t', 'title', model => 'narrow')", "table public.t has 1 row without an embedding"),
        (
            "SELECT clip_auto_embed('link', 'url', model => 'narrow')",
            "column \"url\" of table public.link seems to contain addresses of images",
        ),
    ] {
        let output = cluster.script("psql").args(["-X", "-c", call]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(expected), "{told}");
    }
}

/// A schema before pg_catalog in the search_path has operators that match unqualified names.
#[test]
fn backfills_ignore_operators_in_the_search_path() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, title text)").unwrap();
    client.batch_execute("INSERT INTO t SELECT i, 'title ' || i FROM generate_series(1, 5) AS i").unwrap();
    attach(&mut client, "t", "row");
    client.batch_execute("CREATE SCHEMA evil").unwrap();
    for (left, right) in
        [("int8", "int4"), ("int8", "int8"), ("int4", "int4"), ("text", "text"), ("name", "name"), ("oid", "oid")]
    {
        let result = if left == "text" { "text" } else { "boolean" };
        client
            .batch_execute(&format!(
                "CREATE FUNCTION evil.boom({left}, {right}) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
                 CREATE FUNCTION evil.sum({left}, {right}) RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
                 CREATE OPERATOR evil.= (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = evil.boom);
                 CREATE OPERATOR evil.> (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = evil.boom);
                 CREATE OPERATOR evil.+ (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = evil.sum);
                 CREATE OPERATOR evil.|| (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = evil.sum)"
            ))
            .unwrap();
    }
    for statement in [
        "SET search_path = evil, pg_catalog, public",
        "SELECT clip_backfill_batch('t', batch_size => 2)",
        "CALL clip_backfill('t', batch_size => 1)",
        "CALL clip_reembed('t', 'embedding', 'bidirectional')",
        "SELECT clip_retry('t')",
        "SELECT clip_auto_embed_drop('t')",
        "RESET search_path",
    ] {
        assert_eq!(code(&mut client, statement), None, "{statement}");
    }
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM t"), 5);
}
