//! Functions of an owner, which the server calls with the privileges of the role that plans or runs a statement.

use std::time::Duration;

use e2e::{Cluster, code, count, drain, wait_until};
use postgres::Client;
use postgres::error::SqlState;

/// Creates the role `eve` and its functions `ran_as`, which records the role that runs it, and `quiet`, which is IMMUTABLE, so that
/// the planner calls it for constants.
fn eve(cluster: &Cluster) -> Client {
    cluster
        .connect()
        .batch_execute(
            "CREATE ROLE eve LOGIN; GRANT CREATE ON SCHEMA public TO eve; CREATE TABLE ran (role name); GRANT INSERT ON ran TO PUBLIC",
        )
        .unwrap();
    let mut eve = cluster.connect_as_caller("eve");
    eve.batch_execute(
        "CREATE FUNCTION ran_as() RETURNS boolean VOLATILE LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN true; END';
         CREATE FUNCTION quiet(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN public.ran_as(); END';
         CREATE FUNCTION strict_owner(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
            BEGIN IF current_user <> 'eve' THEN RAISE EXCEPTION 'boom'; END IF; RETURN true; END $$",
    )
    .unwrap();
    eve
}

#[test]
fn the_planner_calls_functions_of_indexes_as_their_owner() {
    let cluster = Cluster::start();
    let mut eve = eve(&cluster);
    let mut superuser = cluster.connect();
    let others = "SELECT count(*) FROM ran WHERE role <> 'eve'";
    eve.batch_execute(
        "CREATE TABLE root (id int, title text) PARTITION BY RANGE (id); SELECT clip_auto_embed('root', 'title', model => 'narrow');
         CREATE TABLE part (id int NOT NULL, title text, embedding vector(32)); CREATE INDEX ON part (id) WHERE quiet(2)",
    )
    .unwrap();
    // Attached by its owner, and again by a superuser.
    eve.batch_execute("ALTER TABLE root ATTACH PARTITION part FOR VALUES FROM (0) TO (10)").unwrap();
    assert_eq!(count(&mut superuser, others), 0);
    superuser
        .batch_execute(
            "ALTER TABLE root DETACH PARTITION part; ALTER TABLE root ATTACH PARTITION part FOR VALUES FROM (0) TO (10)",
        )
        .unwrap();
    // The status view, the workers, and the notices of a search.
    eve.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, title text); CREATE INDEX ON t (id) WHERE quiet(2); GRANT SELECT ON t TO PUBLIC;
         SELECT clip_auto_embed('t', 'title', model => 'narrow', mode => 'queue'); INSERT INTO t VALUES (1, 'a cat')",
    )
    .unwrap();
    superuser.batch_execute("DELETE FROM ran").unwrap();
    wait_until(&mut eve, "SELECT count(*) = 1 FROM t WHERE embedding IS NOT NULL");
    let counts = "SELECT rows FROM clip_auto_embed_status WHERE relation = 't'";
    assert_eq!(count(&mut superuser, counts), 1);
    assert_eq!(count(&mut superuser, others), 0);
    superuser.batch_execute("CREATE ROLE bob LOGIN").unwrap();
    assert_eq!(count(&mut cluster.connect_as_caller("bob"), counts), 1);
    assert_eq!(count(&mut superuser, others), 0);
}

