//! Other native code in the same process: a second ONNX Runtime of another version, with its own threads, in Python.

use std::path::PathBuf;
use std::process::Command;

use e2e::{Cluster, picture, root, run};

/// Returns the package directory of `pip`, from which Python imports.
fn packages() -> PathBuf {
    let folder = root().join("target/python-neighbours");
    if !folder.join("onnxruntime").exists() {
        run(Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--python-version", "3.11", "--only-binary=:all:", "--target"])
            .arg(&folder)
            .args(["onnxruntime==1.23.2", "numpy<3"]));
    }
    folder
}

#[test]
fn another_onnx_runtime_in_the_same_process_disturbs_neither() {
    // Copies the packages, so that the server's user can read them.
    let folder = std::env::temp_dir().join(format!("pg_clip-neighbours-{}", std::process::id()));
    run(Command::new("cp").arg("-r").arg(packages()).arg(&folder));
    let graph = root().join("tests/fixtures/models/narrow/onnx/vision_model.onnx");
    run(Command::new("cp").arg(graph).arg(folder.join("model.onnx")));
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&folder));
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client
        .batch_execute("CREATE EXTENSION plpython3u")
        .expect("plpython3 is one of the packages that `make test-all` installs");
    let path = folder.display();
    client
        .batch_execute(&format!(
            "CREATE FUNCTION theirs(threads int) RETURNS float8 LANGUAGE plpython3u AS $$
             import sys
             sys.path.insert(0, '{path}')
             import numpy, onnxruntime
             options = onnxruntime.SessionOptions()
             options.intra_op_num_threads = threads
             session = onnxruntime.InferenceSession('{path}/model.onnx', options)
             entry = session.get_inputs()[0]
             shape = [size if isinstance(size, int) else 1 for size in entry.shape]
             shape[2:] = [side if side > 1 else 64 for side in shape[2:]]
             return float(numpy.abs(session.run(None, {{entry.name: numpy.full(shape, 0.5, numpy.float32)}})[0]).sum())
             $$"
        ))
        .unwrap();
    let ours = "SELECT sum(v) FROM unnest(clip_embed_image($1, 'narrow')::real[] || clip_embed_text('a cat', 'narrow')::real[]) AS v";
    let bytes = picture("rgb_444.jpg");
    let mut expected = None;
    // The order of the two must not matter.
    for theirs_first in [false, true] {
        let mut client = cluster.connect();
        let mut seen = Vec::new();
        for round in 0..6 {
            if (round % 2 == 0) == theirs_first {
                let theirs: f64 = client.query_one("SELECT theirs($1)", &[&(1 + round % 4)]).unwrap().get(0);
                seen.push(("theirs", format!("{theirs:.4}")));
            } else {
                let ours: f32 = client.query_one(ours, &[&bytes]).unwrap().get(0);
                seen.push(("ours", format!("{ours:.4}")));
            }
            client.batch_execute("SELECT clip_unload()").unwrap();
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!(expected.get_or_insert_with(|| seen.clone()), &seen, "the order changes the results");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
