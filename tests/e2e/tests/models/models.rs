//! Models are added and removed while the server runs. Changed models, and models that others can change, are rejected.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use e2e::{Cluster, code, picture, root, run, sqlstate};
use postgres::Client;
use postgres::error::SqlState;

fn family(name: &str) -> std::path::PathBuf {
    root().join("tests/fixtures/families").join(name)
}

/// Returns the error of embedding a text in a new connection.
fn refusal(cluster: &Cluster, model: &str) -> postgres::Error {
    cluster.connect().query_one("SELECT clip_embed_text('a cat', $1)::text", &[&model]).unwrap_err()
}

fn detail(error: &postgres::Error) -> &str {
    error.as_db_error().unwrap().detail().unwrap()
}

fn dimensions(client: &mut Client, model: &str) -> i32 {
    client.query_one("SELECT vector_dims(clip_embed_text('a cat', $1))", &[&model]).unwrap().get(0)
}

#[test]
fn models_are_used_as_soon_as_they_are_added_and_gone_when_removed() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    assert_eq!(dimensions(&mut client, "wide"), 48);
    run(cluster.pgclip().args(["add", "siglip", "--license", "Apache-2.0"]).arg(family("siglip")));
    run(cluster.pgclip().args(["add", "half", "--variant", "fp16"]).arg(family("half")));
    // The same connection uses several models at once.
    assert_eq!((dimensions(&mut client, "siglip"), dimensions(&mut client, "half")), (32, 32));
    let row = client
        .query_one(
            "SELECT family, dimensions, context_length, image_size, license FROM clip_models WHERE name = 'siglip'",
            &[],
        )
        .unwrap();
    let seen: (String, i64, i64, i64, String) = (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
    assert_eq!(seen, ("siglip".into(), 32, 16, 48, "Apache-2.0".into()));
    run(cluster.pgclip().args(["rm", "siglip"]));
    let error = client.query_one("SELECT clip_embed_text('a cat', 'siglip')::text", &[]).unwrap_err();
    assert_eq!(sqlstate(&error), &SqlState::UNDEFINED_OBJECT);
    assert_eq!(detail(&error), "Installed models: bidirectional, emoji, fragile, half, narrow, wide.");
}

#[test]
fn a_model_that_changed_is_refused() {
    let cluster = Cluster::start();
    let folder = cluster.models().join("wide");
    let mut connected = cluster.connect();
    let before: String = connected.query_one("SELECT clip_embed_text('a cat', 'wide')::text", &[]).unwrap().get(0);

    let graph = folder.join("onnx/text_model.onnx");
    let weights = fs::read(&graph).unwrap();
    let mut other = weights.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&graph, &other).unwrap();
    let error = refusal(&cluster, "wide");
    assert_eq!(sqlstate(&error), &SqlState::CONFIG_FILE_ERROR);
    assert_eq!(detail(&error), "File \"onnx/text_model.onnx\" does not match its checksum in the manifest.");
    // A session with the model open continues to use the checked files.
    let again: String = connected.query_one("SELECT clip_embed_text('a cat', 'wide')::text", &[]).unwrap().get(0);
    assert_eq!(before, again);
    fs::write(&graph, &weights).unwrap();
    assert_eq!(dimensions(&mut cluster.connect(), "wide"), 48);

    // An edited manifest is also rejected, unless its digest is recomputed: then it is another model.
    let manifest = folder.join("pg_clip.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"natural_length\": true", "\"natural_length\": false")).unwrap();
    let error = refusal(&cluster, "wide");
    assert_eq!(sqlstate(&error), &SqlState::CONFIG_FILE_ERROR);
    assert!(detail(&error).contains("digest"), "{}", detail(&error));
}

#[test]
fn a_tokenizer_that_changed_under_an_open_model_is_refused() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    // Embedding an image does not read the tokenizer.
    client.execute("SELECT clip_embed_image($1, 'wide')", &[&picture("rgb_444.jpg")]).unwrap();
    let tokenizer = cluster.models().join("wide/tokenizer.json");
    let text = fs::read_to_string(&tokenizer).unwrap();
    fs::write(&tokenizer, format!("{text} ")).unwrap();
    let error = client.query_one("SELECT clip_embed_text('a cat', 'wide')::text", &[]).unwrap_err();
    assert_eq!(sqlstate(&error), &SqlState::CONFIG_FILE_ERROR);
    assert_eq!(detail(&error), "File \"tokenizer.json\" does not match its checksum in the manifest.");
    fs::write(&tokenizer, text).unwrap();
    assert_eq!(dimensions(&mut client, "wide"), 48);
}

#[test]
fn cached_labels_are_not_used_with_another_scale() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let likeliest = |client: &mut Client| -> f32 {
        let classify = "SELECT max(probability) FROM clip_classify(clip_embed_text('cat', 'emoji'), '{cat,dog}', model => 'emoji')";
        client.query_one(classify, &[]).unwrap().get(0)
    };
    let before = likeliest(&mut client);
    run(cluster.pgclip().args(["rm", "emoji"]));
    let emoji = root().join("models/emoji");
    run(cluster.pgclip().args(["add", "emoji"]).arg(emoji).args(["--license", "PostgreSQL", "--logit-scale", "1"]));
    let after = likeliest(&mut client);
    assert!(before > 0.9 && after < 0.75, "{before}, then {after}");
    assert_eq!(after, likeliest(&mut cluster.connect()));
}

/// Changes the owner of a file, which needs root: the user who runs the tests, or sudo's.
fn chown(path: &Path, owner: &str) {
    let script = "if [ \"$(id -u)\" = 0 ]; then chown \"$@\"; else sudo chown \"$@\"; fi";
    run(Command::new("sh").args(["-c", script, "sh", owner]).arg(path));
}

