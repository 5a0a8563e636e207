//! Adding and converting models.

use super::*;

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
fn the_license_of_a_model_is_stored_as_one_line_of_ascii() {
    let scratch = Scratch::new();
    let licence = "MIT\x1b[2J\nGemälde";
    let added = json(
        &scratch.pgclip(&["add", "photos", "--json", "--license", licence]).arg(family("external")).output().unwrap(),
    );
    assert_eq!(added["license"], "MIT?[2J?Gem?lde");
    // A manifest with other text was not written by pgclip.
    let manifest = scratch.models().join("photos/pg_clip.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    fs::write(&manifest, text.replace("MIT?[2J?Gem?lde", "Gemälde")).unwrap();
    let (code, said) = told(&scratch.pgclip(&["show", "photos"]).output().unwrap());
    assert_eq!(code, 1);
    assert!(said.contains("is no short line of ASCII"), "{said}");
}

#[test]
fn adding_a_model_prepares_it_and_prepare_restores_missing_files() {
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

    // A copy of the directory is another directory, and needs its own preparation.
    copy(&scratch.models().join("photos"), &scratch.0.join("copy"));
    fs::remove_dir_all(scratch.models().join("photos")).unwrap();
    copy(&scratch.0.join("copy"), &scratch.models().join("photos"));
    assert_eq!(shown(&scratch), false);
    assert_eq!(told(&scratch.pgclip(&["verify"]).output().unwrap()).0, 0, "its contents are right");
    run(scratch.pgclip(&["prepare", "photos"]));
    assert_eq!(shown(&scratch), true);

    // A broken model does not prevent the preparation of the others. The command reports it.
    run(scratch.pgclip(&["add", "broken"]).arg(family("pooling")));
    fs::write(scratch.models().join("broken/onnx/text_model.onnx"), b"another").unwrap();
    fs::remove_dir_all(scratch.models().join("photos/prepared")).unwrap();
    let (code, error) = told(&scratch.pgclip(&["prepare"]).output().unwrap());
    assert!(code == 1 && error.contains("broken") && error.contains("1 of 2"), "{code} {error}");
    assert_eq!(shown(&scratch), true);
}

#[test]
fn a_model_gets_bf16_weights_under_a_new_name_with_a_report() {
    let scratch = Scratch::new();
    run(scratch.pgclip(&["add", "photos"]).arg(model("wide")));
    let made = json(&scratch.pgclip(&["--json", "quantize", "photos", "--weights", "bf16"]).output().unwrap());
    assert_eq!((&made["name"], &made["prepared"]), (&"photos-bf16".into(), &true.into()));
    let precision = |made: &Value, tower: &str| made[tower]["graph"]["precision"].as_str().map(str::to_owned);
    assert_eq!([precision(&made, "text"), precision(&made, "image")], [Some("bf16".into()), Some("bf16".into())]);
    for tower in made["comparison"].as_array().unwrap() {
        let least = tower["least_cosine"].as_f64().unwrap();
        assert!(least > 0.9999 && least < 1.0, "{tower}");
    }
    let shown = json(&scratch.pgclip(&["--json", "show", "photos"]).output().unwrap());
    assert_eq!(precision(&shown, "text"), None);
    assert_eq!(made["quantized_from"], shown["digest"]);
    let output =
        scratch.pgclip(&["quantize", "photos", "half", "--weights", "bf16", "--tower", "text"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("without a gain"), "{said}");

    // The installed library has no other provider. Nothing is made before that is known.
    let before = scratch.entries();
    let failed = |arguments: &[&str]| told(&scratch.pgclip(arguments).output().unwrap());
    for provider in ["openvino", "cuda"] {
        let (code, error) = failed(&["quantize", "photos", "other", "--weights", "bf16", "--provider", provider]);
        assert!(code == 1 && error.contains(provider) && error.contains("built without it"), "{code} {error}");
    }
    assert_eq!(failed(&["quantize", "photos", "other", "--provider", "gpu"]).0, 2);
    assert_eq!(failed(&["quantize", "photos", "other", "--weights", "int4"]).0, 2);
    assert_eq!(scratch.entries(), before);
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
        // On x86-64 without VNNI, sums of 8-bit products saturate: docs/operations/models.md.
        let bound = if fs::read_to_string("/proc/cpuinfo").unwrap().contains("vnni") { 0.99 } else { 0.95 };
        assert!(least > bound && least < 1.0, "{tower}: {least}");
        assert!(tower["original_ms"].as_f64().unwrap() > 0.0 && tower["quantized_ms"].as_f64().unwrap() > 0.0);
    }
    // Quantizes one encoder without samples, and prints a table of the similarity.
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
