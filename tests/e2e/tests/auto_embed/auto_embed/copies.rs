//! Temporary tables, subscribers, dumps.

use super::*;

#[test]
fn temporary_tables_are_their_sessions_own() {
    let cluster = Cluster::start();
    let (mut client, mut other) = (cluster.connect(), cluster.connect());
    other
        .batch_execute(
            "CREATE TEMP TABLE passing (id int PRIMARY KEY, body text);
             SELECT clip_auto_embed('passing', 'body', model => 'narrow')",
        )
        .unwrap();
    const COLUMNS: &str = "SELECT count(*) FROM clip_auto_embed_status";
    assert_eq!(count(&mut other, COLUMNS), 1);
    assert_eq!(count(&mut client, COLUMNS), 0);
}

#[test]
fn a_trigger_does_not_fire_on_a_subscriber_and_no_worker_embeds_there() {
    let publisher = Cluster::start();
    let subscriber = Cluster::start();
    let mut source = publisher.connect();
    source.batch_execute("ALTER SYSTEM SET wal_level = 'logical'").unwrap();
    drop(source);
    publisher.restart();
    let (mut source, mut copy) = (publisher.connect(), subscriber.connect());
    for client in [&mut source, &mut copy] {
        client.batch_execute("CREATE TABLE item (id int PRIMARY KEY, body text)").unwrap();
        client.execute("SELECT clip_auto_embed('item', 'body', model => 'narrow', mode => 'queue')", &[]).unwrap();
        client.batch_execute("CREATE TABLE picked (id int PRIMARY KEY, body text)").unwrap();
        client.execute("SELECT clip_auto_embed('picked', 'body', model => 'narrow')", &[]).unwrap();
    }
    source.batch_execute("CREATE PUBLICATION p FOR TABLE item, picked").unwrap();
    let connection = format!("host={} port=5432 user=postgres dbname=postgres", publisher.directory.display());
    copy.batch_execute(&format!("CREATE SUBSCRIPTION s CONNECTION '{connection}' PUBLICATION p")).unwrap();
    // The subscriber has no model. The publisher embedded every row that it receives.
    std::fs::remove_dir_all(subscriber.models().join("narrow")).unwrap();
    // The subscriber keeps an embedding that the publisher wrote itself.
    source.batch_execute("INSERT INTO picked (id, body, embedding) VALUES (1, 'a', clip_embed_text('other', 'narrow')), (2, 'b', NULL)").unwrap();
    source.batch_execute("INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 200) AS i").unwrap();
    wait_until(&mut copy, "SELECT count(embedding) = 200 FROM item");
    wait_until(&mut copy, "SELECT count(embedding) = 2 FROM picked");
    let sum = "SELECT md5(string_agg(embedding::text, ',' ORDER BY id)) FROM";
    for table in ["item", "picked"] {
        let ask = |client: &mut Client| client.query_one(&format!("{sum} {table}"), &[]).unwrap().get::<_, String>(0);
        assert_eq!(ask(&mut source), ask(&mut copy), "{table}");
    }
    assert_eq!(count(&mut copy, "SELECT count(*) FROM clip_failures"), 0);
    copy.batch_execute("DROP SUBSCRIPTION s").unwrap();
}

/// Runs one of the server's programs on a database of a cluster.
fn program(name: &str, cluster: &Cluster, database: &str, arguments: &[&str]) {
    let mut command = Command::new(format!("{}/{name}", pg_config("--bindir")));
    command.args(["-h", cluster.directory.to_str().unwrap(), "-U", "postgres", "-d", database]).args(arguments);
    run(command);
}

