//! Backfills, and a change of the model.

use super::*;

const WRONG: &str = "SELECT count(*) FROM item WHERE body IS NOT NULL AND (embedding IS NULL OR embedding <=> clip_embed_text(body, 'narrow') > 1e-5)";

#[test]
fn backfills_share_the_work_and_show_how_far_they_are() {
    const ROWS: i32 = 6_000;
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    table(&mut client, ROWS);
    let backfills: Vec<_> = (0..3)
        .map(|_| {
            let mut other = cluster.connect();
            thread::spawn(move || other.batch_execute("CALL clip_backfill('item', batch_size => 50)"))
        })
        .collect();
    wait_until(
        &mut client,
        "SELECT count(*) > 1 AND bool_and(total > 0) AND sum(embedded) > 0 AND max(rate) > 0 FROM clip_progress WHERE kind = 'backfill'",
    );
    // An application inserts and updates during the backfill.
    client.batch_execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(6001, 6100) AS i").unwrap();
    client.batch_execute("UPDATE item SET body = 'new ' || id WHERE id % 100 = 0").unwrap();
    for backfill in backfills {
        backfill.join().unwrap().unwrap();
    }
    assert_eq!(count(&mut client, WRONG), 0);
    assert_eq!(count(&mut client, "SELECT count(*) - count(DISTINCT id) FROM stored"), 0, "embedded twice");
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_progress"), 0);
    assert_eq!(count(&mut client, "SELECT count(*) FROM _clip.activity WHERE pid <> 0"), 0);
}

#[test]
fn a_backfill_that_was_cut_off_is_resumed() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    table(&mut client, 20_000);
    // The backfill is canceled, terminated and killed.
    for end in ["pg_cancel_backend", "pg_terminate_backend", "kill"] {
        let before = count(&mut client, "SELECT count(*) FROM stored");
        let mut other = cluster.connect();
        let pid: i32 = other.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
        let backfill = thread::spawn(move || other.batch_execute("CALL clip_backfill('item', batch_size => 20)"));
        wait_until(&mut client, &format!("SELECT count(*) > {before} FROM stored"));
        match end {
            "kill" => cluster.kill(pid),
            _ => drop(client.query(&format!("SELECT {end}({pid})"), &[]).unwrap()),
        }
        assert!(backfill.join().unwrap().is_err());
        client = cluster.reconnect();
        // The view no longer shows the progress of the interrupted backfill.
        wait_until(&mut client, "SELECT count(*) = 0 FROM clip_progress");
        let done = count(&mut client, "SELECT count(*) FROM stored");
        assert!(done > before && done < 20_000, "{done}");
        assert_eq!(done, count(&mut client, "SELECT count(embedding) FROM item"));
    }
    drop(client);
    cluster.restart();
    let mut client = cluster.connect();
    client.batch_execute("CALL clip_backfill('item', batch_size => 1000)").unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM stored"), 20_000);
    assert_eq!(count(&mut client, WRONG), 0);
}

#[test]
fn a_backend_that_dies_in_a_statement_leaves_nothing_half_done() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    table(&mut client, 0);
    for (mode, server_too) in [("row", false), ("statement", false), ("row", true), ("statement", true)] {
        client.execute("SELECT clip_auto_embed('item', 'body', mode => $1, create_index => false)", &[&mode]).unwrap();
        client.batch_execute("INSERT INTO item VALUES (0, 'there before') ON CONFLICT DO NOTHING").unwrap();
        let mut other = cluster.connect();
        let pid: i32 = other.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
        let insert = thread::spawn(move || {
            other.batch_execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 50000) AS i")
        });
        // The statement has begun. It takes much longer than the test so far.
        wait_until(
            &mut client,
            &format!(
                "SELECT count(*) = 1 FROM pg_locks WHERE pid = {pid} AND relation = 'item'::regclass AND mode = 'RowExclusiveLock'"
            ),
        );
        match server_too {
            false => cluster.kill(pid),
            true => cluster.restart(),
        }
        assert!(insert.join().unwrap().is_err());
        client = cluster.reconnect();
        assert_eq!(count(&mut client, "SELECT count(*) FROM item"), 1);
        client.batch_execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 300) AS i").unwrap();
        assert_eq!(count(&mut client, WRONG), 0);
        client.batch_execute("DELETE FROM item").unwrap();
    }
}

