//! The application's triggers around ours.

use e2e::{Cluster, code, count, wait_until};
use postgres::Client;
use postgres::error::SqlState;

use crate::{attach, stale, wait_for_worker};

/// A trigger that fires for one event, is disabled, or belongs to one partition, and changes nothing.
#[test]
fn a_later_trigger_that_changes_nothing_disturbs_no_statement() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
        .unwrap();
    for mode in ["row", "statement", "queue"] {
        for trigger in [
            "CREATE TRIGGER zzz BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing()",
            "CREATE TRIGGER zzz BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()",
            "CREATE TRIGGER zzz BEFORE UPDATE OF id ON t FOR EACH ROW EXECUTE FUNCTION nothing()",
            "CREATE TRIGGER zzz BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing(); ALTER TABLE t DISABLE TRIGGER zzz",
            "CREATE TRIGGER zzz BEFORE INSERT OR UPDATE ON t_1 FOR EACH ROW EXECUTE FUNCTION nothing()",
        ] {
            client
                .batch_execute(
                    "DROP TABLE IF EXISTS t; CREATE TABLE t (part int, id int, title text, price int, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
                     CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2)",
                )
                .unwrap();
            assert_eq!(attach(&mut client, "t", "title", "embedding", &format!(", mode => '{mode}'")), None);
            client.batch_execute(trigger).unwrap();
            for statement in [
                "INSERT INTO t VALUES (1, 1, 'a cat', 1), (2, 2, 'a dog', 1)",
                "UPDATE t SET price = 2",
                "UPDATE t SET title = 'a tree ' || id",
                "UPDATE t SET part = 2 WHERE id = 1",
            ] {
                client
                    .batch_execute(statement)
                    .unwrap_or_else(|error| panic!("{mode}, {trigger}: {statement}: {error:?}"));
            }
            wait_for_worker(&mut client, "t");
            assert_eq!(stale(&mut client, "t", "title", "embedding"), 0, "{mode}, {trigger}");
            assert_eq!(count(&mut client, "SELECT count(*) FROM clip_failures"), 0, "{mode}, {trigger}");
        }
    }
}

/// A counter in the source: the stored source never equals the embedded one.
#[test]
fn a_trigger_that_changes_the_source_of_every_update_ends_in_one_failure() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                NEW.revision := OLD.revision + 1; NEW.title := split_part(NEW.title, ' #', 1) || ' #' || NEW.revision; RETURN NEW; END $$",
        )
        .unwrap();
    let table = |client: &mut Client, more: &str| {
        client
            .batch_execute(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, title text, revision int DEFAULT 0)",
            )
            .unwrap();
        assert_eq!(attach(client, "t", "title", "embedding", more), None);
        client.batch_execute("CREATE TRIGGER a BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION counted()").unwrap();
    };
    table(&mut client, ", mode => 'queue'");
    client.batch_execute("INSERT INTO t VALUES (1, 'a cat')").unwrap();
    wait_until(&mut client, "SELECT count(*) = 1 FROM clip_failures WHERE attempts >= 2");
    assert_eq!(count(&mut client, "SELECT revision::bigint FROM t"), 0);
    let message: String = client.query_one("SELECT message FROM clip_failures", &[]).unwrap().get(0);
    assert!(message.contains("changes the source"), "{message}");
    table(&mut client, ", mode => 'statement'");
    let insert = "INSERT INTO t VALUES (1, 'a cat')";
    assert_eq!(code(&mut client, insert), Some(SqlState::TRIGGERED_DATA_CHANGE_VIOLATION));
    table(&mut client, ", mode => 'statement', on_error => 'null'");
    client.batch_execute(insert).unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_failures"), 1);
    assert_eq!(count(&mut client, "SELECT revision::bigint FROM t"), 0);
    // In mode row the trigger comes first, and the row is embedded as it is stored.
    table(&mut client, ", mode => 'row'");
    client
        .batch_execute("INSERT INTO t VALUES (1, 'a cat'); UPDATE t SET title = title; UPDATE t SET title = title")
        .unwrap();
    assert_eq!(stale(&mut client, "t", "title", "embedding"), 0);
    assert_eq!(count(&mut client, "SELECT revision::bigint FROM t"), 2);
}

#[test]
fn an_error_while_an_embedding_is_stored_leaves_no_other_message() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, title text);
             CREATE FUNCTION boom() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.embedding IS NOT NULL THEN RAISE 'boom' USING ERRCODE = 'raise_exception'; END IF; RETURN NEW; END $$",
        )
        .unwrap();
    assert_eq!(attach(&mut client, "t", "title", "embedding", ", mode => 'statement'"), None);
    client.batch_execute("CREATE TRIGGER a BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION boom()").unwrap();
    assert_eq!(code(&mut client, "INSERT INTO t VALUES (1, 'a cat')"), Some(SqlState::RAISE_EXCEPTION));
    let log = std::fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert!(log.contains("boom") && !log.contains("SPITupleTable"), "{log}");
}

