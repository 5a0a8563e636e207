//! Searches in long-lived sessions: prepared statements and functions use the present table, a search and its join see
//! the same rows, and a session gets each notice only once.

use e2e::{Cluster, code, count, drain, let_call, root, run};
use postgres::error::SqlState;

/// Returns statements that create a table with one row of this title.
fn table(name: &str, title: &str) -> String {
    format!(
        "CREATE TABLE {name} (id int PRIMARY KEY, title text); SELECT clip_auto_embed('{name}', 'title', model => 'narrow');
         INSERT INTO {name} VALUES ({}, '{title}');",
        title.len()
    )
}

#[test]
fn prepared_searches_follow_their_table() {
    let cluster = Cluster::start();
    let (mut owner, mut pool) = (cluster.connect(), cluster.connect());
    owner
        .batch_execute(&format!(
            "{} CREATE FUNCTION found() RETURNS SETOF text LANGUAGE plpgsql AS $$
               BEGIN RETURN QUERY SELECT title FROM clip_search('item', 'cat', 1) JOIN item ON id = key; END $$",
            table("item", "old")
        ))
        .unwrap();
    let statements = [
        "SELECT title FROM clip_search('item', 'cat', 1) JOIN item ON id = key",
        "SELECT title FROM clip_search_vector('item', (SELECT clip_query('item', 'cat'))) JOIN item ON id = key",
        "SELECT title FROM item ORDER BY embedding <=> (SELECT clip_query('item', 'cat')) LIMIT 1",
        "SELECT found()",
    ]
    .map(|statement| pool.prepare(statement).unwrap());
    let mut expect = |title: &str| {
        for statement in &statements {
            // The number of calls is sufficient for a generic plan.
            for _ in 0..7 {
                let found: Vec<String> = pool.query(statement, &[]).unwrap().iter().map(|row| row.get(0)).collect();
                assert_eq!(found, [title]);
            }
        }
    };
    expect("old");
    for (change, title) in [
        (table("item2", "swapped") + "BEGIN; ALTER TABLE item RENAME TO former; ALTER TABLE item2 RENAME TO item; COMMIT", "swapped"),
        ("DROP TABLE item CASCADE;".to_owned() + &table("item", "created again"), "created again"),
        ("ALTER TABLE item ADD COLUMN price int DEFAULT 1; ALTER TABLE item DROP COLUMN price".to_owned(), "created again"),
        ("ALTER TABLE item ALTER COLUMN id TYPE bigint".to_owned(), "created again"),
        ("DROP INDEX item_embedding_idx; CREATE INDEX ON item USING hnsw ((embedding::halfvec(32)) halfvec_cosine_ops)".to_owned(), "created again"),
        ("DROP INDEX item_embedding_idx; CALL clip_reembed('item', 'embedding', 'wide')".to_owned(), "created again"),
        ("SELECT clip_auto_embed_drop('item', keep_column => false); SELECT clip_auto_embed('item', 'title', model => 'bidirectional'); CALL clip_backfill('item')".to_owned(), "created again"),
    ] {
        for statement in change.split(';').filter(|statement| !statement.trim().is_empty()) {
            owner.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
        expect(title);
    }
}

#[test]
fn a_function_searches_the_temporary_table_that_it_made() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE FUNCTION nearest_of(titles text[]) RETURNS text LANGUAGE plpgsql AS $$
             DECLARE found text;
             BEGIN
               CREATE TEMP TABLE candidate ON COMMIT DROP AS
                 SELECT ordinality AS id, titles[ordinality] AS title, embedding FROM clip_embed_texts(titles, 'narrow');
               SELECT title INTO found FROM clip_search('candidate', 'cat', 1, model => 'narrow', key_column => 'id') JOIN candidate ON id = key;
               DROP TABLE candidate;
               RETURN found;
             END $$",
        )
        .unwrap();
    for _ in 0..7 {
        let found = client.query_one("SELECT nearest_of('{dog,cat,boat}')", &[]).unwrap();
        assert_eq!(found.get::<_, String>(0), "cat");
    }
}

