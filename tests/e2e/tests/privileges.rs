//! What a role can do that has nothing but a connection, and what the install script leaves to nobody else.

use std::path::Path;
use std::process::Command;

use e2e::{Cluster, code, root, run};
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
        for (forbidden, with) in [
            (
                format!(
                    "SELECT _clip_record_failure({oid}, 'zz_clip_embedding', '{{}}', '', '55000', 'invented', true)"
                ),
                SqlState::INSUFFICIENT_PRIVILEGE,
            ),
            (format!("SELECT _clip_forget_failures({oid}, 'zz_clip_pixels', NULL)"), SqlState::INSUFFICIENT_PRIVILEGE),
            (
                format!("SELECT _clip_report_activity({oid}, 'zz_clip_embedding', 'worker', 1, 1, 1)"),
                SqlState::INSUFFICIENT_PRIVILEGE,
            ),
            (
                format!("SELECT * FROM _clip_pass({oid}, 'zz_clip_embedding', 10, NULL, 'public')"),
                SqlState::INSUFFICIENT_PRIVILEGE,
            ),
            ("SELECT clip_auto_embed_row()".to_owned(), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE),
            ("SELECT clip_auto_embed_statement()".to_owned(), SqlState::FEATURE_NOT_SUPPORTED),
        ] {
            assert_eq!(code(anyone, &forbidden), Some(with), "{name}: {forbidden}");
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

/// Timescale's checker finds nothing that would be looked for in a schema that others may write in. What functions are
/// pinned, the catalogs tell; bodies in PL/pgSQL are more than it can read.
#[test]
fn pgspot_finds_nothing() {
    let folder = root().join("tests/pgspot");
    let python = root().join("target/python-pgspot");
    run(Command::new(root().join("scripts/environment.sh")).arg(&python).arg(folder.join("requirements.txt")));
    let check = |script: &Path| {
        let mut command = Command::new(python.join("bin/python"));
        command.arg(folder.join("check.py")).args(["--no-plpgsql", "--ignore", "PS005"]).arg(script);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let mut checked = 0;
    for entry in std::fs::read_dir(root().join("sql")).unwrap() {
        let script = entry.unwrap().path();
        if script.extension().is_some_and(|extension| extension == "sql") {
            assert_eq!(check(&script).trim(), "Errors: 0 Warnings: 0 Unknown: 0", "{}", script.display());
            checked += 1;
        }
    }
    assert!(checked > 0);
    // It reads bodies of both kinds.
    let careless = std::env::temp_dir().join(format!("pg_clip-{}-careless.sql", std::process::id()));
    for body in ["RETURN encode('', 'hex')", "AS $$SELECT encode('', 'hex')$$"] {
        std::fs::write(&careless, format!("CREATE FUNCTION f() RETURNS text LANGUAGE sql {body};")).unwrap();
        let told = check(&careless);
        assert!(told.contains("PS016: Unqualified function call: encode"), "{body}: {told}");
    }
    std::fs::remove_file(&careless).unwrap();
}

/// What nobody may have, told by the catalogs.
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

/// Operators and functions that fit better than the server's own, in the schema that the extension is then created in.
const PLANTED: &str = r#"
    DO $plant$
    DECLARE
        types CONSTANT text[] := '{oid,int2,int4,int8,float8,numeric,name,text,"char",regclass,regtype,regprocedure,timestamptz,jsonb,_int2,_oid}';
        one text;
        other text;
        operator text;
    BEGIN
        FOREACH one IN ARRAY types LOOP
            FOREACH other IN ARRAY types LOOP
                EXECUTE format('CREATE FUNCTION public.planted(%s, %s) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE ''planted''; END$$', one, other);
                EXECUTE format('CREATE FUNCTION public.planted_too(%1$s, %2$s) RETURNS %1$s LANGUAGE plpgsql AS $$BEGIN RAISE ''planted''; END$$', one, other);
                FOREACH operator IN ARRAY '{=,<>,<,<=,>,>=}'::text[] LOOP
                    EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.planted)', operator, one, other);
                END LOOP;
                FOREACH operator IN ARRAY '{+,-,*,/,||}'::text[] LOOP
                    EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.planted_too)', operator, one, other);
                END LOOP;
            END LOOP;
        END LOOP;
    END
    $plant$;
    CREATE FUNCTION public.has_table_privilege(regclass, text) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'planted'; END$$;
    CREATE FUNCTION public.format(text, name, name) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'planted'; END$$;
    CREATE FUNCTION public.format(text, text, name) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'planted'; END$$;
    CREATE FUNCTION public._clip_key(oid, OUT names name[], OUT types text[], OUT operators text[], OUT built_in boolean) RETURNS SETOF record
        LANGUAGE plpgsql AS $$BEGIN RAISE 'planted'; END$$;
"#;

#[test]
fn what_was_planted_in_the_schema_is_not_built_in() {
    let cluster = Cluster::start();
    let mut owner = cluster.connect();
    owner
        .batch_execute("DROP EXTENSION pg_clip; CREATE ROLE planter LOGIN; GRANT CREATE ON SCHEMA public TO PUBLIC")
        .unwrap();
    cluster.connect_as("planter").batch_execute(PLANTED).unwrap();
    assert!(code(&mut owner, "SELECT 1::oid = 1::int4").is_some(), "what is planted is not found");
    owner.batch_execute("CREATE EXTENSION pg_clip").unwrap();
    let log = std::fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert!(log.contains(r#"WARNING:  everybody may create objects in schema "public""#), "{log}");
    // What views and bodies were understood to mean is in the catalogs.
    let built_in = "SELECT pg_describe_object(classid, objid, 0) FROM pg_depend \
        WHERE deptype = 'n' AND classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass, 'pg_attrdef'::regclass) AND (\
            refclassid = 'pg_proc'::regclass AND refobjid IN (SELECT oid FROM pg_proc WHERE proowner = 'planter'::regrole) OR \
            refclassid = 'pg_operator'::regclass AND refobjid IN (SELECT oid FROM pg_operator WHERE oprowner = 'planter'::regrole))";
    owner.batch_execute("SET search_path = pg_catalog").unwrap();
    let built_in: Vec<String> = owner.query(built_in, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(built_in, Vec::<String>::new());
    // And what is read when it is called finds none of it either.
    for used in [
        "CREATE TABLE public.item (id int PRIMARY KEY, body text, words tsvector)",
        "INSERT INTO public.item SELECT i, 'text ' || i FROM generate_series(1, 20) AS i",
        "SET search_path = public",
        "SELECT clip_auto_embed('item', 'body', model => 'emoji')",
        "CALL clip_backfill('item')",
        "INSERT INTO item VALUES (0, 'another')",
        "UPDATE item SET body = 'a third'",
        "SELECT clip_auto_embed('item', 'body', model => 'emoji', mode => 'statement')",
        "INSERT INTO item VALUES (21, 'in a statement')",
        "CALL clip_reembed('item', 'embedding', 'narrow')",
        "TABLE clip_auto_embed_status",
        "TABLE clip_failures",
        "TABLE clip_progress",
        "SELECT clip_retry('item')",
        "SELECT FROM clip_search(NULL::item, 'text')",
        "SELECT FROM clip_hybrid_search(NULL::item, 'text', 'words')",
        "SELECT FROM clip_duplicate_groups('item')",
        "SELECT FROM clip_index_recall('item', sample => 2)",
        "SELECT clip_auto_embed_drop('item', keep_column => false)",
    ] {
        assert_eq!(code(&mut owner, used), None, "{used}");
    }
}
