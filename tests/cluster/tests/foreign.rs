//! Searches over partitions on other servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::{Duration, Instant};

use cluster::search::{found, scans, start};
use cluster::{WIDTH, random_vector};
use e2e::{count, sqlstate};
use postgres::Client;
use postgres::error::SqlState;

#[test]
fn each_server_searches_its_own_index_and_the_nearest_rows_of_all_are_found() {
    let network = start(WIDTH, 3000);
    let mut hub = network.connect(0);
    hub.batch_execute(
        "INSERT INTO photo (id, region, shop, title) SELECT region * 100 + n, region, n, 'row ' || n || ' of ' || region
           FROM generate_series(0, 3) AS region, generate_series(1, 5) AS n",
    )
    .unwrap();
    let before: Vec<_> = (1..4).map(|number| scans(&network, number)).collect();
    for _ in 0..10 {
        let query = random_vector(&mut hub);
        assert_eq!(found(&mut hub, &query, ""), network.exact(&query, 10, "true"));
        let arguments = ", k => 500";
        let (all, expected) = (found(&mut hub, &query, arguments), network.exact(&query, 500, "true"));
        assert_eq!(all.len(), 500);
        let right = all.iter().filter(|row| expected.contains(row)).count();
        assert!(right >= 495, "{right} of 500");
        assert_eq!(found(&mut hub, &query, ", filter => 'shop = 3'"), network.exact(&query, 10, "shop = 3"));
        // More rows than match on any server.
        assert_eq!(found(&mut hub, &query, ", k => 100, filter => 'shop = 7'"), network.exact(&query, 100, "shop = 7"));
        assert_eq!(found(&mut hub, &query, ", filter => 'false'"), []);
    }
    drop(hub);
    for number in 1..4 {
        // Statistics arrive when the remote session has ended.
        let question = format!(
            "SELECT idx_scan >= {} FROM pg_stat_user_indexes WHERE indexrelname = 'photo_own_embedding_idx'",
            before[number - 1] + 20
        );
        e2e::wait_until(&mut network.connect(number), &question);
        let asked = network.logged(number, "ORDER BY (embedding OPERATOR(public.<=>)");
        assert!(asked.iter().any(|line| line.ends_with("LIMIT 10::bigint")), "{asked:?}");
        assert!(!network.logged(number, "Index Scan using photo_own_embedding_idx").is_empty());
    }
}

#[test]
fn without_the_width_of_the_index_each_server_sorts_all_its_rows() {
    let network = start("-c application_name=hub", 3000);
    let mut hub = network.connect(0);
    let query = random_vector(&mut hub);
    // By default, the index of a server would find 40 rows.
    assert_eq!(found(&mut hub, &query, ", k => 300"), network.exact(&query, 300, "true"));
    assert!(network.logged(1, "Index Scan using photo_own_embedding_idx").is_empty());
    let limited = network.logged(1, "ASC NULLS LAST");
    assert!(limited.iter().any(|line| line.ends_with("LIMIT 300::bigint")), "{limited:?}");
    // An index that finds fewer rows than the limit is not trusted.
    hub.batch_execute(
        "ALTER SERVER server_1 OPTIONS (SET options '-c hnsw.ef_search=20 -c enable_seqscan=off');
         ALTER SERVER server_2 OPTIONS (SET options '-c hnsw.ef_search=20 -c enable_seqscan=off')",
    )
    .unwrap();
    let mut hub = network.connect(0);
    assert_eq!(found(&mut hub, &query, ", k => 300"), network.exact(&query, 300, "true"));
    assert!(!network.logged(1, "Index Scan using photo_own_embedding_idx").is_empty());
    // A search of more groups than an index scan returns rows has no limit.
    let groups =
        format!("SELECT count(*) FROM clip_search_vector('photo', '{query}', 6000, key_column => 'id', per => 'id')");
    assert_eq!(count(&mut hub, &groups), 6000);
    let groups = format!(
        "SELECT count(*) FROM clip_search_vector('photo', '{query}', 6000, key_column => 'id', per => 'shop', per_size => 2)"
    );
    assert_eq!(count(&mut hub, &groups), 200);
    // The statement for whole rows has no second attempt.
    hub.batch_execute("ALTER SERVER server_2 OPTIONS (SET options '-c enable_seqscan=off')").unwrap();
    let statement: String = hub.query_one("SELECT clip_search_sql('photo', 300)", &[]).unwrap().get(0);
    let rows = network.connect(0).query(&statement.replace("$1", &format!("'{query}'")), &[]).unwrap();
    let rows: Vec<(i32, f64)> = rows.iter().map(|row| (row.get("id"), row.get("distance"))).collect();
    assert_eq!(rows, network.exact(&query, 300, "true"));
}

