//! The work of the service: models are loaded and used after the process is isolated, and vectors are the same.

use std::path::PathBuf;

use clip::{Model, Tower, admin};

use crate::place::{Place, image, models};

/// Returns the embeddings of texts and images, as one line with all bits of each number.
pub fn line(place: &Place, prepared: Option<PathBuf>, images: &[Vec<u8>]) -> String {
    let options = clip::Options { prepared, ..place.options() };
    let mut model = Model::open(&models().join("emoji"), "emoji", || false).unwrap();
    let texts = model.embed_texts(&["a red car", "a cat", "rain over the sea at night"], &options).unwrap();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let images = model.embed_images(&images, &options).unwrap();
    let shared = Tower::BOTH.map(|tower| model.usage(tower).unwrap().shared);
    let embeddings = texts.into_iter().map(|text| text.embedding).chain(images);
    let numbers: Vec<String> = embeddings
        .flat_map(|embedding| embedding.as_slice().to_vec())
        .map(|number| number.to_bits().to_string())
        .collect();
    assert_eq!(numbers.len(), 5 * 128);
    format!("{shared:?} {}", numbers.join(" "))
}

/// Reads the images of the cases, which the isolated process cannot read.
pub fn images() -> [Vec<u8>; 2] {
    [image("rgb_444.jpg"), image("grey.png")]
}

pub fn inside(place: &Place) {
    let images = images();
    place.isolate();
    println!("{}", line(place, None, &images));
}

pub fn prepared_files(place: &Place) {
    let images = images();
    place.isolate();
    println!("{}", line(place, Some(place.path.join("prepared")), &images));
}

pub fn is_equal(place: &Place, name: &str) {
    let prepared = (name == "prepared_files").then(|| place.path.join("prepared"));
    if prepared.is_some() {
        let options = clip::Options { prepared: prepared.clone(), ..place.options() };
        admin::prepare(&models(), "emoji", &options).unwrap();
    }
    let output = place.output(name);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outside = line(place, prepared, &images());
    assert!(outside.starts_with(if name == "prepared_files" { "[true, true]" } else { "[false, false]" }));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), outside);
}
