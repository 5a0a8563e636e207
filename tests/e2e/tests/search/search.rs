//! Searches obey the caller's rights, find k rows where k match, and end in time.

use std::time::{Duration, Instant};

use e2e::{Cluster, code, count, home};
use postgres::error::SqlState;
use postgres::{Client, SimpleQueryMessage};

/// Rows with vectors in all directions, and an index over them.
fn fill(client: &mut Client, rows: usize) {
    client
        .batch_execute(&format!(
            "CREATE TABLE item (id int PRIMARY KEY, owner name, kind int, title text, embedding vector(8),
               words tsvector GENERATED ALWAYS AS (to_tsvector('english', title)) STORED);
             INSERT INTO item SELECT i, CASE i % 100 WHEN 42 THEN 'tenant' ELSE 'other' END, i % 100, 'a lamp',
               ARRAY(SELECT sin(i * sqrt(7 * n + 3)) FROM generate_series(1, 8) AS n)::vector FROM generate_series(1, {rows}) AS i;
             SET maintenance_work_mem = '512MB'; SET max_parallel_maintenance_workers = 2;
             CREATE INDEX ON item USING hnsw (embedding vector_cosine_ops); ANALYZE item"
        ))
        .unwrap();
}

/// A vector as any, which no row has.
const QUERY: &str = "'[1,-1,1,-1,1,1,1,1]'";

#[test]
fn a_filter_that_few_rows_match_still_finds_k() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    fill(&mut client, 100_000);
    let plain =
        format!("SELECT count(*) FROM (SELECT FROM item WHERE kind = 42 ORDER BY embedding <=> {QUERY} LIMIT 10) AS n");
    assert!(count(&mut client, &plain) < 10, "the index alone would do: this shows nothing");
    for (k, filter, expected) in
        [(10, "kind = 42", 10), (500, "kind = 42", 500), (2000, "kind = 42", 1000), (10, "id IN (7, 70000)", 2)]
    {
        let search = format!("clip_search_vector('item', {QUERY}, {k}, filter => '{filter}')");
        let found =
            format!("SELECT count(DISTINCT key) FROM {search} WHERE key IN (SELECT id FROM item WHERE {filter})");
        assert_eq!(count(&mut client, &found), expected, "{k} {filter}");
        let ascending = format!(
            "SELECT count(*) FROM (SELECT distance < lag(distance) OVER () AS back FROM {search}) AS n WHERE back"
        );
        assert_eq!(count(&mut client, &ascending), 0, "{k} {filter}");
    }
    // Nearly those that an exact search finds.
    let exact = format!("SELECT id FROM item WHERE kind = 42 ORDER BY (embedding <=> {QUERY}) + 0 LIMIT 100");
    let found = format!(
        "SELECT count(*) FROM clip_search_vector('item', {QUERY}, 100, filter => 'kind = 42') WHERE key IN ({exact})"
    );
    let found = count(&mut client, &found);
    assert!(found >= 90, "{found}");
    // A policy is a filter too.
    client
        .batch_execute(
            "CREATE ROLE tenant LOGIN; GRANT SELECT ON item TO tenant; ALTER TABLE item ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON item USING (owner = current_user)",
        )
        .unwrap();
    let mut tenant = cluster.connect_as_caller("tenant");
    let own = format!(
        "SELECT count(*) FROM clip_search_vector('item', {QUERY}, 10) JOIN item ON id = key WHERE owner = 'tenant'"
    );
    assert_eq!(count(&mut tenant, &own), 10);
    // The statement for applications does the same under the settings that the guide to filters names.
    let sql: String = tenant.query_one("SELECT clip_search_sql('item')", &[]).unwrap().get(0);
    tenant.batch_execute("SET hnsw.iterative_scan = relaxed_order").unwrap();
    let rows = format!("SELECT count(*) FROM ({}) AS n", sql.replace("$1", QUERY));
    assert_eq!(count(&mut tenant, &rows), 10);
}

