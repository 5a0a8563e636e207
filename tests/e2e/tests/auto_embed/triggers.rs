//! The triggers of managed columns: which column each belongs to, the application's triggers around them, and partitions that
//! come and go.

use e2e::{Cluster, code, count, wait_until};
use postgres::Client;
use postgres::error::SqlState;

/// Rows whose embedding does not match their source.
fn stale(client: &mut Client, table: &str, source: &str, target: &str) -> i64 {
    let query = format!(
        "SELECT count(*) FROM {table} WHERE {target} IS NOT NULL AND \
            ({source} IS NULL OR {target} <=> clip_embed_text({source}, 'narrow') > 1e-5)"
    );
    count(client, &query)
}

fn attach(client: &mut Client, table: &str, source: &str, target: &str, more: &str) -> Option<SqlState> {
    code(
        client,
        &format!(
            "SELECT clip_auto_embed('{table}', '{source}', '{target}', model => 'narrow', create_index => false{more})"
        ),
    )
}

fn wait_for_worker(client: &mut Client, table: &str) {
    wait_until(client, &format!("SELECT count(*) = 0 FROM {table} WHERE title IS NOT NULL AND embedding IS NULL"));
}

/// Names of columns that are renamed, swapped, or end as the names of triggers do.
#[test]
fn a_column_never_loses_its_triggers_to_another() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let fresh = || {
        let mut client = cluster.connect();
        client.batch_execute("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, a text, b text)").unwrap();
    };
    let holds = |client: &mut Client, columns: &[(&str, &str)], what: &str| {
        client
            .batch_execute(
                "INSERT INTO t (id, a, b) VALUES (1, 'a cat', 'a dog'); UPDATE t SET a = 'a tree', b = 'a car'",
            )
            .unwrap();
        for (source, target) in columns {
            assert_eq!(stale(client, "t", source, target), 0, "{what}: {target}");
            assert_eq!(count(client, &format!("SELECT count({target}) FROM t")), 1, "{what}: {target}");
        }
    };
    // The name of a renamed column is used again.
    fresh();
    assert_eq!(attach(&mut client, "t", "a", "embedding", ""), None);
    client.batch_execute("ALTER TABLE t RENAME embedding TO emb_a").unwrap();
    assert_eq!(attach(&mut client, "t", "b", "embedding", ""), None);
    holds(&mut client, &[("a", "emb_a"), ("b", "embedding")], "renamed");
    // Detaching the one leaves the other.
    client.batch_execute("SELECT clip_auto_embed_drop('t'); DELETE FROM t").unwrap();
    holds(&mut client, &[("a", "emb_a")], "dropped");
    fresh();
    assert_eq!(attach(&mut client, "t", "a", "embedding", ""), None);
    client.batch_execute("ALTER TABLE t RENAME embedding TO emb_a").unwrap();
    assert_eq!(code(&mut client, "SELECT clip_auto_embed_drop('t')"), Some(SqlState::UNDEFINED_OBJECT));
    holds(&mut client, &[("a", "emb_a")], "not dropped");
    // The name of the column that a re-embedding builds.
    fresh();
    assert_eq!(attach(&mut client, "t", "a", "embedding", ""), None);
    client.batch_execute("CALL clip_reembed('t', 'embedding', 'wide')").unwrap();
    client.batch_execute("CALL clip_reembed('t', 'embedding', 'narrow')").unwrap();
    assert_eq!(attach(&mut client, "t", "b", "embedding_reembed", ""), None);
    holds(&mut client, &[("a", "embedding"), ("b", "embedding_reembed")], "re-embedded");
    // Names that end as those of the other triggers do, in both orders.
    for ending in ["insert", "update", "check"] {
        for targets in [[format!("v_{ending}"), "v".into()], ["v".into(), format!("v_{ending}")]] {
            fresh();
            for (target, source) in targets.iter().zip(["a", "b"]) {
                assert_eq!(attach(&mut client, "t", source, target, ", mode => 'statement'"), None, "{targets:?}");
            }
            client
                .batch_execute(
                    "CREATE OR REPLACE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
                     CREATE TRIGGER zzz BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()",
                )
                .unwrap();
            holds(&mut client, &[("a", &targets[0]), ("b", &targets[1])], &format!("{targets:?}"));
            client.batch_execute("DROP TRIGGER zzz ON t").unwrap();
            client
                .batch_execute(&format!("SELECT clip_auto_embed_drop('t', '{}'); DELETE FROM t", targets[0]))
                .unwrap();
            holds(&mut client, &[("b", &targets[1])], &format!("{targets:?}, the first dropped"));
        }
    }
    // A model that is installed under a second name, too.
    cluster.add_emoji("first", &[]);
    cluster.add_emoji("second", &[]);
    fresh();
    client.execute("SELECT clip_auto_embed('t', 'a', model => 'first', create_index => false)", &[]).unwrap();
    client.batch_execute("CALL clip_reembed('t', 'embedding', 'second')").unwrap();
    let query = "SELECT count(*) FROM clip_auto_embed_status WHERE model = 'second' AND model_state = 'ok'";
    assert_eq!(count(&mut client, query), 1);
    // A renamed trigger.
    fresh();
    assert_eq!(attach(&mut client, "t", "a", "embedding", ", mode => 'statement'"), None);
    client.batch_execute("ALTER TRIGGER zz_clip_embedding ON t RENAME TO zz_other").unwrap();
    holds(&mut client, &[("a", "embedding")], "a renamed trigger");
    assert_eq!(attach(&mut client, "t", "a", "embedding", ", mode => 'row'"), None);
    assert_eq!(
        count(&mut client, "SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass AND NOT tgisinternal"),
        1
    );
}

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