#[test]
fn a_model_is_changed_while_the_table_is_used() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    table(&mut client, 3_000);
    // A column with dependent objects cannot be replaced. The error comes before the work.
    let error = client.batch_execute("CALL clip_reembed('item', 'embedding', 'wide')").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "2BP01");
    assert!(error.as_db_error().unwrap().detail().unwrap().contains("trigger note"));
    client.batch_execute("DROP TRIGGER note ON item").unwrap();
    client.batch_execute("CALL clip_backfill('item', batch_size => 1000)").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body')", &[]).unwrap();
    for mode in ["row", "statement", "queue"] {
        let model = if mode == "statement" { "narrow" } else { "wide" };
        let former = if model == "wide" { "narrow" } else { "wide" };
        client.execute("SELECT clip_auto_embed('item', 'body', mode => $1)", &[&mode]).unwrap();
        if mode == "queue" {
            client.batch_execute("CALL clip_reembed('item', 'embedding', 'narrow')").unwrap();
        }
        let mut other = cluster.connect();
        let pid: i32 = other.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
        let call = format!("CALL clip_reembed('item', 'embedding', '{model}', 20)");
        let reembed = thread::spawn(move || other.batch_execute(&call));
        wait_until(
            &mut client,
            "SELECT count(*) > 0 FROM clip_progress WHERE target = 'embedding_reembed' AND embedded > 100",
        );
        // Searches use the old embeddings. The sum prevents an index scan, which may miss a row. A row that is written
        // now gets both embeddings.
        let nearest = format!(
            "SELECT count(*) FROM (SELECT id FROM item ORDER BY (embedding <=> (SELECT clip_embed_text('text 77', '{former}'))) + 0 LIMIT 1) AS n WHERE id = 77"
        );
        if mode != "queue" {
            assert_eq!(count(&mut client, &nearest), 1);
        }
        client.batch_execute("UPDATE item SET body = body || '.' WHERE id % 500 = 0").unwrap();
        // A crash or a cancel interrupts the first call. The second call completes the work.
        if mode == "row" {
            cluster.kill(pid);
            client = cluster.reconnect();
        } else {
            client.execute("SELECT pg_cancel_backend($1)", &[&pid]).unwrap();
        }
        assert!(reembed.join().unwrap().is_err());
        let status = "SELECT model FROM clip_auto_embed_status WHERE target = 'embedding'";
        assert_eq!(client.query_one(status, &[]).unwrap().get::<_, &str>(0), former);
        // The new column also gets the settings that changed in the meantime.
        let on_error = if mode == "queue" { "skip" } else { "null" };
        client
            .execute("SELECT clip_auto_embed('item', 'body', mode => $1, on_error => $2)", &[&mode, &on_error])
            .unwrap();
        client.batch_execute(&format!("CALL clip_reembed('item', 'embedding', '{model}')")).unwrap();
        assert_eq!(client.query_one(status, &[]).unwrap().get::<_, &str>(0), model);
        let of_error = "SELECT on_error FROM clip_auto_embed_status WHERE target = 'embedding'";
        assert_eq!(client.query_one(of_error, &[]).unwrap().get::<_, &str>(0), on_error);
        wait_until(&mut client, "SELECT count(*) = 0 FROM item WHERE embedding IS NULL");
        assert_eq!(count(&mut client, &WRONG.replace("narrow", model)), 0);
        let columns =
            "SELECT count(*) FROM information_schema.columns WHERE table_name = 'item' AND column_name LIKE '%embed%'";
        assert_eq!(count(&mut client, columns), 1);
        assert_eq!(
            count(&mut client, "SELECT count(*) FROM pg_indexes WHERE tablename = 'item' AND indexdef LIKE '%hnsw%'"),
            1
        );
    }
}
