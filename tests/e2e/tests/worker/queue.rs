//! Mode "queue": nothing is lost, nothing is done twice, nothing stale is served, whatever dies.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::{Cluster, count, create_citext, picture, run, wait_until};
use postgres::{Client, NoTls};

/// A server with these settings, after a restart.
fn cluster_with(settings: &[(&str, &str)]) -> Cluster {
    let cluster = Cluster::start();
    set(&cluster, settings);
    cluster
}

fn set(cluster: &Cluster, settings: &[(&str, &str)]) {
    let mut client = cluster.connect();
    for (name, value) in settings {
        // A library that is not loaded yet has no settings to check.
        client.batch_execute("LOAD 'pg_clip'").unwrap();
        client.batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).unwrap();
    }
    drop(client);
    cluster.restart();
}

/// A table of texts in mode "queue", and a record of every vector that is stored.
fn queued_table(client: &mut Client, rows: i32) {
    client
        .batch_execute(
            "CREATE TABLE item (id int PRIMARY KEY, body text);
             CREATE TABLE stored (id int);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO public.stored VALUES (NEW.id); RETURN NULL; END $$",
        )
        .unwrap();
    client
        .execute(
            "SELECT clip_auto_embed('item', 'body', model => 'narrow', mode => 'queue', create_index => false)",
            &[],
        )
        .unwrap();
    client
        .batch_execute(
            "CREATE TRIGGER note AFTER UPDATE ON item FOR EACH ROW
               WHEN (OLD.embedding IS NULL AND NEW.embedding IS NOT NULL) EXECUTE FUNCTION note()",
        )
        .unwrap();
    insert(client, rows);
}

fn insert(client: &mut Client, rows: i32) {
    client.execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, $1) AS i", &[&rows]).unwrap();
}

const ALL_DONE: &str = "SELECT count(*) = 0 FROM item WHERE embedding IS NULL AND body IS NOT NULL";

/// Every row has the vector of its own text, and got it once.
fn assert_complete(client: &mut Client, rows: i64) {
    assert_eq!(count(client, "SELECT count(embedding) FROM item"), rows);
    assert_eq!(count(client, "SELECT count(*) FROM stored"), rows, "stored twice, or not at all");
    assert_eq!(count(client, "SELECT count(DISTINCT id) FROM stored"), rows);
    let wrong = "SELECT count(*) FROM item JOIN clip_embed_texts((SELECT array_agg(body ORDER BY id) FROM item), 'narrow') AS e \
        ON e.ordinality = id WHERE item.embedding <=> e.embedding > 1e-5";
    assert_eq!(count(client, wrong), 0);
}

