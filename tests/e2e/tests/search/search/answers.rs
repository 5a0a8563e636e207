//! Results of searches and measurements.

use super::*;

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
    // Nearly the same rows as an exact search.
    let exact = format!("SELECT id FROM item WHERE kind = 42 ORDER BY (embedding <=> {QUERY}) + 0 LIMIT 100");
    let found = format!(
        "SELECT count(*) FROM clip_search_vector('item', {QUERY}, 100, filter => 'kind = 42') WHERE key IN ({exact})"
    );
    let found = count(&mut client, &found);
    assert!(found >= 90, "{found}");
    // A policy acts as a filter, too.
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
    // The statement for applications returns the same, with the settings from the guide to filters.
    let sql: String = tenant.query_one("SELECT clip_search_sql('item')", &[]).unwrap().get(0);
    tenant.batch_execute("SET hnsw.iterative_scan = relaxed_order").unwrap();
    let rows = format!("SELECT count(*) FROM ({}) AS n", sql.replace("$1", QUERY));
    assert_eq!(count(&mut tenant, &rows), 10);
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
        // Writers do not wait during the measurement.
        let mut writes = 0;
        while !measuring.is_finished() {
            other.batch_execute("SET lock_timeout = '100ms'; UPDATE item SET title = 'b' WHERE id = 1").unwrap();
            writes += 1;
        }
        assert!(writes > 10);
        measuring.join().unwrap()
    });
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    // The measurement has used the index.
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
