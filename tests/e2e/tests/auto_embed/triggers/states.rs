//! The states of triggers: disabled, for rows of a subscription, or dropped.

use e2e::{Cluster, code, count, drain};
use postgres::Client;
use postgres::error::SqlState;

use crate::{attach, stale};

/// The states of the triggers of a table, in the order of their names.
fn states(client: &mut Client, table: &str) -> String {
    let query = "SELECT string_agg(tgenabled::text, '' ORDER BY tgname) FROM pg_trigger \
        WHERE tgrelid = $1::text::regclass AND NOT tgisinternal AND tgname ~ '^(zz_clip|zy)'";
    client.query_one(query, &[&table]).unwrap().get(0)
}

#[test]
fn the_state_of_a_trigger_outlasts_every_change() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    for (state, letter) in [("ENABLE ALWAYS", "A"), ("ENABLE REPLICA", "R"), ("DISABLE", "D")] {
        client
            .batch_execute(
                "DROP TABLE IF EXISTS t, t_1; CREATE TABLE t (part int, id int, title text, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
                 CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1);
                 CREATE OR REPLACE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
                 CREATE TRIGGER zzz BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing()",
            )
            .unwrap();
        assert_eq!(attach(&mut client, "t", "title", "embedding", ""), None);
        let name: String = client
            .query_one("SELECT tgname::text FROM pg_trigger WHERE tgrelid = 't'::regclass AND tgname ~ '^zz_clip' AND tgname !~ 'check'", &[])
            .unwrap()
            .get(0);
        client.batch_execute(&format!("ALTER TABLE t {state} TRIGGER {name}")).unwrap();
        // The row trigger and the check trigger.
        assert_eq!(states(&mut client, "t"), letter.repeat(2), "{state}");
        for (statement, triggers) in [
            ("SELECT clip_auto_embed('t', 'title', model => 'narrow', mode => 'statement', create_index => false)", 4),
            ("CALL clip_reembed('t', 'embedding', 'wide')", 4),
            ("CALL clip_reembed('t', 'embedding', 'narrow')", 4),
            ("DROP TRIGGER zzz ON t", 3),
            ("ALTER TABLE t ALTER title TYPE varchar(200)", 3),
        ] {
            client.batch_execute(statement).unwrap();
            assert_eq!(states(&mut client, "t"), letter.repeat(triggers), "{state}: {statement}");
        }
        let name: String = client
            .query_one("SELECT tgname::text FROM pg_trigger WHERE tgrelid = 't'::regclass AND tgtype & 3 = 3", &[])
            .unwrap()
            .get(0);
        client.batch_execute(&format!("ALTER TRIGGER {name} ON t RENAME TO zy")).unwrap();
        assert_eq!(states(&mut client, "t"), letter.repeat(3), "{state}: renamed");
        client.batch_execute("ALTER TABLE t DETACH PARTITION t_1").unwrap();
        assert_eq!(states(&mut client, "t_1"), letter.repeat(3), "{state}: detached");
        client.batch_execute("ALTER TABLE t ENABLE TRIGGER zy").unwrap();
        assert_eq!(states(&mut client, "t"), "OOO", "{state}: enabled again");
        // A column that is managed again has triggers that fire.
        client
            .batch_execute("SELECT clip_auto_embed_drop('t'); SELECT clip_auto_embed('t', 'title', model => 'narrow', create_index => false)")
            .unwrap();
        assert_eq!(states(&mut client, "t"), "O", "{state}: managed again");
    }
}

/// A check trigger that does not fire protects nothing.
#[test]
fn a_check_that_does_not_fire_is_an_error() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, title text);
             CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.title := upper(NEW.title); RETURN NEW; END'",
        )
        .unwrap();
    assert_eq!(attach(&mut client, "t", "title", "embedding", ""), None);
    client.batch_execute("CREATE TRIGGER zzz BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION loud()").unwrap();
    let insert = "INSERT INTO t VALUES (1, 'a cat')";
    assert_eq!(code(&mut client, insert), Some(SqlState::TRIGGERED_DATA_CHANGE_VIOLATION));
    // For rows of a publisher, the trigger that embeds fires, and the later one, and the check with them.
    client
        .batch_execute("ALTER TABLE t ENABLE ALWAYS TRIGGER zz_clip_embedding; ALTER TABLE t ENABLE ALWAYS TRIGGER zzz; SET session_replication_role = replica")
        .unwrap();
    assert_eq!(code(&mut client, insert), Some(SqlState::TRIGGERED_DATA_CHANGE_VIOLATION));
    // An owner who disables the check alone, after which pg_clip has no say.
    client.batch_execute("SET session_replication_role = origin; ALTER EVENT TRIGGER clip_ddl_end DISABLE").unwrap();
    client.batch_execute("ALTER TABLE t DISABLE TRIGGER zz_clip_embedding_check").unwrap();
    assert_eq!(code(&mut client, insert), Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE));
    // Another trigger with the same argument.
    client
        .batch_execute(
            "CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER other AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION quiet('zz_clip_embedding')",
        )
        .unwrap();
    assert_eq!(code(&mut client, insert), Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE));
    assert_eq!(count(&mut client, "SELECT count(*) FROM t"), 0);
}

#[test]
fn the_check_goes_with_the_last_later_trigger() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let checks = |client: &mut Client| count(client, "SELECT count(*) FROM pg_trigger WHERE tgname ~ '_check$'");
    client
        .batch_execute(
            "CREATE SCHEMA \"Odd\"; CREATE TABLE \"Odd\".t (id int PRIMARY KEY, title text);
             CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        )
        .unwrap();
    assert_eq!(attach(&mut client, "\"Odd\".t", "title", "embedding", ""), None);
    client
        .batch_execute("CREATE TRIGGER zzz BEFORE INSERT ON \"Odd\".t FOR EACH ROW EXECUTE FUNCTION nothing()")
        .unwrap();
    assert_eq!(checks(&mut client), 1);
    client.batch_execute("DROP TRIGGER zzz ON \"Odd\".t").unwrap();
    assert_eq!(checks(&mut client), 0);
    client
        .batch_execute("DROP TRIGGER IF EXISTS zzz ON missing; DROP TRIGGER IF EXISTS zzz ON no_schema.missing")
        .unwrap();
    // A name of 63 bytes leaves no room for an ending.
    let long = "z".repeat(63);
    client.batch_execute(&format!("ALTER TRIGGER zz_clip_embedding ON \"Odd\".t RENAME TO {long}")).unwrap();
    client
        .batch_execute(
            "SELECT clip_auto_embed('\"Odd\".t', 'title', model => 'narrow', mode => 'statement', create_index => false);
             INSERT INTO \"Odd\".t VALUES (1, 'a cat')",
        )
        .unwrap();
    assert_eq!(stale(&mut client, "\"Odd\".t", "title", "embedding"), 0);
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM \"Odd\".t"), 1);
    // Rows cannot be found any more.
    let (mut client, heard) = cluster.listen("postgres");
    client.batch_execute("ALTER TABLE \"Odd\".t DROP CONSTRAINT t_pkey").unwrap();
    let warned = drain(&heard);
    assert!(warned.iter().any(|message| message.contains("has no key")), "{warned:?}");
}