#[test]
fn a_hundred_thousand_rows_and_nothing_lost() {
    const ROWS: i32 = 100_000;
    let cluster = cluster_with(&[("clip.max_workers", "2")]);
    let mut client = cluster.connect();
    queued_table(&mut client, 0);
    // No inference on the application's path: its connection never loads the model.
    insert(&mut client, ROWS);
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models"), 0);
    let status = "SELECT mode, model_state, \"rows\", embedded, pending, failed FROM clip_auto_embed_status";
    let before = client.query_one(status, &[]).unwrap();
    assert_eq!((before.get::<_, &str>(0), before.get::<_, &str>(1)), ("queue", "ok"));
    assert_eq!(before.get::<_, i64>(2), i64::from(ROWS));
    assert_eq!(before.get::<_, i64>(3) + before.get::<_, i64>(4), i64::from(ROWS));
    wait_until(
        &mut client,
        "SELECT embedded > 1000 AND pending > 0 AND rate > 0 AND time_left > '0' FROM clip_auto_embed_status",
    );
    wait_until(&mut client, "SELECT count(*) > 0 FROM clip_progress WHERE kind = 'worker' AND embedded > 0");
    wait_until(
        &mut client,
        "SELECT count(*) = 2 FROM pg_stat_activity WHERE query = 'embedding public.item.embedding' AND state = 'active' AND backend_type = 'pg_clip worker'",
    );
    // Its transactions are short: vacuum is never held up.
    let mut longest = 0.0;
    while !client.query_one(ALL_DONE, &[]).unwrap().get::<_, bool>(0) {
        let age = "SELECT COALESCE(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 FROM pg_stat_activity WHERE backend_type = 'pg_clip worker'";
        longest = f64::max(longest, client.query_one(age, &[]).unwrap().get(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(longest > 0.0 && longest < 10.0, "a transaction of {longest} s");
    let after = client.query_one(status, &[]).unwrap();
    assert_eq!(after.get::<_, i64>(3), i64::from(ROWS));
    assert_eq!((after.get::<_, i64>(4), after.get::<_, i64>(5)), (0, 0));
    assert_complete(&mut client, i64::from(ROWS));
    // A worker leaves when there is nothing left, and burns no transaction numbers before.
    let xid = "SELECT txid_snapshot_xmax(txid_current_snapshot())";
    wait_until(&mut client, "SELECT count(*) = 0 FROM clip_progress");
    let begun = count(&mut client, xid);
    wait_until(&mut client, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_clip worker'");
    assert!(count(&mut client, xid) - begun < 10);
}

#[test]
fn no_stale_vector_is_ever_served() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    queued_table(&mut client, 300);
    wait_until(&mut client, ALL_DONE);
    // The statement that changes the source takes the vector away at once.
    let row =
        client.query_one("UPDATE item SET body = 'another' WHERE id = 7 RETURNING embedding IS NULL", &[]).unwrap();
    assert!(row.get::<_, bool>(0));
    client.batch_execute("UPDATE item SET body = NULL WHERE id = 8").unwrap();
    // Updates race with the worker: whoever comes last, the vector is of the text beside it.
    let mut other = cluster.connect();
    for round in 0..40 {
        other
            .execute("UPDATE item SET body = 'round ' || $1::int || ' ' || id WHERE id % 3 = $1::int % 3", &[&round])
            .unwrap();
    }
    wait_until(&mut client, ALL_DONE);
    let stale =
        "SELECT count(*) FROM item WHERE body IS NOT NULL AND embedding <=> clip_embed_text(body, 'narrow') > 1e-5";
    assert_eq!(count(&mut client, stale), 0);
    assert_eq!(count(&mut client, "SELECT count(*) FROM item WHERE body IS NULL AND embedding IS NOT NULL"), 0);
}

#[test]
fn a_bad_row_is_isolated_and_tried_again_when_it_should() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute("CREATE TABLE photo (album text, number int, file bytea, PRIMARY KEY (album, number))")
        .unwrap();
    client
        .execute("SELECT clip_auto_embed('photo', 'file', model => 'wide', mode => 'queue', on_error => 'skip')", &[])
        .unwrap();
    let good = picture("rgb_444.jpg");
    let insert = "INSERT INTO photo SELECT 'a', i, CASE WHEN i IN (3, 11, 12) THEN 'broken'::bytea ELSE $1 END FROM generate_series(1, 30) AS i";
    client.execute(insert, &[&good]).unwrap();
    wait_until(&mut client, "SELECT embedded = 27 AND pending = 0 AND failed = 3 FROM clip_auto_embed_status");
    let failures = client.query("SELECT relation::text, target::text, key::text, sqlstate, message, attempts, retry_at IS NULL FROM clip_failures ORDER BY (clip_failures.key->>'number')::int", &[]).unwrap();
    let first = &failures[0];
    assert_eq!((first.get::<_, &str>(0), first.get::<_, &str>(1)), ("photo", "embedding"));
    assert_eq!(first.get::<_, &str>(2), r#"{"album": "a", "number": 3}"#);
    assert_eq!(first.get::<_, &str>(3), "22P03");
    assert!(first.get::<_, &str>(4).starts_with("could not decode image"));
    assert_eq!((first.get::<_, i32>(5), first.get::<_, bool>(6)), (1, true));
    // Changing something else is no reason to try again; a new source is; so is clip_retry.
    client.batch_execute("UPDATE photo SET album = 'a' WHERE number = 3").unwrap();
    client.execute("UPDATE photo SET file = $1 WHERE number = 11", &[&good]).unwrap();
    wait_until(&mut client, "SELECT embedded = 28 AND failed = 2 FROM clip_auto_embed_status");
    assert_eq!(count(&mut client, "SELECT sum(attempts) FROM clip_failures"), 2);
    assert_eq!(count(&mut client, "SELECT clip_retry('photo')"), 2);
    wait_until(&mut client, "SELECT count(*) = 2 FROM clip_failures");
    // With on_error "error" it is tried again by itself, ever more rarely.
    client
        .execute("SELECT clip_auto_embed('photo', 'file', model => 'wide', mode => 'queue', on_error => 'error')", &[])
        .unwrap();
    assert_eq!(count(&mut client, "SELECT clip_retry('photo')"), 2);
    wait_until(
        &mut client,
        "SELECT count(*) = 2 AND min(attempts) >= 2 AND bool_and(retry_at > last_failed_at + interval '3 seconds') FROM clip_failures",
    );
    // Rows that are deleted fail no more.
    client.batch_execute("DELETE FROM photo WHERE number = 3").unwrap();
    client.execute("UPDATE photo SET file = $1 WHERE number = 12", &[&good]).unwrap();
    wait_until(&mut client, "SELECT embedded = 29 AND pending = 0 AND failed = 0 FROM clip_auto_embed_status");
}

#[test]
fn a_column_whose_model_is_missing_waits_and_others_go_on() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    queued_table(&mut client, 10);
    wait_until(&mut client, ALL_DONE);
    client
        .batch_execute("CREATE TABLE other (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), body varchar(40))")
        .unwrap();
    client.execute("SELECT clip_auto_embed('other', 'body', model => 'wide', mode => 'queue')", &[]).unwrap();
    // The command knows that the model is in use.
    let url = format!("host={} user=postgres dbname=postgres", cluster.directory.display());
    let removed = cluster.pgclip().args(["rm", "narrow", "--database", &url]).output().unwrap();
    assert!(!removed.status.success());
    assert!(String::from_utf8_lossy(&removed.stderr).contains("trigger zz_clip_embedding on public.item"));
    let (narrow, away) = (cluster.models().join("narrow"), cluster.models().join(".narrow"));
    fs::rename(&narrow, &away).unwrap();
    client.batch_execute("INSERT INTO item VALUES (11, 'waits'); INSERT INTO other (body) VALUES ('goes on')").unwrap();
    wait_until(&mut client, "SELECT count(embedding) = 1 FROM other");
    wait_until(
        &mut client,
        "SELECT count(*) = 1 FROM clip_failures WHERE relation = 'item'::regclass AND key IS NULL AND sqlstate = '42704' AND retry_at IS NOT NULL",
    );
    let state = "SELECT model_state FROM clip_auto_embed_status WHERE relation = 'item'::regclass";
    assert_eq!(client.query_one(state, &[]).unwrap().get::<_, &str>(0), "missing");
    // Another model of that name is not taken for the one that made the column.
    run(cluster
        .pgclip()
        .args(["add", "narrow", "--license", "MIT"])
        .arg(e2e::root().join("tests/fixtures/models/wide")));
    assert_eq!(client.query_one(state, &[]).unwrap().get::<_, &str>(0), "another");
    wait_until(
        &mut client,
        "SELECT count(*) = 1 FROM clip_failures WHERE key IS NULL AND sqlstate = '55000' AND message LIKE '%not the model that computed%'",
    );
    let error = client.query_one("SELECT clip_backfill_batch('item')", &[]).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "55000");
    fs::remove_dir_all(&narrow).unwrap();
    fs::rename(&away, &narrow).unwrap();
    wait_until(&mut client, ALL_DONE);
    wait_until(&mut client, "SELECT count(*) = 0 FROM clip_failures");
}

/// The process of a worker that is embedding.
fn busy_worker(client: &mut Client) -> i32 {
    wait_until(client, "SELECT count(*) > 0 FROM stored");
    wait_until(
        client,
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'pg_clip worker' AND query LIKE 'embedding%'",
    );
    let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_clip worker' LIMIT 1";
    client.query_one(pid, &[]).unwrap().get(0)
}

#[test]
fn a_killed_worker_and_a_killed_server_lose_and_repeat_nothing() {
    const ROWS: i32 = 20_000;
    let cluster =
        cluster_with(&[("shared_preload_libraries", "pg_clip"), ("clip.worker_naptime", "1s"), ("fsync", "on")]);
    let mut client = cluster.connect();
    queued_table(&mut client, ROWS);
    for _ in 0..3 {
        let stored = count(&mut client, "SELECT count(*) FROM stored");
        wait_until(&mut client, &format!("SELECT count(*) > {stored} FROM stored"));
        let pid = busy_worker(&mut client);
        cluster.kill(pid);
        client = cluster.reconnect();
    }
    // Nobody commits anything from here on: the launcher finds what is left.
    let stored = count(&mut client, "SELECT count(*) FROM stored");
    wait_until(&mut client, &format!("SELECT count(*) > {stored} FROM stored"));
    assert!(count(&mut client, "SELECT count(*) FROM item WHERE embedding IS NULL") > 0, "too fast to be killed");
    drop(client);
    cluster.kill(cluster.postmaster());
    cluster.restart();
    let mut client = cluster.connect();
    wait_until(&mut client, ALL_DONE);
    assert_complete(&mut client, i64::from(ROWS));
}

#[test]
fn without_preloading_the_next_commit_finds_what_a_crash_left() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    queued_table(&mut client, 5_000);
    let pid = busy_worker(&mut client);
    cluster.kill(pid);
    let mut client = cluster.reconnect();
    client.batch_execute("INSERT INTO item VALUES (5001, 'text 5001')").unwrap();
    wait_until(&mut client, ALL_DONE);
    assert_complete(&mut client, 5_001);
    // What is rolled back is nobody's work.
    client.batch_execute("BEGIN; INSERT INTO item VALUES (5002, 'text 5002'); ROLLBACK").unwrap();
    assert_complete(&mut client, 5_001);
}