#[test]
fn a_search_and_its_join_see_the_same_rows() {
    let cluster = Cluster::start();
    let (mut client, mut other) = (cluster.connect(), cluster.connect());
    client.batch_execute(&table("item", "cat")).unwrap();
    client.batch_execute("SELECT clip_embed_text('cat', 'narrow')").unwrap();
    let mut transaction = client.transaction().unwrap();
    transaction
        .batch_execute("DECLARE found CURSOR FOR SELECT title FROM clip_search('item', 'cat') JOIN item ON id = key")
        .unwrap();
    other.batch_execute("DELETE FROM item").unwrap();
    assert_eq!(transaction.query("FETCH ALL FROM found", &[]).unwrap().len(), 1);
    assert!(transaction.query("SELECT FROM clip_search('item', 'cat')", &[]).unwrap().is_empty());
    // The rows are from the same transaction, which has a transaction number by now.
    transaction.batch_execute("INSERT INTO item VALUES (1, 'dog')").unwrap();
    assert_eq!(
        transaction.query("SELECT FROM clip_search('item', 'cat') JOIN item ON id = key", &[]).unwrap().len(),
        1
    );
}

#[test]
fn errors_show_no_internal_statements() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute(&table("item", "cat")).unwrap();
    for (call, state) in [
        ("clip_search('item', 'cat', filter => 'nothing = 1')", SqlState::UNDEFINED_COLUMN),
        ("clip_search('item', 'cat', filter => '1 / 0 = 1')", SqlState::DIVISION_BY_ZERO),
        ("clip_search('item', 'cat', filter => 'title')", SqlState::DATATYPE_MISMATCH),
        ("clip_search('item', 'cat', 0)", SqlState::INVALID_PARAMETER_VALUE),
        ("clip_search('item', 'cat', target => 'title')", SqlState::DATATYPE_MISMATCH),
        ("clip_search('item', 'cat', model => 'wide')", SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE),
        ("clip_search('item', 'cat', model => 'nothing')", SqlState::UNDEFINED_OBJECT),
        ("clip_search(NULL, 'cat')", SqlState::NULL_VALUE_NOT_ALLOWED),
        ("clip_search_vector('item', '[1,0]')", SqlState::DATA_EXCEPTION),
        ("clip_hybrid_search('item', 'cat', 'title')", SqlState::DATATYPE_MISMATCH),
        ("clip_query('item', 'cat', 'nothing')", SqlState::UNDEFINED_COLUMN),
        ("clip_search_sql('item', 0)", SqlState::INVALID_PARAMETER_VALUE),
        ("clip_typical_distance('item', 'cat', sample => 0)", SqlState::INVALID_PARAMETER_VALUE),
        ("clip_near_duplicates('item', max_distance => 3)", SqlState::INVALID_PARAMETER_VALUE),
        ("clip_duplicate_groups('item', filter => 'nothing = 1')", SqlState::UNDEFINED_COLUMN),
        ("clip_index_recall('item', sample => 0)", SqlState::INVALID_PARAMETER_VALUE),
    ] {
        let error = client.batch_execute(&format!("SELECT * FROM {call}")).expect_err(call);
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code(), &state, "{call}");
        assert_eq!((error.where_(), error.position()), (None, None), "{call}");
        // The context shows only the text that the caller wrote.
        let wrapped = format!("DO $$BEGIN PERFORM * FROM {call}; END$$");
        let error = client.batch_execute(&wrapped).expect_err(call);
        let shown = error.as_db_error().unwrap().where_().unwrap();
        assert!(shown.starts_with("SQL statement") && !shown.contains("_clip"), "{shown}");
    }
}

