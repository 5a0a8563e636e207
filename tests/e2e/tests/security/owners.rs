//! What owners of tables and of databases, and those who may read some of it, would do to others and to the server.

use e2e::{Cluster, code, count, create_citext, wait_until};
use postgres::Client;

fn strings(client: &mut Client, query: &str) -> Vec<String> {
    client.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

const TOO_LONG: &str = "repeat('long ', 1000)";

#[test]
fn a_key_may_change_its_type_under_a_session_that_knew_it() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("SET clip.text_overflow = 'error'").unwrap();
    for (before, after, change, key) in [
        ("text", "7", "TYPE int USING id::int", "7"),
        ("int", "7000000000", "TYPE bigint", "7000000000"),
        (
            "text",
            "'00000000-0000-0000-0000-000000000007'",
            "TYPE uuid USING md5(id)::uuid",
            "\"00000000-0000-0000-0000-000000000007\"",
        ),
    ] {
        client
            .batch_execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id {before} PRIMARY KEY, body text)"))
            .unwrap();
        client
            .batch_execute(
                "SELECT clip_auto_embed('t', 'body', model => 'narrow', on_error => 'null', create_index => false)",
            )
            .unwrap();
        client.batch_execute(&format!("INSERT INTO t VALUES ('1', 'a'), ('2', {TOO_LONG})")).unwrap();
        client.batch_execute(&format!("DELETE FROM t WHERE id = '2'; ALTER TABLE t ALTER id {change}")).unwrap();
        client.batch_execute("ALTER TRIGGER zz_clip_embedding ON t RENAME TO zz_renamed").unwrap();
        client.batch_execute(&format!("INSERT INTO t VALUES ({after}, {TOO_LONG})")).unwrap();
        let keys =
            strings(&mut client, "SELECT (key -> 'id')::text FROM clip_failures ORDER BY last_failed_at DESC LIMIT 1");
        assert_eq!(keys, [key], "{before}");
    }
    // Another key, whose column has another number.
    client
        .batch_execute(&format!(
            "ALTER TABLE t ADD number int GENERATED ALWAYS AS IDENTITY UNIQUE;
             ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t DROP id; INSERT INTO t (body) VALUES ({TOO_LONG})"
        ))
        .unwrap();
    let keys = strings(&mut client, "SELECT key::text FROM clip_failures ORDER BY last_failed_at DESC LIMIT 1");
    assert_eq!(keys, ["{\"number\": 3}"]);
    cluster.assert_no_crash();
}

#[test]
fn what_one_owners_table_sets_is_not_left_for_anothers() {
    let cluster = Cluster::start_with(&["clip.max_workers=1"]);
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE ROLE a; CREATE ROLE b; CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO a; GRANT USAGE ON SCHEMA evil TO b;
             GRANT CREATE ON SCHEMA public TO a, b;
             SET ROLE a;
             CREATE TABLE first (id int PRIMARY KEY, body text);
             CREATE FUNCTION evil.tidy(text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'taken over %', current_user; END$$;
             GRANT EXECUTE ON FUNCTION evil.tidy TO PUBLIC;
             CREATE FUNCTION evil.set() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
                 PERFORM set_config('search_path', 'evil, pg_catalog, public', false), set_config('default_transaction_read_only', 'on', false),
                     set_config('clip.text_overflow', 'error', false);
                 RETURN NEW;
             END$$;
             CREATE TRIGGER set BEFORE UPDATE ON first FOR EACH ROW EXECUTE FUNCTION evil.set();
             SET ROLE b;
             CREATE TABLE second (id int PRIMARY KEY, body text);
             CREATE FUNCTION public.tidy(text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN $1; END$$;
             CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.body := tidy(NEW.body); RETURN NEW; END$$;
             CREATE TRIGGER keep BEFORE UPDATE ON second FOR EACH ROW EXECUTE FUNCTION public.keep();
             RESET ROLE",
        )
        .unwrap();
    e2e::let_call(&mut client, "a, b");
    for (role, table) in [("a", "first"), ("b", "second")] {
        client.batch_execute(&format!("SET ROLE {role}")).unwrap();
        client
            .execute(&format!("SELECT clip_auto_embed('{table}', 'body', model => 'narrow', mode => 'queue')"), &[])
            .unwrap();
    }
    client.batch_execute("RESET ROLE").unwrap();
    for round in 0..2 {
        // The second is longer than the model reads.
        client
            .batch_execute(&format!(
                "BEGIN; INSERT INTO first VALUES ({round}, 'a text'); INSERT INTO second VALUES ({round}, {TOO_LONG}); COMMIT"
            ))
            .unwrap();
        wait_until(
            &mut client,
            "SELECT (SELECT bool_and(embedding IS NOT NULL) FROM first) AND (SELECT bool_and(embedding IS NOT NULL) FROM second)",
        );
    }
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_failures"), 0);
    let log = std::fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert!(!log.contains("taken over"), "{log}");
}

/// For each function of the extension others of its name, with one argument of a near type or with the types that callers
/// are tempted to pass, and without the arguments that have defaults.
const OVERLOADS: &str = r#"
    DO $plant$
    DECLARE
        p record;
        kinds text[];
        near text;
    BEGIN
        FOR p IN SELECT f.proname, f.pronargs, f.pronargdefaults,
                    (SELECT array_agg(a.t::regtype::text ORDER BY a.i) FROM unnest(f.proargtypes::oid[]) WITH ORDINALITY AS a (t, i)) AS kinds
                 FROM pg_proc AS f JOIN pg_depend AS d ON d.objid = f.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
                 JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_clip'
                 WHERE f.pronargs > 0 AND NOT 'anyelement'::regtype = ANY (f.proargtypes::oid[]) LOOP
            FOR i IN 1 .. p.pronargs LOOP
                FOREACH near IN ARRAY '{text,name,oid,regclass,smallint,integer,bigint,jsonb,boolean,"character varying"}'::text[] LOOP
                    kinds := p.kinds;
                    kinds[i] := near;
                    BEGIN
                        EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE ''planted''; END$$', p.proname, array_to_string(kinds, ', '));
                    EXCEPTION WHEN duplicate_function THEN NULL;
                    END;
                END LOOP;
            END LOOP;
            FOR i IN 0 .. p.pronargdefaults LOOP
                FOREACH near IN ARRAY '{regclass,oid}'::text[] LOOP
                    kinds := array_replace(array_replace(p.kinds[1 : p.pronargs - i], 'name', 'text'), 'regclass', near);
                    BEGIN
                        EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE ''planted''; END$$', p.proname, array_to_string(kinds, ', '));
                        EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE ''planted''; END$$', p.proname,
                            array_to_string(p.kinds[1 : p.pronargs - i], ', '));
                    EXCEPTION WHEN duplicate_function THEN NULL;
                    END;
                END LOOP;
            END LOOP;
        END LOOP;
    END
    $plant$;