#[test]
fn nobody_sees_rows_that_are_not_his() {
    let cluster = Cluster::start();
    let mut owner = cluster.connect();
    fill(&mut owner, 2_000);
    owner
        .batch_execute(
            "CREATE ROLE tenant LOGIN; CREATE ROLE guest LOGIN; GRANT SELECT ON item TO tenant;
             ALTER TABLE item ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON item USING (owner = current_user);
             INSERT INTO item SELECT id + 10000, 'other', 42, title, embedding FROM item WHERE owner = 'tenant'",
        )
        .unwrap();
    let (mut tenant, mut guest) = (cluster.connect_as_caller("tenant"), cluster.connect_as_caller("guest"));
    let searches = [
        format!(
            "SELECT count(*), count(*) FILTER (WHERE owner = 'tenant') FROM clip_search_vector('item', {QUERY}, 50) JOIN item ON id = key"
        ),
        format!(
            "SELECT count(*), count(*) FILTER (WHERE owner = 'tenant') FROM clip_search_vector('item', {QUERY}, 50, filter => 'true OR owner = ''other''') JOIN item ON id = key"
        ),
    ];
    for search in &searches {
        let row = tenant.query_one(search, &[]).unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (20, 20), "{search}");
    }
    // Each has a copy that is another's.
    assert_eq!(count(&mut owner, "SELECT count(*) FROM clip_near_duplicates('item', max_distance => 0.000001)"), 20);
    assert_eq!(count(&mut tenant, "SELECT count(*) FROM clip_near_duplicates('item', max_distance => 0.000001)"), 0);
    assert_eq!(count(&mut tenant, "SELECT count(*) FROM clip_duplicate_groups('item', max_distance => 0.000001)"), 0);
    let recall = "SELECT min(queries)::bigint FROM clip_index_recall('item', sample => 100, k => 5)";
    assert_eq!((count(&mut owner, recall), count(&mut tenant, recall)), (100, 20));
    for refused in [
        format!("SELECT FROM clip_search_vector('item', {QUERY})"),
        "SELECT FROM clip_near_duplicates('item')".to_owned(),
        "SELECT FROM clip_duplicate_groups('item')".to_owned(),
        "SELECT FROM clip_index_recall('item')".to_owned(),
    ] {
        assert_eq!(code(&mut guest, &refused), Some(SqlState::INSUFFICIENT_PRIVILEGE), "{refused}");
        // Nor does it matter that somebody else wrote the call into a function: it has its caller's rights.
        let wrapped = format!("CREATE FUNCTION wrapped() RETURNS SETOF record LANGUAGE sql AS $${refused}$$");
        owner.batch_execute(&format!("{wrapped}; GRANT EXECUTE ON FUNCTION wrapped() TO guest")).unwrap();
        assert_eq!(code(&mut guest, "SELECT wrapped()"), Some(SqlState::INSUFFICIENT_PRIVILEGE), "{refused}");
        owner.batch_execute("DROP FUNCTION wrapped()").unwrap();
    }
}

#[test]
fn words_and_pictures_are_searched_with_the_callers_rights() {
    let cluster = Cluster::start();
    let mut owner = cluster.connect();
    owner
        .batch_execute(
            "CREATE TABLE note (id int PRIMARY KEY, owner name, body text, words tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED)",
        )
        .unwrap();
    owner.execute("SELECT clip_auto_embed('note', 'body', model => 'narrow')", &[]).unwrap();
    owner
        .batch_execute(
            "INSERT INTO note VALUES (1, 'tenant', 'cat'), (2, 'other', 'cat'), (3, 'tenant', 'dog'), (4, 'other', 'dog');
             CREATE ROLE tenant LOGIN; CREATE ROLE guest LOGIN; GRANT SELECT ON note TO tenant;
             ALTER TABLE note ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON note USING (owner = current_user)",
        )
        .unwrap();
    let (mut tenant, mut guest) = (cluster.connect_as_caller("tenant"), cluster.connect_as_caller("guest"));
    for (search, expected) in [
        ("SELECT array_agg(key::int ORDER BY distance) FROM clip_search('note', 'cat')", vec![1, 3]),
        ("SELECT array_agg(key::int ORDER BY score DESC) FROM clip_hybrid_search('note', 'cat', 'words')", vec![1, 3]),
    ] {
        assert_eq!(tenant.query_one(search, &[]).unwrap().get::<_, Vec<i32>>(0), expected, "{search}");
        assert_eq!(code(&mut guest, search), Some(SqlState::INSUFFICIENT_PRIVILEGE), "{search}");
    }
    let typical = "SELECT FROM clip_typical_distance('note', 'cat')";
    assert_eq!((code(&mut tenant, typical), code(&mut guest, typical)), (None, Some(SqlState::INSUFFICIENT_PRIVILEGE)));
    // It only reads.
    tenant.batch_execute("SET default_transaction_read_only = on").unwrap();
    assert_eq!(count(&mut tenant, "SELECT count(*) FROM clip_search('note', 'cat', 1)"), 1);
    // In a parallel query's leader, too.
    tenant.batch_execute("SET default_transaction_read_only = off; SET debug_parallel_query = on").ok();
    tenant.batch_execute("SET force_parallel_mode = on").ok();
    assert_eq!(count(&mut tenant, "SELECT count(*) FROM clip_search('note', 'cat', 1)"), 1);
}

