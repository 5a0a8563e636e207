//! A vector belongs to the source beside it, whatever statements write and whoever writes them.

use e2e::{Cluster, code, count, wait_until};
use postgres::Client;
use postgres::error::SqlState;

/// Rows of a table whose vector is not that of their source, or that lack one.
fn wrong(client: &mut Client, table: &str) -> i64 {
    let query = format!(
        "SELECT count(*) FROM {table} WHERE title IS NOT NULL AND \
            (embedding IS NULL OR embedding <=> clip_embed_text(title, 'narrow') > 1e-5) OR title IS NULL AND embedding IS NOT NULL"
    );
    count(client, &query)
}

fn attach(client: &mut Client, table: &str, mode: &str) {
    let call = format!(
        "SELECT clip_auto_embed('{table}', 'title', model => 'narrow', mode => '{mode}', create_index => false)"
    );
    client.execute(&call, &[]).unwrap();
}

fn wait_for_worker(client: &mut Client, table: &str) {
    wait_until(client, &format!("SELECT count(*) = 0 FROM {table} WHERE title IS NOT NULL AND embedding IS NULL"));
}

/// DateStyle, a zone whose abbreviation is that of others, and digits that are cut: as text such keys name other rows.
#[test]
fn keys_do_not_depend_on_what_a_session_has_set() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute("SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Shanghai'; SET extra_float_digits = -3; SET IntervalStyle = 'sql_standard'")
        .unwrap();
    let keys = [
        ("timestamptz", "'2026-01-01 00:00+08', '2026-01-01 14:00+08', '2026-01-02 04:00+08', '2026-02-01 04:00+08'"),
        ("date", "'01/02/2026', '02/01/2026', '03/01/2026', '01/03/2026'"),
        ("float8", "1.0 / 3, 1.0 / 3 + 1e-15, 2.0 / 3, 1e-300"),
        ("float4", "1.0 / 3, 1.0 / 3 + 1e-7, 2.0 / 3, 1e-30"),
        ("interval", "'1 day -1 hour', '1 month', '-1 day', '1 year 2 days'"),
        ("bytea", r"'\x00', '\x5c', '\x5c5c', '\xff'"),
    ];
    for (kind, values) in keys {
        for mode in ["statement", "queue", "backfill"] {
            client
                .batch_execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (k {kind} PRIMARY KEY, title text)"))
                .unwrap();
            let insert = format!(
                "INSERT INTO t SELECT k::{kind}, 'title ' || n FROM unnest(ARRAY[{values}]::text[]::{kind}[]) WITH ORDINALITY AS v (k, n)"
            );
            let insert = insert.replace("::text[]", if kind.starts_with("float") { "" } else { "::text[]" });
            if mode == "backfill" {
                client.batch_execute(&insert).unwrap();
                attach(&mut client, "t", "row");
                client.batch_execute("CALL clip_backfill('t', batch_size => 1)").unwrap();
            } else {
                attach(&mut client, "t", mode);
                client.batch_execute(&insert).unwrap();
                wait_for_worker(&mut client, "t");
            }
            assert_eq!(wrong(&mut client, "t"), 0, "{kind}, {mode}");
            assert_eq!(count(&mut client, "SELECT count(embedding) FROM t"), 4, "{kind}, {mode}");
        }
    }
    // A failure is found again by a session that has set something else.
    client.batch_execute("DROP TABLE t; CREATE TABLE t (k timestamptz PRIMARY KEY, title text)").unwrap();
    client
        .execute("SELECT clip_auto_embed('t', 'title', model => 'narrow', mode => 'statement', on_error => 'null', create_index => false)", &[])
        .unwrap();
    client
        .batch_execute(
            "SET clip.text_overflow = 'error'; INSERT INTO t VALUES ('2026-01-01 00:00+08', repeat('long ', 1000))",
        )
        .unwrap();
    let mut other = cluster.connect();
    other
        .batch_execute(
            "SET TimeZone = 'America/New_York'; SET clip.text_overflow = 'error'; SELECT clip_backfill_batch('t')",
        )
        .unwrap();
    assert_eq!(count(&mut other, "SELECT sum(attempts)::bigint FROM clip_failures"), 1, "it was tried again");
    other.batch_execute("UPDATE t SET title = 'short'").unwrap();
    assert_eq!(count(&mut other, "SELECT count(*) FROM clip_failures"), 0);
}

