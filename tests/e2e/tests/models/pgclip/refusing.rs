//! Rejections, interruptions and reports of the command.

use super::*;

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
    // The permissions do not depend on the umask.
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
fn a_killed_command_leaves_no_model_and_the_next_one_tidies_up() {
    let scratch = Scratch::new();
    // The check of the slow model takes seconds.
    let mut killed = scratch.pgclip(&["add", "slow"]).arg(model("slow")).spawn().unwrap();
    scratch.wait_until_busy();
    signal(&killed, "-KILL");
    killed.wait().unwrap();
    assert_eq!(json(&scratch.pgclip(&["list", "--json"]).output().unwrap()), Value::Array(vec![]));
    assert_eq!(scratch.entries().len(), 1, "the remains of the killed one");

    // The command keeps the directory of a running process, and files that are not directories.
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

    // An interrupt ends the command in an orderly way.
    signal(&alive, "-INT");
    assert_eq!(alive.wait().unwrap().code(), Some(130));
    assert_eq!(scratch.entries(), ["photos"]);
}

#[test]
fn one_of_two_concurrent_adds_of_a_name_wins() {
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
    // A file system of its own, smaller than the model and visible only to this process.
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