/// How many rows a statement gives, without the queries by which a client learns of types.
fn rows_of(client: &mut Client, statement: &str) -> usize {
    let messages = client.simple_query(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count()
}

#[test]
fn what_others_put_into_the_search_path_is_not_found() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    fill(&mut client, 2_000);
    // Operators and functions that fit better than, or as well as, the server's own, all of which refuse to be called.
    let mut trap = String::from(
        "CREATE SCHEMA trap; CREATE FUNCTION trap.f(float8, float8) RETURNS float8 LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
         CREATE FUNCTION trap.b(float8, float8) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
         CREATE FUNCTION trap.v(public.vector, public.vector) RETURNS float8 LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
         CREATE FUNCTION trap.j(jsonb, jsonb) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
         CREATE FUNCTION trap.i(int, int) RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
         CREATE FUNCTION trap.c(int, int) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
         CREATE FUNCTION trap.o(oid, oid) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
         CREATE FUNCTION trap.t(tsvector, tsquery) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
         CREATE FUNCTION trap.ts_rank_cd(tsvector, tsquery) RETURNS real LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
         CREATE FUNCTION trap.format(text, text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
         CREATE FUNCTION trap.current_setting(text, boolean) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
         CREATE FUNCTION trap.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
         CREATE TYPE trap.vector AS (a int);",
    );
    for (operators, function, kind) in [
        (&["+", "/", "*", "-"][..], "f", "float8"),
        (&["<", "<=", "=", ">"], "b", "float8"),
        (&["<=>", "<->", "<#>"], "v", "public.vector"),
        (&["=", "<>", "<"], "j", "jsonb"),
        (&["+", "*", "-"], "i", "int"),
        (&["<", "=", ">"], "c", "int"),
        (&["=", "<>"], "o", "oid"),
    ] {
        for operator in operators {
            trap += &format!(
                "CREATE OPERATOR trap.{operator} (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = trap.{function});"
            );
        }
    }
    trap += "CREATE OPERATOR trap.@@ (LEFTARG = tsvector, RIGHTARG = tsquery, FUNCTION = trap.t);";
    let vector = format!("{}.vector", home());
    client.batch_execute(&trap.replace("public.vector", &vector)).unwrap();
    client.batch_execute(&format!("SET search_path = trap, pg_catalog, public, {}", home())).unwrap();
    assert!(code(&mut client, "SELECT 1.0::float8 < 2.0::float8").is_some(), "the trap does not work");
    let statement: String =
        client.query_one("SELECT clip_search_sql('item', 3, filter => 'true')", &[]).unwrap().get(0);
    for (search, rows) in [
        (format!("SELECT FROM clip_search_vector('item', {QUERY}::{vector}, 3, filter => 'kind IS NOT NULL')"), 3),
        (format!("SELECT FROM clip_search_vector('item', {QUERY}::{vector}, 3000)"), 2000),
        (statement.replace("$1", QUERY), 3),
        ("SELECT FROM clip_near_duplicates('item', max_distance => 0.000001)".to_owned(), 0),
        ("SELECT FROM clip_duplicate_groups('item', max_distance => 0.000001)".to_owned(), 0),
        ("SELECT FROM clip_index_recall('item', sample => 3, ef_search => '{40}')".to_owned(), 1),
        ("SELECT FROM clip_classify(clip_embed_text('a', 'emoji'), '{a,b}', model => 'emoji')".to_owned(), 2),
    ] {
        assert_eq!(rows_of(&mut client, &search), rows, "{search}");
    }
    // The statement of a hybrid search.
    client.batch_execute("RESET search_path").unwrap();
    let hybrid: String = client
        .query_one("SELECT (_clip_hybrid_statements('item', 'words', 3, 'embedding', NULL, NULL)).nearest", &[])
        .unwrap()
        .get(0);
    client.batch_execute("SET search_path = trap, pg_catalog, public").unwrap();
    let hybrid = hybrid.replace("$1", QUERY).replace("$2", "'lamp'::pg_catalog.tsquery");
    assert_eq!(rows_of(&mut client, &hybrid), 3);
}

#[test]
fn measuring_an_index_ends_when_its_time_is_up_and_stops_nobody() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    fill(&mut client, 20_000);
    let mut other = cluster.connect();
    let begun = Instant::now();
    let measured = std::thread::scope(|scope| {
        let measuring = scope.spawn(|| {
            let query = "SELECT ef_search, recall, queries FROM clip_index_recall('item', sample => 20000, ef_search => '{10,200}', time_limit => '2 s')";
            client.query(query, &[]).unwrap()
        });
        // Whoever changes the table meanwhile does not wait.
        let mut writes = 0;
        while !measuring.is_finished() {
            other.batch_execute("SET lock_timeout = '100ms'; UPDATE item SET title = 'b' WHERE id = 1").unwrap();
            writes += 1;
        }
        assert!(writes > 10);
        measuring.join().unwrap()
    });
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    // What was measured is the index.
    client.batch_execute("SELECT pg_stat_force_next_flush()").unwrap();
    let scans =
        count(&mut client, "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'item_embedding_idx'");
    assert!(scans > 20, "{scans}");
    let values: Vec<(i32, f32, i32)> = measured.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let [(10, narrow, some), (200, wide, as_many)] = values[..] else { panic!("{values:?}") };
    assert!(some == as_many && some > 10 && some < 20_000 && narrow <= wide && wide > 0.9, "{values:?}");
}