/// As ORMs do that save all columns, with a vector that they have read before.
#[test]
fn a_vector_that_is_written_back_does_not_stay() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    for mode in ["row", "statement", "queue"] {
        client
            .batch_execute("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, title text, price int)")
            .unwrap();
        attach(&mut client, "t", mode);
        client.batch_execute("INSERT INTO t VALUES (1, 'a pizza', 5), (2, 'a fork', 5)").unwrap();
        wait_for_worker(&mut client, "t");
        client.batch_execute("CREATE TEMP TABLE former AS SELECT id, embedding FROM t").unwrap();
        let former = "(SELECT f.embedding FROM former AS f WHERE f.id = t.id)";
        for statement in [
            "UPDATE t SET title = 'an ambulance' WHERE id = 1".to_owned(),
            // The next save brings the former vector beside the new source, which this statement does not change.
            format!("UPDATE t SET price = 9, title = title, embedding = {former}"),
            format!("UPDATE t SET title = 'a guitar', embedding = {former} WHERE id = 1"),
            "INSERT INTO t SELECT 3, 'a dog', 1, embedding FROM former WHERE id = 1".into(),
            "INSERT INTO t SELECT 1, 'a cat', 1, embedding FROM former WHERE id = 2
                ON CONFLICT (id) DO UPDATE SET title = t.title || ' and ' || excluded.title, embedding = excluded.embedding"
                .into(),
            "UPDATE t SET title = NULL WHERE id = 2".into(),
            format!("UPDATE t SET embedding = {former} WHERE id = 2"),
            "UPDATE t SET embedding = NULL WHERE id = 1".into(),
            "MERGE INTO t USING former AS f ON t.id = f.id WHEN MATCHED THEN UPDATE SET embedding = f.embedding".into(),
        ] {
            client.batch_execute(&statement).unwrap();
            if mode != "queue" {
                assert_eq!(wrong(&mut client, "t"), 0, "{mode}: {statement}");
            }
        }
        wait_for_worker(&mut client, "t");
        assert_eq!(wrong(&mut client, "t"), 0, "{mode}");
        client.batch_execute("DROP TABLE former").unwrap();
    }
    // Only who says so keeps them.
    client
        .execute(
            "SELECT clip_auto_embed('t', 'title', model => 'narrow', create_index => false, on_vector => 'keep')",
            &[],
        )
        .unwrap();
    client
        .batch_execute("INSERT INTO t (id, title, embedding) VALUES (9, 'a horse', clip_embed_text('a cow', 'narrow'))")
        .unwrap();
    assert_eq!(
        count(&mut client, "SELECT count(*) FROM t WHERE embedding <=> clip_embed_text('a cow', 'narrow') < 1e-5"),
        1
    );
    assert_eq!(
        code(&mut client, "SELECT clip_auto_embed('t', 'title', on_vector => 'maybe')"),
        Some(SqlState::INVALID_PARAMETER_VALUE)
    );
}

/// Nothing is computed where a row moves with its source; and nothing is lost.
#[test]
fn a_row_takes_its_vector_to_another_partition() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    for mode in ["row", "statement", "queue"] {
        client
            .batch_execute(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (day int, id int, title text, PRIMARY KEY (day, id)) PARTITION BY LIST (day);
                 CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2)",
            )
            .unwrap();
        attach(&mut client, "t", mode);
        // Of the sources some are in the row, some in its TOAST table.
        client
            .batch_execute(
                "INSERT INTO t SELECT 1, i, 'title ' || i FROM generate_series(1, 5) AS i;
                 INSERT INTO t SELECT 1, i, (SELECT string_agg(md5(n::text), ' ') FROM generate_series(i, 300) AS n)
                    FROM generate_series(6, 8) AS i",
            )
            .unwrap();
        wait_for_worker(&mut client, "t");
        let reads = "SELECT COALESCE(sum(idx_scan), 0)::bigint FROM pg_stat_xact_all_tables WHERE relid IN \
            (SELECT reltoastrelid FROM pg_class WHERE oid IN ('t_1'::regclass, 't_2'::regclass))";
        client.batch_execute("BEGIN").unwrap();
        let before = count(&mut client, reads);
        client.batch_execute("UPDATE t SET day = day, id = id").unwrap();
        assert_eq!(count(&mut client, reads), before, "{mode}: an update of other columns reads no source");
        client.batch_execute("UPDATE t SET title = title || '' WHERE id = 8").unwrap();
        assert!(count(&mut client, reads) > before, "{mode}: the server counts what is read");
        client.batch_execute("ROLLBACK").unwrap();
        let before = count(&mut client, "SELECT COALESCE(sum(items), 0)::bigint FROM clip_loaded_models");
        client.batch_execute("BEGIN; UPDATE t SET day = 2").unwrap();
        assert_eq!(count(&mut client, "SELECT count(embedding) FROM t_2"), 8, "{mode}");
        client.batch_execute("COMMIT").unwrap();
        assert_eq!(
            count(&mut client, "SELECT COALESCE(sum(items), 0)::bigint FROM clip_loaded_models"),
            before,
            "{mode}"
        );
        client.batch_execute("UPDATE t SET day = 1, title = 'moved ' || id").unwrap();
        wait_for_worker(&mut client, "t");
        assert_eq!(wrong(&mut client, "t"), 0, "{mode}");
    }
}

