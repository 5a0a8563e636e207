//! Searches on distributed tables.

use citus::{Nodes, run_each, wait_for_queue};
use e2e::{code, count};
use postgres::Client;
use postgres::error::SqlState;

/// Vectors in a plane: their order is that of their angles, and each distance is known.
const VECTOR: &str = "('[' || cos(angle) || ',' || sin(angle) || ']')::vector";

fn keys(client: &mut Client, query: &str) -> Vec<i64> {
    client.query(query, &[]).unwrap_or_else(|error| panic!("{query}: {error:?}")).iter().map(|row| row.get(0)).collect()
}

#[test]
fn settings_of_a_search_reach_the_shards() {
    // The index is used although the table is small.
    let nodes = Nodes::start_with(&["enable_seqscan = off", "enable_sort = off"]);
    let mut client = nodes.coordinator();
    run_each(
        &mut client,
        &[
            "CREATE TABLE point (shop bigint, id bigint, kept boolean, embedding vector(2), PRIMARY KEY (shop, id))",
            "SELECT create_distributed_table('point', 'shop')",
            // The nearest rows of shop 1 are filtered out. Shop 2 has few rows, and they are farther than the others of shop 1.
            &format!(
                "INSERT INTO point SELECT 1, i, i > 2500, {VECTOR} FROM generate_series(1, 3000) AS i CROSS JOIN LATERAL (SELECT i / 10000.0) AS a (angle)"
            ),
            &format!(
                "INSERT INTO point SELECT 2, i, true, {VECTOR} FROM generate_series(1, 20) AS i CROSS JOIN LATERAL (SELECT 1 + i / 1000.0) AS a (angle)"
            ),
            "CREATE INDEX ON point USING hnsw (embedding vector_cosine_ops)",
            "ANALYZE point",
        ],
    );
    let nearest: Vec<i64> = (2501..=2510).collect();
    let plain = "SELECT shop * 10000 + id FROM point WHERE kept ORDER BY embedding <=> '[1,0]' LIMIT 10";
    // Without settings on the shards, the search loses the rows of shop 1.
    assert!(
        keys(&mut client, plain).iter().all(|key| *key > 20_000),
        "the shards find rows behind a filter by default"
    );
    let search = "SELECT (key_json ->> 'id')::bigint FROM clip_search_vector('point', '[1,0]', 10, filter => 'kept') WHERE (key_json ->> 'shop')::int = 1 ORDER BY distance";
    assert_eq!(keys(&mut client, search), nearest);
    // In a transaction, the settings of the caller follow the search.
    run_each(&mut client, &["BEGIN", "SET LOCAL hnsw.ef_search = 50"]);
    assert_eq!(keys(&mut client, search), nearest);
    assert_eq!(keys(&mut client, "SELECT current_setting('hnsw.ef_search')::bigint"), [50]);
    let of_nodes = "SELECT DISTINCT current_setting('hnsw.ef_search')::bigint FROM point";
    assert_eq!(keys(&mut client, of_nodes), [50]);
    assert!(keys(&mut client, plain).iter().all(|key| *key > 20_000), "the settings of a search outlive it");
    run_each(&mut client, &["COMMIT"]);
    // A search of one shard outside a transaction. Its first statement finds the rows, so no exact one follows.
    let (mut hearing, heard) = nodes.nodes[0].listen("postgres");
    run_each(&mut hearing, &["SET citus.log_remote_commands = on"]);
    let of_shop = "SELECT (key_json ->> 'id')::bigint FROM clip_search_vector('point', '[1,0]', 10, filter => 'kept AND shop = 1') ORDER BY distance";
    assert_eq!(keys(&mut hearing, of_shop), nearest);
    let said = e2e::drain(&heard).join("\n");
    assert!(said.contains("SET LOCAL hnsw.iterative_scan TO 'relaxed_order'"), "{said}");
    assert!(said.contains("<=>") && !said.contains("OPERATOR(pg_catalog.+)"), "{said}");
    // A prepared search, with a generic plan.
    run_each(
        &mut client,
        &[
            "SET plan_cache_mode = force_generic_plan",
            "PREPARE search(text, int) AS SELECT (key_json ->> 'id')::bigint FROM clip_search_vector('point', $1::vector, $2, filter => 'kept') ORDER BY distance",
        ],
    );
    for _ in 0..3 {
        assert_eq!(keys(&mut client, "EXECUTE search('[1,0]', 10)"), nearest);
    }
}