#[test]
fn each_server_embeds_its_own_rows() {
    let network = start(WIDTH, 300);
    let mut hub = network.connect(0);
    let unlike = "embedding IS DISTINCT FROM NULL AND embedding <=> clip_embed_text(title, 'narrow') > 1e-6";
    let wrong = |table: &str| {
        format!("SELECT count(*) FROM {table} WHERE title IS NOT NULL AND (embedding IS NULL OR {unlike})")
    };
    hub.batch_execute(
        "INSERT INTO photo (id, region, title) VALUES (1, 0, 'cat'), (2, 1, 'dog'), (3, 2, 'boat'), (4, 3, NULL);
         COPY photo (id, region, title) FROM PROGRAM 'printf ''5\\t0\\tship\\n6\\t1\\tcar\\n7\\t2\\ttrain\\n''';
         INSERT INTO photo (id, region, title, embedding) SELECT 8, 1, 'bus', embedding FROM photo WHERE id = 1;
         UPDATE photo SET title = 'old ' || title WHERE id IN (1, 2, 3);
         UPDATE photo SET title = 'moved', region = 1 WHERE id = 5 AND region = 0;
         UPDATE photo SET shop = 9 WHERE id IN (6, 7)",
    )
    .unwrap();
    assert_eq!(count(&mut hub, &wrong("photo")), 0);
    assert_eq!(count(&mut hub, "SELECT count(*) FROM photo WHERE title IS NOT NULL"), 7);
    // Nothing is embedded here for the other servers.
    let calls =
        "SELECT coalesce(sum(calls), 0)::bigint FROM clip_loaded_models WHERE tower = 'text' AND model = 'narrow'";
    let mut fresh = network.connect(0);
    fresh.batch_execute("INSERT INTO photo (id, region, title) VALUES (20, 1, 'tree'), (21, 2, 'house')").unwrap();
    assert_eq!(count(&mut fresh, calls), 0);
    assert_eq!(count(&mut network.connect(1), &wrong("photo_own")), 0);
    // On a server without a trigger, no embedding of a former source stays.
    network.connect(2).batch_execute("SELECT clip_auto_embed_drop('photo_own')").unwrap();
    hub.batch_execute("UPDATE photo SET title = 'new' WHERE id = 7").unwrap();
    assert_eq!(count(&mut hub, "SELECT count(*) FROM photo WHERE id = 7 AND embedding IS NULL"), 1);
    // These need a key, which such a table cannot have.
    for call in [
        "SELECT clip_auto_embed('photo', 'title', mode => 'queue')",
        "CALL clip_backfill('photo')",
        "SELECT clip_near_duplicates('photo')",
        "SELECT clip_index_recall('photo')",
    ] {
        let error = hub.batch_execute(call).unwrap_err();
        assert_eq!(*sqlstate(&error), SqlState::WRONG_OBJECT_TYPE, "{call}: {error:?}");
    }
    let status =
        "SELECT count(*) FROM clip_auto_embed_status WHERE relation = 'photo' AND rows IS NULL AND model = 'narrow'";
    assert_eq!(count(&mut hub, status), 1);
}

