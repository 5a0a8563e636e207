//! Connections and parallel workers share one copy of a model's weights. Unusable prepared files do not harm the
//! server.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use e2e::{Cluster, pid, root, run};

use postgres::error::{DbError, SqlState};
use postgres::{Client, NoTls};

fn weights(client: &mut Client) -> Vec<(String, String)> {
    let rows = client.query("SELECT tower, weights FROM clip_loaded_models ORDER BY tower", &[]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Returns the size of the process's mappings whose file names end with `name`: private bytes, and all bytes.
fn mapped(pid: i32, name: &str) -> (u64, u64) {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut own, mut all, mut inside) = (0, 0, false);
    for line in smaps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [title, kilobytes, "kB"] if inside => {
                let bytes = 1024 * kilobytes.parse::<u64>().unwrap();
                match *title {
                    "Anonymous:" => own += bytes,
                    "Rss:" => all += bytes,
                    _ => {}
                }
            }
            [range, ..] if range.contains('-') && words.len() >= 5 => inside = line.ends_with(name),
            _ => {}
        }
    }
    (own, all)
}

/// Returns the file that the backends map for an encoder of the embedded model.
fn data(cluster: &Cluster, model: &str, file: &str) -> PathBuf {
    let folders = fs::read_dir(cluster.models().join(model).join("prepared")).unwrap();
    let [folder] = folders.map(|folder| folder.unwrap().path()).collect::<Vec<_>>().try_into().unwrap();
    folder.join(file)
}

#[test]
fn two_connections_have_one_copy() {
    let cluster = Cluster::start();
    let mut clients = [cluster.connect(), cluster.connect()];
    for client in &mut clients {
        client.query_one("SELECT vector_dims(clip_embed_text('a cat', 'emoji'))", &[]).unwrap();
        let picture = e2e::picture("rgb_444.jpg");
        client.query_one("SELECT vector_dims(clip_embed_image($1, 'emoji'))", &[&picture]).unwrap();
        let shared = |tower: &str| (tower.to_owned(), "shared".to_owned());
        assert_eq!(weights(client), [shared("image"), shared("text")]);
        for file in ["text.data", "image.data"] {
            let size = data(&cluster, "emoji", file).metadata().unwrap().len();
            let (own, all) = mapped(pid(client), file);
            assert_eq!(own, 0, "{file}: nothing of it is this connection's own");
            assert!(all > size / 4, "{file}: {all} of {size} bytes are mapped");
        }
    }
    let prepared: bool =
        clients[0].query_one("SELECT prepared FROM clip_models WHERE name = 'emoji'", &[]).unwrap().get(0);
    assert!(prepared);
}

#[test]
fn an_unusable_prepared_file_raises_one_warning() {
    let cluster = Cluster::start();
    // The weights have 40 MiB, which is large enough for the warning. Most of them belong to no tensor.
    let folder = cluster.directory.join("large");
    run(std::process::Command::new("cp").arg("-r").arg(root().join("tests/fixtures/families/external")).arg(&folder));
    for entry in fs::read_dir(folder.join("onnx")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "onnx") {
            OpenOptions::new().write(true).open(path).unwrap().set_len(40 << 20).unwrap();
        }
    }
    run(cluster.pgclip().args(["add", "large", "--license", "MIT"]).arg(&folder));
    let said: Arc<Mutex<Vec<DbError>>> = Arc::default();
    let embed = |client: &mut Client| -> String {
        let rows = client.query("SELECT clip_embed_text(t, 'large')::text FROM unnest('{a cat,a dog}'::text[]) t", &[]);
        rows.unwrap()[0].get(0)
    };
    let connect = || {
        let said = said.clone();
        let mut config = cluster.config("postgres");
        config.notice_callback(move |notice| said.lock().unwrap().push(notice)).connect(NoTls).unwrap()
    };
    let expected = embed(&mut connect());
    assert!(said.lock().unwrap().is_empty(), "there was nothing to say");

    let file = data(&cluster, "large", "text.data");
    OpenOptions::new().write(true).open(&file).unwrap().set_len(4096).unwrap();
    let mut client = connect();
    assert_eq!(embed(&mut client), expected);
    assert_eq!(embed(&mut client), expected);
    assert_eq!(weights(&mut client), [("text".to_owned(), "private".to_owned())]);
    let said = std::mem::take(&mut *said.lock().unwrap());
    let [warning] = said.try_into().unwrap();
    assert_eq!((warning.severity(), warning.code()), ("WARNING", &SqlState::WARNING));
    assert!(warning.detail().unwrap().contains("changed, copied or restored"), "{warning:?}");
    assert!(warning.hint().unwrap().contains("pgclip prepare large"), "{warning:?}");

    run(cluster.pgclip().args(["prepare", "large"]));
    let mut client = connect();
    assert_eq!(embed(&mut client), expected);
    assert_eq!(weights(&mut client), [("text".to_owned(), "shared".to_owned())]);
}