#[test]
fn a_table_that_cannot_be_read_hides_no_other_table() {
    let cluster = Cluster::start();
    let mut eve = eve(&cluster);
    let (mut superuser, heard) = cluster.listen("postgres");
    superuser
        .batch_execute(
            "CREATE TABLE good (id int PRIMARY KEY, title text); SELECT clip_auto_embed('good', 'title', model => 'narrow');
             INSERT INTO good VALUES (1, 'a cat'), (2, 'a dog')",
        )
        .unwrap();
    eve.batch_execute(
        "CREATE FUNCTION never(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''boom''; END';
         CREATE TABLE bad (id int PRIMARY KEY, title text); SELECT clip_auto_embed('bad', 'title', model => 'narrow');
         CREATE INDEX ON bad (id) WHERE id = 1 AND never(id)",
    )
    .unwrap();
    let good = "SELECT rows FROM clip_auto_embed_status WHERE relation = 'good'";
    assert_eq!(count(&mut superuser, good), 2);
    // Functions that fail for other roles run as the owner.
    eve.batch_execute("DROP TABLE bad; CREATE TABLE strict (id int PRIMARY KEY, title text); SELECT clip_auto_embed('strict', 'title', model => 'narrow'); CREATE INDEX ON strict (id) WHERE strict_owner(2)").unwrap();
    assert_eq!(count(&mut superuser, "SELECT rows FROM clip_auto_embed_status WHERE relation = 'strict'"), 0);
    // A locked table has no counts, and the view does not wait.
    eve.batch_execute("BEGIN; LOCK TABLE strict").unwrap();
    superuser.batch_execute("SET statement_timeout = '5s'").unwrap();
    let locked = "SELECT count(*) FROM clip_auto_embed_status WHERE relation = 'strict' AND rows IS NULL";
    assert_eq!([count(&mut superuser, good), count(&mut superuser, locked)], [2, 1]);
    eve.batch_execute("ROLLBACK").unwrap();
    drain(&heard);
    // Arguments of any size do not reach the view.
    let huge = "SET check_function_bodies = off; SET row_security = off;
        CREATE TABLE big (id int PRIMARY KEY, title text, embedding vector(32));
        DO $$ BEGIN EXECUTE format('CREATE TRIGGER t BEFORE INSERT ON big FOR EACH ROW WHEN (new.title IS NOT NULL OR new.embedding IS NOT NULL)
            EXECUTE FUNCTION clip_auto_embed_row(''queue'', ''narrow'', %L, ''error'', ''replace'')', repeat('a', 50000000)); END $$";
    let mut eve = cluster.connect_as_caller("eve");
    eve.batch_execute(huge).unwrap();
    assert_eq!(count(&mut superuser, good), 2);
    assert_eq!(count(&mut superuser, "SELECT count(*) FROM clip_auto_embed_status WHERE relation = 'big'"), 0);
}

/// The row trigger writes the types `vector` and `halfvec` of pgvector with the declared length, and nothing else.
#[test]
fn a_trigger_on_another_type_writes_nothing() {
    let cluster = Cluster::start();
    let mut eve = eve(&cluster);
    let mut superuser = cluster.connect();
    let digest: String =
        superuser.query_one("SELECT digest FROM clip_models WHERE name = 'narrow'", &[]).unwrap().get(0);
    // Types that look like pgvector's.
    superuser.batch_execute("CREATE SCHEMA other AUTHORIZATION eve").unwrap();
    eve.batch_execute("CREATE TYPE other.halfvec AS (x real); CREATE DOMAIN other.of_vector AS vector(32)").unwrap();
    for (kind, expected) in [
        ("sparsevec(32)", SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE),
        ("bit(32)", SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE),
        ("real[]", SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE),
        ("other.halfvec", SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE),
        ("other.of_vector", SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE),
        ("vector(2)", SqlState::DATA_EXCEPTION),
        ("halfvec(2)", SqlState::DATA_EXCEPTION),
    ] {
        eve.batch_execute(&format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, title text, e {kind});
             CREATE TRIGGER t BEFORE INSERT OR UPDATE ON t FOR EACH ROW WHEN (new.title IS NOT NULL OR new.e IS NOT NULL)
                EXECUTE FUNCTION clip_auto_embed_row('row', 'narrow', '{digest}', 'error', 'replace')"
        ))
        .unwrap();
        assert_eq!(code(&mut eve, "INSERT INTO t VALUES (1, 'a cat')"), Some(expected), "{kind}");
        assert_eq!(count(&mut eve, "SELECT count(*) FROM t"), 0);
    }
    eve.batch_execute(
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, title text, e vector); CREATE TRIGGER t BEFORE INSERT OR UPDATE ON t FOR EACH ROW
            WHEN (new.title IS NOT NULL OR new.e IS NOT NULL) EXECUTE FUNCTION clip_auto_embed_row('row', 'narrow', '', 'error', 'replace')",
    )
    .unwrap();
    assert_eq!(code(&mut eve, "INSERT INTO t VALUES (1, 'a cat')"), Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE));
    // A column without a declared length gets the length of the model.
    eve.batch_execute(&format!(
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, title text, e halfvec); CREATE TRIGGER t BEFORE INSERT OR UPDATE ON t FOR EACH ROW
            WHEN (new.title IS NOT NULL OR new.e IS NOT NULL) EXECUTE FUNCTION clip_auto_embed_row('row', 'narrow', '{digest}', 'error', 'replace');
         INSERT INTO t VALUES (1, 'a cat')"
    ))
    .unwrap();
    let same = "SELECT count(*) FROM t WHERE e = clip_embed_text(title, 'narrow')::halfvec";
    assert_eq!(count(&mut superuser, same), 1);
    cluster.assert_no_crash();
}

