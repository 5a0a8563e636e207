//! The functions, settings and rows that each role can use.

use super::*;

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
    let mut guest = cluster.connect_as_caller("guest");
    let mut reader = cluster.connect_as_caller("reader");
    let mut writer = cluster.connect_as_caller("writer");
    for anyone in [&mut guest, &mut reader, &mut writer] {
        for allowed in ["SELECT * FROM clip_diagnose()", "TABLE clip_models", "TABLE clip_loaded_models"] {
            assert_eq!(code(anyone, allowed), None, "{allowed}");
        }
        for forbidden in [
            "TABLE _clip.failures",
            "TABLE _clip.activity",
            "INSERT INTO _clip.activity DEFAULT VALUES",
            "ALTER EXTENSION pg_clip UPDATE",
            "CREATE TABLE public.mine (id int)",
        ] {
            assert_eq!(code(anyone, forbidden), DENIED, "{forbidden}");
        }
    }
    // The internal functions do nothing that the public ones forbid.
    let oid: u32 = owner.query_one("SELECT 'secret'::regclass::oid", &[]).unwrap().get(0);
    for (anyone, name) in [(&mut guest, "guest"), (&mut reader, "reader")] {
        for (forbidden, with) in [
            (format!("SELECT _clip_forget_failures({oid}, 'zz_clip_pixels')"), SqlState::INSUFFICIENT_PRIVILEGE),
            (
                format!("SELECT _clip_backfill_step({oid}, 'zz_clip_embedding', 10, true)"),
                SqlState::INSUFFICIENT_PRIVILEGE,
            ),
            (format!("SELECT _clip_backfill_rows({oid}, 'zz_clip_embedding', 10)"), SqlState::INSUFFICIENT_PRIVILEGE),
            ("SELECT clip_auto_embed_row()".to_owned(), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE),
            ("SELECT clip_auto_embed_statement()".to_owned(), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE),
        ] {
            assert_eq!(code(anyone, &forbidden), Some(with), "{name}: {forbidden}");
        }
    }
    // Roles that can read the table see its failures.
    let failures = |client: &mut Client| client.query("TABLE clip_failures", &[]).unwrap().len();
    assert_eq!((failures(&mut guest), failures(&mut reader), failures(&mut owner)), (0, 1, 1));
    // All roles can read in the catalogs that a column is managed. Only readers of the table see the number of rows.
    let counted = |client: &mut Client| {
        let query = "SELECT count(*), count(rows), count(embedded), count(failed) FROM clip_auto_embed_status";
        let row = client.query_one(query, &[]).unwrap();
        [0, 1, 2, 3].map(|column| row.get::<_, i64>(column))
    };
    assert_eq!((counted(&mut guest), counted(&mut reader)), ([2, 0, 0, 0], [2, 2, 2, 2]));
    // A role that can write gets its rows embedded.
    assert_eq!(code(&mut writer, "INSERT INTO secret (id, body, picture) VALUES (2, 'b', 'no picture either')"), None);
    assert_eq!(failures(&mut writer), 2);
}