#[test]
fn a_partition_that_comes_and_goes_keeps_its_embeddings_right() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    for mode in ["row", "statement", "queue"] {
        client
            .batch_execute(
                "DROP TABLE IF EXISTS t, t_2, other; CREATE TABLE t (part int, id int, title text, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
                 CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2)",
            )
            .unwrap();
        assert_eq!(attach(&mut client, "t", "title", "embedding", &format!(", mode => '{mode}'")), None);
        client.batch_execute("INSERT INTO t VALUES (1, 1, 'a cat'), (2, 2, 'a dog')").unwrap();
        wait_for_worker(&mut client, "t");
        for detach in ["DETACH PARTITION t_2", "DETACH PARTITION t_2 CONCURRENTLY"] {
            client.batch_execute(&format!("ALTER TABLE t {detach}")).unwrap();
            client.batch_execute("UPDATE t_2 SET title = title || ' and a tree'").unwrap();
            wait_for_worker(&mut client, "t_2");
            assert_eq!(stale(&mut client, "t_2", "title", "embedding"), 0, "{mode}: {detach}");
            client.batch_execute("ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES IN (2)").unwrap();
            client.batch_execute("UPDATE t SET title = 'a house ' || id").unwrap();
            wait_for_worker(&mut client, "t");
            assert_eq!(stale(&mut client, "t", "title", "embedding"), 0, "{mode}: {detach}");
            assert_eq!(count(&mut client, "SELECT count(*) FROM clip_auto_embed_status"), 1, "{mode}: {detach}");
        }
        // Embeddings that nobody vouches for.
        client
            .batch_execute(
                "CREATE TABLE other (LIKE t); ALTER TABLE other ADD PRIMARY KEY (part, id);
                 INSERT INTO other SELECT 3, 3, 'a boat', clip_embed_text('a plane', 'narrow')",
            )
            .unwrap();
        let come = "ALTER TABLE t ATTACH PARTITION other FOR VALUES IN (3)";
        assert_eq!(code(&mut client, come), Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE), "{mode}");
        client.batch_execute("UPDATE other SET embedding = NULL").unwrap();
        client.batch_execute(come).unwrap();
        client.batch_execute("ALTER TABLE t DETACH PARTITION other; DELETE FROM other").unwrap();
        client.batch_execute("SELECT clip_auto_embed_drop('other'); DROP TABLE other").unwrap();
        client
            .batch_execute(
                "CREATE TABLE other (LIKE t); ALTER TABLE other ADD PRIMARY KEY (part, id);
                 INSERT INTO other SELECT 3, 3, 'a boat', clip_embed_text('a boat', 'narrow');
                 SELECT clip_adopt('other', 'embedding', 'narrow')",
            )
            .unwrap();
        client.batch_execute(come).unwrap();
        assert_eq!(count(&mut client, "SELECT count(embedding) FROM other"), 1, "{mode}");
    }
}

/// A counter in the source: what is stored is never what was embedded.
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

/// With on_vector => 'keep' the embeddings of writers stay, and no other.
#[test]
fn only_the_embedding_of_a_writer_is_kept() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let keep = ", on_vector => 'keep'";
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, title text)").unwrap();
    assert_eq!(attach(&mut client, "t", "title", "embedding", keep), None);
    client
        .batch_execute(
            "INSERT INTO t VALUES (1, 'a cat');
             INSERT INTO t VALUES (1, 'a dog') ON CONFLICT (id) DO UPDATE SET title = t.title || ' and ' || excluded.title, embedding = excluded.embedding",
        )
        .unwrap();
    assert_eq!(stale(&mut client, "t", "title", "embedding"), 0, "an upsert that merges");
    client.batch_execute("UPDATE t SET embedding = clip_embed_text('a boat', 'narrow')").unwrap();
    assert_eq!(stale(&mut client, "t", "title", "embedding"), 1, "a writer's own");
    client
        .batch_execute(
            "CREATE FUNCTION moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.title := NEW.title || ' moved'; RETURN NEW; END $$",
        )
        .unwrap();
    for mode in ["row", "statement", "queue"] {
        client
            .batch_execute(
                "DROP TABLE t; CREATE TABLE t (part int, id int, title text, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
                 CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2);
                 CREATE TRIGGER a BEFORE INSERT ON t_2 FOR EACH ROW EXECUTE FUNCTION moved()",
            )
            .unwrap();
        assert_eq!(attach(&mut client, "t", "title", "embedding", &format!("{keep}, mode => '{mode}'")), None);
        client.batch_execute("INSERT INTO t VALUES (1, 1, 'a cat')").unwrap();
        wait_for_worker(&mut client, "t");
        client.batch_execute("UPDATE t SET part = 2").unwrap();
        wait_for_worker(&mut client, "t");
        assert_eq!(stale(&mut client, "t", "title", "embedding"), 0, "{mode}: a move that changes the source");
        client
            .batch_execute("DELETE FROM t; INSERT INTO t VALUES (1, 1, 'a cat', clip_embed_text('a boat', 'narrow')); UPDATE t_1 SET id = 7")
            .unwrap();
        assert_eq!(stale(&mut client, "t", "title", "embedding"), 1, "{mode}: a writer's own");
    }
}

