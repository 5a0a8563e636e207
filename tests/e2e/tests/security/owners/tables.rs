//! Tables of other owners, with hostile keys, names and functions.

use super::*;

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
    // Another key, on a column with another number.
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
fn settings_of_one_owners_trigger_do_not_affect_tables_of_others() {
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
        // The second text is longer than the model reads.
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

/// For each function of the extension, creates functions of the same name: with one argument of a similar type, with
/// the types that callers tend to pass, and without the arguments that have defaults.
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
fn functions_of_the_database_owner_are_not_called_for_other_roles() {
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
    let embed = "SELECT clip_auto_embed('{table}'::regclass, 'body'::name, 'embedding'::name, 'narrow'::text, '{mode}'::text, true, false, '{on_error}'::text, 'replace'::text, NULL::text)";
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
    // The worker's own session truncates long texts.
    wait_until(&mut client, "SELECT count(embedding) = 21 FROM by_queue");
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_failures"), 2);
    for done in [
        "CALL clip_backfill('by_row'::regclass, 'embedding'::name, 64)",
        "SELECT clip_backfill_batch('by_statement'::regclass, 'embedding'::name, 64)",
        "SELECT clip_retry('by_row'::regclass, 'embedding'::name)",
        "CALL clip_reembed('by_row'::regclass, 'embedding'::name, 'wide'::text, 64)",
        "TABLE clip_auto_embed_status; TABLE clip_failures; TABLE clip_progress",
        "SELECT FROM clip_duplicate_groups('by_queue'::regclass, 'embedding'::name, 0.01::float8, NULL::text, 20, NULL::regclass)",
        "SELECT FROM clip_index_recall('by_queue'::regclass, 'embedding'::name, 2, 3, '{40}'::int[], NULL::text[], '1 minute'::interval, NULL::text, NULL::regclass)",
        "SELECT FROM clip_typical_distance('by_queue'::regclass, 'a text'::text, 'embedding'::name, 10, NULL::text)",
        "SELECT clip_search_sql('by_queue'::regclass, 3, 'embedding'::name, NULL::text, NULL::regclass)",
        "SELECT clip_auto_embed_drop('by_row'::regclass, 'embedding'::name, false)",
    ] {
        assert_eq!(code(&mut client, done), None, "{done}");
    }
    // The whole column fails. The worker does not record this failure as the table's owner.
    std::fs::remove_dir_all(cluster.models().join("narrow")).unwrap();
    client.batch_execute("INSERT INTO by_queue VALUES (100, 'a text')").unwrap();
    wait_until(
        &mut client,
        "SELECT EXISTS (SELECT FROM clip_failures WHERE relation OPERATOR(pg_catalog.~) 'by_queue' AND key IS NULL AND sqlstate = '42704')",
    );
    let log = std::fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert!(!log.contains("planted\n"), "{log}");
}

#[test]
fn names_of_63_bytes_work() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    // The names have 21 characters of 3 bytes, so a limit in characters would not fit into 63 bytes.
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