"#;

#[test]
fn who_owns_the_database_has_none_of_his_functions_called_for_others() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE ROLE owner LOGIN; ALTER DATABASE postgres OWNER TO owner").unwrap();
    client.batch_execute(&format!("GRANT USAGE, CREATE ON SCHEMA {} TO owner", e2e::home())).unwrap();
    let beside = OVERLOADS.replace("public.%I", &(e2e::home() + ".%I"));
    cluster.connect_as("owner").batch_execute(&beside).unwrap();
    let planted = count(&mut client, "SELECT count(*) FROM pg_proc WHERE proowner = 'owner'::regrole");
    assert!(planted > 500, "{planted}");
    for table in ["by_row", "by_statement", "by_queue"] {
        client
            .batch_execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, body varchar, words tsvector)"))
            .unwrap();
    }
    let embed = "SELECT clip_auto_embed('{table}'::regclass, 'body'::name, 'embedding'::name, 'narrow'::text, '{mode}'::text, true, false, '{on_error}'::text, 'replace'::text)";
    for (table, mode, on_error) in
        [("by_row", "row", "null"), ("by_statement", "statement", "null"), ("by_queue", "queue", "error")]
    {
        let embed = embed.replace("{table}", table).replace("{mode}", mode).replace("{on_error}", on_error);
        client.batch_execute(&embed).unwrap();
    }
    client.batch_execute("SET clip.text_overflow = 'error'").unwrap();
    for table in ["by_row", "by_statement", "by_queue"] {
        client
            .batch_execute(&format!(
                "INSERT INTO {table} SELECT i, 'text ' || i FROM generate_series(1, 20) AS i; INSERT INTO {table} VALUES (0, {TOO_LONG});
                 UPDATE {table} SET body = 'another' WHERE id = 3"
            ))
            .unwrap();
    }
    // The worker's own session cuts what is too long.
    wait_until(&mut client, "SELECT count(embedding) = 21 FROM by_queue");
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_failures"), 2);
    for done in [
        "CALL clip_backfill('by_row'::regclass, 'embedding'::name, 64)",
        "SELECT clip_backfill_batch('by_statement'::regclass, 'embedding'::name, 64)",
        "SELECT clip_retry('by_row'::regclass, 'embedding'::name)",
        "CALL clip_reembed('by_row'::regclass, 'embedding'::name, 'wide'::text, 64)",
        "TABLE clip_auto_embed_status; TABLE clip_failures; TABLE clip_progress",
        "SELECT FROM clip_duplicate_groups('by_queue'::regclass, 'embedding'::name, 0.01::float8, NULL::text, 20)",
        "SELECT FROM clip_index_recall('by_queue'::regclass, 'embedding'::name, 2, 3, '{40}'::int[], NULL::text[], '1 minute'::interval, NULL::text)",
        "SELECT FROM clip_typical_distance('by_queue'::regclass, 'a text'::text, 'embedding'::name, 10, NULL::text)",
        "SELECT clip_search_sql('by_queue'::regclass, 3, 'embedding'::name, NULL::text)",
        "SELECT clip_auto_embed_drop('by_row'::regclass, 'embedding'::name, false)",
    ] {
        assert_eq!(code(&mut client, done), None, "{done}");
    }
    // A column that fails as a whole: that is noted by whoever runs the worker.
    std::fs::remove_dir_all(cluster.models().join("narrow")).unwrap();
    client.batch_execute("INSERT INTO by_queue VALUES (100, 'a text')").unwrap();
    wait_until(
        &mut client,
        "SELECT EXISTS (SELECT FROM clip_failures WHERE relation = 'by_queue'::regclass AND key IS NULL AND sqlstate = '42704')",
    );
    let log = std::fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert!(!log.contains("planted\n"), "{log}");
}

