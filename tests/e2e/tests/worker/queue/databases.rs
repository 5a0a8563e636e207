//! Workers for several databases, owners and changing tables.

use super::*;
use crate::processes::busy_worker;

#[test]
fn databases_share_the_workers_and_can_be_dropped() {
    let cluster = cluster_with(&[
        ("clip.max_workers", "1"),
        ("shared_preload_libraries", "pg_clip"),
        ("clip.worker_naptime", "1s"),
    ]);
    let mut client = cluster.connect();
    for name in ["one", "two", "three"] {
        client.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
    }
    let connect = |name: &str| cluster.config("postgres").dbname(name).connect(NoTls).unwrap();
    let mut clients: Vec<Client> = ["one", "two", "three"].map(connect).into();
    for client in &mut clients {
        client.batch_execute("CREATE EXTENSION pg_clip CASCADE").unwrap();
        queued_table(client, 2_000);
    }
    for client in &mut clients {
        wait_until(client, ALL_DONE);
        assert_complete(client, 2_000);
    }
    // An idle worker does not block DROP DATABASE, CREATE DATABASE or DROP EXTENSION.
    clients[0].batch_execute("INSERT INTO item VALUES (2001, 'text 2001')").unwrap();
    wait_until(&mut clients[0], ALL_DONE);
    drop(clients.remove(0));
    client.batch_execute("CREATE DATABASE copy TEMPLATE one").unwrap();
    client.batch_execute("DROP DATABASE one").unwrap();
    clients[0].batch_execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(2001, 8000) AS i").unwrap();
    wait_until(&mut clients[0], "SELECT count(*) > 2000 FROM stored");
    clients[0].batch_execute("DROP EXTENSION pg_clip CASCADE").unwrap();
    drop(clients.remove(0));
    client.batch_execute("DROP DATABASE two").unwrap();
    // A working worker does not block them either.
    clients[0].batch_execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(2001, 8000) AS i").unwrap();
    wait_until(&mut clients[0], "SELECT count(*) > 2000 FROM stored");
    drop(clients);
    client.batch_execute("DROP DATABASE three").unwrap();
    let workers = "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_clip worker'";
    wait_until(&mut client, workers);
}

#[test]
fn a_worker_is_in_no_deadlock_with_a_session_that_locks_the_extension_first() {
    let cluster = cluster_with(&[("shared_preload_libraries", "pg_clip"), ("clip.worker_naptime", "1s")]);
    let mut client = cluster.connect();
    queued_table(&mut client, 20_000);
    wait_until(&mut client, "SELECT count(*) > 0 FROM stored");
    // `DROP EXTENSION` locks them in this order, and locks others in between.
    for _ in 0..10 {
        let between = "SELECT count(*) FROM generate_series(1, 500000)";
        client.batch_execute(&format!("BEGIN; LOCK TABLE _clip.failures; {between}; LOCK TABLE item; COMMIT")).unwrap();
    }
    wait_until(&mut client, "SELECT count(*) = 20000 FROM stored");
    assert_complete(&mut client, 20_000);
}

#[test]
fn a_worker_has_the_rights_of_the_tables_owner_and_no_more() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE ROLE keeper LOGIN; CREATE SCHEMA own AUTHORIZATION keeper").unwrap();
    let mut keeper = cluster.connect_as_caller("keeper");
    keeper
        .batch_execute(
            "CREATE TABLE own.item (id int PRIMARY KEY, body text, who text);
             SELECT clip_auto_embed('own.item', 'body', model => 'narrow', mode => 'queue');
             CREATE FUNCTION own.note() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               IF OLD.embedding IS NULL AND NEW.embedding IS NOT NULL THEN
                 NEW.who := current_user;
                 BEGIN RESET ROLE; NEW.who := NEW.who || ' then ' || current_user; EXCEPTION WHEN OTHERS THEN NULL; END;
                 BEGIN SET SESSION AUTHORIZATION postgres; NEW.who := NEW.who || ' then ' || current_user; EXCEPTION WHEN OTHERS THEN NULL; END;
                 BEGIN CREATE ROLE made SUPERUSER; NEW.who := NEW.who || ' made'; EXCEPTION WHEN OTHERS THEN NULL; END;
               END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER note BEFORE UPDATE ON own.item FOR EACH ROW EXECUTE FUNCTION own.note();
             INSERT INTO own.item VALUES (1, 'a text')",
        )
        .unwrap();
    wait_until(&mut keeper, "SELECT count(embedding) = 1 FROM own.item");
    assert_eq!(keeper.query_one("SELECT who FROM own.item", &[]).unwrap().get::<_, &str>(0), "keeper");
    // A failing trigger stops its column, not the worker.
    keeper.batch_execute("CREATE FUNCTION own.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.embedding IS NOT NULL THEN RAISE 'no' USING ERRCODE = '23514'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER fail BEFORE UPDATE ON own.item FOR EACH ROW EXECUTE FUNCTION own.fail(); INSERT INTO own.item VALUES (2, 'another')").unwrap();
    wait_until(&mut keeper, "SELECT count(*) = 1 FROM clip_failures WHERE key = '{\"id\": 2}' AND sqlstate = '23514'");
    keeper.batch_execute("DROP TRIGGER fail ON own.item").unwrap();
    assert_eq!(count(&mut keeper, "SELECT clip_retry('own.item')"), 1);
    wait_until(&mut keeper, "SELECT count(embedding) = 2 FROM own.item");
    // A trigger that skips the update is a failure of the row.
    keeper
        .batch_execute(
            "CREATE FUNCTION own.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
             CREATE TRIGGER refuse BEFORE UPDATE ON own.item FOR EACH ROW WHEN (NEW.id = 3) EXECUTE FUNCTION own.refuse();
             INSERT INTO own.item VALUES (3, 'refused'), (4, 'not refused')",
        )
        .unwrap();
    wait_until(&mut keeper, "SELECT embedded = 3 AND failed = 1 AND pending = 0 FROM clip_auto_embed_status");
    let refused = "SELECT count(*) FROM clip_failures WHERE key = '{\"id\": 3}' AND sqlstate = '09000' AND retry_at IS NULL = (SELECT on_error = 'skip' FROM clip_auto_embed_status)";
    assert_eq!(count(&mut keeper, refused), 1);
}

