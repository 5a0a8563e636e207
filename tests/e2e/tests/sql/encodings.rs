//! Databases with encodings other than UTF-8: the same texts have the same embeddings, names stay unchanged, and bytes
//! that are not valid text are rejected.

use e2e::{Cluster, sqlstate, wait_until};
use postgres::error::SqlState;
use postgres::{Client, NoTls};

fn database(cluster: &Cluster, encoding: &str) -> Client {
    let name = encoding.to_lowercase();
    cluster
        .connect()
        .batch_execute(&format!(
            "CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ))
        .unwrap();
    let mut client = cluster.config("postgres").dbname(&name).connect(NoTls).unwrap();
    client.batch_execute("CREATE EXTENSION pg_clip CASCADE").unwrap();
    client
}

/// Returns one embedding, as text.
fn vector(client: &mut Client, text: &str) -> String {
    client.query_one("SELECT clip_embed_text($1, 'emoji')::text", &[&text]).unwrap().get(0)
}

const TEXTS: [&str; 4] = ["a cat", "un café très chaud", "Ünïcödé", "£ ± ½ ÿ"];

#[test]
fn a_text_has_one_vector_in_all_encodings() {
    let cluster = Cluster::start();
    let mut reference = cluster.connect();
    for encoding in ["LATIN1", "WIN1252", "SQL_ASCII", "EUC_JP"] {
        let mut client = database(&cluster, encoding);
        for text in TEXTS {
            if encoding == "EUC_JP" && !text.is_ascii() {
                continue;
            }
            assert_eq!(vector(&mut client, text), vector(&mut reference, text), "{encoding}: {text}");
        }
    }
    let mut japanese = cluster.config("postgres").dbname("euc_jp").connect(NoTls).unwrap();
    assert_eq!(vector(&mut japanese, "赤い自転車"), vector(&mut reference, "赤い自転車"));
}

#[test]
fn names_and_errors_survive_in_latin1() {
    let cluster = Cluster::start();
    let mut client = database(&cluster, "LATIN1");
    client
        .batch_execute("CREATE TABLE \"Gemälde\" (\"schlüssel\" text PRIMARY KEY, \"größe\" text, datei bytea)")
        .unwrap();
    for (target, mode) in [("vektör", "row"), ("vektör2", "queue"), ("vektör3", "statement")] {
        client
            .execute("SELECT clip_auto_embed('\"Gemälde\"', 'größe', $1::text::name, 'emoji', $2)", &[&target, &mode])
            .unwrap();
    }
    client.batch_execute("INSERT INTO \"Gemälde\" VALUES ('ä', 'ein Apfel é'), ('ö', 'ein Öl')").unwrap();
    client.batch_execute("UPDATE \"Gemälde\" SET \"größe\" = 'großes Öl' WHERE \"schlüssel\" = 'ö'").unwrap();
    wait_until(&mut client, "SELECT count(\"vektör2\") = 2 FROM \"Gemälde\"");
    for target in ["vektör", "vektör2", "vektör3"] {
        let wrong = format!(
            "SELECT count(*) FROM \"Gemälde\" WHERE \"{target}\" IS NULL OR \"{target}\" <=> clip_embed_text(\"größe\", 'emoji') > 1e-6"
        );
        assert_eq!(client.query_one(&wrong, &[]).unwrap().get::<_, i64>(0), 0, "{target}");
    }
    let search = "SELECT \"größe\" FROM clip_search('\"Gemälde\"', 'großes Öl', 1, 'vektör', '\"größe\" LIKE ''%Öl''') JOIN \"Gemälde\" ON schlüssel = key_text";
    assert_eq!(client.query_one(search, &[]).unwrap().get::<_, String>(0), "großes Öl");
    let labels = "SELECT string_agg(label, ' ' ORDER BY label) FROM clip_classify((SELECT vektör FROM \"Gemälde\" LIMIT 1), '{Öl,großer Apfel}', model => 'emoji')";
    assert_eq!(client.query_one(labels, &[]).unwrap().get::<_, String>(0), "großer Apfel Öl");
    let key = "SELECT count(*) FROM clip_near_duplicates('\"Gemälde\"', 'vektör', 2) WHERE key->>'schlüssel' = 'ä'";
    assert_eq!(client.query_one(key, &[]).unwrap().get::<_, i64>(0), 1);
    // The failure is stored with its key.
    client
        .execute("SELECT clip_auto_embed('\"Gemälde\"', 'datei', 'bild', 'wide', 'queue', on_error => 'skip')", &[])
        .unwrap();
    client.batch_execute("UPDATE \"Gemälde\" SET datei = 'kaputt' WHERE \"schlüssel\" = 'ä'").unwrap();
    wait_until(&mut client, "SELECT count(*) = 1 FROM clip_failures WHERE key->>'schlüssel' = 'ä'");
    let status =
        client.query("SELECT relation::text, source, target FROM clip_auto_embed_status ORDER BY 3", &[]).unwrap();
    assert_eq!(status.len(), 4);
    assert!(status.iter().all(|row| row.get::<_, &str>(0) == "\"Gemälde\""));
    let error = client.query_one("SELECT clip_embed_text('a', 'größe')", &[]).unwrap_err();
    assert_eq!(sqlstate(&error), &SqlState::INVALID_PARAMETER_VALUE);
    client.batch_execute("CALL clip_reembed('\"Gemälde\"', 'vektör', 'narrow')").unwrap();
}

#[test]
fn a_key_that_is_not_valid_text_is_recorded_unchanged() {
    let cluster = Cluster::start();
    let mut client = database(&cluster, "SQL_ASCII");
    client
        .batch_execute(
            "CREATE TABLE item (id text PRIMARY KEY, picture bytea);
             SELECT clip_auto_embed('item', 'picture', model => 'narrow', on_error => 'null', create_index => false);
             INSERT INTO item VALUES (E'caf\\xe9', 'no picture');",
        )
        .unwrap();
    let noted = "SELECT count(*) FROM clip_failures WHERE convert_to(key ->> 'id', 'SQL_ASCII') = '\\x636166e9'";
    assert_eq!(client.query_one(noted, &[]).unwrap().get::<_, i64>(0), 1);
    client.execute("UPDATE item SET picture = $1", &[&e2e::picture("rgb_444.jpg")]).unwrap();
    assert_eq!(client.query_one("SELECT count(*) FROM clip_failures", &[]).unwrap().get::<_, i64>(0), 0);
}

#[test]
fn an_error_beyond_ascii_does_not_stop_other_columns_in_latin1() {
    let cluster = Cluster::start();
    let mut client = database(&cluster, "LATIN1");
    for table in ["first", "second"] {
        client.batch_execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, body text)")).unwrap();
        client
            .batch_execute(&format!("SELECT clip_auto_embed('{table}', 'body', model => 'emoji', mode => 'queue')"))
            .unwrap();
    }
    client
        .batch_execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'ungültig'; END$$;
             CREATE TRIGGER refuse BEFORE UPDATE ON first FOR EACH ROW EXECUTE FUNCTION refuse();
             BEGIN; INSERT INTO first VALUES (1, 'a'); INSERT INTO second VALUES (1, 'a'); COMMIT",
        )
        .unwrap();
    wait_until(&mut client, "SELECT count(embedding) = 1 FROM second");
    wait_until(
        &mut client,
        "SELECT count(*) = 1 FROM clip_failures WHERE sqlstate = 'P0001' AND message LIKE 'ung%ltig'",
    );
}