#[test]
fn failures_are_told_to_those_who_may_read_all_rows() {
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
    for view in ["clip_failures", "_clip.failed", "_clip_work_done", "clip_progress"] {
        assert_eq!(count(&mut reader, &format!("SELECT count(*) FROM {view}")), 1, "{view}");
    }
    // A condition that costs nothing and tells what it sees, by an error or by itself.
    guest
        .batch_execute(
            "CREATE FUNCTION pg_temp.tell(text) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS $$BEGIN RAISE 'told'; END$$",
        )
        .unwrap();
    for view in ["clip_failures", "_clip.failed", "_clip_work_done", "clip_progress"] {
        for condition in ["v::text::int = 1", "pg_temp.tell(v::text)"] {
            assert_eq!(
                code(&mut guest, &format!("SELECT FROM {view} AS v WHERE {condition}")),
                None,
                "{view}: {condition}"
            );
        }
    }
    client.batch_execute("COMMIT").unwrap();
    // Whom row security binds sees some rows: which failed is not told, as keys and digests are of rows.
    client
        .batch_execute(
            "ALTER TABLE secret ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON secret USING (tenant = current_user)",
        )
        .unwrap();
    assert_eq!((seen(&mut tenant), seen(&mut client)), (0, 1));
    assert_eq!(count(&mut tenant, "SELECT count(*) FROM _clip.failed"), 0);
    // Its owner is told, though he is bound, too.
    client
        .batch_execute(
            "CREATE ROLE owner LOGIN; GRANT CREATE ON SCHEMA public TO owner; ALTER TABLE secret OWNER TO owner; ALTER TABLE secret FORCE ROW LEVEL SECURITY",
        )
        .unwrap();
    assert_eq!(seen(&mut cluster.connect_as_caller("owner")), 1);
}

#[test]
fn what_is_noted_names_no_path_and_is_tried_again() {
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
    // A worker that is there already has read the former setting.
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
    // Both without anybody's asking for another try.
    wait_until(&mut client, "SELECT count(embedding) = 1 FROM by_queue");
    wait_until(&mut client, "SELECT retry_at < now() FROM clip_failures WHERE relation = 'by_row'::regclass");
    client.batch_execute("CALL clip_backfill('by_row')").unwrap();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM by_row"), 1);
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_failures"), 0);
}

#[test]
fn names_of_63_bytes_are_names() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    // Of 21 characters, so that what is counted in characters does not fit in bytes.
    let (column, table) = ("画".repeat(21), "表".repeat(21));
    for mode in ["row", "statement", "queue"] {
        client
            .batch_execute(&format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, body text); SELECT clip_auto_embed('{table}', 'body', '{column}', 'narrow', '{mode}');
                 INSERT INTO {table} SELECT i, 'text ' || i FROM generate_series(1, 5) AS i"
            ))
            .unwrap();
        wait_until(&mut client, &format!("SELECT count({column}) = 5 FROM {table}"));
        client.batch_execute(&format!("CALL clip_reembed('{table}', '{column}', 'wide')")).unwrap();
        client.batch_execute(&format!("CALL clip_reembed('{table}', '{column}', 'narrow')")).unwrap();
        let same = format!("SELECT count(*) FROM {table} WHERE {column} <=> clip_embed_text(body, 'narrow') < 1e-6");
        assert_eq!(count(&mut client, &same), 5, "{mode}");
        let columns = "SELECT count(*) FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid = ";
        assert_eq!(count(&mut client, &format!("{columns}'{table}'::regclass")), 3, "{mode}");
        client
            .batch_execute(&format!("SELECT clip_auto_embed_drop('{table}', '{column}'); DROP TABLE {table}"))
            .unwrap();
    }
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
    // What succeeds is forgotten, too.
    let picture = e2e::picture("rgb_444.jpg");
    writer.execute("UPDATE items SET picture = $1 WHERE id = 1", &[&picture]).unwrap();
    assert_eq!(strings(&mut client, "SELECT relation::text FROM clip_failures"), ["parted"]);
    let mut reader = cluster.connect_as_caller("reader");
    assert_eq!(count(&mut reader, "SELECT count(*) FROM clip_auto_embed_status"), 3);
}

#[test]
fn whom_row_security_binds_ends_failures_and_loops() {
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
    // He does not know what failed, and the key has no order of the server's own: still it ends.
    assert_eq!(count(&mut tenant, "SELECT clip_backfill_batch('item', batch_size => 3)"), 0);
    tenant.batch_execute("CALL clip_backfill('item', batch_size => 3)").unwrap();
    tenant.batch_execute("UPDATE item SET body = 'short'").unwrap();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM item"), 10);
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_failures"), 0);
}