#[test]
fn embeddings_of_another_source_are_not_taken_over() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, a text, b text)").unwrap();
    assert_eq!(attach(&mut client, "t", "a", "embedding", ""), None);
    client.batch_execute("INSERT INTO t VALUES (1, 'a cat', 'a dog'); SELECT clip_auto_embed_drop('t')").unwrap();
    let refused = Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    assert_eq!(attach(&mut client, "t", "b", "embedding", ""), refused);
    client.batch_execute("ALTER TABLE t DROP COLUMN a").unwrap();
    assert_eq!(attach(&mut client, "t", "b", "embedding", ""), refused);
    client.batch_execute("UPDATE t SET embedding = NULL").unwrap();
    assert_eq!(attach(&mut client, "t", "b", "embedding", ""), None);
    client.batch_execute("CALL clip_backfill('t')").unwrap();
    client.batch_execute("SELECT clip_auto_embed_drop('t'); ALTER TABLE t RENAME b TO c").unwrap();
    // Names of any characters are compared as they are.
    client.batch_execute(r#"CREATE TABLE odd (id int PRIMARY KEY, "größe\x" text)"#).unwrap();
    assert_eq!(attach(&mut client, "odd", r"größe\x", "embedding", ""), None);
    client.batch_execute("INSERT INTO odd VALUES (1, 'a cat'); SELECT clip_auto_embed_drop('odd')").unwrap();
    assert_eq!(attach(&mut client, "odd", r"größe\x", "embedding", ""), None);
    // A renamed source: the owner vouches for it.
    assert_eq!(attach(&mut client, "t", "c", "embedding", ""), refused);
    client.batch_execute("SELECT clip_adopt('t', 'embedding', 'narrow')").unwrap();
    assert_eq!(attach(&mut client, "t", "c", "embedding", ""), None);
    assert_eq!(stale(&mut client, "t", "c", "embedding"), 0);
}

#[test]
fn embeddings_that_cannot_be_cleared_or_seen_are_an_error() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, title text, locked boolean DEFAULT false);
             CREATE FUNCTION locked() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.locked THEN RETURN NULL; END IF; RETURN NEW; END $$;
             CREATE TRIGGER a BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION locked()",
        )
        .unwrap();
    assert_eq!(attach(&mut client, "t", "title", "embedding", ""), None);
    client.batch_execute("INSERT INTO t VALUES (1, 'a cat', true), (2, 'a dog', false)").unwrap();
    let change = "ALTER TABLE t ALTER title TYPE varchar(100) USING 'b' || substr(title, 2)";
    assert_eq!(code(&mut client, change), Some(SqlState::TRIGGERED_DATA_CHANGE_VIOLATION));
    assert_eq!(stale(&mut client, "t", "title", "embedding"), 0);
    client.batch_execute("DROP TRIGGER a ON t").unwrap();
    client.batch_execute(change).unwrap();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM t"), 0);
    // Another table whose source has the same name is left alone.
    client.batch_execute("CREATE TABLE other (id int PRIMARY KEY, title text)").unwrap();
    assert_eq!(attach(&mut client, "other", "title", "embedding", ""), None);
    client.batch_execute("INSERT INTO other VALUES (1, 'a cat')").unwrap();
    client.batch_execute("CALL clip_backfill('t')").unwrap();
    client.batch_execute("ALTER TABLE t ALTER title TYPE text USING upper(title)").unwrap();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM t"), 0);
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM other"), 1);
    // A policy that hides all rows from the owner.
    client
        .batch_execute(
            "CREATE ROLE owner_of_rows; GRANT ALL ON SCHEMA public TO owner_of_rows; SET ROLE owner_of_rows;
             CREATE TABLE hidden (id int PRIMARY KEY, title text, embedding vector(32));
             INSERT INTO hidden VALUES (1, 'a cat', (SELECT array_agg(0.25)::vector FROM generate_series(1, 32)));
             ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; ALTER TABLE hidden FORCE ROW LEVEL SECURITY",
        )
        .unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM hidden"), 0);
    assert_eq!(
        attach(&mut client, "hidden", "title", "embedding", ""),
        Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
    );
    assert_eq!(count(&mut client, "SELECT count(*) FROM pg_class WHERE relname = 'hidden' AND relforcerowsecurity"), 1);
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
