//! What a role can do that has nothing but a connection, and what the install script leaves to nobody else.

use e2e::{Cluster, code, root};
use postgres::Client;
use postgres::error::SqlState;

const DENIED: Option<SqlState> = Some(SqlState::INSUFFICIENT_PRIVILEGE);

#[test]
fn a_role_with_a_connection_can_embed_and_nothing_else() {
    let cluster = Cluster::start();
    let mut owner = cluster.connect();
    owner
        .batch_execute(
            "CREATE ROLE guest LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN;
             CREATE TABLE secret (id int PRIMARY KEY, body text, picture bytea);
             GRANT SELECT ON secret TO reader; GRANT SELECT, INSERT, UPDATE ON secret TO writer",
        )
        .unwrap();
    owner
        .execute(
            "SELECT clip_auto_embed('secret', 'body', model => 'narrow', mode => 'queue', on_error => 'skip')",
            &[],
        )
        .unwrap();
    owner
        .execute("SELECT clip_auto_embed('secret', 'picture', 'pixels', model => 'wide', on_error => 'null')", &[])
        .unwrap();
    owner.batch_execute("INSERT INTO secret VALUES (1, 'a secret', 'no picture')").unwrap();
    let mut guest = cluster.connect_as("guest");
    let mut reader = cluster.connect_as("reader");
    let mut writer = cluster.connect_as("writer");
    for anyone in [&mut guest, &mut reader, &mut writer] {
        for allowed in [
            "SELECT clip_embed_text('a', 'narrow')",
            "SELECT clip_embed_texts('{a,b}', 'narrow')",
            "SELECT clip_token_count('a', 'narrow')",
            "SELECT clip_prewarm('narrow'), clip_unload()",
            "SELECT clip_classify(clip_embed_text('a', 'emoji'), '{a,b}', model => 'emoji')",
            "SELECT clip_probabilities('[1,0]', ARRAY['[0,1]']::vector[]), clip_blend(ARRAY['[0,1]']::vector[])",
            "SELECT clip_search_sql('secret')",
            "SELECT * FROM clip_diagnose()",
            "TABLE clip_models",
            "TABLE clip_loaded_models",
            "SET clip.default_model = 'narrow'; SET clip.batch_size = 2; SET clip.query_cache_size = 10",
        ] {
            assert_eq!(code(anyone, allowed), None, "{allowed}");
        }
        for forbidden in [
            "SELECT clip_auto_embed('secret', 'body', 'other', 'narrow')",
            "SELECT clip_auto_embed('secret', 'body', mode => 'row')",
            "SELECT clip_auto_embed_drop('secret')",
            "SELECT clip_adopt('secret', 'embedding', 'narrow')",
            "SELECT clip_retry('secret')",
            "CALL clip_reembed('secret', 'embedding', 'wide')",
            "TABLE _clip.failures",
            "TABLE _clip.activity",
            "INSERT INTO _clip.activity DEFAULT VALUES",
            "SET clip.model_path = '/tmp'",
            "SET clip.onnxruntime_path = '/tmp/x.so'",
            "SET clip.max_image_bytes = '1GB'",
            "SET clip.max_image_pixels = 1000000000",
            "SET clip.image_formats = 'tiff'",
            "SET clip.max_threads = 64",
            "SHOW clip.model_path",
            "ALTER EXTENSION pg_clip UPDATE",
            "CREATE TABLE public.mine (id int)",
        ] {
            assert_eq!(code(anyone, forbidden), DENIED, "{forbidden}");
        }
        for parameter in ["clip.max_workers", "clip.worker_naptime"] {
            let changed = code(anyone, &format!("SET {parameter} = 5"));
            assert_eq!(changed, Some(SqlState::CANT_CHANGE_RUNTIME_PARAM), "{parameter}");
        }
    }
    // Who may write may fill in what is missing; nobody else may.
    for fill in ["SELECT clip_backfill_batch('secret')", "CALL clip_backfill('secret')"] {
        assert_eq!((code(&mut guest, fill), code(&mut reader, fill)), (DENIED, DENIED), "{fill}");
        assert_eq!(code(&mut writer, fill), None, "{fill}");
    }
    // The internal functions do nothing that the public ones would not let him do.
    let oid: u32 = owner.query_one("SELECT 'secret'::regclass::oid", &[]).unwrap().get(0);
    for (anyone, name) in [(&mut guest, "guest"), (&mut reader, "reader")] {
        for forbidden in [
            format!("SELECT _clip_record_failure({oid}, 'zz_clip_embedding', '{{}}', '', '55000', 'invented', true)"),
            format!("SELECT _clip_forget_failures({oid}, 'zz_clip_pixels', NULL)"),
            format!("SELECT _clip_report_activity({oid}, 'zz_clip_embedding', 'worker', 1, 1, 1)"),
            format!("SELECT * FROM _clip_pass({oid}, 'zz_clip_embedding', 10, NULL, 'public')"),
            "SELECT clip_auto_embed_row()".to_owned(),
            "SELECT clip_auto_embed_statement()".to_owned(),
        ] {
            let error = code(anyone, &forbidden);
            assert!(error.is_some() && error != Some(SqlState::INTERNAL_ERROR), "{name}: {forbidden}: {error:?}");
        }
    }
    // What failed is told to those who may read the table.
    let failures = |client: &mut Client| client.query("TABLE clip_failures", &[]).unwrap().len();
    assert_eq!((failures(&mut guest), failures(&mut reader), failures(&mut owner)), (0, 1, 1));
    // That a column embeds itself is in the catalogs, which all may read; how many rows there are is not.
    let counted = |client: &mut Client| {
        let query = "SELECT count(*), count(rows), count(embedded), count(failed) FROM clip_auto_embed_status";
        let row = client.query_one(query, &[]).unwrap();
        [0, 1, 2, 3].map(|column| row.get::<_, i64>(column))
    };
    assert_eq!((counted(&mut guest), counted(&mut reader)), ([2, 0, 0, 0], [2, 2, 2, 2]));
    // Who may write writes, and is embedded for.
    assert_eq!(code(&mut writer, "INSERT INTO secret (id, body, picture) VALUES (2, 'b', 'no picture either')"), None);
    assert_eq!(failures(&mut writer), 2);
}