#[test]
fn all_forms_of_a_search_agree_with_a_table_on_one_server() {
    let network = start(WIDTH, 300);
    let mut hub = network.connect(0);
    hub.batch_execute(
        "INSERT INTO photo (id, region, shop, title, words)
           SELECT n * 10 + region, region, n % 4, format('the %s thing of %s', n, region), to_tsvector('english', repeat('thing ', n * 4 + region))
             FROM generate_series(0, 3) AS region, generate_series(1, 30) AS n;
         CREATE TABLE whole AS SELECT * FROM photo;
         ALTER TABLE whole ADD PRIMARY KEY (id);
         SELECT clip_adopt('whole', 'embedding', 'narrow')",
    )
    .unwrap();
    for (function, columns, arguments) in [
        ("clip_search", "key, distance, rank", "'a thing', 12"),
        ("clip_search", "key, distance, rank", "'a thing', 3, per => 'shop'"),
        ("clip_search", "key, distance, rank", "'a thing', 3, per => 'shop', per_size => 5"),
        ("clip_search", "key, distance, rank", "'a thing', 3, per => 'shop', per_size => 2, exclude => '[11, 12, 13]'"),
        ("clip_search", "key, distance, rank", "'a thing', 3, filter => 'photo.shop = 2', exclude => '[21]'"),
        ("clip_search", "key, distance, rank", "'a thing', 40, filter => $$title LIKE '%7%'$$"),
        ("clip_search", "key, distance, rank", "'a thing', 5, partial => true"),
        ("clip_hybrid_search", "key, score", "'thing', 'words', 10, configuration => 'english'"),
        ("clip_hybrid_search", "key, score", "'thing', 'words', 10, configuration => 'english', filter => 'shop = 1'"),
    ] {
        let mut ask = |table: &str| -> Vec<String> {
            let arguments = arguments.replace("photo.", &format!("{table}."));
            let question = format!(
                "SELECT ROW({columns})::text FROM {function}('{table}', {arguments}, key_column => 'id') ORDER BY 1"
            );
            hub.query(&question, &[]).unwrap().iter().map(|row| row.get(0)).collect()
        };
        let (one, many) = (ask("whole"), ask("photo"));
        assert!(!one.is_empty());
        assert_eq!(one, many, "{function}({arguments})");
    }
    let relevant = "SELECT count(*) FROM clip_search('photo', 'a thing', 10, key_column => 'id', min_relevance => -50) WHERE relevance IS NOT NULL";
    assert_eq!(count(&mut hub, relevant), 10);
    let typical = "SELECT count(*) FROM clip_typical_distance('photo', 'a thing') WHERE mean BETWEEN 0.1 AND 1.5 AND deviation > 0";
    assert_eq!(count(&mut hub, typical), 1);
    // A role that can read only the partitioned table, and a policy: both search the table as a whole, and completely.
    hub.batch_execute(
        "CREATE ROLE visitor LOGIN; GRANT SELECT ON photo TO visitor; CREATE ROLE tenant LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO tenant",
    )
    .unwrap();
    let mut visitor = network.server(0).connect_as("visitor");
    let query = random_vector(&mut hub);
    let expected = network.exact(&query, 200, "true");
    let ask = format!("SELECT key::int, distance FROM clip_search_vector('photo', '{query}', 200, key_column => 'id'");
    let rows = |client: &mut Client, end: &str| -> Vec<(i32, f64)> {
        client.query(&format!("{ask}{end}"), &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    assert_eq!(rows(&mut visitor, ")"), expected);
    let error = visitor.query(&format!("{ask}, partial => true)"), &[]).unwrap_err();
    assert_eq!(*sqlstate(&error), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "{error:?}");
    hub.batch_execute(
        "ALTER TABLE photo ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON photo TO tenant USING (region <> 2)",
    )
    .unwrap();
    let mut tenant = network.server(0).connect_as("tenant");
    assert_eq!(rows(&mut tenant, ")"), network.exact(&query, 200, "region <> 2"));
}

#[test]
fn a_server_that_does_not_answer_is_named_or_left_out() {
    let network = start(WIDTH, 300);
    let (mut hub, heard) = network.server(0).listen("postgres");
    let query = random_vector(&mut hub);
    let ask = |end: &str| {
        format!("SELECT key::int, distance FROM clip_search_vector('photo', '{query}', 20, key_column => 'id'{end})")
    };
    let rows = |client: &mut Client, end: &str| -> Result<Vec<(i32, f64)>, postgres::Error> {
        Ok(client.query(&ask(end), &[])?.iter().map(|row| (row.get(0), row.get(1))).collect())
    };
    let (all, rest) = (network.exact(&query, 20, "true"), network.exact(&query, 20, "region <> 2"));
    assert_eq!(rows(&mut hub, ", partial => true").unwrap(), all);
    assert_eq!(e2e::drain(&heard), Vec::<String>::new());
    assert_ne!(all, rest);

    // Killed, with a connection of the session to it.
    e2e::run(Command::new("kill").args(["-QUIT", &network.server(2).postmaster().to_string()]));
    while !network.server(2).processes().is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let error = rows(&mut hub, "").unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(*error.code(), SqlState::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION, "{error:?}");
    assert!(error.message().contains("server_2") && error.hint().unwrap().contains("partial => true"), "{error:?}");
    assert_eq!(rows(&mut hub, ", partial => true").unwrap(), rest);
    let warned = e2e::drain(&heard);
    assert!(warned.len() == 1 && warned[0].starts_with("WARNING: search of table public.photo leaves out table public.photo_2 | could not connect to server \"server_2\""), "{warned:?}");
    network.server(2).restart();
    assert_eq!(rows(&mut hub, "").unwrap(), all);

    // Cut off: packets to it get lost. A new session waits for connect_timeout, an old one for tcp_user_timeout.
    network.cut(2, true);
    for client in [&mut network.connect(0), &mut hub] {
        let begun = Instant::now();
        assert_eq!(rows(client, ", partial => true").unwrap(), rest);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let error = rows(client, "").unwrap_err();
        assert!(error.as_db_error().unwrap().hint().unwrap().contains("partial => true"), "{error:?}");
    }
    network.cut(2, false);
    e2e::wait_until(&mut network.connect(0), "SELECT count(*) > 0 FROM photo_2 WHERE id = 2000001");
    assert_eq!(rows(&mut network.connect(0), "").unwrap(), all);

    // Silent: its processes have stopped, and the kernel still answers. A cancel takes effect within a second.
    let mut hub = network.connect(0);
    assert_eq!(rows(&mut hub, "").unwrap(), all);
    let sleeping: Vec<_> = network.server(2).processes();
    let postmaster = network.server(2).postmaster();
    let signal = |name: &str| {
        for process in sleeping.iter().filter(|&&process| process != postmaster) {
            e2e::run(Command::new("kill").args([name, &process.to_string()]));
        }
    };
    signal("-STOP");
    hub.batch_execute("SET statement_timeout = '1s'").unwrap();
    let begun = Instant::now();
    let error = rows(&mut hub, "").unwrap_err();
    let elapsed = begun.elapsed();
    signal("-CONT");
    assert_eq!(*sqlstate(&error), SqlState::QUERY_CANCELED, "{error:?}");
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
    hub.batch_execute("SET statement_timeout = 0").unwrap();
    assert_eq!(rows(&mut hub, "").unwrap(), all);
}

#[test]
fn a_partition_of_another_model_is_rejected() {
    let network = start(WIDTH, 300);
    let mut hub = network.connect(0);
    let check = "SELECT clip_auto_embed('photo', 'title')";
    hub.batch_execute("INSERT INTO photo (id, region, title) VALUES (1, 1, 'cat'), (2, 2, 'dog'), (3, 3, 'boat')")
        .unwrap();
    hub.batch_execute(check).unwrap();
    // Embeddings of another model, with as many dimensions and with fewer.
    let mut other = network.connect(2);
    for change in [
        "ALTER TABLE photo_own DISABLE TRIGGER USER; UPDATE photo_own SET embedding = (SELECT embedding FROM photo_own WHERE title IS NULL LIMIT 1)",
        "DROP INDEX photo_own_embedding_idx; SELECT clip_auto_embed_drop('photo_own', keep_column => false);
         SELECT clip_auto_embed('photo_own', 'title', model => 'bidirectional'); UPDATE photo_own SET title = 'a ' || title",
    ] {
        other.batch_execute(change).unwrap();
        let error = hub.batch_execute(check).unwrap_err();
        assert_eq!(*sqlstate(&error), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "{error:?}");
        assert!(error.as_db_error().unwrap().message().contains("photo_2 are not of model \"narrow\""), "{error:?}");
    }
    let error =
        hub.query("SELECT * FROM clip_search('photo', 'cat', key_column => 'id', partial => true)", &[]).unwrap_err();
    assert_eq!(*sqlstate(&error), SqlState::DATA_EXCEPTION, "{error:?}");
    // A foreign table without the column.
    network.connect(3).batch_execute("ALTER TABLE photo_own RENAME embedding TO former").unwrap();
    let error =
        hub.query("SELECT * FROM clip_search('photo', 'cat', key_column => 'id', partial => true)", &[]).unwrap_err();
    assert_eq!(*sqlstate(&error), SqlState::UNDEFINED_COLUMN, "{error:?}");
}
