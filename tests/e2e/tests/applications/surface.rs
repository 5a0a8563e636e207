//! What application tools and drivers see of the extension: schemas, types, names of indexes, warnings.

use e2e::{Cluster, code, count, drain};
use postgres::Client;

fn strings(client: &mut Client, query: &str) -> Vec<String> {
    client.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// Tools that compare an application's schema with its models find nothing of the extension in it.
#[test]
fn a_schema_of_its_own_keeps_the_extension_out_of_the_applications() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE DATABASE shop").unwrap();
    let mut config = cluster.config("postgres");
    let mut client = config.dbname("shop").connect(postgres::NoTls).unwrap();
    client
        .batch_execute(
            "CREATE EXTENSION vector; CREATE SCHEMA clip; CREATE EXTENSION pg_clip SCHEMA clip;
             ALTER DATABASE shop SET search_path = \"$user\", public, clip",
        )
        .unwrap();
    // What the application does needs no other name.
    let mut client = config.connect(postgres::NoTls).unwrap();
    client
        .batch_execute(
            "CREATE TABLE product (id int PRIMARY KEY, title text);
             SELECT clip_auto_embed('product', 'title', model => 'narrow', mode => 'queue');
             INSERT INTO product VALUES (1, 'red shoes')",
        )
        .unwrap();
    let found = "SELECT concat_ws('.', table_schema, table_name) FROM information_schema.tables \
        WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_schema !~ '^_?clip$' ORDER BY 1";
    assert_eq!(strings(&mut client, found), ["public.product"]);
    let found = "SELECT DISTINCT n.nspname::text FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_clip' \
        JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid JOIN pg_namespace AS n ON n.oid = c.relnamespace ORDER BY 1";
    assert_eq!(strings(&mut client, found), ["_clip", "clip"]);
    let found = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'clip' ORDER BY 1";
    let views = [
        "clip_auto_embed_status",
        "clip_failures",
        "clip_loaded_models",
        "clip_models",
        "clip_progress",
        "clip_service",
    ];
    assert_eq!(strings(&mut client, found), views);
    // Indexes that tools can declare.
    let found = "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1";
    let indexes = ["product_embedding_idx", "product_embedding_pending_idx", "product_pkey"];
    assert_eq!(strings(&mut client, found), indexes);
    client.batch_execute("CALL clip_reembed('product', 'embedding', 'wide')").unwrap();
    assert_eq!(strings(&mut client, found), indexes, "after a re-embedding");
    client
        .batch_execute("CREATE VIEW product_again_idx AS SELECT 1; SELECT clip_auto_embed('product', 'title', 'again', model => 'narrow')")
        .unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM pg_indexes WHERE indexname = 'product_again_idx1'"), 1);
    let long = "ö".repeat(31);
    client
        .batch_execute(&format!(
            "CREATE TABLE {long} (id int PRIMARY KEY, title text);
             SELECT clip_auto_embed('{long}', 'title', model => 'narrow'), clip_auto_embed('{long}', 'title', 'again', model => 'narrow')"
        ))
        .unwrap();
    let found =
        format!("SELECT count(*) FROM pg_indexes WHERE tablename = '{long}' AND octet_length(indexname::text) <= 63");
    assert_eq!(count(&mut client, &found), 3);
}

#[test]
fn columns_of_views_have_types_that_every_driver_reads() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let others = "SELECT concat_ws(' ', table_name, column_name, data_type) FROM information_schema.columns \
        WHERE table_name ~ '^clip_' AND data_type NOT IN ('text', 'boolean', 'bigint', 'double precision', 'timestamp with time zone', 'jsonb')";
    assert_eq!(strings(&mut client, others), Vec::<String>::new());
    assert!(count(&mut client, "SELECT count(*) FROM information_schema.columns WHERE table_name ~ '^clip_'") > 40);
    // A table is called as in psql: with its schema if that is not in the search_path.
    client
        .batch_execute(
            "CREATE SCHEMA shop; CREATE TABLE shop.\"Item\" (id int PRIMARY KEY, title text);
             SELECT clip_auto_embed('shop.\"Item\"', 'title', model => 'narrow', on_error => 'null');
             SET clip.text_overflow = 'error'; INSERT INTO shop.\"Item\" VALUES (1, repeat('a ', 1000))",
        )
        .unwrap();
    for path in ["public", "shop, public"] {
        client.batch_execute(&format!("SET search_path = {path}")).unwrap();
        let name = if path == "public" { "shop.\"Item\"" } else { "\"Item\"" };
        for view in ["clip_auto_embed_status", "clip_failures"] {
            assert_eq!(strings(&mut client, &format!("SELECT relation FROM {view}")), [name], "{path}: {view}");
        }
    }
}

/// The warning is for people who try the extension. Applications have many sessions, and chose their model.
#[test]
fn the_warning_about_the_embedded_model_ends_with_the_first_column() {
    let cluster = Cluster::start();
    let warned = |cluster: &Cluster| {
        let (mut client, heard) = cluster.listen("postgres");
        client.batch_execute("SELECT clip_embed_text('a cat'), clip_embed_text('a dog')").unwrap();
        drain(&heard).iter().filter(|message| message.contains("embedded model")).count()
    };
    assert_eq!([warned(&cluster), warned(&cluster)], [1, 1]);
    let (mut client, heard) = cluster.listen("postgres");
    client
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, title text); SELECT clip_auto_embed('t', 'title')")
        .unwrap();
    assert!(drain(&heard).iter().any(|message| message.contains("embedded model")));
    assert_eq!([warned(&cluster), warned(&cluster)], [0, 0]);
}

#[test]
fn a_timeout_while_a_model_is_loaded_has_a_hint() {
    let cluster = Cluster::start();
    // A session loads the model in some milliseconds, or in a second on a busy machine: one of these times ends meanwhile.
    let times = std::iter::successors(Some(1), |time| (*time < 3000).then_some(time + 1 + time / 20));
    let expected = "Model \"emoji\" was being loaded, which each session does once. \
        To load it before, without a timeout: SELECT clip_prewarm('emoji').";
    let mut hints = times.filter_map(|milliseconds| {
        let mut client = cluster.connect();
        client.batch_execute(&format!("SET statement_timeout = {milliseconds}")).unwrap();
        let error = client.batch_execute("SELECT clip_embed_text('a cat', 'emoji')").err()?;
        assert_eq!(e2e::sqlstate(&error), &postgres::error::SqlState::QUERY_CANCELED);
        error.as_db_error().and_then(|error| error.hint().map(str::to_owned))
    });
    assert!(hints.any(|hint| hint == expected));
    let mut client = cluster.connect();
    assert_eq!(code(&mut client, "SELECT clip_prewarm('emoji'); SELECT clip_embed_text('a cat', 'emoji')"), None);
}