/// An owner can stop the embedding of their own tables only.
#[test]
fn a_worker_does_not_wait_for_one_owner() {
    let cluster = Cluster::start_with(&["clip.max_workers = 1"]);
    let mut eve = eve(&cluster);
    let mut owner = cluster.connect();
    owner
        .batch_execute("CREATE TABLE ok (id int PRIMARY KEY, title text); SELECT clip_auto_embed('ok', 'title', model => 'narrow', mode => 'queue')")
        .unwrap();
    let mut number = 0;
    let mut is_embedded = |owner: &mut Client| {
        number += 1;
        owner.batch_execute(&format!("INSERT INTO ok VALUES ({number}, 'a cat')")).unwrap();
        wait_until(owner, &format!("SELECT count(*) = {number} FROM ok WHERE embedding IS NOT NULL"));
    };
    let table = "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, title text); SELECT clip_auto_embed('t', 'title', model => 'narrow', mode => 'queue'); INSERT INTO t VALUES (1, 'a cat')";
    // A locked table.
    eve.batch_execute(table).unwrap();
    wait_until(&mut eve, "SELECT count(*) = 1 FROM t WHERE embedding IS NOT NULL");
    eve.batch_execute("INSERT INTO t VALUES (2, 'a dog')").unwrap();
    eve.batch_execute("BEGIN; LOCK TABLE t IN SHARE MODE").unwrap();
    is_embedded(&mut owner);
    eve.batch_execute("ROLLBACK").unwrap();
    wait_until(&mut eve, "SELECT count(*) = 2 FROM t WHERE embedding IS NOT NULL");
    // A function of an index that does not end in other sessions.
    eve.batch_execute(
        "CREATE FUNCTION sleeps(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
            BEGIN IF session_user <> 'eve' THEN PERFORM pg_sleep(1000); END IF; RETURN true; END $$;
         CREATE INDEX t_sleeps ON t (id) WHERE sleeps(2); INSERT INTO t VALUES (3, 'a tree')",
    )
    .unwrap();
    is_embedded(&mut owner);
    wait_until(&mut eve, "SELECT count(*) = 1 FROM clip_failures WHERE key IS NULL AND sqlstate = '57014'");
    // The record of this failure is locked.
    eve.batch_execute("DROP INDEX t_sleeps").unwrap();
    eve.batch_execute("BEGIN; SELECT clip_retry('t')").unwrap();
    is_embedded(&mut owner);
    eve.batch_execute("COMMIT").unwrap();
    wait_until(&mut eve, "SELECT count(*) = 3 FROM t WHERE embedding IS NOT NULL");
    // A trigger that releases the locks of its session.
    eve.batch_execute(
        "CREATE FUNCTION frees() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_unlock_all(); PERFORM pg_sleep(3); RETURN NEW; END';
         CREATE TRIGGER frees BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION frees()",
    )
    .unwrap();
    for id in 10..15 {
        eve.batch_execute(&format!("INSERT INTO t VALUES ({id}, 'a tree')")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_clip worker'";
        assert!(count(&mut owner, workers) <= 1, "after row {id}");
    }
    cluster.assert_no_crash();
}

/// Rows of one table do not wait for all rows of another.
#[test]
fn a_slow_table_delays_others_by_its_turn_only() {
    let cluster = Cluster::start_with(&["clip.max_workers = 1"]);
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END';
             CREATE TABLE slow (id int PRIMARY KEY, title text); CREATE TRIGGER slow BEFORE UPDATE ON slow FOR EACH ROW EXECUTE FUNCTION slow();
             CREATE TABLE quick (id int PRIMARY KEY, title text);
             SELECT clip_auto_embed('slow', 'title', model => 'narrow', mode => 'queue'), clip_auto_embed('quick', 'title', model => 'narrow', mode => 'queue');
             INSERT INTO slow SELECT i, 'slow ' || i FROM generate_series(1, 200) AS i",
        )
        .unwrap();
    wait_until(&mut client, "SELECT count(*) > 0 FROM slow WHERE embedding IS NOT NULL");
    client.batch_execute("INSERT INTO quick VALUES (1, 'a cat')").unwrap();
    wait_until(&mut client, "SELECT count(*) = 1 FROM quick WHERE embedding IS NOT NULL");
    assert!(
        count(&mut client, "SELECT count(*) FROM slow WHERE embedding IS NULL") > 0,
        "the slow table was finished first"
    );
}