#[test]
fn dumps_restore_everything_and_compute_nothing() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE DATABASE origin").unwrap();
    client.batch_execute("CREATE ROLE keeper").unwrap();
    let connect = |database: &str| cluster.config("postgres").dbname(database).connect(NoTls).unwrap();
    let mut origin = connect("origin");
    origin
        .batch_execute(
            "CREATE SCHEMA tools; CREATE SCHEMA vectors; CREATE SCHEMA own;
             CREATE EXTENSION vector SCHEMA vectors; CREATE EXTENSION pg_clip SCHEMA tools;
             CREATE TABLE own.by_row (id int PRIMARY KEY, body text);
             CREATE TABLE own.by_statement (id int PRIMARY KEY, body text);
             CREATE TABLE own.by_queue (id int PRIMARY KEY, body text);
             CREATE TABLE own.parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
             CREATE TABLE own.part PARTITION OF own.parts FOR VALUES FROM (0) TO (1000);
             ALTER TABLE own.by_row OWNER TO keeper;
             SET search_path = '';
             SELECT tools.clip_auto_embed('own.by_row', 'body', model => 'narrow', on_error => 'null');
             SELECT tools.clip_auto_embed('own.by_statement', 'body', model => 'narrow', mode => 'statement');
             SELECT tools.clip_auto_embed('own.by_queue', 'body', model => 'narrow', mode => 'queue', on_error => 'skip', type => 'halfvec');
             SELECT tools.clip_auto_embed('own.parts', 'body', model => 'narrow', type => 'halfvec');
             CREATE TABLE own.adopted AS SELECT 1 AS id, tools.clip_embed_text('mine', 'narrow')::vectors.vector(32) AS embedding;
             SELECT tools.clip_adopt('own.adopted', 'embedding', 'narrow');
             INSERT INTO own.by_row SELECT i, 'row ' || i FROM pg_catalog.generate_series(1, 100) AS i;
             INSERT INTO own.by_statement SELECT i, 'statement ' || i FROM pg_catalog.generate_series(1, 100) AS i;
             INSERT INTO own.by_queue SELECT i, 'queue ' || i FROM pg_catalog.generate_series(1, 100) AS i;
             INSERT INTO own.parts SELECT i, 'part ' || i FROM pg_catalog.generate_series(1, 100) AS i;
             SET clip.text_overflow = 'error';
             INSERT INTO own.by_row VALUES (101, pg_catalog.repeat('long ', 100));
             RESET clip.text_overflow; RESET search_path",
        )
        .unwrap();
    wait_until(&mut origin, "SELECT count(embedding) = 100 FROM own.by_queue");
    let fingerprint = |database: &str| -> Vec<String> {
        let mut client = connect(database);
        let tables = ["by_row", "by_statement", "by_queue", "parts", "adopted"];
        let mut lines: Vec<String> = tables
            .iter()
            .map(|table| {
                let sum =
                    format!("SELECT coalesce(md5(string_agg(t::text, ',' ORDER BY id)), '') FROM own.{table} AS t");
                client.query_one(&sum, &[]).unwrap().get(0)
            })
            .collect();
        let records = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0 \
            UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'own' \
            UNION ALL SELECT s::text FROM (SELECT relation, source, target, model, model_state, mode, on_error, index, embedded, failed FROM tools.clip_auto_embed_status) AS s \
            UNION ALL SELECT (relation, key, sqlstate, message, attempts, first_failed_at)::text FROM tools.clip_failures ORDER BY 1";
        lines.extend(client.query(records, &[]).unwrap().iter().map(|row| row.get::<_, String>(0)));
        lines
    };
    let before = fingerprint("origin");
    assert!(before.iter().any(|line| line.contains("54000")), "{before:#?}");
    drop(origin);
    // The model is missing, so no restored embedding was computed.
    let (narrow, away) = (cluster.models().join("narrow"), cluster.models().join(".narrow"));
    let folder = &cluster.directory;
    let path = |name: &str| folder.join(name).display().to_string();
    program("pg_dump", &cluster, "origin", &["-f", &path("plain.sql")]);
    program("pg_dump", &cluster, "origin", &["--inserts", "-f", &path("inserts.sql")]);
    program("pg_dump", &cluster, "origin", &["-Fc", "-f", &path("all.dump")]);
    program("pg_dump", &cluster, "origin", &["-Fd", "-j2", "-f", &path("folder")]);
    program("pg_dump", &cluster, "origin", &["-Fc", "--data-only", "-f", &path("data.dump")]);
    program("pg_dump", &cluster, "origin", &["-Fc", "--schema-only", "-f", &path("schema.dump")]);
    program("pg_dump", &cluster, "origin", &["-Fc", "-t", "own.by_row", "-f", &path("table.dump")]);
    for database in ["plain", "inserts", "parallel", "sections", "pieces", "firing", "one"] {
        client.batch_execute(&format!("CREATE DATABASE {database} TEMPLATE template0")).unwrap();
    }
    std::fs::rename(&narrow, &away).unwrap();
    for script in ["plain", "inserts"] {
        let file = path(&format!("{script}.sql"));
        program("psql", &cluster, script, &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file]);
    }
    for section in ["--section=pre-data", "--section=data", "--section=post-data"] {
        program("pg_restore", &cluster, "sections", &["--exit-on-error", section, &path("all.dump")]);
    }
    program("pg_restore", &cluster, "parallel", &["-j2", "--exit-on-error", &path("folder")]);
    program("pg_restore", &cluster, "pieces", &["--exit-on-error", &path("schema.dump")]);
    // The failed row has no embedding. With its trigger on, only this row would be embedded again.
    program("pg_restore", &cluster, "pieces", &["--exit-on-error", "--disable-triggers", &path("data.dump")]);
    // With triggers on, rows that have an embedding keep it.
    program("pg_restore", &cluster, "firing", &["--exit-on-error", &path("schema.dump")]);
    let tables = ["-t", "by_statement", "-t", "by_queue", "-t", "part", "-t", "adopted"];
    program("pg_restore", &cluster, "firing", &[&["--exit-on-error", &path("data.dump")][..], &tables].concat());
    program(
        "psql",
        &cluster,
        "one",
        &[
            "-X",
            "-q",
            "-c",
            "CREATE SCHEMA tools; CREATE SCHEMA vectors; CREATE SCHEMA own; CREATE EXTENSION vector SCHEMA vectors; CREATE EXTENSION pg_clip SCHEMA tools",
        ],
    );
    program("pg_restore", &cluster, "one", &["--exit-on-error", &path("table.dump")]);
    std::fs::rename(&away, &narrow).unwrap();
    for database in ["plain", "inserts", "parallel", "sections", "pieces"] {
        assert_eq!(fingerprint(database), before, "{database}");
        let mut restored = connect(database);
        restored.batch_execute("SET search_path = ''; INSERT INTO own.by_row VALUES (200, 'new'); INSERT INTO own.by_statement VALUES (200, 'new'); INSERT INTO own.parts VALUES (200, 'new'); INSERT INTO own.by_queue VALUES (200, 'new')").unwrap();
        wait_until(&mut restored, "SELECT count(*) = 101 FROM own.by_queue WHERE embedding IS NOT NULL");
        for table in ["by_row", "by_statement", "parts"] {
            assert_eq!(
                count(
                    &mut restored,
                    &format!("SELECT count(*) FROM own.{table} WHERE id = 200 AND embedding IS NOT NULL")
                ),
                1,
                "{table}"
            );
        }
    }
    assert_eq!(fingerprint("firing")[1..5], before[1..5]);
    // A dump of one table contains everything that the table needs.
    let mut one = connect("one");
    assert_eq!(count(&mut one, "SELECT count(embedding) FROM own.by_row"), 100);
    one.batch_execute("INSERT INTO own.by_row VALUES (200, 'new')").unwrap();
    assert_eq!(count(&mut one, "SELECT embedded FROM tools.clip_auto_embed_status"), 101);
}