#[test]
fn a_trigger_that_fires_later_cannot_leave_a_vector_of_another_source() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, title text, at timestamptz);
             CREATE FUNCTION clean() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                NEW.at := clock_timestamp(); IF NEW.id < 10 THEN NEW.title := lower(NEW.title); END IF; RETURN NEW; END $$",
        )
        .unwrap();
    for mode in ["row", "statement", "queue"] {
        attach(&mut client, "t", mode);
        client
            .batch_execute(
                "CREATE TRIGGER zzz_clean BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION clean()",
            )
            .unwrap();
        // It changes something else.
        client
            .batch_execute("INSERT INTO t VALUES (11, 'A Cat'); UPDATE t SET title = title || '!' WHERE id = 11")
            .unwrap();
        // It changes the source, which had a vector then or has none yet.
        let insert = code(&mut client, "INSERT INTO t VALUES (1, 'A Dog')");
        let vector_is_made_first = mode == "row";
        assert_eq!(
            insert == Some(SqlState::TRIGGERED_DATA_CHANGE_VIOLATION),
            vector_is_made_first,
            "{mode}: {insert:?}"
        );
        client.batch_execute("INSERT INTO t VALUES (2, 'a pizza')").unwrap();
        wait_for_worker(&mut client, "t");
        assert_eq!(wrong(&mut client, "t"), 0, "{mode}");
        // Fired first, it is no trouble, and nothing is looked at any more.
        client
            .batch_execute("ALTER TRIGGER zzz_clean ON t RENAME TO clean; INSERT INTO t VALUES (3, 'A Horse')")
            .unwrap();
        wait_for_worker(&mut client, "t");
        assert_eq!(wrong(&mut client, "t"), 0, "{mode}");
        assert_eq!(count(&mut client, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%check'"), 0);
        client.batch_execute("DROP TRIGGER clean ON t; DELETE FROM t").unwrap();
    }
    // Where nothing would look, nothing is stored.
    attach(&mut client, "t", "row");
    client
        .batch_execute(
            "ALTER EVENT TRIGGER clip_ddl_end DISABLE;
             CREATE TRIGGER zzz_clean BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION clean()",
        )
        .unwrap();
    assert_eq!(
        code(&mut client, "INSERT INTO t VALUES (12, 'A Cat')"),
        Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
    );
}

#[test]
fn a_source_may_change_its_type() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute("CREATE ROLE owner; CREATE SCHEMA app AUTHORIZATION owner; SET search_path = app, public")
        .unwrap();
    for mode in ["row", "statement", "queue"] {
        for table in [
            "(id int PRIMARY KEY, title varchar(50))",
            "(id int PRIMARY KEY, title varchar(50)) PARTITION BY RANGE (id)",
        ] {
            client.batch_execute(&format!("SET ROLE owner; DROP TABLE IF EXISTS t; CREATE TABLE t {table}")).unwrap();
            if table.contains("PARTITION") {
                client.batch_execute("CREATE TABLE t_1 PARTITION OF t DEFAULT").unwrap();
            }
            attach(&mut client, "t", mode);
            client
                .batch_execute("RESET ROLE; SET ROLE owner; INSERT INTO t VALUES (1, 'a cat'), (2, 'a dog')")
                .unwrap();
            wait_for_worker(&mut client, "t");
            let former = "CREATE TEMP TABLE former AS SELECT id, embedding::text AS e FROM t";
            client.batch_execute(former).unwrap();
            client.batch_execute("ALTER TABLE t ALTER title TYPE varchar(100)").unwrap();
            client.batch_execute("ALTER TABLE t ALTER COLUMN title SET DATA TYPE text, ADD COLUMN more int").unwrap();
            let same = "SELECT count(*) FROM t JOIN former AS f ON f.id = t.id AND f.e = t.embedding::text";
            assert_eq!(count(&mut client, same), 2, "{mode}");
            client
                .batch_execute("INSERT INTO t VALUES (3, 'a horse'); UPDATE t SET title = 'a cow' WHERE id = 1")
                .unwrap();
            wait_for_worker(&mut client, "t");
            assert_eq!(wrong(&mut client, "t"), 0, "{mode}");
            // New values have no vectors of old ones.
            client.batch_execute("ALTER TABLE t ALTER title TYPE text USING 'new ' || title").unwrap();
            assert_eq!(
                count(
                    &mut client,
                    "SELECT count(*) FROM t WHERE embedding <=> clip_embed_text(title, 'narrow') > 1e-5"
                ),
                0
            );
            client.batch_execute("CALL clip_backfill('t')").unwrap();
            wait_for_worker(&mut client, "t");
            assert_eq!(wrong(&mut client, "t"), 0, "{mode}");
            assert_eq!(
                code(&mut client, "ALTER TABLE t ALTER title TYPE int USING 1"),
                Some(SqlState::DATATYPE_MISMATCH)
            );
            // Nothing is left of what was rolled back.
            client
                .batch_execute(
                    "BEGIN; ALTER TABLE t ALTER title TYPE varchar; ROLLBACK; INSERT INTO t VALUES (4, 'a sheep')",
                )
                .unwrap();
            wait_for_worker(&mut client, "t");
            assert_eq!(wrong(&mut client, "t"), 0, "{mode}");
            client.batch_execute("DROP TABLE former; RESET ROLE").unwrap();
        }
    }
    // A disabled trigger stays so.
    client
        .batch_execute("ALTER TABLE t DISABLE TRIGGER zz_clip_embedding; ALTER TABLE t ALTER title TYPE varchar")
        .unwrap();
    assert_eq!(
        count(
            &mut client,
            "SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass AND tgname = 'zz_clip_embedding' AND tgenabled = 'D'"
        ),
        1
    );
    // Who does not own a table changes nothing.
    client.batch_execute("CREATE ROLE other; GRANT USAGE ON SCHEMA app TO other; SET ROLE other").unwrap();
    assert_eq!(code(&mut client, "ALTER TABLE t ALTER title TYPE text"), Some(SqlState::INSUFFICIENT_PRIVILEGE));
}

