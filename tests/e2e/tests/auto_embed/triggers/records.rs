//! The record of a column: its model and its source.

use e2e::{Cluster, code, count, let_call, wait_until};
use postgres::error::SqlState;

use crate::{attach, stale};

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
    // Nor does a name break the list of all columns.
    client.batch_execute(r#"CREATE TABLE null_byte (id int PRIMARY KEY, "a\000b" text)"#).unwrap();
    assert_eq!(attach(&mut client, "null_byte", r"a\000b", "embedding", ""), None);
    client
        .batch_execute("INSERT INTO null_byte VALUES (1, 'a cat'); SELECT clip_auto_embed_drop('null_byte')")
        .unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_auto_embed_status WHERE relation = 'null_byte'"), 1);
    assert_eq!(attach(&mut client, "null_byte", r"a\000b", "embedding", ""), None);
    // A renamed source is the same column, and a new column of its former name is another.
    client.batch_execute("ALTER TABLE t ADD b text").unwrap();
    assert_eq!(attach(&mut client, "t", "b", "embedding", ""), refused);
    assert_eq!(attach(&mut client, "t", "c", "embedding", ""), None);
    client.batch_execute("SELECT clip_auto_embed_drop('t'); ALTER TABLE t RENAME b TO d; ALTER TABLE t RENAME c TO b; ALTER TABLE t RENAME d TO c").unwrap();
    assert_eq!(attach(&mut client, "t", "c", "embedding", ""), refused);
    assert_eq!(attach(&mut client, "t", "b", "embedding", ""), None);
    assert_eq!(stale(&mut client, "t", "b", "embedding"), 0);
    // The owner vouches for it.
    client.batch_execute("SELECT clip_auto_embed_drop('t'); UPDATE t SET c = b").unwrap();
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
    // A source that changes its type while the embedding column goes.
    let change = "ALTER TABLE other ALTER title TYPE varchar(99), DROP COLUMN embedding";
    assert_eq!(code(&mut client, change), Some(SqlState::DEPENDENT_OBJECTS_STILL_EXIST));
    client.batch_execute(&format!("{change} CASCADE; INSERT INTO other VALUES (2, 'a dog')")).unwrap();
    // A policy that hides all rows from the owner.
    client.batch_execute("CREATE ROLE owner_of_rows; GRANT ALL ON SCHEMA public TO owner_of_rows").unwrap();
    let_call(&mut client, "owner_of_rows");
    client
        .batch_execute(
            "SET ROLE owner_of_rows;
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

/// Tools that synchronize a schema set the type of every column each time, also if it is the same.
#[test]
fn the_type_of_an_embedding_column_can_be_set_again() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    for mode in ["row", "statement", "queue"] {
        client.batch_execute("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, title text)").unwrap();
        assert_eq!(attach(&mut client, "t", "title", "embedding", &format!(", mode => '{mode}'")), None);
        client.batch_execute("INSERT INTO t VALUES (1, 'a cat')").unwrap();
        wait_until(&mut client, "SELECT count(*) = 1 FROM t WHERE embedding IS NOT NULL");
        for change in [
            "ALTER embedding TYPE vector(32)",
            "ALTER embedding TYPE vector",
            "ALTER embedding TYPE vector(32) USING embedding::vector(32), ALTER title TYPE varchar(100)",
        ] {
            assert_eq!(code(&mut client, &format!("ALTER TABLE t {change}")), None, "{mode}: {change}");
            assert_eq!(count(&mut client, "SELECT count(*) FROM t WHERE embedding IS NOT NULL"), 1, "{mode}: {change}");
        }
        for change in [
            "ALTER embedding TYPE sparsevec(32)",
            "ALTER embedding TYPE text",
            "ALTER embedding TYPE vector(2) USING NULL",
            "ALTER embedding TYPE halfvec(2) USING NULL",
        ] {
            let found = code(&mut client, &format!("ALTER TABLE t {change}"));
            assert_eq!(found, Some(SqlState::DATATYPE_MISMATCH), "{mode}: {change}");
        }
        client.batch_execute("UPDATE t SET title = 'a dog'").unwrap();
        wait_until(
            &mut client,
            "SELECT count(*) = 1 FROM t WHERE embedding <=> clip_embed_text(title, 'narrow') < 1e-6",
        );
        // The other type of an embedding column, in which its indexes are not defined.
        assert_eq!(code(&mut client, "ALTER TABLE t ALTER embedding TYPE halfvec(32)"), None, "{mode}");
        let rounded = "SELECT count(*) = 1 FROM t WHERE embedding = clip_embed_text(title, 'narrow')::halfvec";
        wait_until(&mut client, rounded);
        client.batch_execute("UPDATE t SET title = 'a tree'").unwrap();
        wait_until(&mut client, rounded);
        // A column with a record of its model only.
        client.batch_execute("SELECT clip_auto_embed_drop('t')").unwrap();
        assert_eq!(code(&mut client, "ALTER TABLE t ALTER embedding TYPE vector(32)"), None);
        let recorded =
            "SELECT count(*) FROM clip_auto_embed_status WHERE relation = 't' AND model = 'narrow' AND source IS NULL";
        assert_eq!(count(&mut client, recorded), 1);
    }
}
