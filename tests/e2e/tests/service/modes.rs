//! Triggers of all modes, workers, backfills, classification and searches use the service.

use e2e::{count, create_extension, picture, sqlstate, wait_until};
use postgres::error::SqlState;

use super::{running, served};

#[test]
fn every_mode_a_backfill_and_a_search_use_the_service() {
    let cluster = served();
    let mut client = cluster.connect();
    for (mode, on_error) in [("row", "null"), ("statement", "null"), ("queue", "skip")] {
        client
            .batch_execute(&format!(
                "CREATE TABLE {mode}s (id int PRIMARY KEY, title text, file bytea);
                 SELECT clip_auto_embed('{mode}s', 'title', model => 'wide', mode => '{mode}'),
                        clip_auto_embed('{mode}s', 'file', 'file_embedding', model => 'wide', mode => '{mode}', on_error => '{on_error}');
                 INSERT INTO {mode}s SELECT i, 'text ' || i FROM generate_series(1, 200) AS i"
            ))
            .unwrap();
        client
            .execute(
                &format!("UPDATE {mode}s SET file = CASE WHEN id = 7 THEN '\\x00'::bytea ELSE $1 END WHERE id <= 10"),
                &[&picture("rgb_444.jpg")],
            )
            .unwrap();
        wait_until(&mut client, &format!("SELECT count(embedding) = 200 AND count(file_embedding) = 9 FROM {mode}s"));
        let failed = format!("SELECT count(*) FROM clip_failures WHERE relation = '{mode}s' AND key ->> 'id' = '7'");
        wait_until(&mut client, &format!("SELECT ({failed}) = 1"));
        let wrong = format!(
            "SELECT count(*) FROM {mode}s WHERE (embedding <=> clip_embed_text(title, 'wide') < 1e-5) IS NOT TRUE"
        );
        assert_eq!(count(&mut client, &wrong), 0, "{mode}");
        let search = format!("SELECT key::bigint FROM clip_search('{mode}s', 'text 123', 1, target => 'embedding')");
        assert_eq!(count(&mut client, &search), 123);
    }
    client
        .batch_execute(
            "CREATE TABLE old (id int PRIMARY KEY, title text);
             INSERT INTO old SELECT i, 'text ' || i FROM generate_series(1, 500) AS i;
             SELECT clip_auto_embed('old', 'title', model => 'wide')",
        )
        .unwrap();
    client.batch_execute("CALL clip_backfill('old')").unwrap();
    assert_eq!(count(&mut client, "SELECT count(embedding) FROM old"), 500);
    let label = "SELECT label FROM clip_classify(clip_embed_text('car'), '{banana,car,house}') LIMIT 1";
    assert_eq!(client.query_one(label, &[]).unwrap().get::<_, String>(0), "car");
    client
        .batch_execute(
            "SELECT * FROM clip_classify_image((SELECT file FROM rows WHERE id = 1), '{a,b}', model => 'emoji')",
        )
        .unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models"), 0, "the session has computed itself");
    cluster.assert_no_crash();
}

#[test]
fn prewarming_loads_the_model_into_the_service() {
    let cluster = served();
    let mut client = cluster.connect();
    client.batch_execute("SELECT clip_prewarm('wide', 'both')").unwrap();
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models"), 0);
    let loaded = "SELECT count(*) FROM clip_service, jsonb_array_elements(models) AS m WHERE m ->> 'name' = 'wide'";
    assert!(count(&mut client, loaded) > 0);
}

/// An ordinary role embeds and sees no statistics. Both extensions are in a schema that only some roles can use.
#[test]
fn ordinary_roles_use_the_service_and_only_monitors_see_it() {
    let cluster = served();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE ROLE writer LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher;
             CREATE TABLE item (id int PRIMARY KEY, title text);
             SELECT clip_auto_embed('item', 'title', model => 'wide');
             GRANT INSERT, SELECT ON item TO writer",
        )
        .unwrap();
    let mut writer = cluster.connect_as_caller("writer");
    writer.batch_execute("INSERT INTO item VALUES (1, 'a red car')").unwrap();
    if let Some(schema) = e2e::schema() {
        writer.batch_execute(&format!("SET search_path = public, {schema}")).unwrap();
    }
    assert_eq!(
        count(&mut writer, "SELECT count(*) FROM item WHERE embedding <=> clip_embed_text('a red car', 'wide') < 1e-5"),
        1
    );
    for denied in ["TABLE clip_service", "SELECT * FROM _clip_service()"] {
        assert_eq!(sqlstate(&writer.batch_execute(denied).unwrap_err()), &SqlState::INSUFFICIENT_PRIVILEGE, "{denied}");
    }
    let line = "SELECT value FROM clip_diagnose() WHERE item = 'embedding service'";
    assert_eq!(writer.query_one(line, &[]).unwrap().get::<_, String>(0), "running");
    let mut watcher = cluster.connect_as_caller("watcher");
    if let Some(schema) = e2e::schema() {
        watcher.batch_execute(&format!("SET search_path = public, {schema}")).unwrap();
    }
    assert_eq!(running(&mut watcher), running(&mut client));
    // pg_monitor is a member of pg_read_all_settings.
    watcher.batch_execute("SHOW clip.service_socket").unwrap();
    let hidden = writer.batch_execute("SHOW clip.service_socket").unwrap_err();
    assert_eq!(sqlstate(&hidden), &SqlState::INSUFFICIENT_PRIVILEGE);
}

/// One service answers for all databases.
#[test]
fn databases_share_the_service() {
    let cluster = served();
    let mut client = cluster.connect();
    client.batch_execute("CREATE DATABASE other").unwrap();
    let mut config = cluster.config("postgres");
    let mut other = config.dbname("other").connect(postgres::NoTls).unwrap();
    other.batch_execute(&create_extension()).unwrap();
    other
        .batch_execute(
            "CREATE TABLE item (id int PRIMARY KEY, title text);
             SELECT clip_auto_embed('item', 'title', model => 'narrow', mode => 'queue');
             INSERT INTO item SELECT i, 'text ' || i FROM generate_series(1, 100) AS i",
        )
        .unwrap();
    wait_until(&mut other, "SELECT count(embedding) = 100 FROM item");
    assert_eq!(running(&mut other), running(&mut client));
}
