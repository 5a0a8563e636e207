//! Rows: none is lost, repeated or stale, and failures of single rows are isolated.

use super::*;

#[test]
fn a_hundred_thousand_rows_and_nothing_lost() {
    const ROWS: i32 = 100_000;
    let cluster = cluster_with(&[("clip.max_workers", "2")]);
    let mut client = cluster.connect();
    queued_table(&mut client, 0);
    // The application's connection computes nothing: it never loads the model.
    insert(&mut client, ROWS);
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models"), 0);
    let status = "SELECT mode, model_state, \"rows\", embedded, pending, failed FROM clip_auto_embed_status";
    let before = client.query_one(status, &[]).unwrap();
    assert_eq!((before.get::<_, &str>(0), before.get::<_, &str>(1)), ("queue", "ok"));
    assert_eq!(before.get::<_, i64>(2), i64::from(ROWS));
    assert_eq!(before.get::<_, i64>(3) + before.get::<_, i64>(4), i64::from(ROWS));
    wait_until(
        &mut client,
        "SELECT embedded > 1000 AND pending > 0 AND rate > 0 AND seconds_left > 0 FROM clip_auto_embed_status",
    );
    wait_until(&mut client, "SELECT count(*) > 0 FROM clip_progress WHERE kind = 'worker' AND embedded > 0");
    wait_until(
        &mut client,
        "SELECT count(*) = 2 FROM pg_stat_activity WHERE query = 'embedding public.item.embedding' AND state = 'active' AND backend_type = 'pg_clip worker'",
    );
    // The worker's transactions are short, so they never hold up vacuum.
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
    // A worker exits when no row is pending. Until then it uses no transaction numbers.
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
    // The statement that changes the source removes the embedding at once.
    let row =
        client.query_one("UPDATE item SET body = 'another' WHERE id = 7 RETURNING embedding IS NULL", &[]).unwrap();
    assert!(row.get::<_, bool>(0));
    client.batch_execute("UPDATE item SET body = NULL WHERE id = 8").unwrap();
    // Updates race with the worker: in any order, the embedding is that of the text in its row.
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
    assert_eq!((first.get::<_, i64>(5), first.get::<_, bool>(6)), (1, true));
    // A change of another column is no reason for a retry. A new source and clip_retry are.
    client.batch_execute("UPDATE photo SET album = 'a' WHERE number = 3").unwrap();
    client.execute("UPDATE photo SET file = $1 WHERE number = 11", &[&good]).unwrap();
    wait_until(&mut client, "SELECT embedded = 28 AND failed = 2 FROM clip_auto_embed_status");
    assert_eq!(count(&mut client, "SELECT sum(attempts)::bigint FROM clip_failures"), 2);
    assert_eq!(count(&mut client, "SELECT clip_retry('photo')"), 2);
    wait_until(&mut client, "SELECT count(*) = 2 FROM clip_failures");
    // With on_error "error" the row is retried automatically, at growing intervals.
    client
        .execute("SELECT clip_auto_embed('photo', 'file', model => 'wide', mode => 'queue', on_error => 'error')", &[])
        .unwrap();
    assert_eq!(count(&mut client, "SELECT clip_retry('photo')"), 2);
    wait_until(
        &mut client,
        "SELECT count(*) = 2 AND min(attempts) >= 2 AND bool_and(retry_at > last_failed_at + interval '3 seconds') FROM clip_failures",
    );
    // A deleted row has no failure.
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
    // The command detects that the model is in use.
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
        "SELECT count(*) = 1 FROM clip_failures WHERE relation = 'item' AND key IS NULL AND sqlstate = '42704' AND retry_at IS NOT NULL",
    );
    let state = "SELECT model_state FROM clip_auto_embed_status WHERE relation = 'item'";
    assert_eq!(client.query_one(state, &[]).unwrap().get::<_, &str>(0), "missing");
    // Another model of the same name does not replace the model of the column.
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