#[test]
fn the_recall_is_measured_on_the_shards() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    run_each(
        &mut client,
        &[
            "CREATE TABLE point (id bigint PRIMARY KEY, embedding vector(64))",
            "SELECT create_distributed_table('point', 'id')",
            "SELECT setseed(0.5)",
            "INSERT INTO point SELECT i, (SELECT array_agg(random() - 0.5) FROM generate_series(1, 64) AS g WHERE i > 0)::vector FROM generate_series(1, 8000) AS i",
            "CREATE INDEX ON point USING hnsw (embedding vector_cosine_ops)",
            "ANALYZE point",
        ],
    );
    for node in [0, 1] {
        let mut client = nodes.nodes[node].connect();
        run_each(&mut client, &["BEGIN"]);
        let query = "SELECT ef_search, recall::float8, queries FROM clip_index_recall('point', sample => 20, ef_search => '{1,400}') ORDER BY 1";
        let rows = client.query(query, &[]).unwrap();
        let [narrow, broad] = [0, 1].map(|row: usize| rows[row].get::<_, f64>(1));
        assert_eq!(rows[1].get::<_, i32>(2), 20);
        assert!(broad > 0.95 && narrow < broad - 0.05, "node {node}: {narrow} {broad}");
        // The settings of the measurement end with it.
        let breadth = "SELECT DISTINCT current_setting('hnsw.ef_search')::bigint FROM point";
        assert_eq!(keys(&mut client, breadth), [40]);
        assert_eq!(
            count(
                &mut client,
                "SELECT count(DISTINCT current_setting('enable_seqscan')) FROM point WHERE current_setting('enable_seqscan') = 'on'"
            ),
            1
        );
        let passes_on = "SELECT count(*) WHERE current_setting('citus.propagate_set_commands') <> 'none'";
        assert_eq!(count(&mut client, passes_on), 0);
    }
    // Queries on a table with one shard run outside a transaction of Citus.
    run_each(
        &mut client,
        &[
            "CREATE TABLE alone (id bigint PRIMARY KEY, embedding vector(64))",
            "SELECT create_distributed_table('alone', NULL)",
            "INSERT INTO alone SELECT * FROM point",
            "CREATE INDEX ON alone USING hnsw (embedding vector_cosine_ops)",
            "ANALYZE alone",
        ],
    );
    let query = "SELECT recall::float8 FROM clip_index_recall('alone', k => 1, sample => 200, ef_search => '{1,400}') ORDER BY ef_search";
    let rows = client.query(query, &[]).unwrap();
    let [narrow, broad] = [0, 1].map(|row: usize| rows[row].get::<_, f64>(0));
    assert!(broad > 0.98 && narrow < 0.95, "{narrow} {broad}");
}

