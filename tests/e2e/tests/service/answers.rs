//! The service returns the vectors and the errors that sessions compute themselves.

use e2e::{Cluster, count, picture, sqlstate};
use postgres::Client;

use super::{served, set};

/// Statements whose failures do not depend on the place of the computation.
const FAILURES: [&str; 9] = [
    "SELECT clip_embed_image('', 'wide')",
    "SELECT clip_embed_image('nothing that has a format', 'wide')",
    "SELECT clip_embed_image('\\x89504e470d0a1a0a', 'wide')",
    "SELECT clip_embed_text('a', 'absent')",
    "SELECT clip_embed_text('a', '../wide')",
    "SET clip.text_overflow = 'error'; SELECT clip_embed_text(repeat('a ', 1000), 'wide')",
    "SELECT clip_embed_text(repeat('a', 2000000), 'wide')",
    "SELECT * FROM clip_embed_images(ARRAY[NULL, NULL, '\\x00'::bytea], 'wide')",
    "SELECT * FROM clip_classify(clip_embed_text('a', 'narrow'), '{a,b}', model => 'narrow')",
];

/// Returns all fields of the error of a statement.
fn failure(client: &mut Client, statement: &str) -> String {
    let error = client.batch_execute(statement).expect_err(statement);
    let code = sqlstate(&error).code().to_owned();
    let error = error.as_db_error().unwrap();
    format!("{code} {} | {:?} | {:?}", error.message(), error.detail(), error.hint())
}

fn vectors(cluster: &Cluster, client: &mut Client, table: &str) {
    client.batch_execute(&format!("CREATE TABLE {table} (what text PRIMARY KEY, embedding vector)")).unwrap();
    let insert = format!("INSERT INTO {table} ");
    for model in ["wide", "narrow", "bidirectional", "emoji"] {
        client
            .batch_execute(&format!(
                "{insert} SELECT '{model} text ' || t, clip_embed_text(t, '{model}') FROM unnest(ARRAY['a red car', '', repeat('long ', 200), 'Grün 🙂']) AS t;
                 {insert} SELECT '{model} batch ' || ordinality, embedding FROM clip_embed_texts(ARRAY(SELECT repeat('word ', i % 40) || i FROM generate_series(1, 300) AS i), '{model}')"
            ))
            .unwrap();
        for file in ["rgb_444.jpg", "tall.png"] {
            let image = picture(file);
            client
                .execute(&format!("{insert} VALUES ('{model} {file}', clip_embed_image($1, '{model}'))"), &[&image])
                .unwrap();
            let images = vec![image; 11];
            client
                .execute(
                    &format!("{insert} SELECT '{model} {file} ' || ordinality, embedding FROM clip_embed_images($1, '{model}')"),
                    &[&images],
                )
                .unwrap();
        }
    }
    // The cache of the session must not answer for the service.
    *client = cluster.connect();
}

#[test]
fn vectors_and_errors_are_those_of_a_session() {
    let cluster = served();
    let mut client = cluster.connect();
    vectors(&cluster, &mut client, "served");
    let of_service = FAILURES.map(|statement| failure(&mut client, statement));
    let loaded = "SELECT count(*) FROM clip_loaded_models";
    assert_eq!(count(&mut client, loaded), 0, "the session has loaded a model");
    assert!(count(&mut client, "SELECT requests FROM clip_service") > 50);
    set(&mut client, "clip.service", "off");
    vectors(&cluster, &mut client, "computed");
    let of_session = FAILURES.map(|statement| failure(&mut client, statement));
    client.batch_execute("SELECT clip_embed_text('a', 'wide')").unwrap();
    assert!(count(&mut client, loaded) > 0, "the session has loaded no model");
    let other = "SELECT count(*) FROM served FULL JOIN computed USING (what) \
        WHERE (served.embedding <=> computed.embedding < 1e-5) IS NOT TRUE";
    assert_eq!(count(&mut client, other), 0);
    assert_eq!(count(&mut client, "SELECT count(*) FROM served"), 4 * (4 + 300 + 2 * 12));
    assert_eq!(of_service, of_session);
}

#[test]
fn a_connection_asks_again_after_an_error() {
    let cluster = served();
    let mut client = cluster.connect();
    for _ in 0..20 {
        client.batch_execute("SELECT clip_embed_image('\\x00', 'wide')").unwrap_err();
        client.batch_execute("SELECT clip_embed_text('a', 'wide'), clip_unload()").unwrap();
    }
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models"), 0);
}

/// A text that another session has asked for is in the cache of the service.
#[test]
fn sessions_share_one_cache() {
    let cluster = served();
    let ask = "SELECT clip_embed_text('asked twice', 'wide')::text";
    let first: String = cluster.connect().query_one(ask, &[]).unwrap().get(0);
    let mut client = cluster.connect();
    let hits = count(&mut client, "SELECT cache_hits FROM clip_service");
    let second: String = client.query_one(ask, &[]).unwrap().get(0);
    assert_eq!(first, second);
    assert_eq!(count(&mut client, "SELECT cache_hits FROM clip_service"), hits + 1);
}
