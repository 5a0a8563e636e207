//! Partitions that come and go.

use e2e::{Cluster, code, count, drain, wait_until};
use postgres::Client;
use postgres::error::SqlState;

use crate::{attach, stale, wait_for_worker};

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
        // Embeddings of an unknown model.
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

/// A table that is managed before its root table is, or differently.
#[test]
fn a_partition_has_one_record() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let (mut listener, heard) = cluster.listen("postgres");
    let refused = Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    let records = |client: &mut Client| count(client, "SELECT count(*) FROM clip_auto_embed_status");
    let fresh = "DROP TABLE IF EXISTS t, leaf, branch; CREATE TABLE t (part int, id int, title text, other text, embedding vector(32), PRIMARY KEY (part, id)) PARTITION BY LIST (part);
         CREATE TABLE leaf (LIKE t INCLUDING INDEXES)";
    let join = "ALTER TABLE t ATTACH PARTITION leaf FOR VALUES IN (1)";
    // The same model and source: the root table takes over, with its mode.
    client.batch_execute(fresh).unwrap();
    assert_eq!(attach(&mut client, "leaf", "title", "embedding", ""), None);
    client.batch_execute("INSERT INTO leaf VALUES (1, 1, 'a cat', 'a dog')").unwrap();
    client.batch_execute(join).unwrap();
    assert_eq!(attach(&mut client, "t", "title", "embedding", ", mode => 'statement'"), None);
    assert_eq!(records(&mut client), 1);
    client.batch_execute("ALTER TABLE t DETACH PARTITION leaf").unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_auto_embed_status WHERE mode = 'statement'"), 2);
    // Another source, or another model of the same number of dimensions.
    for (model, source) in [("narrow", "other"), ("fragile", "title")] {
        client.batch_execute(fresh).unwrap();
        client
            .batch_execute(&format!(
                "SELECT clip_auto_embed('leaf', '{source}', model => '{model}', create_index => false)"
            ))
            .unwrap();
        client.batch_execute("INSERT INTO leaf VALUES (1, 1, 'a cat', 'a dog')").unwrap();
        client.batch_execute(join).unwrap();
        assert_eq!(attach(&mut client, "t", "title", "embedding", ""), refused, "{model}, {source}");
        let adopt = "SELECT clip_adopt('t', 'embedding', 'narrow')";
        assert_eq!(code(&mut client, adopt), if model == "narrow" { None } else { refused.clone() }, "{model}");
        // The hint of the error.
        client
            .batch_execute("SELECT clip_auto_embed_drop('leaf', 'embedding'); UPDATE leaf SET embedding = NULL")
            .unwrap();
        assert_eq!(attach(&mut client, "t", "title", "embedding", ""), None, "{model}, {source}");
        assert_eq!(records(&mut client), 1);
        client.batch_execute("CALL clip_backfill('t')").unwrap();
        assert_eq!(stale(&mut client, "t", "title", "embedding"), 0, "{model}, {source}");
        // A partition of a managed table has no record of its own.
        let adopt = "SELECT clip_adopt('leaf', 'embedding', 'narrow')";
        assert_eq!(code(&mut client, adopt), Some(SqlState::WRONG_OBJECT_TYPE));
    }
    // A sub-tree with a managed leaf, and a column that is not maintained any more.
    client.batch_execute(fresh).unwrap();
    client
        .batch_execute(
            "CREATE TABLE branch (LIKE t INCLUDING INDEXES) PARTITION BY LIST (id); ALTER TABLE branch ATTACH PARTITION leaf FOR VALUES IN (1)",
        )
        .unwrap();
    assert_eq!(attach(&mut client, "t", "title", "embedding", ""), None);
    assert_eq!(
        code(&mut client, "SELECT clip_auto_embed('leaf', 'title', model => 'narrow')"),
        Some(SqlState::WRONG_OBJECT_TYPE)
    );
    client.batch_execute("ALTER TABLE branch DETACH PARTITION leaf").unwrap();
    assert_eq!(attach(&mut client, "leaf", "title", "embedding", ", mode => 'queue'"), None);
    client
        .batch_execute(
            "ALTER TABLE branch ATTACH PARTITION leaf FOR VALUES IN (1); INSERT INTO branch VALUES (1, 1, 'a cat')",
        )
        .unwrap();
    wait_for_worker(&mut client, "branch");
    client
        .batch_execute("SELECT clip_auto_embed_drop('leaf'); UPDATE leaf SET title = 'a cat and a dog' WHERE false")
        .unwrap();
    drain(&heard);
    listener.batch_execute("ALTER TABLE t ATTACH PARTITION branch FOR VALUES IN (1)").unwrap();
    let told = drain(&heard);
    assert!(told.iter().any(|message| message.contains("keeps its embeddings")), "{told:?}");
    assert_eq!(records(&mut client), 1);
    client.batch_execute("UPDATE t SET title = 'a tree'").unwrap();
    assert_eq!(stale(&mut client, "t", "title", "embedding"), 0);
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM t"), 1);
}