#[test]
fn the_nearest_rows_are_those_of_one_server() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    nodes.create_role("bob");
    let words = "(ARRAY['apple','car','tree','fish','moon','dog','cake','house'])[1 + i % 8] || ' ' || (ARRAY['red','blue','green','big'])[1 + i / 8 % 4] || ' ' || i";
    run_each(
        &mut client,
        &[
            "CREATE TABLE item (id bigint PRIMARY KEY, body text, price int, owner text, words tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED)",
            "SELECT create_distributed_table('item', 'id')",
            &format!(
                "INSERT INTO item SELECT i, {words}, i % 50, CASE WHEN i % 10 = 0 THEN 'bob' ELSE 'alice' END FROM generate_series(1, 400) AS i"
            ),
            "SELECT clip_auto_embed('item', 'body', mode => 'queue')",
        ],
    );
    wait_for_queue(&mut client, "item");
    // The same rows on one server, searched exactly.
    run_each(
        &mut client,
        &[
            "CREATE TABLE alone AS SELECT id, body, price, owner, words, embedding FROM item",
            "ALTER TABLE alone ADD PRIMARY KEY (id)",
        ],
    );
    for (query, filter) in [
        ("a red apple", "true"),
        ("the moon at night", "price < 10"),
        ("a big dog", "owner = ''bob''"),
        ("12", "id > 390"),
    ] {
        let search = |table: &str| {
            format!(
                "SELECT key FROM clip_search('{table}', '{query}', 10, model => 'emoji', filter => '{filter}') ORDER BY distance, key"
            )
        };
        let exact = keys(&mut client, &search("alone"));
        assert_eq!(exact.len(), 10);
        assert_eq!(keys(&mut client, &search("item")), exact, "{query} {filter}");
        let plain = format!(
            "SELECT id FROM item WHERE {} ORDER BY embedding <=> (SELECT clip_embed_text('{query}', 'emoji')) LIMIT 10",
            filter.replace("''", "'")
        );
        assert_eq!(keys(&mut client, &plain).len(), 10);
        let hybrid = |table: &str| {
            format!(
                "SELECT key FROM clip_hybrid_search('{table}', '{query}', 'words', 10, model => 'emoji', filter => '{filter}') ORDER BY score DESC, key"
            )
        };
        assert_eq!(keys(&mut client, &hybrid("item")), keys(&mut client, &hybrid("alone")), "{query} {filter}");
    }
    // An index of rotated bits.
    let mean = client.query_one("SELECT avg(embedding)::text FROM item", &[]).unwrap().get::<_, String>(0);
    let bits = format!("binary_quantize(clip_rotate(embedding, '{mean}'::halfvec::vector, 256))::bit(256)");
    run_each(&mut client, &[&format!("CREATE INDEX item_bits ON item USING hnsw (({bits}) bit_hamming_ops)")]);
    for filter in ["true", "id = 8"] {
        let search = |table: &str, index: &str| {
            format!(
                "SELECT key FROM clip_search('{table}', 'a red apple', 10, model => 'emoji', filter => '{filter}', index => {index}) ORDER BY distance, key"
            )
        };
        let exact = keys(&mut client, &search("alone", "NULL"));
        assert_eq!(keys(&mut client, &search("item", "'item_bits'")), exact);
        assert_eq!(keys(&mut nodes.nodes[1].connect(), &search("item", "'item_bits'")), exact);
    }
    // Groups, and the groups of an excluded row, on a worker, too.
    let groups = |table: &str, size: u32| {
        format!(
            "SELECT key FROM clip_search('{table}', 'a red apple', 5, model => 'emoji', per => 'price', per_size => {size}, exclude => '[7]') ORDER BY rank, distance, key"
        )
    };
    for size in [1, 2] {
        let exact = keys(&mut client, &groups("alone", size));
        assert_eq!(exact.len(), 5 * size as usize);
        assert_eq!(keys(&mut client, &groups("item", size)), exact);
        assert_eq!(keys(&mut nodes.nodes[1].connect(), &groups("item", size)), exact);
    }
    // Joined with the table, through a worker, and by a row of the table.
    let joined = "SELECT i.id FROM clip_search('item', 'a red apple', 10) AS s JOIN item AS i ON i.id = s.key WHERE i.body LIKE 'apple red%'";
    assert_eq!(keys(&mut client, joined).len(), 10);
    assert_eq!(keys(&mut nodes.nodes[1].connect(), joined).len(), 10);
    let vector = client.query_one("SELECT embedding::text FROM item WHERE id = 7", &[]).unwrap().get::<_, String>(0);
    assert_eq!(keys(&mut client, &format!("SELECT key FROM clip_search_vector('item', '{vector}', 1)")), [7]);
    // Citus would run a search next to a row of one shard on the node of that shard, and raises an error of its own.
    let nested = "SELECT key FROM clip_search_vector('item', (SELECT embedding FROM item WHERE id = 7), 1)";
    assert!(code(&mut client, nested).is_some());
    // Pairs of rows would need a join of all shards with all.
    assert_eq!(code(&mut client, "SELECT * FROM clip_near_duplicates('item')"), Some(SqlState::FEATURE_NOT_SUPPORTED));
    assert_eq!(code(&mut client, "SELECT * FROM clip_duplicate_groups('item')"), Some(SqlState::FEATURE_NOT_SUPPORTED));
    // Policies hold on the shards.
    run_each(
        &mut client,
        &[
            "GRANT SELECT ON item TO bob",
            "ALTER TABLE item ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON item FOR SELECT USING (owner = current_user)",
        ],
    );
    let mut bob = nodes.nodes[0].connect_as("bob");
    assert_eq!(
        count(
            &mut bob,
            "SELECT count(*) FROM clip_search('item', 'a red apple', 100) AS s JOIN item AS i ON i.id = s.key WHERE i.owner = 'bob'"
        ),
        40
    );
    assert_eq!(count(&mut bob, "SELECT count(*) FROM clip_search('item', 'a red apple', 100)"), 40);
    // A pending row is missing from the results, and the search says so.
    run_each(&mut client, &["ALTER TABLE item DISABLE ROW LEVEL SECURITY"]);
    for node in &nodes.nodes {
        run_each(&mut node.connect(), &["ALTER SYSTEM SET clip.max_workers = 0", "SELECT pg_reload_conf()"]);
    }
    run_each(&mut client, &["INSERT INTO item (id, body) VALUES (1000, 'an apple')"]);
    let (mut hearing, heard) = nodes.nodes[0].listen("postgres");
    hearing.batch_execute("SELECT key FROM clip_search('item', 'a red apple', 3)").unwrap();
    let said = e2e::drain(&heard).join("\n");
    assert!(said.contains("1 row has a source and no embedding"), "{said}");
}