#[test]
fn rows_without_an_embedding_raise_one_notice() {
    // No worker embeds the pending rows.
    let cluster = Cluster::start_with(&["clip.max_workers = 0"]);
    let mut owner = cluster.connect();
    owner
        .batch_execute(
            "CREATE ROLE reader LOGIN; CREATE ROLE narrow_reader LOGIN;
             CREATE TABLE small (id int PRIMARY KEY, title text); INSERT INTO small VALUES (1, 'cat'), (2, 'dog'), (3, NULL);
             SELECT clip_auto_embed('small', 'title', model => 'narrow');
             CREATE TABLE large (id int PRIMARY KEY, title text, filler text); INSERT INTO large SELECT i, 'text', repeat('x', 1000) FROM generate_series(1, 10000) AS i;
             SELECT clip_auto_embed('large', 'title', model => 'narrow', create_index => false);
             CREATE TABLE queued (id int PRIMARY KEY, title text, filler text); INSERT INTO queued SELECT i, NULL, repeat('x', 1000) FROM generate_series(1, 10000) AS i;
             INSERT INTO queued VALUES (0, 'text');
             SELECT clip_auto_embed('queued', 'title', 'vec', model => 'narrow', mode => 'queue', create_index => false);
             CREATE TABLE parts (id int PRIMARY KEY, title text) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9);
             INSERT INTO parts VALUES (1, 'cat'); SELECT clip_auto_embed('parts', 'title', model => 'narrow');
             CREATE TABLE filled (id int PRIMARY KEY, title text); SELECT clip_auto_embed('filled', 'title', model => 'narrow'); INSERT INTO filled VALUES (1, 'cat');
             GRANT SELECT ON small, large, filled TO reader; GRANT SELECT (id, embedding) ON small TO narrow_reader;
             ANALYZE",
        )
        .unwrap();
    let_call(&mut owner, "reader, narrow_reader");
    let (mut client, heard) = cluster.listen("postgres");
    let mut said = |query: &str| {
        client.batch_execute(query).unwrap();
        drain(&heard)
    };
    let small = "NOTICE: column \"embedding\" of table small has rows without an embedding | 2 rows have a source and no embedding. Searches do not find them. | \
        To embed them: CALL clip_backfill('small').";
    assert_eq!(said("SELECT FROM clip_search('small', 'cat')"), [small]);
    assert_eq!(
        said("SELECT FROM clip_search('small', 'cat'); SELECT clip_query('small', 'cat')"),
        Vec::<String>::new()
    );
    assert_eq!(said("SELECT clip_query('filled', 'cat')"), Vec::<String>::new());
    let large = said("SELECT clip_query('large', 'cat')");
    assert!(large.len() == 1 && large[0].contains("A sample of the table"), "{large:?}");
    let queued = said("SELECT FROM clip_search('queued', 'cat', target => 'vec')");
    assert!(
        queued.len() == 1 && queued[0].contains("1 row has a source") && queued[0].contains("clip_auto_embed_status"),
        "{queued:?}"
    );
    let parts = said("SELECT FROM clip_search('part', 'cat')");
    assert!(parts.len() == 1 && parts[0].ends_with("CALL clip_backfill('parts')."), "{parts:?}");
    // A role that cannot read the source gets neither the notice nor an error.
    for (user, told) in [("reader", 1), ("narrow_reader", 0)] {
        let (mut client, heard) = cluster.listen(user);
        client.batch_execute("SELECT FROM clip_search('small', 'cat'); SELECT clip_query('small', 'cat')").unwrap();
        assert_eq!(drain(&heard).len(), told, "{user}");
    }
}

#[test]
fn a_default_model_with_the_same_dimensions_raises_a_warning() {
    let cluster = Cluster::start();
    // A model with another digest and the same number of dimensions.
    let fixture = root().join("tests/fixtures/models/narrow");
    let twin = cluster.directory.join("twin");
    run(std::process::Command::new("cp").arg("-rL").arg(&fixture).arg(&twin));
    let tokens = twin.join("preprocessor_config.json");
    let text = std::fs::read_to_string(&tokens).unwrap();
    let changed = text.replacen("0.4", "0.5", 1);
    assert_ne!(text, changed, "{text}");
    std::fs::write(&tokens, changed).unwrap();
    run(cluster.pgclip().args(["add", "twin", "--license", "MIT"]).arg(&twin));
    let mut owner = cluster.connect();
    owner.batch_execute(&(table("item", "cat") + "CREATE TABLE other (id int PRIMARY KEY, title text); SELECT clip_auto_embed('other', 'title', model => 'twin')")).unwrap();
    let (mut client, heard) = cluster.listen("postgres");
    client.batch_execute("SET clip.default_model = 'narrow'; SELECT clip_query('item', 'cat'); SELECT clip_embed_text('cat', 'narrow')").unwrap();
    assert_eq!(drain(&heard), Vec::<String>::new());
    client.batch_execute("SELECT clip_embed_text('cat'); SELECT clip_embed_text('cat')").unwrap();
    let warned = drain(&heard);
    assert!(
        warned.len() == 1
            && warned[0].contains("other.embedding has embeddings of model \"twin\"")
            && warned[0].contains("clip_query("),
        "{warned:?}"
    );
}

