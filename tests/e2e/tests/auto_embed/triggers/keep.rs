//! Columns that keep the embeddings of writers.

use e2e::Cluster;

use crate::{attach, stale, wait_for_worker};

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

/// Triggers of other columns and of other rows come between the two events of one row.
#[test]
fn rows_in_between_do_not_confuse() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let keep = ", on_vector => 'keep'";
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, a text, b text)").unwrap();
    assert_eq!(attach(&mut client, "t", "a", "of_a", keep), None);
    assert_eq!(attach(&mut client, "t", "b", "of_b", keep), None);
    client
        .batch_execute(
            "INSERT INTO t VALUES (1, 'a cat', 'a tree');
             INSERT INTO t VALUES (1, 'a dog', 'a house') ON CONFLICT (id) DO UPDATE SET
                a = t.a || ' and ' || excluded.a, of_a = excluded.of_a, b = t.b || ' and ' || excluded.b, of_b = excluded.of_b",
        )
        .unwrap();
    for (source, target) in [("a", "of_a"), ("b", "of_b")] {
        assert_eq!(stale(&mut client, "t", source, target), 0, "two columns: {target}");
    }
    // A trigger that writes other rows of the same table.
    client
        .batch_execute(
            "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.id = 1 THEN INSERT INTO t (id, a) VALUES (2, 'a boat') ON CONFLICT DO NOTHING; END IF; RETURN NEW; END $$;
             CREATE TRIGGER zzz BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION more();
             INSERT INTO t VALUES (1, 'a dog') ON CONFLICT (id) DO UPDATE SET a = t.a || ' or ' || excluded.a, of_a = excluded.of_a",
        )
        .unwrap();
    assert_eq!(stale(&mut client, "t", "a", "of_a"), 0, "a trigger that inserts");
    // A row that moves, while a trigger of its deletion runs commands.
    client
        .batch_execute(
            "CREATE TABLE p (part int, id int, title text, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
             CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p_2 PARTITION OF p FOR VALUES IN (2);
             CREATE TABLE log (entry text);
             CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (OLD.title); UPDATE log SET entry = ''; RETURN OLD; END $$;
             CREATE FUNCTION moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.title := NEW.title || ' moved'; RETURN NEW; END $$;
             CREATE TRIGGER a BEFORE DELETE ON p_1 FOR EACH ROW EXECUTE FUNCTION logged();
             CREATE TRIGGER b BEFORE INSERT ON p_2 FOR EACH ROW EXECUTE FUNCTION moved()",
        )
        .unwrap();
    assert_eq!(attach(&mut client, "p", "title", "embedding", keep), None);
    client.batch_execute("INSERT INTO p VALUES (1, 1, 'a cat'); UPDATE p SET part = 2").unwrap();
    assert_eq!(stale(&mut client, "p", "title", "embedding"), 0, "a move");
    // A writer's own vector in a column that keeps it does not count as an embedding for another column.
    client
        .batch_execute(
            "CREATE TABLE strict (id int PRIMARY KEY, title text);
             INSERT INTO p VALUES (1, 2, 'a tree', clip_embed_text('a boat', 'narrow'))",
        )
        .unwrap();
    assert_eq!(attach(&mut client, "strict", "title", "embedding", ""), None);
    client
        .batch_execute(
            "WITH moved AS (UPDATE p SET id = 3 WHERE id = 2 RETURNING title, embedding) INSERT INTO strict SELECT 1, title, embedding FROM moved",
        )
        .unwrap();
    assert_eq!(stale(&mut client, "strict", "title", "embedding"), 0, "a copy into another table");
}