/// Returns the names of the extension's functions that meet a condition on `p`, the function, and `l`, its language.
pub fn members(client: &mut Client, condition: &str) -> Vec<String> {
    let query = format!(
        "SELECT p.proname::text FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e' \
            JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_clip' JOIN pg_language AS l ON l.oid = p.prolang \
            WHERE {condition} ORDER BY 1"
    );
    client.query(&query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn every_function_is_limited_to_the_intended_roles() {
    let cluster = Cluster::start();
    let mut superuser = cluster.connect();
    superuser
        .batch_execute(
            "CREATE ROLE guest LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN; CREATE ROLE keeper LOGIN;
             CREATE SCHEMA gallery AUTHORIZATION keeper",
        )
        .unwrap();
    let mut keeper = cluster.connect_as_caller("keeper");
    keeper
        .batch_execute(
            "GRANT USAGE ON SCHEMA gallery TO PUBLIC;
             CREATE TABLE gallery.item (id int PRIMARY KEY, body text, note text, words tsvector, spare vector(32));
             GRANT SELECT ON gallery.item TO reader; GRANT SELECT, INSERT, UPDATE ON gallery.item TO writer;
             SELECT clip_auto_embed('gallery.item', 'body', model => 'narrow');
             INSERT INTO gallery.item SELECT i, 'text ' || i, 'a note' FROM generate_series(1, 20) AS i",
        )
        .unwrap();
    let picture: String = picture("rgb_444.jpg").iter().map(|byte| format!("{byte:02x}")).collect();
    let of_pictures = [
        format!("clip_embed_image('\\x{picture}', 'narrow')"),
        format!("clip_embed_images(ARRAY['\\x{picture}'::bytea], 'narrow')"),
        format!("clip_image_info('\\x{picture}')"),
        format!("clip_classify_image('\\x{picture}', '{{a,b}}', model => 'emoji')"),
    ];
    let searched = format!("clip_search_image('gallery.item', '\\x{picture}')");
    let asked = format!("clip_query_image('gallery.item', '\\x{picture}')");
    let mut calls: Vec<(&str, May)> = of_pictures.iter().map(|call| (call.as_str(), May::Anyone)).collect();
    calls.extend([
        ("clip_embed_text('a', 'narrow')", May::Anyone),
        ("clip_embed_texts('{a,b}', 'narrow')", May::Anyone),
        ("clip_token_count('a', 'narrow')", May::Anyone),
        ("clip_prewarm('narrow')", May::Anyone),
        ("clip_unload()", May::Anyone),
        ("clip_classify(clip_embed_text('a', 'emoji'), '{a,b}', model => 'emoji')", May::Anyone),
        ("clip_probabilities('[1,0]', ARRAY['[0,1]']::vector[])", May::Anyone),
        ("clip_blend(ARRAY['[0,1]']::vector[])", May::Anyone),
        ("clip_rotate('[0,1]', '[1,0]', 2)", May::Anyone),
        ("clip_search_sql('gallery.item')", May::Anyone),
        ("clip_query('gallery.item', 'a')", May::Anyone),
        (&asked, May::Anyone),
        ("clip_diagnose()", May::Anyone),
        (&searched, May::Readers),
        ("clip_search('gallery.item', 'a')", May::Readers),
        ("clip_search_vector('gallery.item', clip_embed_text('a', 'narrow'))", May::Readers),
        ("clip_hybrid_search('gallery.item', 'a', 'words')", May::Readers),
        ("clip_typical_distance('gallery.item', 'a')", May::Readers),
        ("clip_near_duplicates('gallery.item')", May::Readers),
        ("clip_duplicate_groups('gallery.item')", May::Readers),
        ("clip_index_recall('gallery.item', sample => 2)", May::Readers),
        ("clip_backfill_batch('gallery.item')", May::Writers),
        ("clip_backfill('gallery.item')", May::Writers),
        ("clip_auto_embed('gallery.item', 'note', 'of_note', 'narrow')", May::Owner),
        ("clip_adopt('gallery.item', 'spare', 'narrow')", May::Owner),
        ("clip_retry('gallery.item', 'embedding')", May::Owner),
        ("clip_reembed('gallery.item', 'embedding', 'wide')", May::Owner),
        ("clip_auto_embed_drop('gallery.item', 'of_note')", May::Owner),
        ("clip_auto_embed_row()", May::Triggers(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)),
        ("clip_auto_embed_statement()", May::Triggers(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)),
        ("clip_auto_embed_check()", May::Triggers(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)),
        ("clip_ddl()", May::Triggers(SqlState::E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED)),
    ]);
    for (call, may) in &calls {
        for (rank, role) in ["guest", "reader", "writer", "keeper"].into_iter().enumerate() {
            let expected = match may {
                May::Anyone => None,
                May::Readers => DENIED.filter(|_| rank < 1),
                May::Writers => DENIED.filter(|_| rank < 2),
                May::Owner => DENIED.filter(|_| rank < 3),
                May::Triggers(with) => Some(with.clone()),
            };
            let name = call.split('(').next().unwrap();
            let word = if ["clip_backfill", "clip_reembed"].contains(&name) { "CALL" } else { "SELECT" };
            let outcome = code(&mut cluster.connect_as_caller(role), &format!("{word} {call}"));
            assert_eq!(outcome, expected, "{role}: {word} {name}");
        }
    }
    // The list contains every public function.
    let mut public = members(&mut superuser, "p.proname LIKE 'clip\\_%'");
    public.dedup();
    let mut called: Vec<&str> = calls.iter().map(|(call, _)| call.split('(').next().unwrap()).collect();
    called.sort_unstable();
    assert_eq!(called, public);
}

#[test]
fn every_setting_is_limited_to_the_intended_roles() {
    let cluster = Cluster::start();
    let mut superuser = cluster.connect();
    superuser.batch_execute("LOAD 'pg_clip'; CREATE ROLE guest LOGIN").unwrap();
    let mut guest = cluster.connect_as_caller("guest");
    guest.batch_execute("SELECT clip_prewarm('narrow')").unwrap();
    const AT_RELOAD: Option<SqlState> = Some(SqlState::CANT_CHANGE_RUNTIME_PARAM);
    let settings = [
        // The setting, how a role fails to set it and to see it, and how a superuser fails to set it.
        ("clip.batch_size", None, None, None),
        ("clip.default_model", None, None, None),
        ("clip.image_formats", DENIED, None, None),
        ("clip.max_image_bytes", DENIED, None, None),
        ("clip.max_image_pixels", DENIED, None, None),
        ("clip.max_threads", DENIED, None, None),
        ("clip.max_workers", AT_RELOAD, None, AT_RELOAD),
        ("clip.model_path", DENIED, DENIED, None),
        ("clip.onnxruntime_path", DENIED, DENIED, None),
        ("clip.prepared_path", DENIED, DENIED, None),
        ("clip.query_cache_size", None, None, None),
        ("clip.service", AT_RELOAD, None, AT_RELOAD),
        ("clip.service_fallback", DENIED, None, None),
        ("clip.service_memory", AT_RELOAD, None, AT_RELOAD),
        ("clip.service_provider", AT_RELOAD, None, AT_RELOAD),
        ("clip.service_socket", AT_RELOAD, DENIED, AT_RELOAD),
        ("clip.service_threads", AT_RELOAD, None, AT_RELOAD),
        ("clip.text_overflow", None, None, None),
        ("clip.threads", None, None, None),
        ("clip.worker_naptime", AT_RELOAD, None, AT_RELOAD),
    ];
    for (name, set, seen, superuser_set) in &settings {
        let change = format!("SET {name} TO DEFAULT");
        assert_eq!(&code(&mut guest, &change), set, "{change}");
        assert_eq!(&code(&mut guest, &format!("SHOW {name}")), seen, "SHOW {name}");
        assert_eq!(&code(&mut superuser, &change), superuser_set, "{change}, by a superuser");
    }
    let all = "SELECT name FROM pg_settings WHERE name LIKE 'clip.%' ORDER BY 1";
    let all: Vec<String> = superuser.query(all, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(settings.map(|(name, ..)| name).to_vec(), all);
}

#[test]
fn errors_show_no_paths_texts_or_bytes_to_ordinary_roles() {
    let cluster = Cluster::start();
    let models = cluster.models();
    std::fs::write(models.join("wide/onnx/text_model.onnx"), b"damaged").unwrap();
    std::fs::create_dir(models.join("empty")).unwrap();
    let mut owner = cluster.connect();
    owner.batch_execute("CREATE ROLE guest LOGIN").unwrap();
    let mut guest = cluster.connect_as_caller("guest");
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

/// A session without the library does not know its settings.
#[test]
fn owners_store_defaults_in_sessions_that_have_not_loaded_the_library() {
    let cluster = Cluster::start();
    let mut superuser = cluster.connect();
    superuser.batch_execute("CREATE ROLE keeper LOGIN").unwrap();
    superuser.batch_execute("CREATE DATABASE shop OWNER keeper").unwrap();
    let connect = |user: &str| cluster.config(user).dbname("shop").connect(postgres::NoTls).unwrap();
    connect("postgres").batch_execute("CREATE EXTENSION pg_clip CASCADE").unwrap();
    for (name, value) in [
        ("clip.default_model", "narrow"),
        ("clip.threads", "2"),
        ("clip.batch_size", "16"),
        ("clip.query_cache_size", "10"),
        ("clip.text_overflow", "error"),
    ] {
        for whose in ["DATABASE shop", "ROLE keeper"] {
            let set = format!("ALTER {whose} SET {name} = '{value}'");
            assert_eq!(code(&mut connect("keeper"), &set), None, "{set}");
        }
        let now: String = connect("keeper")
            .query_one(&format!("SELECT current_setting('{name}') FROM clip_embed_text('a')"), &[])
            .unwrap()
            .get(0);
        assert_eq!(now, value, "{name}");
    }
    let dimensions = "SELECT vector_dims(clip_embed_text('a'))";
    assert_eq!(connect("keeper").query_one(dimensions, &[]).unwrap().get::<_, i32>(0), 32);
    // Settings of superusers stay reserved for superusers.
    for set in [
        "clip.model_path = '/tmp'",
        "clip.max_threads = 8",
        "clip.onnxruntime_path = '/tmp/x'",
        "clip.prepared_path = '/tmp'",
    ] {
        assert_eq!(code(&mut connect("keeper"), &format!("ALTER DATABASE shop SET {set}")), DENIED, "{set}");
    }
    // The grants belong to the server: they outlive the extension and apply after it is created again.
    connect("postgres").batch_execute("DROP EXTENSION pg_clip; CREATE EXTENSION pg_clip").unwrap();
    let granted = "SELECT count(*) FROM pg_parameter_acl WHERE parname LIKE 'clip.%'";
    assert_eq!(e2e::count(&mut superuser, granted), 5);
    let globals = Command::new(e2e::pg_config("--bindir") + "/pg_dumpall")
        .args(["--globals-only", "--username=postgres", "--host"])
        .arg(&cluster.directory)
        .output()
        .unwrap();
    let globals = String::from_utf8(globals.stdout).unwrap();
    assert_eq!(globals.matches("GRANT SET ON PARAMETER \"clip.").count(), 5, "{globals}");
}