#[test]
fn roles_without_rights_on_the_schema_can_use_views_that_call_its_functions() {
    let cluster = Cluster::start();
    let mut owner = cluster.connect();
    owner
        .batch_execute(
            "DROP EXTENSION pg_clip; DROP EXTENSION vector; CREATE SCHEMA vectors; CREATE SCHEMA ext; CREATE SCHEMA app;
             CREATE EXTENSION vector SCHEMA vectors; CREATE EXTENSION pg_clip SCHEMA ext;
             CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA app, vectors TO guest;
             CREATE TABLE app.item (id int PRIMARY KEY, title text); SELECT ext.clip_auto_embed('app.item', 'title', model => 'narrow');
             INSERT INTO app.item VALUES (1, 'cat'), (2, 'dog');
             CREATE TABLE app.made (title text, e vectors.vector GENERATED ALWAYS AS (ext.clip_embed_text(title, 'wide')) STORED);
             CREATE VIEW app.cats AS SELECT title FROM app.item ORDER BY embedding OPERATOR(vectors.<=>) (SELECT ext.clip_query('app.item', 'cat')) LIMIT 1;
             CREATE VIEW app.found AS SELECT title FROM ext.clip_search('app.item', 'cat', 1) JOIN app.item ON id = key;
             GRANT SELECT ON app.item, app.cats, app.found TO guest; GRANT INSERT ON app.made TO guest",
        )
        .unwrap();
    let mut guest = cluster.connect_as("guest");
    assert_eq!(code(&mut guest, "SELECT ext.clip_query('app.item', 'cat')"), Some(SqlState::INSUFFICIENT_PRIVILEGE));
    // The first call works, too. It makes the session look up the models.
    assert_eq!(code(&mut guest, "INSERT INTO app.made VALUES ('a text')"), None);
    for view in ["cats", "found"] {
        let found = guest.query_one(&format!("SELECT title FROM app.{view}"), &[]).unwrap();
        assert_eq!(found.get::<_, String>(0), "cat", "{view}");
    }
    // The search_path does not contain pgvector's schema.
    owner.batch_execute("SET search_path = ''").unwrap();
    assert_eq!(
        count(&mut owner, "SELECT pg_catalog.count(*) FROM ext.clip_search('app.item', 'cat', filter => 'id > 0')"),
        2
    );
}

#[test]
fn searches_run_in_queries_that_use_parallel_workers() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE item (id int PRIMARY KEY, title text);
             SELECT clip_auto_embed('item', 'title', model => 'narrow', create_index => false, mode => 'statement');
             INSERT INTO item SELECT i, 'text ' || i % 100 FROM generate_series(1, 2000) AS i; ANALYZE item;
             SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2",
        )
        .unwrap();
    for query in [
        "SELECT count(*) FROM item WHERE embedding <=> (SELECT clip_query('item', 'text 7')) < 1e-6",
        "SELECT count(*) FROM item WHERE embedding <=> clip_query('item', 'text 7') < 1e-6",
    ] {
        let plan: Vec<String> =
            client.query(&format!("EXPLAIN {query}"), &[]).unwrap().iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains("Parallel Seq Scan")), "{plan:?}");
        assert_eq!(count(&mut client, query), 20, "{query}");
    }
    let joined = "SELECT count(*) FROM clip_search('item', 'text 7', 20) JOIN item ON id = key WHERE title = 'text 7'";
    assert_eq!(count(&mut client, joined), 20);
    // A transaction that wrote has a transaction number.
    client.batch_execute("BEGIN; UPDATE item SET title = title WHERE id = 1").unwrap();
    assert_eq!(count(&mut client, joined), 20);
    client.batch_execute("COMMIT").unwrap();
}