/// A root table whose embeddings are recorded and not maintained.
#[test]
fn a_partition_of_a_recorded_table_may_be_managed() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE t (part int, id int, title text, embedding vector(32), PRIMARY KEY (part, id)) PARTITION BY LIST (part);
             SELECT clip_adopt('t', 'embedding', 'narrow');
             CREATE TABLE leaf (LIKE t INCLUDING INDEXES); CREATE TABLE other (LIKE t INCLUDING INDEXES);
             SELECT clip_auto_embed('other', 'title', model => 'fragile', create_index => false); INSERT INTO other VALUES (2, 1, 'a dog')",
        )
        .unwrap();
    assert_eq!(attach(&mut client, "leaf", "title", "embedding", ", mode => 'statement'"), None);
    client.batch_execute("INSERT INTO leaf VALUES (1, 1, 'a cat')").unwrap();
    let refused = Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    assert_eq!(code(&mut client, "ALTER TABLE t ATTACH PARTITION other FOR VALUES IN (2)"), refused);
    let records = "SELECT count(*) FROM clip_auto_embed_status WHERE relation IN ('t', 'leaf') AND model = 'narrow'";
    for _ in 0..2 {
        // Both tables have a trigger of the same name, and so has the copy that the partition gets.
        client
            .batch_execute(
                "ALTER TABLE t ATTACH PARTITION leaf FOR VALUES IN (1); UPDATE leaf SET title = title || ' and a tree'",
            )
            .unwrap();
        assert_eq!(stale(&mut client, "t", "title", "embedding"), 0);
        assert_eq!(count(&mut client, records), 2);
        client
            .batch_execute("ALTER TABLE t DETACH PARTITION leaf; UPDATE leaf SET title = title || ' and a house'")
            .unwrap();
        assert_eq!(stale(&mut client, "leaf", "title", "embedding"), 0);
        assert_eq!(count(&mut client, records), 2);
    }
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_auto_embed_status WHERE mode = 'statement'"), 1);
}

/// PostgreSQL 15 takes a partition whose column is generated; later ones refuse it themselves.
#[test]
fn a_generated_source_of_a_partition_is_an_error() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE t (part int, id int, title text, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
             CREATE TABLE leaf (part int NOT NULL, id int NOT NULL, title text GENERATED ALWAYS AS ('a cat') STORED, embedding vector(32), PRIMARY KEY (part, id))",
        )
        .unwrap();
    assert_eq!(attach(&mut client, "t", "title", "embedding", ""), None);
    let found = code(&mut client, "ALTER TABLE t ATTACH PARTITION leaf FOR VALUES IN (1)");
    let expected = [SqlState::INVALID_COLUMN_REFERENCE, SqlState::DATATYPE_MISMATCH];
    assert!(found.as_ref().is_some_and(|code| expected.contains(code)), "{found:?}");
}

/// A statement on a partition must not wait for its root table while a writer of the root table waits for the partition.
#[test]
fn a_trigger_of_a_partition_does_not_deadlock_with_writers() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE t (part int, id int, title text, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
             CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2);
             CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        )
        .unwrap();
    assert_eq!(attach(&mut client, "t", "title", "embedding", ""), None);
    let mut writer = cluster.connect();
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (2, 1, 'a cat')").unwrap();
    let thread = std::thread::spawn({
        let mut other = cluster.connect();
        move || code(&mut other, "CREATE TRIGGER zzz BEFORE INSERT ON t_1 FOR EACH ROW EXECUTE FUNCTION nothing()")
    });
    let waits = "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 't'::regclass";
    wait_until(&mut client, waits);
    writer.batch_execute("INSERT INTO t VALUES (1, 1, 'a dog'); COMMIT").unwrap();
    assert_eq!(thread.join().unwrap(), None);
    assert_eq!(count(&mut client, "SELECT count(*) FROM pg_trigger WHERE tgname = 'zz_clip_embedding_check'"), 3);
    // DETACH CONCURRENTLY does not wait for the writers of other partitions, although the check is needed no more.
    writer.batch_execute("BEGIN; LOCK TABLE t_2 IN ROW EXCLUSIVE MODE").unwrap();
    client.batch_execute("SET lock_timeout = '10s'").unwrap();
    client.batch_execute("ALTER TABLE t DETACH PARTITION t_1 CONCURRENTLY").unwrap();
    writer.batch_execute("COMMIT").unwrap();
    assert_eq!(stale(&mut client, "t", "title", "embedding"), 0);
}