/// Whoever changes a table does not run its owner's triggers with rights of his own.
#[test]
fn a_change_of_type_runs_nothing_with_the_rights_of_who_changes() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE ROLE owner; CREATE SCHEMA app AUTHORIZATION owner; SET ROLE owner;
             CREATE TABLE app.t (id int PRIMARY KEY, title text); CREATE TABLE app.who (name text);
             CREATE FUNCTION app.spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.who VALUES (current_user); RETURN NEW; END $$",
        )
        .unwrap();
    attach(&mut client, "app.t", "row");
    client.batch_execute("INSERT INTO app.t VALUES (1, 'a cat'); CREATE TRIGGER spy BEFORE UPDATE ON app.t FOR EACH ROW EXECUTE FUNCTION app.spy()").unwrap();
    client.batch_execute("RESET ROLE; ALTER TABLE app.t ALTER title TYPE text USING upper(title)").unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM app.who WHERE name = 'owner'"), 1);
    assert_eq!(count(&mut client, "SELECT count(*) FROM app.who"), 1);
}

#[test]
fn a_table_whose_source_was_dropped_takes_rows() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    for mode in ["row", "statement", "queue"] {
        client.batch_execute("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, title text)").unwrap();
        attach(&mut client, "t", mode);
        client
            .batch_execute("ALTER TABLE t DROP COLUMN title CASCADE; INSERT INTO t VALUES (1); UPDATE t SET id = 2")
            .unwrap();
        if mode == "statement" {
            client.execute("SELECT clip_auto_embed_drop('t')", &[]).unwrap();
        }
        assert_eq!(
            count(
                &mut client,
                "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_clip%' AND tgname NOT LIKE 'zz_clip_t%'"
            ),
            0,
            "{mode}"
        );
        client.batch_execute("ALTER TABLE t ADD title text").unwrap();
        attach(&mut client, "t", mode);
        client.batch_execute("INSERT INTO t (id, title) VALUES (3, 'a cat')").unwrap();
        wait_for_worker(&mut client, "t");
        assert_eq!(wrong(&mut client, "t"), 0, "{mode}");
    }
}

