//! Rows and arguments of searches over partitions on other servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cluster::search::start;
use cluster::{WIDTH, random_vector};
use e2e::sqlstate;
use postgres::Client;
use postgres::error::SqlState;

#[test]
fn rows_of_partitions_are_those_of_the_table() {
    let network = start(WIDTH, 300);
    let mut hub = network.connect(0);
    // The table of another server has partitions, whose rows have the same ctid. Only the farther ones have the word.
    network
        .connect(1)
        .batch_execute(
            "CREATE TABLE parted (id int NOT NULL, region int NOT NULL, words tsvector, embedding vector(32)) PARTITION BY LIST (region);
             CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
             CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
             INSERT INTO parted SELECT n, 1, to_tsvector('nothing'), embedding FROM (SELECT row_number() OVER () AS n, embedding FROM photo_own LIMIT 5) AS p;
             INSERT INTO parted SELECT 100 + n, 2, to_tsvector('thing'), embedding FROM (SELECT row_number() OVER () AS n, embedding FROM photo_own OFFSET 5 LIMIT 5) AS p;
             GRANT SELECT ON parted TO photo_reader",
        )
        .unwrap();
    hub.batch_execute(
        "CREATE TABLE parted (id int NOT NULL, region int NOT NULL, words tsvector, embedding vector(32)) PARTITION BY LIST (region);
         CREATE FOREIGN TABLE parted_far PARTITION OF parted FOR VALUES IN (1, 2) SERVER server_1 OPTIONS (table_name 'parted');
         CREATE TABLE parted_3 PARTITION OF parted FOR VALUES IN (3);
         CREATE TABLE parted_4 PARTITION OF parted FOR VALUES IN (4);
         CREATE TABLE whole AS SELECT * FROM parted;
         ALTER TABLE whole ADD PRIMARY KEY (id);
         CREATE ROLE visitor LOGIN; GRANT SELECT ON parted, whole TO visitor;
         CREATE ROLE reader LOGIN; GRANT SELECT ON parted_far, parted_3, parted_4 TO reader",
    )
    .unwrap();
    for mut client in [network.connect(0), network.server(0).connect_as("visitor")] {
        let mut ask = |table: &str| -> Vec<String> {
            let question = format!(
                "SELECT ROW(key, score, words_place)::text FROM clip_hybrid_search('{table}', 'thing', 'words', 10, configuration => 'english', key_column => 'id', model => 'narrow') ORDER BY 1"
            );
            client.query(&question, &[]).unwrap().iter().map(|row| row.get(0)).collect()
        };
        assert_eq!(ask("parted"), ask("whole"));
    }

    // A partition that is being detached, and the temporary table of another session.
    let query = random_vector(&mut hub);
    let mut other = network.connect(0);
    hub.batch_execute(&format!(
        "INSERT INTO parted (id, region, embedding) VALUES (201, 3, '{query}'), (202, 4, '{query}');
         CREATE TABLE old_style (id int, embedding vector(32));
         CREATE FOREIGN TABLE old_style_far () INHERITS (old_style) SERVER server_1 OPTIONS (table_name 'parted')"
    ))
    .unwrap();
    other
        .batch_execute(&format!(
            "CREATE TEMPORARY TABLE old_style_own () INHERITS (old_style); INSERT INTO old_style_own VALUES (301, '{query}');
             BEGIN; SELECT FROM parted_3"
        ))
        .unwrap();
    hub.batch_execute("SET statement_timeout = '1s'").unwrap();
    let error = hub.batch_execute("ALTER TABLE parted DETACH PARTITION parted_3 CONCURRENTLY").unwrap_err();
    assert_eq!(*sqlstate(&error), SqlState::QUERY_CANCELED, "{error:?}");
    hub.batch_execute("SET statement_timeout = 0").unwrap();
    other.batch_execute("COMMIT").unwrap();
    let keys = |client: &mut Client, table: &str| -> Vec<i64> {
        let question =
            format!("SELECT key FROM clip_search_vector('{table}', '{query}', 20, key_column => 'id') ORDER BY key");
        client.query(&question, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(keys(&mut hub, "parted"), [1, 2, 3, 4, 5, 106, 107, 108, 109, 110, 202]);
    // The privileges for the partitions are not privileges for the table.
    let search = format!("SELECT FROM clip_search_vector('parted', '{query}', key_column => 'id')");
    let error = network.server(0).connect_as("reader").query(&search, &[]).unwrap_err();
    assert_eq!(*sqlstate(&error), SqlState::INSUFFICIENT_PRIVILEGE, "{error:?}");
    assert_eq!(keys(&mut hub, "old_style"), [1, 2, 3, 4, 5, 106, 107, 108, 109, 110]);
    assert_eq!(keys(&mut other, "old_style"), [1, 2, 3, 4, 5, 106, 107, 108, 109, 110, 301]);
}

#[test]
fn arguments_apply_to_the_partitions() {
    let network = start(WIDTH, 300);
    let (mut hub, heard) = network.server(0).listen("postgres");
    hub.batch_execute(
        "CREATE INDEX plain ON photo USING hnsw (embedding vector_cosine_ops);
         CREATE INDEX half ON photo USING hnsw ((embedding::halfvec(32)) halfvec_cosine_ops);
         INSERT INTO photo (id, region, embedding) SELECT g, 0, l2_normalize(array_agg(random() - 0.5)::real[]::vector)
           FROM generate_series(1, 2000) AS g, generate_series(1, 32) GROUP BY g;
         CREATE INDEX own ON photo_0 USING hnsw ((embedding::halfvec(32)) halfvec_l2_ops);
         ANALYZE photo_0",
    )
    .unwrap();
    let query = random_vector(&mut hub);
    let ask = |end: &str| {
        format!("SELECT key::int, distance FROM clip_search_vector('photo', '{query}', 10, key_column => 'id'{end})")
    };
    let rows = |client: &mut Client, end: &str| -> Vec<(i32, f64)> {
        client.query(&ask(end), &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    // Each named index is used, and no other one.
    for (index, used) in [("plain", "photo_0_embedding_idx1"), ("half", "photo_0_embedding_idx2")] {
        let mut fresh = network.connect(0);
        fresh.batch_execute("SELECT pg_stat_reset()").unwrap();
        assert_eq!(rows(&mut fresh, &format!(", index => '{index}'")), network.exact(&query, 10, "true"));
        drop(fresh);
        let scans = |is: &str| {
            format!(
                "SELECT coalesce(sum(idx_scan), 0) {is} FROM pg_stat_user_indexes WHERE relname = 'photo_0' AND indexrelname"
            )
        };
        e2e::wait_until(&mut hub, &format!("{} = '{used}'", scans("> 0")));
        e2e::wait_until(&mut hub, &format!("{} <> '{used}'", scans("= 0")));
    }
    // A filter has no parameters, whatever the statement of the search has.
    for search in [
        "clip_search_vector('photo', '{}', key_column => 'id', filter => 'id > $2')",
        "clip_search_vector('photo_0', '{}', key_column => 'id', filter => 'id > $2')",
        "clip_search_vector('photo_0', '{}', key_column => 'id', per => 'shop', filter => 'id > (SELECT $2 / 1)')",
        "clip_search_vector('photo', '{}', key_column => 'id', filter => '1 = ANY ($3)')",
        "clip_hybrid_search('photo_0', 'a', 'words', key_column => 'id', filter => 'words @@ $2')",
    ] {
        let error = hub.query(&format!("SELECT * FROM {}", search.replace("{}", &query)), &[]).unwrap_err();
        assert_eq!(*sqlstate(&error), SqlState::UNDEFINED_PARAMETER, "{search}: {error:?}");
    }
    assert_eq!(rows(&mut hub, ", filter => $$title IS DISTINCT FROM '{PARAMREF :number 2 $2}'$$").len(), 10);
    // The reason why a server is left out can be another one than that it is down.
    hub.batch_execute("ALTER SERVER server_2 OPTIONS (SET dbname 'missing')").unwrap();
    assert_eq!(rows(&mut hub, ", partial => true"), network.exact(&query, 10, "region <> 2"));
    let warned = e2e::drain(&heard);
    assert!(warned.len() == 1 && warned[0].contains("database \"missing\" does not exist"), "{warned:?}");
    // A server that fails in a parallel query could not be left out.
    hub.batch_execute(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET enable_hashjoin = off; SET enable_nestloop = off",
    )
    .unwrap();
    let join = format!("SELECT FROM photo_0 AS p LEFT JOIN ({}) AS s ON s.key = p.id", ask(", partial => true"));
    let error = hub.query(&join, &[]).unwrap_err();
    assert_eq!(*sqlstate(&error), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "{error:?}");
    hub.batch_execute("SET max_parallel_workers_per_gather = 0").unwrap();
    assert_eq!(hub.query(&join, &[]).unwrap().len(), 2000);
}
