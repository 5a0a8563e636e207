//! Zero-shot classification and retrieval with real vectors of published models: SQL returns the same results as numpy.

use std::path::Path;

use e2e::{Cluster, count, shared_data};
use postgres::Client;
use serde_json::Value;

type Rows = Vec<Vec<f32>>;

/// Reads a matrix of half-precision floats in numpy's format, version 1.
fn numpy(path: &Path) -> Rows {
    let bytes = std::fs::read(path).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let described = std::str::from_utf8(&bytes[10..header]).unwrap();
    assert!(described.contains("'descr': '<f2'") && described.contains("'fortran_order': False"), "{described}");
    let columns =
        described.split(&[',', '(', ')'][..]).filter_map(|word| word.trim().parse::<usize>().ok()).nth(1).unwrap();
    let values: Vec<f32> =
        bytes[header..].chunks_exact(2).map(|two| half::f16::from_le_bytes([two[0], two[1]]).to_f32()).collect();
    values.chunks_exact(columns).map(<[f32]>::to_vec).collect()
}

/// Reads the demonstration's files: single-precision floats, a row for each line of a list.
fn lit(folder: &Path, name: &str) -> (Vec<String>, Rows) {
    let list = std::fs::read_to_string(folder.join(name).with_extension("txt")).unwrap();
    let lines: Vec<String> = list.trim_end_matches('\n').split('\n').map(str::to_owned).collect();
    let bytes = std::fs::read(folder.join(name).with_extension("bin")).unwrap();
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect();
    let rows = values.chunks_exact(values.len() / lines.len()).map(<[f32]>::to_vec).collect();
    (lines, rows)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Creates a table of rows, numbered from zero.
fn load(client: &mut Client, table: &str, rows: &Rows) {
    client.batch_execute(&format!("CREATE TABLE {table} (id int, embedding vector)")).unwrap();
    let statement = client.prepare(&format!("INSERT INTO {table} SELECT $1, $2::real[]::vector")).unwrap();
    for (id, row) in rows.iter().enumerate() {
        client.execute(&statement, &[&(id as i32), row]).unwrap();
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    logits.iter().map(|logit| (logit - largest).exp() / sum).collect()
}

fn largest<T: PartialOrd + Copy>(values: &[T]) -> usize {
    (0..values.len()).reduce(|best, next| if values[next] > values[best] { next } else { best }).unwrap()
}

/// Returns the probabilities of all labels for each image from SQL, after comparing them with the same computation in
/// double precision.
fn judged(client: &mut Client, scale: f64, pictures: &Rows, labels: &Rows) -> Rows {
    let query = "SELECT clip_probabilities(p.embedding, (SELECT array_agg(embedding ORDER BY id) FROM label), $1) FROM picture AS p ORDER BY p.id";
    let found: Rows = client.query(query, &[&scale]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(found.len(), pictures.len());
    for (picture, ours) in pictures.iter().zip(&found) {
        let theirs = softmax(&labels.iter().map(|label| scale * cosine(picture, label)).collect::<Vec<_>>());
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((f64::from(*ours) - theirs).abs() < 1e-4, "{ours} {theirs}");
        }
    }
    found
}

#[test]
fn class_names_and_photos_of_clip() {
    let Some(data) = shared_data() else { return };
    let folder = data.join("embeddings");
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let pictures = numpy(&folder.join("clip_retrieval_vitb32/image_embeddings_f16.npy"));
    load(&mut client, "picture", &pictures);
    let classes = folder.join("detic_clip_vitb32_text");
    for (file, names, size) in
        [("lvis_v1_clip_a+cname.npy", "lvis_names.json", 1203), ("coco_clip_a+cname.npy", "coco_names.json", 80)]
    {
        let (labels, names) = (numpy(&classes.join(file)), json(&classes.join(names)));
        assert_eq!((labels.len(), labels[0].len()), (size, 512));
        client.batch_execute("DROP TABLE IF EXISTS label").unwrap();
        load(&mut client, "label", &labels);
        let found = judged(&mut client, 100.0, &pictures, &labels);
        // The nearest image of each name.
        let query = "SELECT (SELECT p.id FROM picture AS p ORDER BY p.embedding <=> l.embedding LIMIT 1) FROM label AS l ORDER BY l.id";
        for (label, row) in labels.iter().zip(client.query(query, &[]).unwrap()) {
            let cosines: Vec<f64> = pictures.iter().map(|picture| cosine(picture, label)).collect();
            let ours = row.get::<_, i32>(0) as usize;
            assert!(cosines[largest(&cosines)] - cosines[ours] < 1e-6);
        }
        if size == 80 {
            // The same order as numpy's: a kitten, a beach, palms, a sign on a pole, leaves, a cat, houses around the
            // sky.
            let best: Vec<(String, String)> = found
                .iter()
                .map(|row| {
                    let best = largest(row);
                    (names[best].as_str().unwrap().to_owned(), format!("{:.4}", row[best]))
                })
                .collect();
            let expected = [
                ("cat", "0.6146"),
                ("surfboard", "0.5448"),
                ("kite", "0.0666"),
                ("motorcycle", "0.3068"),
                ("broccoli", "0.4163"),
                ("cat", "0.4744"),
                ("clock", "0.2543"),
            ];
            assert_eq!(best, expected.map(|(name, probability)| (name.to_owned(), probability.to_owned())));
        }
    }
}

#[test]
fn descriptions_and_pictures_of_lit() {
    let Some(data) = shared_data() else { return };
    let folder = data.join("embeddings/lit_demo");
    let model = folder.join("models/small");
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    let ((ids, pictures), (texts, labels)) = (lit(&model, "zimgs"), lit(&model, "ztxts"));
    assert_eq!((ids.len(), texts.len(), labels[0].len()), (55, 267, 1024));
    load(&mut client, "picture", &pictures);
    load(&mut client, "label", &labels);
    let found = judged(&mut client, json(&model.join("def.json"))["temperature"].as_f64().unwrap(), &pictures, &labels);
    // The texts that were written for each image.
    let described = json(&folder.join("images/info.json"));
    let own = |id: &str, text: &str| {
        let picture = described.as_array().unwrap().iter().find(|picture| picture["id"] == id).unwrap();
        picture["prompts"].as_str().unwrap().split(',').any(|prompt| prompt.trim() == text)
    };
    let right = ids.iter().zip(&found).filter(|(id, row)| own(id, &texts[largest(row)])).count();
    // Counts the texts whose nearest image is one that the text was written for.
    let query = "SELECT (SELECT p.id FROM picture AS p ORDER BY p.embedding <=> l.embedding LIMIT 1) FROM label AS l ORDER BY l.id";
    let nearest = client.query(query, &[]).unwrap();
    let retrieved =
        texts.iter().zip(nearest).filter(|(text, row)| own(&ids[row.get::<_, i32>(0) as usize], text)).count();
    // Both numbers are numpy's.
    assert_eq!((right, retrieved), (47, 167));
    // An index over this small number of rows finds all of them.
    client
        .batch_execute(
            "ALTER TABLE picture ALTER embedding TYPE vector(1024), ADD PRIMARY KEY (id);
             CREATE INDEX ON picture USING hnsw (embedding vector_cosine_ops)",
        )
        .unwrap();
    assert_eq!(
        count(
            &mut client,
            "SELECT count(*) FROM clip_index_recall('picture', k => 5) WHERE recall = 1 AND queries = 55"
        ),
        4
    );
    // No two of these images are near-duplicates.
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_near_duplicates('picture')"), 0);
    assert_eq!(count(&mut client, "SELECT count(*) FROM clip_near_duplicates('picture', max_distance => 0.5)"), 0);
}