#[test]
fn a_worker_stops_when_it_is_told_to() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    queued_table(&mut client, 20_000);
    let pid = busy_worker(&mut client);
    // A termination ends it in the middle of a batch, and hurts nobody.
    client.execute("SELECT pg_terminate_backend($1, 5000)", &[&pid]).unwrap();
    assert_eq!(count(&mut client, &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")), 0);
    client.batch_execute("INSERT INTO item VALUES (20001, 'text 20001')").unwrap();
    busy_worker(&mut client);
    // No worker is allowed: rows wait.
    client.batch_execute("ALTER SYSTEM SET clip.max_workers = 0").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_until(&mut client, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_clip worker'");
    client.batch_execute("INSERT INTO item VALUES (20002, 'text 20002')").unwrap();
    assert!(count(&mut client, "SELECT count(*) FROM item WHERE embedding IS NULL") > 0);
    // A fast shutdown waits for nothing.
    client.batch_execute("ALTER SYSTEM RESET clip.max_workers").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_until(&mut client, "SELECT current_setting('clip.max_workers') = '1'");
    client.batch_execute("INSERT INTO item VALUES (20003, 'text 20003')").unwrap();
    wait_until(
        &mut client,
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'embedding%' AND backend_type = 'pg_clip worker'",
    );
    drop(client);
    let begun = Instant::now();
    run(Command::new("setpriv")
        .current_dir("/")
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
        .arg(e2e::pg_config("--bindir") + "/pg_ctl")
        .args(["stop", "--mode=fast", "--wait", "--pgdata"])
        .arg(cluster.directory.join("data")));
    assert!(begun.elapsed() < Duration::from_secs(10));
    let log = fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert!(!log.contains("PANIC") && !log.contains("terminated by signal"), "{log}");
}

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
    // An idle worker is in nobody's way: not of DROP DATABASE, not of CREATE DATABASE, not of DROP EXTENSION.
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
    // In the middle of its work, too.
    clients[0].batch_execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(2001, 8000) AS i").unwrap();
    wait_until(&mut clients[0], "SELECT count(*) > 2000 FROM stored");
    drop(clients);
    client.batch_execute("DROP DATABASE three").unwrap();
    let workers = "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_clip worker'";
    wait_until(&mut client, workers);
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
    // A trigger that fails stops its column, not the worker.
    keeper.batch_execute("CREATE FUNCTION own.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.embedding IS NOT NULL THEN RAISE 'no' USING ERRCODE = '23514'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER fail BEFORE UPDATE ON own.item FOR EACH ROW EXECUTE FUNCTION own.fail(); INSERT INTO own.item VALUES (2, 'another')").unwrap();
    wait_until(&mut keeper, "SELECT count(*) = 1 FROM clip_failures WHERE key IS NULL AND sqlstate = '23514'");
    keeper.batch_execute("DROP TRIGGER fail ON own.item").unwrap();
    assert_eq!(count(&mut keeper, "SELECT clip_retry('own.item')"), 1);
    wait_until(&mut keeper, "SELECT count(embedding) = 2 FROM own.item");
    // One that quietly refuses is a failure of the row.
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
fn any_key_will_do() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    create_citext(&mut client);
    client
        .batch_execute(
            "CREATE TYPE colour AS ENUM ('red', 'green');
             CREATE TABLE by_bytes (k bytea PRIMARY KEY, body text);
             CREATE TABLE by_moment (k timestamptz, n numeric, f float8, PRIMARY KEY (k, n, f), body text);
             CREATE TABLE by_enum (k colour, c citext, PRIMARY KEY (k, c), body text);
             CREATE TABLE by_array (k int[] PRIMARY KEY, body text);
             CREATE TABLE \"Odd \"\"name\" (\"the 'key\" text NOT NULL UNIQUE, \"the body\" text)",
        )
        .unwrap();
    for (table, body) in [
        ("by_bytes", "body"),
        ("by_moment", "body"),
        ("by_enum", "body"),
        ("by_array", "body"),
        ("\"Odd \"\"name\"", "the body"),
    ] {
        client
            .execute(
                "SELECT clip_auto_embed($1::text::regclass, $2::text::name, model => 'narrow', mode => 'queue')",
                &[&table, &body],
            )
            .unwrap();
    }
    client
        .batch_execute(
            "INSERT INTO by_bytes SELECT decode(md5(i::text), 'hex'), 'b' || i FROM generate_series(1, 100) i;
             INSERT INTO by_moment SELECT now() + i * interval '1.000001 s', i / 7.0, i / 3.0, 'm' || i FROM generate_series(1, 100) i;
             INSERT INTO by_enum SELECT (ARRAY['red', 'green']::colour[])[i % 2 + 1], 'Word ' || i, 'e' || i FROM generate_series(1, 100) i;
             INSERT INTO by_array SELECT ARRAY[i, NULL, -i], 'a' || i FROM generate_series(1, 100) i;
             INSERT INTO \"Odd \"\"name\" SELECT E'it\\'s \"' || i || E'\\\\ {,}' || chr(228), 'o' || i FROM generate_series(1, 100) i",
        )
        .unwrap();
    for table in ["by_bytes", "by_moment", "by_enum", "by_array", "\"Odd \"\"name\""] {
        wait_until(&mut client, &format!("SELECT count(embedding) = 100 FROM {table}"));
    }
}

#[test]
fn a_table_may_be_changed_or_dropped_under_a_worker() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    queued_table(&mut client, 3_000);
    busy_worker(&mut client);
    // Renamed in the middle.
    client.batch_execute("ALTER TABLE item RENAME body TO words; ALTER TABLE item RENAME TO thing; ALTER TABLE thing RENAME embedding TO vec").unwrap();
    client.batch_execute("INSERT INTO thing (id, words) VALUES (3001, 'text 3001')").unwrap();
    wait_until(&mut client, "SELECT count(vec) = 3001 FROM thing");
    client.batch_execute("ALTER TABLE thing RENAME words TO body; ALTER TABLE thing RENAME TO item; ALTER TABLE item RENAME vec TO embedding").unwrap();
    assert_complete(&mut client, 3_001);
    for end in ["TRUNCATE item", "ALTER TABLE item DROP COLUMN body CASCADE", "DROP TABLE item"] {
        queued_table_again(&mut client, 5_000);
        busy_worker(&mut client);
        client.batch_execute(end).unwrap();
        // Nothing is left to do, and nothing is held against the table.
        wait_until(&mut client, "SELECT count(*) = 0 FROM clip_failures");
        wait_until(&mut client, "SELECT COALESCE(sum(pending), 0) = 0 FROM clip_auto_embed_status");
    }
    // The worker has survived it all.
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
    // More than a minute of work here, a moment's there.
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
fn where_no_process_is_to_be_had_rows_wait_and_commits_do_not_fail() {
    let cluster = cluster_with(&[("max_worker_processes", "0")]);
    let mut client = cluster.connect();
    queued_table(&mut client, 50);
    for id in 51..=100 {
        client.execute("INSERT INTO item VALUES ($1, 'text ' || $1::int)", &[&id]).unwrap();
    }
    assert_eq!(count(&mut client, "SELECT pending FROM clip_auto_embed_status"), 100);
    let log = fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert_eq!(log.matches("could not start a background worker").count(), 1, "{log}");
    // What needs no process goes on.
    client.batch_execute("CALL clip_backfill('item', batch_size => 60)").unwrap();
    assert_complete(&mut client, 100);
    set(&cluster, &[("max_worker_processes", "8")]);
    let mut client = cluster.connect();
    client.batch_execute("INSERT INTO item VALUES (101, 'text 101')").unwrap();
    wait_until(&mut client, ALL_DONE);
    assert_complete(&mut client, 101);
}

#[test]
fn rows_of_a_prepared_transaction_are_found_by_the_launcher() {
    let settings =
        [("shared_preload_libraries", "pg_clip"), ("clip.worker_naptime", "1s"), ("max_prepared_transactions", "2")];
    let cluster = cluster_with(&settings);
    let mut client = cluster.connect();
    queued_table(&mut client, 0);
    client
        .batch_execute("BEGIN; INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 50) AS i; PREPARE TRANSACTION 'later'")
        .unwrap();
    client.batch_execute("COMMIT PREPARED 'later'").unwrap();
    wait_until(&mut client, ALL_DONE);
    assert_complete(&mut client, 50);
}

/// As many as a busy application has.
const COMMITTERS: i32 = 50;

#[test]
fn with_one_process_to_spare_no_row_of_many_committers_is_left() {
    let settings = ["max_worker_processes = 1", "max_logical_replication_workers = 0", "max_connections = 60"];
    let cluster = Cluster::start_with(&settings);
    let mut client = cluster.connect();
    queued_table(&mut client, 1);
    wait_until(&mut client, ALL_DONE);
    // The lock of a worker that serves a database.
    let held = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 3 AND database <> 0";
    let mut rows = 1;
    for _ in 0..3 {
        let start = std::sync::Barrier::new(COMMITTERS as usize);
        std::thread::scope(|scope| {
            for id in rows + 1..=rows + COMMITTERS {
                let (start, mut own) = (&start, cluster.connect());
                scope.spawn(move || {
                    start.wait();
                    own.execute("INSERT INTO item VALUES ($1, 'text ' || $1::int)", &[&id]).unwrap();
                });
            }
        });
        rows += COMMITTERS;
        // Nobody commits anything from here on.
        wait_until(&mut client, ALL_DONE);
        // The only process belongs to a worker that has given up its lock, and exits: there is no other for some milliseconds.
        let mut own = cluster.connect();
        let insert = own.prepare("INSERT INTO item VALUES ($1, 'text ' || $1::int)").unwrap();
        let is_held = own.prepare(held).unwrap();
        own.execute(&insert, &[&(rows + 1)]).unwrap();
        wait_until(&mut client, ALL_DONE);
        let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_clip worker'";
        let pid: i32 = client.query_one(pid, &[]).unwrap().get(0);
        client.execute("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
        while own.query_one(&is_held, &[]).unwrap().get(0) {}
        rows += 2;
        own.execute(&insert, &[&rows]).unwrap();
        wait_until(&mut client, ALL_DONE);
    }
    assert_complete(&mut client, i64::from(rows));
}

#[test]
fn a_database_that_was_not_dropped_completely_is_left_alone() {
    let settings = ["shared_preload_libraries = 'pg_clip'", "clip.worker_naptime = '1s'", "log_min_messages = debug1"];
    let cluster = Cluster::start_with(&settings);
    let mut client = cluster.connect();
    // What an interrupted DROP DATABASE leaves.
    client.batch_execute("CREATE DATABASE broken").unwrap();
    client.batch_execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken'").unwrap();
    let log = || fs::read_to_string(cluster.directory.join("log")).unwrap();
    let visits = || log().matches("starting background worker process \"pg_clip worker\"").count();
    let (before, begun) = (visits(), Instant::now());
    // One of the first may have begun before. There are two databases to visit.
    while visits() < before + 5 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no visits");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!log().contains("FATAL"), "{}", log());
    cluster.assert_no_crash();
}