#[test]
fn a_table_may_be_changed_or_dropped_under_a_worker() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    queued_table(&mut client, 3_000);
    busy_worker(&mut client);
    // The table is renamed during the work.
    client.batch_execute("ALTER TABLE item RENAME body TO words; ALTER TABLE item RENAME TO thing; ALTER TABLE thing RENAME embedding TO vec").unwrap();
    client.batch_execute("INSERT INTO thing (id, words) VALUES (3001, 'text 3001')").unwrap();
    wait_until(&mut client, "SELECT count(vec) = 3001 FROM thing");
    client.batch_execute("ALTER TABLE thing RENAME words TO body; ALTER TABLE thing RENAME TO item; ALTER TABLE item RENAME vec TO embedding").unwrap();
    assert_complete(&mut client, 3_001);
    for end in ["TRUNCATE item", "ALTER TABLE item DROP COLUMN body CASCADE", "DROP TABLE item"] {
        queued_table_again(&mut client, 5_000);
        busy_worker(&mut client);
        client.batch_execute(end).unwrap();
        // No row is pending, and the table has no failures.
        wait_until(&mut client, "SELECT count(*) = 0 FROM clip_failures");
        wait_until(&mut client, "SELECT COALESCE(sum(pending), 0) = 0 FROM clip_auto_embed_status");
    }
    // The worker still works.
    queued_table_again(&mut client, 100);
    wait_until(&mut client, ALL_DONE);
    let log = fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert!(!log.contains("PANIC") && !log.contains("exited with exit code 1"), "{log}");
}

fn queued_table_again(client: &mut Client, rows: i32) {
    client.batch_execute("DROP TABLE IF EXISTS item, stored; DROP FUNCTION IF EXISTS note()").unwrap();
    queued_table(client, rows);
}

#[test]
fn a_busy_database_does_not_keep_the_only_worker_for_itself() {
    let cluster = cluster_with(&[("clip.max_workers", "1")]);
    let mut client = cluster.connect();
    client.batch_execute("CREATE DATABASE small").unwrap();
    let mut small = cluster.config("postgres").dbname("small").connect(NoTls).unwrap();
    small.batch_execute("CREATE EXTENSION pg_clip CASCADE").unwrap();
    // More than a minute of work in this database, and a moment of work in the other one.
    queued_table(&mut client, 0);
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM pg_sleep(0.001); INSERT INTO public.stored VALUES (NEW.id); RETURN NULL; END $$",
        )
        .unwrap();
    insert(&mut client, 60_000);
    busy_worker(&mut client);
    queued_table(&mut small, 100);
    let waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'waiting for one of clip.max_workers'";
    wait_until(&mut small, waits);
    wait_until(&mut small, ALL_DONE);
    assert!(count(&mut client, "SELECT count(*) FROM item WHERE embedding IS NULL") > 0, "it was not busy enough");
    let stored = count(&mut client, "SELECT count(*) FROM stored");
    wait_until(&mut client, &format!("SELECT count(*) > {stored} FROM stored"));
}

#[test]
fn a_database_that_was_not_dropped_completely_is_left_alone() {
    let settings = ["shared_preload_libraries = 'pg_clip'", "clip.worker_naptime = '1s'", "log_min_messages = debug1"];
    let cluster = Cluster::start_with(&settings);
    let mut client = cluster.connect();
    // An interrupted DROP DATABASE leaves such a database.
    client.batch_execute("CREATE DATABASE broken").unwrap();
    client.batch_execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken'").unwrap();
    let log = || fs::read_to_string(cluster.directory.join("log")).unwrap();
    let visits = || log().matches("starting background worker process \"pg_clip worker\"").count();
    let (before, begun) = (visits(), Instant::now());
    // A first visit may have begun before. There are two databases to visit.
    while visits() < before + 5 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no visits");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!log().contains("FATAL"), "{}", log());
    cluster.assert_no_crash();
}

#[test]
fn fewer_workers_work_after_the_setting_is_lowered() {
    let cluster = cluster_with(&[("clip.max_workers", "3")]);
    let mut client = cluster.connect();
    queued_table(&mut client, 0);
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM pg_sleep(0.01); INSERT INTO public.stored VALUES (NEW.id); RETURN NULL; END $$",
        )
        .unwrap();
    insert(&mut client, 20_000);
    let working =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_clip worker' AND query LIKE 'embedding %'";
    wait_until(&mut client, &working.replace("count(*)", "count(*) = 3"));
    client.batch_execute("ALTER SYSTEM SET clip.max_workers = 1").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_until(&mut client, &working.replace("count(*)", "count(*) <= 1"));
    assert!(count(&mut client, "SELECT count(*) FROM item WHERE embedding IS NULL") > 0, "it was not busy enough");
    client.batch_execute("TRUNCATE item").unwrap();
}