/// Down and up again, as migrations go.
#[test]
fn a_column_that_is_detached_keeps_the_record_of_its_model() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    for mode in ["row", "statement", "queue"] {
        client.batch_execute("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, title text)").unwrap();
        attach(&mut client, "t", mode);
        client.batch_execute("INSERT INTO t VALUES (1, 'a cat')").unwrap();
        wait_for_worker(&mut client, "t");
        client.execute("SELECT clip_auto_embed_drop('t')", &[]).unwrap();
        client.batch_execute("INSERT INTO t VALUES (2, 'a dog')").unwrap();
        assert_eq!(count(&mut client, "SELECT count(*) FROM t WHERE embedding IS NULL"), 1);
        attach(&mut client, "t", mode);
        client.batch_execute("CALL clip_backfill('t')").unwrap();
        wait_for_worker(&mut client, "t");
        assert_eq!(wrong(&mut client, "t"), 0, "{mode}");
        // The model of the record is not another one.
        client.execute("SELECT clip_auto_embed_drop('t')", &[]).unwrap();
        let other = "SELECT clip_auto_embed('t', 'title', model => 'bidirectional')";
        assert_eq!(code(&mut client, other), Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE));
        client.execute("SELECT clip_auto_embed_drop('t')", &[]).unwrap();
    }
}

/// The owner's policies, forced upon the owner, hide all rows from a worker that has set nothing.
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
        // The policies of other roles are theirs.
        client.batch_execute("SET ROLE tenants").unwrap();
        assert_eq!(count(&mut client, "SELECT count(*) FROM app.t"), 0);
    }
}

#[test]
fn failures_and_activities_are_what_really_happened() {
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
    // No function writes them for its caller: they are called by triggers, workers and backfills in Rust.
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
    // Of a table that is gone, nothing is left.
    client.batch_execute("SET clip.text_overflow = 'error'; INSERT INTO t VALUES (1, repeat('long ', 1000))").unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM _clip.failures"), 1);
    client.batch_execute("DROP TABLE t").unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM _clip.failures"), 0);
}

/// Both extensions are where ordinary roles cannot look.
#[test]
fn writers_need_rights_on_the_table_alone() {
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
    // Its owner, who cannot look there either, changes it as any table.
    client.batch_execute("GRANT CREATE ON SCHEMA app TO owner; SET ROLE owner; ALTER TABLE app.t_row ALTER title TYPE varchar; INSERT INTO app.t_row VALUES (3, 'a horse'); RESET ROLE").unwrap();
    assert_eq!(wrong(&mut client, "t_row"), 0);
}

/// The look into the catalogs that COPY's own snapshot would give shows the columns before the swap.
#[test]
fn copy_waits_for_a_column_to_be_swapped() {
    let cluster = Cluster::start();
    for mode in ["row", "statement"] {
        let mut client = cluster.connect();
        client.batch_execute("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, title text)").unwrap();
        attach(&mut client, "t", mode);
        client.batch_execute("INSERT INTO t SELECT i, 'title ' || i FROM generate_series(1, 50) AS i").unwrap();
        let mut other = cluster.connect();
        // Somebody reads, so that the swap has to wait, and the copy behind it.
        let mut reader = cluster.connect();
        reader.batch_execute("BEGIN; SELECT count(*) FROM t").unwrap();
        let reembed =
            std::thread::spawn(move || other.batch_execute("CALL clip_reembed('t', 'embedding', 'bidirectional')"));
        wait_until(
            &mut client,
            "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = 't'::regclass",
        );
        let psql = cluster
            .script("psql")
            .args(["-X", "-c", "COPY t (id, title) FROM PROGRAM 'echo 100,copied' WITH (FORMAT csv)"])
            .spawn()
            .unwrap();
        wait_until(
            &mut client,
            "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND mode = 'RowExclusiveLock' AND relation = 't'::regclass",
        );
        reader.batch_execute("COMMIT").unwrap();
        let output = psql.wait_with_output().unwrap();
        assert!(output.status.success(), "{mode}");
        reembed.join().unwrap().unwrap();
        let wrong = "SELECT count(*) FROM t WHERE embedding IS NULL OR embedding <=> clip_embed_text(title, 'bidirectional') > 1e-5";
        assert_eq!(count(&mut client, wrong), 0, "{mode}");
        assert_eq!(count(&mut client, "SELECT count(*) FROM t"), 51);
    }
}

/// What an owner is told who attaches a column.
#[test]
fn rows_that_wait_and_addresses_are_told_of() {
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

/// Before pg_catalog in the search_path, an operator that fits is found where a name is not qualified.
#[test]
fn operators_of_others_are_not_found_by_backfills() {
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