#[test]
fn a_trigger_marks_or_refuses_duplicates() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE photo (id serial PRIMARY KEY, file text, duplicate_of int REFERENCES photo);
             CREATE FUNCTION find_duplicate() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               SELECT p.id INTO NEW.duplicate_of
                 FROM (SELECT id, embedding <=> NEW.embedding AS distance FROM photo ORDER BY distance LIMIT 1) AS p
                WHERE p.distance <= 0.01;
               RETURN NEW;
             END $$",
        )
        .unwrap();
    client.execute("SELECT clip_auto_embed('photo', 'file', model => 'narrow')", &[]).unwrap();
    client
        .batch_execute(
            "CREATE TRIGGER zzz_find_duplicate BEFORE INSERT ON photo FOR EACH ROW EXECUTE FUNCTION find_duplicate();
             INSERT INTO photo (file) VALUES ('cat'), ('dog'), ('cat')",
        )
        .unwrap();
    let marked: Vec<(i32, Option<i32>)> = client
        .query("SELECT id, duplicate_of FROM photo ORDER BY id", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(marked, [(1, None), (2, None), (3, Some(1))]);
}

#[test]
fn names_partitions_and_measures_change_no_answer() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE one (id int PRIMARY KEY, embedding vector(3)); INSERT INTO one VALUES (1, '[1,0,0]'), (2, '[0,1,0]'), (3, '[1,0,0]');
             CREATE TABLE f (id int PRIMARY KEY, body text, words tsvector); SELECT clip_auto_embed('f', 'body', model => 'narrow');
             INSERT INTO f VALUES (1, 'a lamp', 'lamp'), (2, 'a chair', 'chair');
             CREATE TABLE whole (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
             CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (100);
             SELECT clip_auto_embed('whole', 'body', model => 'narrow'); INSERT INTO whole VALUES (1, 'a lamp'), (2, 'a chair');
             SET clip.default_model = 'wide';
             CREATE TABLE lengths (id int PRIMARY KEY, embedding vector(2)); INSERT INTO lengths VALUES (1, '[1,0]'), (2, '[10,1]');
             CREATE INDEX ON lengths USING hnsw (embedding vector_l2_ops)",
        )
        .unwrap();
    let text = |client: &mut Client, query: &str| -> Vec<String> {
        client.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(
        text(&mut client, "SELECT key::text || ' ' || duplicate::text FROM clip_near_duplicates('one')"),
        ["{\"id\": 1} {\"id\": 3}"]
    );
    assert_eq!(rows_of(&mut client, "SELECT FROM clip_near_duplicates('one', neighbours => 2000000000)"), 1);
    assert_eq!(rows_of(&mut client, "SELECT FROM clip_hybrid_search('f', 'lamp', 'words', 2)"), 2);
    let nearest = "SELECT distance < 1e-6 FROM clip_search('part', 'a chair', 1)";
    assert!(client.query_one(nearest, &[]).unwrap().get::<_, bool>(0));
    client.batch_execute("SET enable_seqscan = off").unwrap();
    let nearest = "SELECT key::int FROM clip_search_vector('lengths', '[1,0.1]', 1)";
    assert_eq!(client.query_one(nearest, &[]).unwrap().get::<_, i32>(0), 2);
}