#[test]
fn models_are_compared() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    let differing =
        "SELECT count(*) FROM clip_diagnose() WHERE item LIKE 'models of %' AND value <> 'the same as here'";
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_diagnose() WHERE item LIKE 'models of %'"), 3);
    assert_eq!(count(&mut client, differing), 0);
    std::fs::remove_dir_all(nodes.nodes[1].models().join("wide")).unwrap();
    nodes.nodes[2].add_emoji("other", &[]);
    nodes.nodes[1].add_emoji("other", &["--ignore-exif-orientation"]);
    let rows =
        client.query("SELECT item, value FROM clip_diagnose() WHERE item LIKE 'models of %' ORDER BY 1", &[]).unwrap();
    let of = |node: usize| {
        let item = format!("models of {}:5432", nodes.address(node));
        rows.iter().find(|row| row.get::<_, &str>(0) == item).map(|row| row.get::<_, String>(1)).unwrap()
    };
    assert_eq!(of(0), "the same as here");
    assert_eq!(of(1), "\"other\" is missing here; \"wide\" is missing there");
    assert_eq!(of(2), "\"other\" is missing here");
    let mut other = nodes.nodes[2].connect();
    let seen = "SELECT value FROM clip_diagnose() WHERE item = 'models of ' || $1 || ':5432'";
    let value: String = other.query_one(seen, &[&nodes.address(1)]).unwrap().get(0);
    assert!(value.starts_with("\"other\" has digest ") && value.ends_with("; \"wide\" is missing there"), "{value}");
}

#[test]
fn the_statements_of_the_guide_run() {
    let nodes = Nodes::start();
    let mut client = nodes.coordinator();
    let guide = std::fs::read_to_string(e2e::root().join("docs/guides/citus.md")).unwrap();
    let mut number = 0;
    for block in guide.split("```text\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        for statement in block.split(";\n").filter(|statement| !statement.trim().is_empty()) {
            run_each(&mut client, &[statement]);
            number += 1;
            if statement.contains("clip_auto_embed('item'") {
                wait_for_queue(&mut client, "item");
            }
        }
    }
    assert_eq!(number, 20, "the guide has other blocks");
    assert_eq!(count(&mut client, "SELECT count(*) FROM item WHERE embedding IS NOT NULL"), 100);
}
