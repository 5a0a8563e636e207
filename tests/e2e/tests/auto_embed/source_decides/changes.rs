//! Statements that change a managed table.

use super::*;

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
            // New values do not keep embeddings of old ones.
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
            // A rollback leaves nothing behind.
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
    // A disabled trigger stays disabled.
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
    // A role that does not own the table cannot change it.
    client.batch_execute("CREATE ROLE other; GRANT USAGE ON SCHEMA app TO other; SET ROLE other").unwrap();
    assert_eq!(code(&mut client, "ALTER TABLE t ALTER title TYPE text"), Some(SqlState::INSUFFICIENT_PRIVILEGE));
}

/// A change of the table runs the owner's triggers with the rights of the owner, not of the caller.
#[test]
fn a_change_of_type_runs_no_trigger_with_the_rights_of_the_caller() {
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

/// Migrations detach a column and attach it again.
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
        // Attaching the column with another model than the recorded one raises an error.
        client.execute("SELECT clip_auto_embed_drop('t')", &[]).unwrap();
        let other = "SELECT clip_auto_embed('t', 'title', model => 'bidirectional')";
        assert_eq!(code(&mut client, other), Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE));
        client.execute("SELECT clip_auto_embed_drop('t')", &[]).unwrap();
    }
}

/// COPY's own snapshot would show the columns before the swap.
#[test]
fn copy_waits_for_a_column_to_be_swapped() {
    let cluster = Cluster::start();
    for mode in ["row", "statement"] {
        let mut client = cluster.connect();
        client.batch_execute("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, title text)").unwrap();
        attach(&mut client, "t", mode);
        client.batch_execute("INSERT INTO t SELECT i, 'title ' || i FROM generate_series(1, 50) AS i").unwrap();
        let mut other = cluster.connect();
        // A reader makes the swap wait, and the copy waits behind the swap.
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
