//! The embedding service with OpenVINO, for the sessions of a server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use e2e::{Cluster, count, picture, wait_until};
use postgres::Client;

/// Starts a server whose sessions do not compute themselves.
fn served(provider: &str) -> (Cluster, Client) {
    let provider = format!("clip.service_provider = {provider}");
    let cluster = Cluster::start_with(&[
        "shared_preload_libraries = 'pg_clip'",
        "clip.service = on",
        "clip.service_fallback = off",
        &provider,
    ]);
    let client = cluster.connect();
    (cluster, client)
}

/// Makes a model with bf16 weights of another one. The provider `cpu` makes it, so that each model can be made.
fn round(cluster: &Cluster, name: &str, new_name: &str) {
    e2e::run(cluster.pgclip().args(["quantize", name, new_name, "--weights", "bf16"]));
}

/// Returns the encoders of a model in the service, with their providers.
fn providers(client: &mut Client, model: &str) -> Vec<String> {
    let encoders = "SELECT m ->> 'tower' || ' ' || (m ->> 'provider') FROM clip_service, jsonb_array_elements(models) AS m \
                    WHERE m ->> 'name' = $1 ORDER BY 1";
    client.query(encoders, &[&model]).unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn sessions_get_the_embeddings_that_they_compute_themselves() {
    let (cluster, mut client) = served("openvino");
    wait_until(&mut client, "SELECT state = 'running' AND provider = 'openvino' FROM clip_service");
    round(&cluster, "wide", "small");
    client
        .batch_execute("CREATE TABLE found (model text, what text, embedding vector, PRIMARY KEY (model, what))")
        .unwrap();
    for model in ["wide", "small"] {
        let texts = "INSERT INTO found SELECT $1, 'text ' || ordinality, embedding \
                     FROM clip_embed_texts(ARRAY(SELECT repeat('word ', i % 20) || i FROM generate_series(1, 100) AS i), $1)";
        client.execute(texts, &[&model]).unwrap();
        let image = "INSERT INTO found VALUES ($1, 'image', clip_embed_image($2, $1))";
        client.execute(image, &[&model, &picture("rgb_444.jpg")]).unwrap();
        assert_eq!(providers(&mut client, model), ["image openvino", "text openvino"], "{model}");
    }
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_loaded_models"), 0, "the session has computed itself");
    client.batch_execute("ALTER SYSTEM SET clip.service = off").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_until(&mut client, "SELECT state = 'off' FROM clip_service");
    // A bf16 product has fewer digits than one of the session, but not of this order.
    let wrong = "SELECT count(*) FROM found AS f WHERE what LIKE 'text %' AND (f.embedding <=> clip_embed_text(
                 repeat('word ', substr(what, 6)::int % 20) || substr(what, 6)::int, model) < CASE model WHEN 'wide' THEN 1e-5 ELSE 5e-4 END) IS NOT TRUE";
    assert_eq!(count(&mut client, wrong), 0);
    let wrong = "SELECT count(*) FROM found WHERE what = 'image' AND (embedding <=> clip_embed_image($1, model) < 5e-4) IS NOT TRUE";
    assert_eq!(client.query_one(wrong, &[&picture("rgb_444.jpg")]).unwrap().get::<_, i64>(0), 0);
    cluster.assert_no_crash();
}

/// OpenVINO computes the text tower of this bf16 model wrongly. The service finds that out, and uses its own kernels for this tower.
#[test]
fn an_encoder_that_a_provider_computes_wrongly_is_computed_by_cpu() {
    let (cluster, mut client) = served("openvino");
    wait_until(&mut client, "SELECT state = 'running' FROM clip_service");
    cluster.add("canceling");
    round(&cluster, "canceling", "small");
    client
        .execute("SELECT clip_embed_text('a', 'small'), clip_embed_image($1, 'small')", &[&picture("rgb_444.jpg")])
        .unwrap();
    let text = if clip::has_bf16() { "text cpu" } else { "text openvino" };
    assert_eq!(providers(&mut client, "small"), ["image openvino", text]);
    if clip::has_bf16() {
        let log = std::fs::read_to_string(cluster.directory.join("log")).unwrap();
        assert!(log.contains("the text encoder of model \"small\" is computed by \"cpu\""), "{log}");
    }
}

/// The library of OpenVINO has no CUDA. The service does not start, and the log shows the reason.
#[test]
fn a_provider_that_the_library_lacks_is_an_error() {
    let (cluster, mut client) = served("cuda");
    wait_until(&mut client, "SELECT state = 'failing' FROM clip_service");
    let log = std::fs::read_to_string(cluster.directory.join("log")).unwrap();
    assert!(
        log.contains("the execution provider \"cuda\" cannot be used: this ONNX Runtime was built without it"),
        "{log}"
    );
    assert_eq!(
        client.batch_execute("SELECT clip_embed_text('a', 'wide')").unwrap_err().code(),
        Some(&postgres::error::SqlState::SYSTEM_ERROR)
    );
}