#[test]
fn errors_carry_no_paths_texts_or_bytes_for_those_who_are_no_superusers() {
    let cluster = Cluster::start();
    let models = cluster.models();
    std::fs::write(models.join("wide/onnx/text_model.onnx"), b"damaged").unwrap();
    std::fs::create_dir(models.join("empty")).unwrap();
    let mut owner = cluster.connect();
    owner.batch_execute("CREATE ROLE guest LOGIN").unwrap();
    let mut guest = cluster.connect_as("guest");
    let secret = "SECRETSECRET";
    let path = cluster.directory.display().to_string();
    for statement in [
        "SELECT clip_embed_text('SECRETSECRET', 'wide')",
        "SELECT clip_embed_text('SECRETSECRET', 'empty')",
        "SELECT clip_embed_text('SECRETSECRET', 'missing')",
        "SELECT clip_embed_text('SECRETSECRET', '../wide')",
        "SET clip.text_overflow = 'error'; SELECT clip_embed_text(repeat('SECRETSECRET ', 100), 'narrow')",
        "SELECT clip_embed_text(repeat('SECRETSECRET', 100000), 'narrow')",
        "SELECT clip_embed_image('SECRETSECRET', 'narrow')",
        r"SELECT clip_embed_image('\x89504e470d0a1a0a'::bytea || 'SECRETSECRET', 'narrow')",
        r"SELECT clip_embed_image('\xffd8ffe0'::bytea || 'SECRETSECRET', 'narrow')",
        "SELECT clip_image_info('SECRETSECRET')",
    ] {
        let error = guest.batch_execute(statement).expect_err(statement);
        let error = error.as_db_error().unwrap();
        let told = format!("{} {:?} {:?} {:?}", error.message(), error.detail(), error.hint(), error.where_());
        assert!(!told.contains(&path) && !told.contains("/tmp") && !told.contains(secret), "{statement}: {told}");
    }
    let told: Vec<String> =
        guest.query("SELECT value FROM clip_diagnose()", &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert!(told.iter().all(|value| !value.contains('/') || value.contains("PostgreSQL")), "{told:#?}");
}

/// What pgspot looks for, told by the catalogs.
#[test]
fn the_install_script_is_safe_to_run() {
    let script = std::fs::read_to_string(root().join("sql/pg_clip--0.1.0.sql")).unwrap();
    for word in ["OR REPLACE", "IF NOT EXISTS", "SECURITY DEFINER"] {
        // "IF NOT EXISTS (" begins a condition of PL/pgSQL.
        let found: Vec<&str> =
            script.lines().filter(|line| line.contains(word) && !line.contains("IF NOT EXISTS (")).collect();
        assert!(found.is_empty(), "{word}: {found:?}");
    }
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let members = "FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e' \
        JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_clip' JOIN pg_language AS l ON l.oid = p.prolang";
    let count = |client: &mut Client, condition: &str| -> Vec<String> {
        let query = format!("SELECT p.proname::text {members} WHERE {condition} ORDER BY 1");
        client.query(&query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert!(count(&mut client, "true").len() > 30);
    assert_eq!(count(&mut client, "p.prosecdef"), Vec::<String>::new());
    // Where the body is kept as it was understood when it was made, there is nothing to pin. Those that commit cannot; nor can those that run what
    // the caller wrote, with his search_path. All that they name themselves is qualified.
    let unpinned = "l.lanname <> 'c' AND p.prosqlbody IS NULL AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)";
    assert_eq!(
        count(&mut client, unpinned),
        [
            "_clip_run_search",
            "clip_auto_embed_statement",
            "clip_backfill",
            "clip_backfill_batch",
            "clip_hybrid_search",
            "clip_near_duplicates",
            "clip_reembed",
            "clip_search",
            "clip_search_image",
            "clip_search_vector"
        ]
    );
}

#[test]
fn a_type_that_pretends_to_be_pgvectors_is_refused() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "DROP EXTENSION pg_clip; DROP EXTENSION vector; CREATE SCHEMA tools; CREATE EXTENSION vector SCHEMA tools;
             CREATE TYPE public.vector AS (a int)",
        )
        .unwrap();
    assert_eq!(code(&mut client, "CREATE EXTENSION pg_clip SCHEMA public"), Some(SqlState::DUPLICATE_OBJECT));
    assert_eq!(code(&mut client, "CREATE EXTENSION pg_clip SCHEMA tools"), None);
    assert_eq!(code(&mut client, "SELECT tools.vector_dims(tools.clip_embed_text('a', 'narrow'))"), None);
}
