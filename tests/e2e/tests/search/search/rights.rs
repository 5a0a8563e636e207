//! Searches with the rights of their caller.

use super::*;

#[test]
fn searches_hide_rows_of_other_roles() {
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
    // Each row has a copy that belongs to another role.
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
        // A function that another role wrote also runs the call with the caller's rights.
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
        (
            "SELECT array_agg(key::int ORDER BY rank) FROM clip_search('note', 'cat', per => 'id', per_size => 2)",
            vec![1, 3],
        ),
        (
            "SELECT array_agg(key::int ORDER BY rank) FROM clip_search('note', 'cat', min_relevance => '-Infinity')",
            vec![1, 3],
        ),
        // The hidden row 2 is not excluded, so its group is not either.
        (
            "SELECT array_agg(key::int ORDER BY rank) FROM clip_search('note', 'cat', per => 'body', exclude => '[2]')",
            vec![1, 3],
        ),
        ("SELECT array_agg(key::int ORDER BY rank) FROM clip_search('note', 'cat', exclude => '[2]')", vec![1, 3]),
        ("SELECT array_agg(key::int ORDER BY score DESC) FROM clip_hybrid_search('note', 'cat', 'words')", vec![1, 3]),
    ] {
        assert_eq!(tenant.query_one(search, &[]).unwrap().get::<_, Vec<i32>>(0), expected, "{search}");
        assert_eq!(code(&mut guest, search), Some(SqlState::INSUFFICIENT_PRIVILEGE), "{search}");
    }
    let typical = "SELECT FROM clip_typical_distance('note', 'cat')";
    assert_eq!((code(&mut tenant, typical), code(&mut guest, typical)), (None, Some(SqlState::INSUFFICIENT_PRIVILEGE)));
    // The search only reads.
    tenant.batch_execute("SET default_transaction_read_only = on").unwrap();
    assert_eq!(count(&mut tenant, "SELECT count(*) FROM clip_search('note', 'cat', 1)"), 1);
    // The search also works in the leader of a parallel query.
    tenant.batch_execute("SET default_transaction_read_only = off; SET debug_parallel_query = on").ok();
    tenant.batch_execute("SET force_parallel_mode = on").ok();
    assert_eq!(count(&mut tenant, "SELECT count(*) FROM clip_search('note', 'cat', 1)"), 1);
}

/// Makes a table whose only partition is the table `item`, as a foreign table. Returns false if the server has no postgres_fdw.
fn far(cluster: &Cluster, client: &mut Client) -> bool {
    if count(client, "SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'") == 0 {
        return false;
    }
    let socket = cluster.socket();
    client
        .batch_execute(&format!(
            "CREATE EXTENSION postgres_fdw;
             CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{}', port '{}', dbname 'postgres', extensions 'vector',
               options '-c hnsw.ef_search=100 -c hnsw.iterative_scan=relaxed_order');
             CREATE USER MAPPING FOR postgres SERVER here OPTIONS (user 'postgres', password_required 'false');
             CREATE TABLE far (LIKE item) PARTITION BY RANGE (id);
             CREATE FOREIGN TABLE far_1 PARTITION OF far DEFAULT SERVER here OPTIONS (table_name 'item')",
            socket.parent().unwrap().display(),
            socket.extension().unwrap().display(),
        ))
        .unwrap();
    true
}

#[test]
fn searches_ignore_objects_of_others_in_the_search_path() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    fill(&mut client, 2_000);
    let has_far = far(&cluster, &mut client);
    // Operators and functions that match better than, or as well as, the server's own. All of them raise an error if
    // they are called.
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
    for arguments in [
        "filter => 'kind IS NOT NULL', partial => true",
        "exclude => '[1]', min_relevance => -1000",
        "exclude => '[1]', per => 'kind', per_size => 1, partial => true",
    ] {
        let search =
            format!("SELECT FROM clip_search_vector('far', {QUERY}::{vector}, 2, key_column => 'id', {arguments})");
        assert!(!has_far || rows_of(&mut client, &search) == 2, "{search}");
    }
    // The statement of a hybrid search.
    client.batch_execute("RESET search_path").unwrap();
    let hybrid: String = client
        .query_one(
            "SELECT (_clip_hybrid_statements('item', 'words', 3, 'embedding', NULL, NULL, NULL, false, NULL)).nearest",
            &[],
        )
        .unwrap()
        .get(0);
    client.batch_execute("SET search_path = trap, pg_catalog, public").unwrap();
    let hybrid = hybrid.replace("$1", QUERY).replace("$2", "'lamp'::pg_catalog.tsquery");
    assert_eq!(rows_of(&mut client, &hybrid), 3);
}