#[test]
fn parallel_workers_map_the_same_weights_and_give_the_same_vectors() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute(
            "CREATE TABLE caption (text text);
             INSERT INTO caption SELECT 'picture number ' || i FROM generate_series(1, 400) i;
             ANALYZE caption;
             SET clip.query_cache_size = 0;
             CREATE TABLE serial AS SELECT text, clip_embed_text(text, 'emoji') AS embedding FROM caption;
             SET parallel_setup_cost = 0;
             SET parallel_tuple_cost = 0;
             SET min_parallel_table_scan_size = 0;
             SET parallel_leader_participation = off;",
        )
        .unwrap();
    let explain = "EXPLAIN (ANALYZE, COSTS off) SELECT text, clip_embed_text(text, 'emoji') AS embedding FROM caption";
    let lines: Vec<String> = client.query(explain, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert!(lines[0].starts_with("Gather"), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("Workers Launched: 2")), "{lines:?}");
    let wrong: i64 = client
        .query_one(
            "SELECT count(*) FROM (SELECT text, clip_embed_text(text, 'emoji') AS embedding FROM caption OFFSET 0) p
             FULL JOIN serial s ON s.text = p.text AND s.embedding <=> p.embedding < 1e-6
             WHERE p.text IS NULL OR s.text IS NULL",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(wrong, 0);
}

#[test]
fn prepared_files_can_be_outside_of_a_read_only_model_directory() {
    let cluster = Cluster::start();
    run(cluster.pgclip().args(["add", "mapped"]).arg(root().join("tests/fixtures/families/external")));
    let prepared = cluster.directory.join("elsewhere");
    // Returns the vector, the origin of the weights, and the view's opinion, in a new session.
    let embed = |directory: &Path| -> (String, String, bool) {
        let mut client = cluster.connect();
        client.batch_execute(&format!("SET clip.prepared_path = '{}'", directory.display())).unwrap();
        let vector = client.query_one("SELECT clip_embed_text('a cat', 'mapped')::text", &[]).unwrap().get(0);
        let listed = client.query_one("SELECT prepared FROM clip_models WHERE name = 'mapped'", &[]).unwrap().get(0);
        (vector, weights(&mut client).remove(0).1, listed)
    };
    let pgclip = |arguments: &[&str]| {
        let mut pgclip = cluster.pgclip();
        pgclip.arg("--prepared-path").arg(&prepared).args(arguments).output().unwrap()
    };
    let (vector, origin, listed) = embed(Path::new(""));
    assert_eq!((origin.as_str(), listed), ("shared", true));
    let expected = |origin: &str, listed: bool| (vector.clone(), origin.to_owned(), listed);
    assert_eq!(embed(&prepared), expected("private", false), "nothing is prepared there");

    let models = fs::read_dir(cluster.models().join("mapped")).unwrap().count();
    assert!(pgclip(&["prepare", "mapped"]).status.success());
    assert_eq!(embed(&prepared), expected("shared", true));
    assert_eq!(fs::read_dir(cluster.models().join("mapped")).unwrap().count(), models, "nothing is written there");
    assert_eq!(String::from_utf8_lossy(&pgclip(&["prepare", "mapped"]).stdout), "mapped: was prepared already\n");
    assert!(pgclip(&["verify", "mapped"]).status.success());

    // The same rules as for models: only root and the server's user can change the files.
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let folder = prepared.join("mapped");
    for path in [&prepared, &folder, &folder.join("prepared")] {
        mode(path, 0o777);
        assert_eq!(embed(&prepared), expected("private", false), "{} can be written by all", path.display());
        mode(path, 0o755);
        assert_eq!(embed(&prepared), expected("shared", true), "{}", path.display());
    }
    let key = fs::read_dir(folder.join("prepared")).unwrap().next().unwrap().unwrap().path();
    let file = key.join("text.data");
    let is_root = fs::metadata(&file).unwrap().uid() == 0;
    if is_root {
        // A user who owns a file could change it.
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
        assert_eq!(embed(&prepared), expected("private", false), "a file of another user");
        assert!(pgclip(&["prepare", "mapped"]).status.success(), "the file is replaced");
        assert_eq!(embed(&prepared), expected("shared", true));
    }
    let link = cluster.directory.join("link");
    fs::rename(&folder, &link).unwrap();
    std::os::unix::fs::symlink(&link, &folder).unwrap();
    assert_eq!(embed(&prepared), expected("private", false), "a link");
    fs::remove_file(&folder).unwrap();
    fs::rename(&link, &folder).unwrap();

    // A change is found, and the model's vectors are still right.
    let graph = fs::read_dir(folder.join("prepared")).unwrap().next().unwrap().unwrap().path().join("text.onnx");
    mode(&graph, 0o644);
    OpenOptions::new().append(true).open(&graph).unwrap().set_len(100).unwrap();
    assert_eq!(embed(&prepared), expected("private", false), "a truncated graph");
    assert_eq!(pgclip(&["verify", "mapped"]).status.code(), Some(4));
    assert!(pgclip(&["rm", "mapped", "--force"]).status.success());
    assert!(!folder.exists(), "the prepared files are removed with the model");
}