/// Failures of dropped columns are deleted without waiting for other sessions.
#[test]
fn an_open_drop_table_blocks_no_other() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE orphan (id int PRIMARY KEY, title text); SELECT clip_auto_embed('orphan', 'title', model => 'narrow', on_error => 'null');
             SET clip.text_overflow = 'error'; INSERT INTO orphan VALUES (1, repeat('a ', 1000)); ALTER TABLE orphan DROP COLUMN title CASCADE;
             CREATE TABLE mine (); CREATE TABLE other ()",
        )
        .unwrap();
    let mut open = cluster.connect();
    open.batch_execute("BEGIN; CREATE TABLE foo (); DROP TABLE foo").unwrap();
    client.batch_execute("SET statement_timeout = '5s'; DROP TABLE mine").unwrap();
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").unwrap();
    open.batch_execute("COMMIT").unwrap();
    client.batch_execute("DROP TABLE other; COMMIT").unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM _clip.failures"), 0);
}

/// A function that catches the cancel cannot keep a worker: the process exits, and another one embeds the other tables.
#[test]
fn a_function_that_ignores_the_limit_ends_its_worker_only() {
    let cluster = Cluster::start_with(&["clip.max_workers = 1"]);
    let mut eve = eve(&cluster);
    let mut owner = cluster.connect();
    owner
        .batch_execute("CREATE TABLE ok (id int PRIMARY KEY, title text); SELECT clip_auto_embed('ok', 'title', model => 'narrow', mode => 'queue')")
        .unwrap();
    eve.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, title text); SELECT clip_auto_embed('t', 'title', model => 'narrow', mode => 'queue');
         CREATE FUNCTION stays(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
            WHILE session_user <> 'eve' LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; RETURN true; END $$;
         CREATE INDEX ON t (id) WHERE stays(2); INSERT INTO t VALUES (1, 'a cat')",
    )
    .unwrap();
    let worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_clip worker'";
    wait_until(&mut owner, &format!("SELECT EXISTS ({worker} AND wait_event = 'PgSleep')"));
    let first: i32 = owner.query_one(worker, &[]).unwrap().get(0);
    wait_until(&mut owner, &format!("SELECT NOT EXISTS ({worker} AND pid = {first})"));
    // Workers begin with different columns.
    for number in 1.. {
        owner.batch_execute(&format!("INSERT INTO ok VALUES ({number}, 'a cat')")).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        if count(&mut owner, "SELECT count(*) FROM ok WHERE embedding IS NOT NULL") == number {
            break;
        }
        assert!(number < 300, "no worker embeds the other table");
    }
    cluster.assert_no_crash();
}