#[test]
fn files_that_others_could_change_are_refused() {
    let cluster = Cluster::start();
    let folder = cluster.models().join("wide");
    let chmod = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let refused = |reason: &str| {
        let error = refusal(&cluster, "wide");
        assert_eq!(sqlstate(&error), &SqlState::CONFIG_FILE_ERROR, "{error}");
        assert!(detail(&error).contains(reason), "{}", detail(&error));
        assert!(!detail(&error).contains('/') || detail(&error).contains("onnx/"), "a path: {}", detail(&error));
    };
    let writable = "can be written by others";
    let graph = folder.join("onnx/text_model.onnx");
    for (path, kept, open) in [
        (&graph, 0o644, 0o664),
        (&graph, 0o644, 0o646),
        (&folder.join("config.json"), 0o644, 0o666),
        (&folder.join("pg_clip.json"), 0o644, 0o664),
        (&folder.join("onnx"), 0o755, 0o775),
        (&folder, 0o755, 0o777),
        (&cluster.models(), 0o755, 0o777),
    ] {
        chmod(path, open);
        refused(writable);
        chmod(path, kept);
        assert_eq!(dimensions(&mut cluster.connect(), "wide"), 48);
    }

    // In a sticky directory, others can add their files but cannot replace ours.
    chmod(&cluster.models(), 0o1777);
    assert_eq!(dimensions(&mut cluster.connect(), "wide"), 48);
    chown(&folder.join("config.json"), "nobody");
    refused("owned by a user");
    chown(&folder.join("config.json"), "root");
    chmod(&cluster.models(), 0o755);

    let aside = cluster.directory.join("aside.onnx");
    fs::rename(&graph, &aside).unwrap();
    symlink(&aside, &graph).unwrap();
    refused("symbolic link");
    fs::remove_file(&graph).unwrap();
    fs::hard_link(&aside, &graph).unwrap();
    refused("hard link");
    fs::remove_file(&aside).unwrap();
    assert_eq!(dimensions(&mut cluster.connect(), "wide"), 48);
}

#[test]
fn roles_without_rights_see_models_but_no_paths() {
    let cluster = Cluster::start();
    cluster.connect().batch_execute("CREATE ROLE guest LOGIN").unwrap();
    let mut guest = cluster.connect_as_caller("guest");
    let models: i64 = guest.query_one("SELECT count(*) FROM clip_models", &[]).unwrap().get(0);
    assert_eq!(models, 5);
    let place = cluster.models().display().to_string();
    let told =
        guest.query("SELECT value FROM clip_diagnose() UNION ALL SELECT m::text FROM clip_models m", &[]).unwrap();
    assert!(told.iter().all(|row| !row.get::<_, String>(0).contains(&place)));
    let error = guest.query_one("SHOW clip.model_path", &[]).unwrap_err();
    assert_eq!(sqlstate(&error), &SqlState::INSUFFICIENT_PRIVILEGE);
    let error = guest.batch_execute("SET clip.model_path = '/tmp'").unwrap_err();
    assert_eq!(sqlstate(&error), &SqlState::INSUFFICIENT_PRIVILEGE);
    fs::remove_file(cluster.models().join("wide/config.json")).unwrap();
    let error = refusal(&cluster, "wide");
    assert_eq!(sqlstate(&error), &SqlState::UNDEFINED_FILE);
    assert!(!format!("{error:?}").contains(&place));
}

#[test]
fn models_in_the_directories_of_extensions_are_found_from_postgresql_18_on() {
    let cluster = Cluster::start();
    let elsewhere = cluster.directory.join("elsewhere/share");
    fs::create_dir_all(elsewhere.join("pg_clip")).unwrap();
    run(Command::new("cp").arg("-r").arg(cluster.models()).arg(elsewhere.join("pg_clip/models")));
    let mut client = cluster.connect();
    let expected: String = client.query_one("SELECT clip_embed_text('a', 'wide')::text", &[]).unwrap().get(0);
    let mut client = cluster.connect();
    // The default: only then are other directories searched.
    let default = format!("SET clip.model_path = '{}/pg_clip/models'", e2e::pg_config("--sharedir"));
    client.batch_execute(&default).unwrap();
    let embed = "SELECT clip_embed_text('a', 'wide')::text";
    assert_eq!(
        code(&mut client, embed),
        Some(SqlState::UNDEFINED_OBJECT),
        "the server's own directory has no such model"
    );
    let set = format!("SET extension_control_path = '/nowhere:relative:$system:{}'", elsewhere.display());
    let version: i32 = client.query_one("SELECT current_setting('server_version_num')::int", &[]).unwrap().get(0);
    if version < 180_000 {
        assert_eq!(code(&mut client, &set), Some(SqlState::UNDEFINED_OBJECT), "there is no such setting");
        return;
    }
    client.batch_execute(&set).unwrap();
    assert_eq!(client.query_one(embed, &[]).unwrap().get::<_, String>(0), expected);
    let names = "SELECT string_agg(name, ' ' ORDER BY name) FROM clip_models";
    let listed: String = client.query_one(names, &[]).unwrap().get(0);
    assert_eq!(listed, "bidirectional emoji fragile narrow wide");
    // Directories that anyone can write to are not trusted there either.
    fs::set_permissions(elsewhere.join("pg_clip/models"), fs::Permissions::from_mode(0o777)).unwrap();
    let mut client = cluster.connect();
    client.batch_execute(&format!("{default}; {set}")).unwrap();
    assert_eq!(code(&mut client, embed), Some(SqlState::CONFIG_FILE_ERROR));
    // An explicit path is the only one.
    client.batch_execute("SET clip.model_path = '/nowhere'").unwrap();
    assert_eq!(code(&mut client, embed), Some(SqlState::UNDEFINED_OBJECT));
}
