//! The command as administrators use it: exit codes, what is left after a failure, two at once.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use e2e::{Cluster, root, run};
use serde_json::Value;

/// Longer than anything here takes, so that a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A scratch folder with a folder of models in it, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pg_clip-command-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn models(&self) -> PathBuf {
        self.0.join("models")
    }

    fn pgclip(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(root().join("target/release/pgclip"));
        command.arg("--model-path").arg(self.models()).arg("--onnxruntime");
        command.arg(root().join("target/onnxruntime/libonnxruntime.so")).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn add(&self, name: &str, folder: &Path) -> Output {
        self.pgclip(&["add", name]).arg(folder).output().unwrap()
    }

    /// What is in the folder of models, hidden things too.
    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.models()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut entries: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        entries.sort();
        entries
    }

    /// Wait until a model is being added.
    fn wait_until_busy(&self) {
        let begun = Instant::now();
        let is_busy = || self.models().is_dir() && self.entries().iter().any(|name| name.starts_with(".unfinished-"));
        while !is_busy() {
            assert!(begun.elapsed() < PATIENCE, "nothing was begun");
            std::thread::yield_now();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn family(name: &str) -> PathBuf {
    root().join("tests/fixtures/families").join(name)
}

fn model(name: &str) -> PathBuf {
    root().join("tests/fixtures/models").join(name)
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-r").arg(from).arg(to));
}

/// The exit code and what was said on standard error.
fn told(output: &Output) -> (i32, String) {
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", told(output).1);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn signal(child: &Child, signal: &str) {
    run(Command::new("kill").arg(signal).arg(child.id().to_string()));
}

#[test]
fn a_model_is_added_shown_verified_and_removed() {
    let scratch = Scratch::new();
    let added = json(&scratch.pgclip(&["--json", "add", "photos"]).arg(family("combined")).output().unwrap());
    assert_eq!((&added["dimensions"], &added["family"]), (&Value::from(32), &Value::from("clip")));
    assert_eq!(added["text"]["graph"]["file"], "onnx/text_model.onnx", "a whole graph is split");
    let listed = json(&scratch.pgclip(&["list", "--json"]).output().unwrap());
    assert_eq!(listed, Value::from(vec![added.clone()]));
    assert_eq!(json(&scratch.pgclip(&["show", "photos", "--json"]).output().unwrap()), added);
    assert_eq!(json(&scratch.pgclip(&["verify", "--json"]).output().unwrap()), Value::Array(vec![]));
    assert_eq!(told(&scratch.add("photos", &family("combined"))).0, 1, "a model is never replaced");
    assert_eq!(told(&scratch.pgclip(&["show", "other"]).output().unwrap()).0, 3);
    assert_eq!(told(&scratch.pgclip(&["prepare", "other"]).output().unwrap()).0, 3);
    assert_eq!(told(&scratch.pgclip(&["frobnicate"]).output().unwrap()).0, 2);
    run(scratch.pgclip(&["rm", "photos"]));
    assert_eq!(scratch.entries(), Vec::<String>::new());
}

#[test]
fn what_others_wrote_of_a_model_is_a_line_of_ascii() {
    let scratch = Scratch::new();
    let licence = "MIT\x1b[2J\nGemälde";
    let added = json(
        &scratch.pgclip(&["add", "photos", "--json", "--license", licence]).arg(family("external")).output().unwrap(),
    );
    assert_eq!(added["license"], "MIT?[2J?Gem?lde");
    // A manifest that says otherwise was not made by us.
    let manifest = scratch.models().join("photos/pg_clip.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    fs::write(&manifest, text.replace("MIT?[2J?Gem?lde", "Gemälde")).unwrap();
    let (code, said) = told(&scratch.pgclip(&["show", "photos"]).output().unwrap());
    assert_eq!(code, 1);
    assert!(said.contains("is no short line of ASCII"), "{said}");
}

#[test]
fn what_is_shared_is_prepared_when_a_model_is_added_and_anew_where_it_is_gone() {
    let scratch = Scratch::new();
    run(scratch.pgclip(&["add", "photos"]).arg(family("external")));
    let shown =
        |scratch: &Scratch| json(&scratch.pgclip(&["show", "photos", "--json"]).output().unwrap())["prepared"].clone();
    assert_eq!(shown(&scratch), true);
    fs::remove_dir_all(scratch.models().join("photos/prepared")).unwrap();
    assert_eq!(shown(&scratch), false);
    let said = |output: Output| (output.status.code(), String::from_utf8(output.stdout).unwrap());
    assert_eq!(said(scratch.pgclip(&["prepare"]).output().unwrap()), (Some(0), "photos: prepared\n".into()));
    assert_eq!(
        said(scratch.pgclip(&["prepare"]).output().unwrap()),
        (Some(0), "photos: was prepared already\n".into())
    );
    assert_eq!(json(&scratch.pgclip(&["prepare", "--json"]).output().unwrap())["prepared"][0], "photos");
    assert_eq!(shown(&scratch), true);

    // A copy of the folder is another one, and has to be prepared in its place.
    copy(&scratch.models().join("photos"), &scratch.0.join("copy"));
    fs::remove_dir_all(scratch.models().join("photos")).unwrap();
    copy(&scratch.0.join("copy"), &scratch.models().join("photos"));
    assert_eq!(shown(&scratch), false);
    assert_eq!(told(&scratch.pgclip(&["verify"]).output().unwrap()).0, 0, "its contents are right");
    run(scratch.pgclip(&["prepare", "photos"]));
    assert_eq!(shown(&scratch), true);

    // One broken model keeps no other from being prepared, and is told.
    run(scratch.pgclip(&["add", "broken"]).arg(family("pooling")));
    fs::write(scratch.models().join("broken/onnx/text_model.onnx"), b"another").unwrap();
    fs::remove_dir_all(scratch.models().join("photos/prepared")).unwrap();
    let (code, error) = told(&scratch.pgclip(&["prepare"]).output().unwrap());
    assert!(code == 1 && error.contains("broken") && error.contains("1 of 2"), "{code} {error}");
    assert_eq!(shown(&scratch), true);
}

#[test]
fn a_model_is_quantised_under_a_new_name_with_a_report() {
    let scratch = Scratch::new();
    run(scratch.pgclip(&["add", "photos"]).arg(model("wide")));
    let pictures = root().join("tests/fixtures/images");
    let texts = scratch.0.join("texts");
    fs::write(&texts, "a red car\n\na small dog\ntwo cats\n").unwrap();
    let mut quantize = scratch.pgclip(&["--json", "quantize", "photos", "--texts"]);
    let made = json(&quantize.arg(&texts).arg("--images").arg(&pictures).output().unwrap());
    assert_eq!((&made["name"], &made["prepared"]), (&"photos-int8".into(), &true.into()));
    let comparison = made["comparison"].as_array().unwrap();
    let samples: Vec<_> =
        comparison.iter().map(|of| (of["tower"].as_str().unwrap(), of["samples"].as_u64().unwrap())).collect();
    assert_eq!(samples, [("text", 3), ("image", fs::read_dir(&pictures).unwrap().count() as u64)]);
    for tower in comparison {
        let least = tower["least_cosine"].as_f64().unwrap();
        // Without VNNI, sums of 8-bit products saturate on x86-64: docs/operations/models.md.
        let bound = if fs::read_to_string("/proc/cpuinfo").unwrap().contains("vnni") { 0.99 } else { 0.95 };
        assert!(least > bound && least < 1.0, "{tower}: {least}");
        assert!(tower["original_ms"].as_f64().unwrap() > 0.0 && tower["quantized_ms"].as_f64().unwrap() > 0.0);
    }
    // Without samples, and one tower alone: a table that says what it is worth.
    let output = scratch.pgclip(&["quantize", "photos", "fast", "--tower", "image"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("SAME NEAREST") && said.contains("not representative"), "{said}");
    assert!(!said.contains("\ntext "), "{said}");
    assert_eq!(scratch.entries(), ["fast", "photos", "photos-int8"]);

    let failed = |arguments: &[&str]| told(&scratch.pgclip(arguments).output().unwrap());
    assert_eq!(failed(&["quantize", "photos"]).0, 1, "the name is taken");
    assert_eq!(failed(&["quantize", "none"]).0, 3);
    assert_eq!(failed(&["quantize", "photos", "other", "--tower", "left"]).0, 2);
    let (code, error) = failed(&["quantize", "photos", "other", "--texts", "/nowhere"]);
    assert!(code == 1 && error.contains("/nowhere"), "{error}");
    let (code, error) = failed(&["quantize", "photos", "other", "--images", texts.to_str().unwrap()]);
    assert!(code == 1 && error.contains("left out") && error.contains("no image"), "{error}");
    assert_eq!(scratch.entries(), ["fast", "photos", "photos-int8"]);
}

#[test]
fn the_command_reports_nothing_to_the_maker_of_the_runtime() {
    let scratch = Scratch::new();
    let home = scratch.0.join("home");
    fs::create_dir(&home).unwrap();
    run(scratch.pgclip(&["add", "photos"]).arg(family("external")).env("HOME", &home).env_remove("XDG_CACHE_HOME"));
    assert_eq!(
        fs::read_dir(&home).unwrap().count(),
        0,
        "ONNX Runtime's telemetry keeps its database in the home folder"
    );
}

#[test]
fn everyone_may_read_what_is_added_and_nobody_writes_into_it() {
    let scratch = Scratch::new();
    let add =
        scratch.pgclip(&["add", "photos"]).arg(family("external")).get_args().map(|a| a.to_owned()).collect::<Vec<_>>();
    // Neither a careless umask nor a strict one decides.
    for (umask, name) in [("000", "careless"), ("077", "strict")] {
        let mut arguments = add.clone();
        let place = arguments.iter().position(|argument| argument == "photos").unwrap();
        arguments[place] = name.into();
        let script = format!("umask {umask} && exec \"$0\" \"$@\"");
        run(Command::new("sh").arg("-c").arg(script).arg(root().join("target/release/pgclip")).args(arguments));
        let mode =
            |path: &str| fs::metadata(scratch.models().join(name).join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            [mode(""), mode("onnx"), mode("config.json"), mode("onnx/text_model.onnx_data"), mode("pg_clip.json")],
            [0o755, 0o755, 0o444, 0o444, 0o444]
        );
    }
    assert!(scratch.pgclip(&["verify"]).output().unwrap().status.success());
}

#[test]
fn verify_finds_what_is_wrong() {
    let scratch = Scratch::new();
    assert!(scratch.add("photos", &family("half")).status.code() == Some(1), "fp16 must be chosen");
    run(scratch.pgclip(&["add", "photos", "--variant", "fp16"]).arg(family("half")));
    let folder = scratch.models().join("photos");
    fs::write(folder.join("custom_ops.so"), "").unwrap();
    fs::write(folder.join("config.json"), "{}").unwrap();
    fs::set_permissions(folder.join("tokenizer.json"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::remove_file(folder.join("tokenizer_config.json")).unwrap();
    let graph = folder.join("onnx/text_model_fp16.onnx");
    fs::rename(&graph, scratch.0.join("graph")).unwrap();
    symlink(scratch.0.join("graph"), &graph).unwrap();
    let output = scratch.pgclip(&["verify", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let found: Vec<_> =
        found.iter().map(|one| (one["file"].as_str().unwrap(), one["problem"].as_str().unwrap())).collect();
    assert_eq!(
        found,
        [
            ("config.json", "it is not the file that was added"),
            ("onnx/text_model_fp16.onnx", "it is a symbolic link"),
            ("tokenizer.json", "it can be written by others than its owner"),
            ("tokenizer_config.json", "No such file or directory (os error 2)"),
            ("custom_ops.so", "it does not belong to the model"),
        ]
    );
}

#[test]
fn folders_that_cannot_be_trusted_or_used_are_refused_and_leave_nothing() {
    let scratch = Scratch::new();
    let refused = |folder: &Path, word: &str| {
        let (code, message) = told(&scratch.add("photos", folder));
        assert_eq!(code, 1, "{message}");
        assert!(message.contains(word) && message.lines().count() == 2, "{message}");
        assert!(!scratch.models().exists() || scratch.entries().is_empty(), "{:?}", scratch.entries());
    };
    for name in ["nan", "zero", "wrong_dim", "no_tokenizer", "no_projection", "garbage_graph", "bad_json", "zero_std"] {
        refused(&model("broken").join(name), "");
    }
    refused(Path::new("/nonexistent"), "No such file");
    refused(&model("broken/no_projection"), "pooler_output");

    let folder = scratch.0.join("folder");
    let secret = scratch.0.join("secret");
    fs::write(&secret, "{}").unwrap();
    copy(&model("narrow"), &folder);
    let tokenizer = folder.join("tokenizer_config.json");
    fs::rename(&tokenizer, &secret).unwrap();
    symlink(&secret, &tokenizer).unwrap();
    refused(&folder, "symbolic link to outside");
    fs::remove_file(&tokenizer).unwrap();
    fs::hard_link(&secret, &tokenizer).unwrap();
    refused(&folder, "hard link");
    fs::remove_file(&secret).unwrap();
    fs::write(folder.join("library.so"), "").unwrap();
    assert_eq!(told(&scratch.add("photos", &folder)).0, 0);
    assert!(!scratch.models().join("photos/library.so").exists(), "what does not belong to the model is not copied");
}

#[test]
fn an_ambiguous_output_is_taken_if_it_is_named() {
    let scratch = Scratch::new();
    let folder = model("broken/no_projection");
    let named = ["--json", "add", "photos", "--text-output", "pooler_output", "--image-output", "last_hidden_state"];
    let (code, message) = told(&scratch.pgclip(&named).arg(&folder).output().unwrap());
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("say how to pool it"), "{message}");
    let added = json(&scratch.pgclip(&named).args(["--image-pooling", "cls"]).arg(&folder).output().unwrap());
    assert_eq!(added["text"]["graph"]["output"], "pooler_output");
    assert_eq!(added["image"]["graph"]["pooling"], "cls");
    let (_, message) = told(&scratch.pgclip(&["add", "other", "--text-output", "nose"]).arg(&folder).output().unwrap());
    assert!(message.contains("no output \"nose\""), "{message}");
}

#[test]
fn the_cache_of_the_hub_is_a_folder_like_any_other() {
    let scratch = Scratch::new();
    let repository = scratch.0.join("models--someone--clip");
    let snapshot = repository.join("snapshots/0123");
    fs::create_dir_all(snapshot.join("onnx")).unwrap();
    fs::create_dir(repository.join("blobs")).unwrap();
    let files = [
        "config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "onnx/text_model.onnx",
        "onnx/vision_model.onnx",
    ];
    for (number, file) in files.into_iter().enumerate() {
        fs::copy(model("narrow").join(file), repository.join(format!("blobs/{number}"))).unwrap();
        let up = "../".repeat(2 + file.matches('/').count());
        symlink(format!("{up}blobs/{number}"), snapshot.join(file)).unwrap();
    }
    assert_eq!(told(&scratch.add("photos", &snapshot)), (0, String::new()));
    assert!(fs::symlink_metadata(scratch.models().join("photos/config.json")).unwrap().is_file());
}

#[test]
fn a_killed_command_leaves_no_model_and_the_next_one_tidies_up() {
    let scratch = Scratch::new();
    // Examining the slow model takes seconds.
    let mut killed = scratch.pgclip(&["add", "slow"]).arg(model("slow")).spawn().unwrap();
    scratch.wait_until_busy();
    signal(&killed, "-KILL");
    killed.wait().unwrap();
    assert_eq!(json(&scratch.pgclip(&["list", "--json"]).output().unwrap()), Value::Array(vec![]));
    assert_eq!(scratch.entries().len(), 1, "the remains of the killed one");

    // One that is alive is left alone, and so is what is no folder.
    fs::write(scratch.models().join(".unfinished-by-hand"), "").unwrap();
    let mut alive = scratch.pgclip(&["add", "slow"]).arg(model("slow")).spawn().unwrap();
    let begun = Instant::now();
    while !scratch.entries().contains(&format!(".unfinished-slow-{}", alive.id())) {
        assert!(begun.elapsed() < PATIENCE, "nothing was begun");
        std::thread::yield_now();
    }
    assert_eq!(told(&scratch.add("photos", &family("external"))).0, 0);
    fs::remove_file(scratch.models().join(".unfinished-by-hand")).unwrap();
    assert_eq!(scratch.entries(), [format!(".unfinished-slow-{}", alive.id()), "photos".into()]);

    // An interrupt ends it in order.
    signal(&alive, "-INT");
    assert_eq!(alive.wait().unwrap().code(), Some(130));
    assert_eq!(scratch.entries(), ["photos"]);
}

#[test]
fn of_two_that_add_one_name_one_wins() {
    let scratch = Scratch::new();
    for round in 0..5 {
        let name = format!("photos-{round}");
        let start = || scratch.pgclip(&["add", &name]).arg(family("external")).spawn().unwrap();
        let both = [start(), start()].map(|child| child.wait_with_output().unwrap());
        let codes = both.each_ref().map(|output| output.status.code());
        assert!(codes == [Some(0), Some(1)] || codes == [Some(1), Some(0)], "{both:?}");
        let (_, message) = told(both.iter().find(|output| !output.status.success()).unwrap());
        assert!(message.contains("exists already"), "{message}");
    }
    let (one, two) = (
        scratch.pgclip(&["add", "one"]).arg(family("int8")).args(["--variant", "int8"]).spawn(),
        scratch.pgclip(&["add", "two"]).arg(family("siglip2")).spawn(),
    );
    for child in [one, two] {
        let output = child.unwrap().wait_with_output().unwrap();
        assert!(output.status.success(), "{}", told(&output).1);
    }
    assert!(scratch.pgclip(&["verify"]).output().unwrap().status.success());
    assert_eq!(scratch.entries().len(), 7);
}

#[test]
fn a_full_disk_is_an_error_that_leaves_nothing() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.models()).unwrap();
    // A file system of our own, smaller than the model, seen by this process alone.
    let script = "mount -t tmpfs -o size=100k,mode=755 tmpfs \"$0\" && \"$@\"; code=$?; ls -A \"$0\"; exit $code";
    let add = scratch.pgclip(&["add", "photos"]);
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(scratch.models())
        .arg(add.get_program())
        .args(add.get_args())
        .arg(family("external"))
        .output()
        .unwrap();
    let (code, message) = told(&output);
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("No space left on device") && message.contains("free disk space"), "{message}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "something was left");
}

#[test]
fn a_model_that_a_database_uses_is_not_removed() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    for statement in [
        "CREATE TABLE photos (caption text,
            embedding vector GENERATED ALWAYS AS (clip_embed_text(caption, 'narrow')) STORED)",
        "CREATE DATABASE other",
        "ALTER DATABASE other SET clip.default_model = 'wide'",
    ] {
        client.batch_execute(statement).unwrap();
    }
    let host = cluster.directory.display().to_string();
    let remove = |name: &str, database: &str, more: &[&str]| {
        let database = format!("host={host} user=postgres dbname={database}");
        cluster.pgclip().args(["rm", name, "--database", &database]).args(more).output().unwrap()
    };
    let (code, message) = told(&remove("narrow", "postgres", &[]));
    assert_eq!(code, 5, "{message}");
    assert!(message.contains("column public.photos.embedding"), "{message}");
    let (code, message) = told(&remove("wide", "other", &[]));
    assert_eq!(code, 5, "{message}");
    assert!(message.contains("clip.default_model in database other"), "{message}");
    assert_eq!(told(&remove("emoji", "postgres", &[])).0, 5, "the default");
    let (code, message) = told(&remove("fragile", "missing", &[]));
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("does not exist"), "{message}");
    assert_eq!(told(&remove("fragile", "postgres", &[])).0, 0);
    assert_eq!(told(&remove("narrow", "postgres", &["--force"])).0, 0);
    let left: i64 = client.query_one("SELECT count(*) FROM clip_models", &[]).unwrap().get(0);
    assert_eq!(left, 3);
}

#[test]
fn shells_understand_the_completions() {
    let scratch = Scratch::new();
    let output = scratch.pgclip(&["completions", "bash"]).output().unwrap();
    let file = scratch.0.join("pgclip.bash");
    fs::write(&file, &output.stdout).unwrap();
    run(Command::new("bash").arg("-n").arg(&file));
    assert!(String::from_utf8_lossy(&output.stdout).contains("verify"));
    let help = scratch.pgclip(&["add", "--help"]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&help.stdout)
            .contains("pgclip add photos-small ./clip-vit-base-patch32 --variant int8")
    );
}
