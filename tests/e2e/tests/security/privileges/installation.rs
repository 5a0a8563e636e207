//! The script of CREATE EXTENSION under hostile conditions.

use super::*;
use crate::roles::members;

/// Timescale's checker finds no name that would be resolved in a schema that others can write to. The catalogs show
/// which functions have a pinned search_path. The checker cannot read bodies in PL/pgSQL.
#[test]
fn pgspot_finds_nothing() {
    let folder = root().join("tests/pgspot");
    let python = root().join("target/python-pgspot");
    run(Command::new(root().join("scripts/dev/environment.sh")).arg(&python).arg(folder.join("requirements.txt")));
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
    // The checker reads both kinds of bodies.
    let careless = std::env::temp_dir().join(format!("pg_clip-{}-careless.sql", std::process::id()));
    for body in ["RETURN encode('', 'hex')", "AS $$SELECT encode('', 'hex')$$"] {
        std::fs::write(&careless, format!("CREATE FUNCTION f() RETURNS text LANGUAGE sql {body};")).unwrap();
        let told = check(&careless);
        assert!(told.contains("PS016: Unqualified function call: encode"), "{body}: {told}");
    }
    std::fs::remove_file(&careless).unwrap();
}

/// Checks the catalogs for rights that no function may have.
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
    assert!(members(&mut client, "true").len() > 30);
    assert_eq!(members(&mut client, "p.prosecdef"), Vec::<String>::new());
    // A body that is stored in parsed form needs no pinned search_path. Procedures that commit cannot pin it. Functions
    // that run the caller's text use the caller's search_path, and qualify all their own names.
    let unpinned = "l.lanname <> 'c' AND p.prosqlbody IS NULL AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)";
    let running = ["_clip_citus_fill", "clip_backfill", "clip_backfill_batch", "clip_reembed"];
    assert_eq!(members(&mut client, unpinned), running);
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

/// Operators and functions that match better than the server's own, in the schema in which the extension is then
/// created.
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
fn views_and_functions_do_not_use_objects_planted_in_the_schema() {
    let cluster = Cluster::start();
    let mut owner = cluster.connect();
    owner
        .batch_execute("DROP EXTENSION pg_clip; CREATE ROLE planter LOGIN; GRANT CREATE ON SCHEMA public TO PUBLIC")
        .unwrap();
    cluster.connect_as("planter").batch_execute(PLANTED).unwrap();
    assert!(code(&mut owner, "SELECT 1::oid = 1::int4").is_some(), "what is planted is not found");
    owner.batch_execute("CREATE EXTENSION pg_clip").unwrap();
    let log = std::fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert!(
        log.contains(r#"WARNING:  schema "public", which contains pg_clip, allows everyone to create objects"#),
        "{log}"
    );
    // The catalogs record the objects that views and bodies use.
    let built_in = "SELECT pg_describe_object(classid, objid, 0) FROM pg_depend \
        WHERE deptype = 'n' AND classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass, 'pg_attrdef'::regclass) AND (\
            refclassid = 'pg_proc'::regclass AND refobjid IN (SELECT oid FROM pg_proc WHERE proowner = 'planter'::regrole) OR \
            refclassid = 'pg_operator'::regclass AND refobjid IN (SELECT oid FROM pg_operator WHERE oprowner = 'planter'::regrole))";
    owner.batch_execute("SET search_path = pg_catalog").unwrap();
    let built_in: Vec<String> = owner.query(built_in, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(built_in, Vec::<String>::new());
    // Bodies that are parsed at each call use none of these objects either.
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
        "SELECT FROM clip_search('item', 'text')",
        "SELECT FROM clip_hybrid_search('item', 'text', 'words')",
        "SELECT FROM clip_duplicate_groups('item')",
        "SELECT FROM clip_index_recall('item', sample => 2)",
        "SELECT clip_auto_embed_drop('item', keep_column => false)",
    ] {
        assert_eq!(code(&mut owner, used), None, "{used}");
    }
}
