//! Tests of the tokenizer against the ids of the reference.

use std::path::Path;

use serde_json::Value;

use super::*;
use crate::import::config::Configuration;
use crate::import::files::TOKENIZER;
use crate::import::tokenizer::describe;

fn open(path: &Path) -> TextTokenizer {
    let folder = Folder { path, model: "test" };
    let (spec, _) = describe(folder, &Configuration::read(folder).unwrap()).unwrap();
    TextTokenizer::open(folder, &spec).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn ids_are_those_of_the_reference() {
    let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures"));
    for model in ["wide", "narrow", "bidirectional"] {
        let tokens = open(&fixtures.join("models").join(model));
        let golden = json(&fixtures.join("golden").join(format!("{model}.json")));
        let texts = golden["texts"].as_array().unwrap();
        assert!(texts.len() >= 14);
        for text in texts {
            let encoded = tokens.encode(text["text"].as_str().unwrap()).unwrap();
            assert_eq!(encoded.ids, ids(&text["ids"]), "{model}: {}", text["text"]);
            assert!(encoded.count >= encoded.ids.len());
        }
    }
}

/// OpenAI's vocabulary, which is not part of the project.
#[test]
fn ids_are_those_of_openai_clip() {
    let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    if !data.exists() {
        println!("left out: the reference data is not here");
        return;
    }
    let path = data.join("tokenizer/clip-vit-base-patch32");
    let folder = Folder { path: &path, model: "test" };
    let wide = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/wide"));
    let config = Configuration::read(Folder { path: wide, model: "test" }).unwrap();
    let (spec, _) = describe(folder, &config).unwrap();
    assert_eq!((spec.context_length, spec.pad_id, spec.lowercase), (77, 49407, false));
    let tokens = TextTokenizer::open(folder, &spec).unwrap();
    let golden = json(&data.join("reference/token_ids.json"));
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 46);
    for case in cases {
        let mut expected = ids(&case["hf_ids"]);
        let encoded = tokens.encode(case["text"].as_str().unwrap()).unwrap();
        assert_eq!(encoded.count, expected.len(), "{}", case["text"]);
        if expected.len() > 77 {
            expected.truncate(76);
            expected.push(49407);
        }
        assert_eq!(encoded.ids, expected, "{}", case["text"]);
    }
}

/// Returns a text of pieces that tokenizers treat differently, drawn by a generator that is the same in each run.
fn random_text(state: &mut u64) -> String {
    const LITERALS: [&str; 10] = [
        "<|endoftext|>",
        "<|startoftext|>",
        "[CLS]",
        "</s>",
        "it's we'll",
        "\r\n\t",
        "\u{200d}\u{fe0f}",
        "e\u{301}\u{327}",
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    const RANGES: [(u32, u32); 12] = [
        (0x20, 0x7f),
        (0x61, 0x7b),
        (0x30, 0x3a),
        (0, 0x20),
        (0xa0, 0x250),
        (0x300, 0x500),
        (0x590, 0x700),
        (0x900, 0xe80),
        (0x2000, 0x2100),
        (0x3000, 0x9fff),
        (0xac00, 0xd7a4),
        (0x1f300, 0x1fb00),
    ];
    let mut draw = |below: u64| {
        // xorshift64
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % below
    };
    let mut text = String::new();
    for _ in 0..draw(8) {
        match draw(8) {
            0 => text.push_str(LITERALS[draw(LITERALS.len() as u64) as usize]),
            1 => text.extend(char::from_u32(draw(0x11_0000) as u32)),
            _ => {
                let (first, end) = RANGES[draw(RANGES.len() as u64) as usize];
                let length = 1 + draw(12);
                text.extend((0..length).filter_map(|_| char::from_u32(first + draw((end - first).into()) as u32)));
            }
        }
    }
    text
}

/// Returns both ways to read a tokenizer give the same ids, of all texts.
fn compare_with_the_library(path: &Path, texts: usize) {
    let bytes = std::fs::read(path).unwrap();
    let (ours, theirs) = (read_typed(&bytes).unwrap(), Tokenizer::from_bytes(&bytes).unwrap());
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..texts {
        let text = random_text(&mut state);
        let [ours, theirs] = [&ours, &theirs].map(|tokenizer| tokenizer.encode_fast(text.as_str(), true).unwrap());
        assert_eq!(ours.get_ids(), theirs.get_ids(), "{}: {text:?}", path.display());
    }
    assert_eq!(ours.get_vocab_size(true), theirs.get_vocab_size(true));
}

#[test]
fn reading_straight_into_the_model_changes_no_id() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    // Of each kind of model: BPE, WordPiece, Unigram, and BPE of bytes.
    for model in ["models/wide", "models/bidirectional", "families/chinese_clip", "families/altclip", "families/siglip"]
    {
        compare_with_the_library(&root.join("tests/fixtures").join(model).join(TOKENIZER), 5_000);
    }
    compare_with_the_library(&root.join("models/emoji").join(TOKENIZER), 5_000);
    match root.join("../shared/data/tokenizer/clip-vit-base-patch32").join(TOKENIZER) {
        path if path.exists() => compare_with_the_library(&path, 100_000),
        _ => println!("left out: the reference data is not here"),
    }
}

#[test]
fn what_makes_the_library_panic_is_an_error() {
    let scratch = std::env::temp_dir().join(format!("clip-tokens-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).unwrap();
    let fixture = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/narrow"));
    let good = std::fs::read_to_string(fixture.join(TOKENIZER)).unwrap();
    let decoder = good.find("\"decoder\": {").unwrap() + "\"decoder\": {".len();
    let damaged = format!("{}]{}", &good[..decoder], &good[decoder..]);
    std::fs::write(scratch.join(TOKENIZER), damaged).unwrap();
    let error = read(Folder { path: &scratch, model: "test" }, TOKENIZER).err().unwrap();
    std::fs::remove_dir_all(scratch).unwrap();
    assert!(matches!(error, Error::ModelInvalid { .. }), "{error:?}");
}

#[test]
fn a_cut_keeps_the_end() {
    let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/narrow"));
    let tokens = open(fixtures);
    let end = *tokens.encode("").unwrap().ids.last().unwrap();
    let long = tokens.encode(&"cat ".repeat(100)).unwrap();
    assert_eq!((long.ids.len(), long.ids.last()), (32, Some(&end)));
    assert!(long.count >= 102);
}

#[test]
fn a_novel_is_refused() {
    let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/narrow"));
    let tokens = open(fixtures);
    assert!(tokens.encode(&"a".repeat(MAX_TEXT_BYTES)).is_ok());
    let (bytes, limit) = (MAX_TEXT_BYTES as u64 + 1, MAX_TEXT_BYTES as u64);
    let error = tokens.encode(&"a".repeat(MAX_TEXT_BYTES + 1)).err().unwrap();
    assert_eq!(error, Error::TextBytesExceeded { bytes, limit });
}
