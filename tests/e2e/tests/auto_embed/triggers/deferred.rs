//! Constraints that are checked at the commit.

use e2e::{Cluster, code, count, wait_until};

use crate::{attach, stale};

/// A deferred constraint trigger fires at the commit, and would run there with the privileges of the worker.
#[test]
fn deferred_constraint_triggers_of_the_owner_reject_single_rows() {
    let cluster = Cluster::start();
    cluster
        .connect()
        .batch_execute(
            "CREATE ROLE seller LOGIN; GRANT CREATE ON SCHEMA public TO seller;
             CREATE TABLE fired_as (role name); GRANT INSERT ON fired_as TO seller",
        )
        .unwrap();
    let mut client = cluster.connect_as_caller("seller");
    client
        .batch_execute(
            "CREATE FUNCTION without_dogs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO fired_as VALUES (current_user);
                IF NEW.embedding IS NOT NULL AND NEW.title = 'a dog' THEN RAISE EXCEPTION 'no dogs' USING ERRCODE = 'check_violation'; END IF;
                RETURN NULL; END $$;
             CREATE TABLE t (id int PRIMARY KEY, title text)",
        )
        .unwrap();
    let trigger = "CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON t DEFERRABLE INITIALLY DEFERRED \
        FOR EACH ROW EXECUTE FUNCTION without_dogs()";
    client.batch_execute(trigger).unwrap();
    let rows = "INSERT INTO t VALUES (1, 'a cat'), (2, 'a dog'), (3, 'a bird')";
    let embedded = "SELECT count(*) FROM t WHERE embedding IS NOT NULL";
    let rejected =
        "SELECT count(*) FROM clip_failures WHERE sqlstate = '23514' AND message = 'no dogs' AND key = '{\"id\": 2}'";
    // A worker.
    assert_eq!(attach(&mut client, "t", "title", "embedding", ", mode => 'queue'"), None);
    client.batch_execute(rows).unwrap();
    wait_until(&mut client, "SELECT count(*) = 2 FROM t WHERE embedding IS NOT NULL");
    wait_until(&mut client, &rejected.replace("count(*)", "count(*) = 1"));
    // A backfill.
    client.batch_execute("SELECT clip_auto_embed_drop('t'); DELETE FROM t").unwrap();
    client.batch_execute(rows).unwrap();
    assert_eq!(attach(&mut client, "t", "title", "embedding", ", mode => 'statement'"), None);
    client.batch_execute("CALL clip_backfill('t')").unwrap();
    assert_eq!([count(&mut client, embedded), count(&mut client, rejected)], [2, 1]);
    // The owner changes the type, also in a transaction with other work.
    client
        .batch_execute("BEGIN; UPDATE t SET title = 'a tree' WHERE id = 2; COMMIT; ALTER TABLE t ALTER title TYPE varchar(40) USING title || '!'")
        .unwrap();
    assert_eq!(count(&mut client, embedded), 0);
    // A new session, because PL/pgSQL keeps the type of NEW.title.
    let mut client = cluster.connect_as("seller");
    client.batch_execute("CALL clip_backfill('t')").unwrap();
    assert_eq!(count(&mut client, embedded), 3);
    assert_eq!(stale(&mut client, "t", "title", "embedding"), 0);
    assert_eq!(count(&mut cluster.connect(), "SELECT count(*) FROM fired_as WHERE role <> 'seller'"), 0);
    cluster.assert_no_crash();
}

/// Migration tools defer all foreign keys, and change several columns in one transaction.
#[test]
fn changes_of_types_leave_no_deferred_triggers() {
    let cluster = Cluster::start();
    let mut superuser = cluster.connect();
    superuser.batch_execute("CREATE ROLE seller LOGIN; GRANT CREATE ON SCHEMA public TO seller").unwrap();
    let mut client = cluster.connect_as_caller("seller");
    client
        .batch_execute(
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TABLE shop (id int PRIMARY KEY); INSERT INTO shop VALUES (1);
             CREATE TABLE t (id int PRIMARY KEY, shop int NOT NULL REFERENCES shop DEFERRABLE INITIALLY DEFERRED, one text, two text);
             CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nothing()",
        )
        .unwrap();
    assert_eq!(attach(&mut client, "t", "one", "embedding", ""), None);
    assert_eq!(attach(&mut client, "t", "two", "second", ", mode => 'statement'"), None);
    client.batch_execute("INSERT INTO t VALUES (1, 1, 'a cat', 'a dog')").unwrap();
    let filled = "SELECT count(embedding) + count(second) FROM t";
    let change = "BEGIN; ALTER TABLE t ALTER one TYPE varchar(9) USING one::varchar(9); ALTER TABLE t ALTER two TYPE varchar(9) USING two::varchar(9);
        CREATE INDEX ON t (one); COMMIT";
    assert_eq!(code(&mut client, change), None);
    assert_eq!(count(&mut client, filled), 0);
    for column in ["embedding", "second"] {
        client.batch_execute(&format!("CALL clip_backfill('t', '{column}')")).unwrap();
    }
    assert_eq!(count(&mut client, filled), 2);
    // The constraints are deferred again.
    assert_eq!(code(&mut client, "BEGIN; UPDATE t SET shop = 2; UPDATE t SET shop = 1; COMMIT"), None);
    // Triggers in other states.
    for state in ["DISABLE", "ENABLE ALWAYS"] {
        client.batch_execute(&format!("ALTER TABLE t {state} TRIGGER zz_clip_embedding")).unwrap();
        assert_eq!(code(&mut client, "ALTER TABLE t ALTER one TYPE text USING one::text"), None, "{state}");
        client.batch_execute("ALTER TABLE t ENABLE TRIGGER zz_clip_embedding").unwrap();
        client.batch_execute("CALL clip_backfill('t')").unwrap();
    }
    // A superuser, who does not own the table.
    assert_eq!(code(&mut superuser, "ALTER TABLE t ALTER two TYPE text USING upper(two)"), None);
    client.batch_execute("CALL clip_backfill('t', 'second')").unwrap();
    assert_eq!(count(&mut client, filled), 2);
    assert_eq!(stale(&mut client, "t", "one", "embedding") + stale(&mut client, "t", "two", "second"), 0);
}
