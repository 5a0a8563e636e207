//! Statements that write sources, keys and embeddings.

use super::*;

/// DateStyle, a time zone with an ambiguous abbreviation, and truncated digits: with them, the text of a key names
/// another row.
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
    // A session with other settings finds the same failure.
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

/// ORMs that save all columns also save an embedding that they have read before.
#[test]
fn an_embedding_that_is_written_back_is_replaced() {
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
            // The next save writes the former embedding next to the new source. This statement does not change the
            // source.
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
    // Only on_vector => 'keep' keeps such embeddings.
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

/// A row that moves to another partition with its source keeps its embedding. Nothing is computed.
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
        // Some sources are in the row, others are in its TOAST table.
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
        // The trigger changes another column.
        client
            .batch_execute("INSERT INTO t VALUES (11, 'A Cat'); UPDATE t SET title = title || '!' WHERE id = 11")
            .unwrap();
        // The trigger changes the source. In mode row, the source already has an embedding.
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
        // A trigger that fires first causes no error, and the check is no longer needed.
        client
            .batch_execute("ALTER TRIGGER zzz_clean ON t RENAME TO clean; INSERT INTO t VALUES (3, 'A Horse')")
            .unwrap();
        wait_for_worker(&mut client, "t");
        assert_eq!(wrong(&mut client, "t"), 0, "{mode}");
        assert_eq!(count(&mut client, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%check'"), 0);
        client.batch_execute("DROP TRIGGER clean ON t; DELETE FROM t").unwrap();
    }
    // Without the event trigger there is no check, so the row is rejected.
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