#[test]
fn the_extension_may_be_in_a_schema_of_any_name() {
    let cluster = Cluster::start();
    for (encoding, schema, settings) in
        [("LATIN1", "prüfung", ""), ("UTF8", "\"Odd name\"", "SET standard_conforming_strings = off")]
    {
        let mut client = database(&cluster, encoding);
        client
            .batch_execute(&format!(
                "DROP EXTENSION pg_clip; CREATE SCHEMA {schema}; CREATE EXTENSION pg_clip SCHEMA {schema}"
            ))
            .unwrap();
        client
            .batch_execute(&format!("CREATE TABLE item (id int PRIMARY KEY, body text, file bytea); {settings}"))
            .unwrap();
        client.execute(&format!("SELECT {schema}.clip_auto_embed('item', 'body', model => 'narrow')"), &[]).unwrap();
        client
            .execute(
                &format!("SELECT {schema}.clip_auto_embed('item', 'file', 'pixels', 'wide', on_error => 'null')"),
                &[],
            )
            .unwrap();
        client
            .execute(&format!("SELECT {schema}.clip_auto_embed('item', 'body', 'queued', 'narrow', 'queue')"), &[])
            .unwrap();
        client.batch_execute("INSERT INTO item VALUES (1, 'a text', 'no picture')").unwrap();
        wait_until(&mut client, "SELECT embedding IS NOT NULL AND queued IS NOT NULL FROM item");
        let failures = client.query(&format!("SELECT key->>'id' FROM {schema}.clip_failures"), &[]).unwrap();
        assert_eq!(failures.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), ["1"], "{schema}");
    }
}

#[test]
fn bytes_that_are_not_valid_text_are_rejected() {
    let cluster = Cluster::start();
    let mut client = database(&cluster, "SQL_ASCII");
    client.batch_execute("CREATE TABLE item (id int PRIMARY KEY, body text)").unwrap();
    client.execute("SELECT clip_auto_embed('item', 'body', model => 'narrow', on_error => 'null')", &[]).unwrap();
    for bytes in [r"E'caf\xe9'", r"E'\xff\xfe'", r"E'a\xc3'", r"E'\xed\xa0\x80'"] {
        let error = client.batch_execute(&format!("SELECT clip_embed_text({bytes}, 'narrow')")).unwrap_err();
        assert_eq!(sqlstate(&error), &SqlState::CHARACTER_NOT_IN_REPERTOIRE, "{bytes}");
        let error = client.batch_execute(&format!("SELECT clip_token_count({bytes}, 'narrow')")).unwrap_err();
        assert_eq!(sqlstate(&error), &SqlState::CHARACTER_NOT_IN_REPERTOIRE, "{bytes}");
        // As the name of a model, of an encoder, of a mode.
        for call in [
            format!("clip_embed_text('a', {bytes})"),
            format!("clip_prewarm('narrow', {bytes})"),
            format!("clip_unload({bytes})"),
            format!("clip_auto_embed('item', 'body', 'other', 'narrow', {bytes})"),
            format!("clip_auto_embed('item', {bytes})"),
        ] {
            let error = client.batch_execute(&format!("SELECT {call}")).unwrap_err();
            assert_ne!(sqlstate(&error), &SqlState::INTERNAL_ERROR, "{call}: {error:?}");
        }
        client.batch_execute(&format!("SET clip.default_model = {bytes}")).unwrap();
        assert_ne!(
            sqlstate(&client.batch_execute("SELECT clip_embed_text('a')").unwrap_err()),
            &SqlState::INTERNAL_ERROR
        );
        client.batch_execute("RESET clip.default_model").unwrap();
    }
    // A row with such a text is stored, and the failure is reported.
    client.batch_execute(r"INSERT INTO item VALUES (1, E'caf\xe9'), (2, 'coffee')").unwrap();
    wait_until(&mut client, "SELECT count(*) = 2 AND count(embedding) = 1 FROM item");
    let failures = client.query("SELECT sqlstate FROM clip_failures", &[]).unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].get::<_, &str>(0), "22021");
}