/// Rows that a trigger or a constraint of the table rejects, among others.
#[test]
fn a_row_that_cannot_be_stored_does_not_stop_the_others() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.id = 3 THEN RAISE 'no thirds' USING ERRCODE = 'P0001'; END IF;
                IF NEW.id = 5 THEN NEW.title := upper(NEW.title); END IF;
                IF NEW.id = 7 THEN PERFORM 1 / 0; END IF; RETURN NEW; END $$",
        )
        .unwrap();
    for mode in ["queue", "row"] {
        client
            .batch_execute(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, title text);
                 INSERT INTO t SELECT n, 'a cat ' || n FROM generate_series(1, 40) AS n;
                 CREATE TRIGGER zzz BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION picky()",
            )
            .unwrap();
        client.batch_execute("ALTER TABLE t ADD embedding vector(32) CHECK (id <> 9 OR embedding IS NULL)").unwrap();
        assert_eq!(attach(&mut client, "t", "title", "embedding", &format!(", mode => '{mode}'")), None);
        if mode == "row" {
            assert_eq!(count(&mut client, "SELECT clip_backfill_batch('t', batch_size => 10)"), 6);
            client.batch_execute("CALL clip_backfill('t')").unwrap();
        }
        wait_until(&mut client, "SELECT count(embedding) = 36 FROM t");
        wait_until(&mut client, "SELECT count(*) = 4 FROM clip_failures");
        let failed = "SELECT string_agg(concat_ws(' ', key->>'id', sqlstate), ', ' ORDER BY (key->>'id')::int) FROM clip_failures";
        let failed: String = client.query_one(failed, &[]).unwrap().get(0);
        assert_eq!(failed, "3 P0001, 5 27000, 7 22012, 9 23514", "{mode}");
        assert_eq!(count(&mut client, "SELECT count(*) FROM clip_failures WHERE retry_at IS NOT NULL"), 4);
        assert_eq!(stale(&mut client, "t", "title", "embedding"), 0);
        client.batch_execute("DROP TRIGGER zzz ON t; SELECT clip_retry('t')").unwrap();
        if mode == "row" {
            client.batch_execute("CALL clip_backfill('t')").unwrap();
        }
        wait_until(&mut client, "SELECT count(embedding) = 39 FROM t");
        wait_until(&mut client, "SELECT count(*) = 1 FROM clip_failures");
        // An error that is about the whole table.
        client
            .batch_execute(
                "CREATE OR REPLACE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM missing(); RETURN NEW; END';
                 CREATE TRIGGER a BEFORE UPDATE ON t FOR EACH ROW WHEN (OLD.embedding IS NULL) EXECUTE FUNCTION broken();
                 INSERT INTO t VALUES (41, 'a dog'), (42, 'a tree'); UPDATE t SET embedding = NULL WHERE id IN (1, 2)",
            )
            .unwrap();
        if mode == "row" {
            client
                .batch_execute("ALTER TABLE t DISABLE TRIGGER zz_clip_embedding; INSERT INTO t VALUES (43, 'a boat')")
                .unwrap();
            let undefined = Some(SqlState::UNDEFINED_FUNCTION);
            assert_eq!(code(&mut client, "CALL clip_backfill('t')"), undefined);
        } else {
            wait_until(&mut client, "SELECT count(*) = 1 FROM clip_failures WHERE key IS NULL AND sqlstate = '42883'");
        }
    }
}

/// In mode statement, an embedding is stored by an UPDATE of the writer.
#[test]
fn a_row_whose_update_is_prevented_does_not_stay_pending_silently() {
    let cluster = Cluster::start();
    let mut owner = cluster.connect();
    owner
        .batch_execute(
            "CREATE ROLE writer LOGIN;
             CREATE FUNCTION clears() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.embedding := NULL; RETURN NEW; END'",
        )
        .unwrap();
    let insert = "INSERT INTO t VALUES (1, 'a cat')";
    for (prevents, mode, expected) in [
        (
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY i ON t FOR INSERT WITH CHECK (true)",
            "statement",
            Some("09000"),
        ),
        (
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY i ON t FOR INSERT WITH CHECK (true); CREATE POLICY s ON t FOR SELECT USING (true)",
            "statement",
            Some("09000"),
        ),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY i ON t FOR INSERT WITH CHECK (true)", "row", None),
        ("CREATE TRIGGER a BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION clears()", "statement", Some("09000")),
        (
            "CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN DELETE FROM t; RETURN NULL; END'; CREATE TRIGGER a AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION gone()",
            "statement",
            None,
        ),
    ] {
        owner
            .batch_execute(
                "DROP TABLE IF EXISTS t; DROP FUNCTION IF EXISTS gone; CREATE TABLE t (id int PRIMARY KEY, title text)",
            )
            .unwrap();
        assert_eq!(attach(&mut owner, "t", "title", "embedding", &format!(", mode => '{mode}'")), None);
        owner.batch_execute(prevents).unwrap();
        owner.batch_execute("GRANT SELECT, INSERT, UPDATE ON t TO writer").unwrap();
        let mut writer = cluster.connect_as_caller("writer");
        let found = code(&mut writer, insert);
        assert_eq!(found.as_ref().map(SqlState::code), expected, "{mode}: {prevents}");
        let left = "SELECT count(*) FROM t WHERE embedding IS NULL";
        assert_eq!(count(&mut owner, left), 0, "{mode}: {prevents}");
    }
    // With on_error, the row is a failure.
    owner.batch_execute("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, title text)").unwrap();
    assert_eq!(attach(&mut owner, "t", "title", "embedding", ", mode => 'statement', on_error => 'null'"), None);
    owner.batch_execute("CREATE TRIGGER a BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION clears()").unwrap();
    owner.batch_execute(insert).unwrap();
    assert_eq!(
        count(&mut owner, "SELECT count(*) FROM clip_failures WHERE sqlstate = '09000' AND message ~ 'prevents'"),
        1
    );
}
