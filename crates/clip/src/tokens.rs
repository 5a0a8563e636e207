//! Texts: strings become the ids that the text tower reads, as `tokenizer.json` says. External crate: `tokenizers`.

use tokenizers::{Tokenizer, TruncationDirection};

use crate::error::Error;
use crate::spec::{Folder, ModelSpec};

/// A context holds some dozens of tokens; a megabyte is a novel. Tokenising cannot be interrupted, so it is bounded.
pub const MAX_TEXT_BYTES: usize = 1024 * 1024;

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// `model_max_length` of tokenizers that have none is 1e30; no CLIP reads this many tokens.
const MAX_CONTEXT_LENGTH: f64 = 1e5;

pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    pub(crate) context_length: usize,
    pub(crate) pad_id: u32,
    model: String,
}

/// The ids of one text, begin and end included, cut to the context with the end kept.
pub(crate) struct Encoded {
    pub ids: Vec<u32>,
    /// Tokens before the cut.
    pub count: usize,
}

impl Tokens {
    pub(crate) fn open(folder: Folder<'_>, spec: &ModelSpec) -> Result<Self, Error> {
        let mut tokenizer = Tokenizer::from_bytes(folder.read(TOKENIZER)?)
            .map_err(|error| Error::invalid(folder.model, TOKENIZER, error))?;
        let config = match folder.has(TOKENIZER_CONFIG) {
            true => folder.json(TOKENIZER_CONFIG)?,
            false => serde_json::Value::Null,
        };
        let pad_id = pad_id(&tokenizer, &config)
            .or(spec.pad_id)
            .ok_or_else(|| Error::invalid(folder.model, TOKENIZER_CONFIG, "there is no \"pad_token\""))?;
        let longest = config["model_max_length"].as_f64().filter(|&length| length < MAX_CONTEXT_LENGTH);
        let context_length = [spec.context_length, longest.map(|length| length as usize)].into_iter().flatten().min();
        let context_length = context_length
            .ok_or_else(|| Error::invalid(folder.model, TOKENIZER_CONFIG, "there is no \"model_max_length\""))?;
        // Cutting and padding are done here, where the length before the cut is known.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| Error::invalid(folder.model, TOKENIZER, error))?;
        let tokens = Self { tokenizer, context_length, pad_id, model: folder.model.into() };
        if tokens.special_tokens() >= context_length {
            return Err(Error::invalid(folder.model, TOKENIZER, "no room for text within the context length"));
        }
        Ok(tokens)
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Encoded, Error> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::TextBytesExceeded { bytes: text.len() as u64, limit: MAX_TEXT_BYTES as u64 });
        }
        let invalid = |error| Error::invalid(&self.model, TOKENIZER, error);
        // `encode`, never a batch: that starts threads.
        let mut encoding = self.tokenizer.encode_fast(text, false).map_err(invalid)?;
        let special = self.special_tokens();
        let count = encoding.get_ids().len() + special;
        encoding.truncate(self.context_length - special, 0, TruncationDirection::Right);
        let encoding = self.tokenizer.post_process(encoding, None, true).map_err(invalid)?;
        Ok(Encoded { ids: encoding.get_ids().to_vec(), count })
    }

    /// Tokens that the post-processor adds to one text.
    fn special_tokens(&self) -> usize {
        use tokenizers::PostProcessor;
        self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false))
    }
}

/// The id that fills a row: a wrong one moves the embedding wherever the graph looks at padding.
fn pad_id(tokenizer: &Tokenizer, config: &serde_json::Value) -> Option<u32> {
    let token = &config["pad_token"];
    token
        .as_str()
        .or_else(|| token["content"].as_str())
        .and_then(|token| tokenizer.token_to_id(token))
        .or_else(|| tokenizer.get_padding().map(|padding| padding.pad_id))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    fn open(path: &Path, context_length: Option<usize>) -> Tokens {
        let folder = Folder { path, model: "test" };
        let image = crate::spec::ImageSpec {
            orient: true,
            resize: None,
            filter: crate::pixels::Filter::Bicubic,
            size: (1, 1),
            levels: Box::new([[0.0; 256]; 3]),
        };
        let family = "clip".into();
        let spec = ModelSpec { family, dimensions: None, context_length, logit_scale: None, pad_id: None, image };
        Tokens::open(folder, &spec).unwrap()
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
            let tokens = open(&fixtures.join("models").join(model), None);
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
        let tokens = open(&data.join("tokenizer/clip-vit-base-patch32"), Some(77));
        assert_eq!((tokens.context_length, tokens.pad_id), (77, 49407));
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

    #[test]
    fn a_cut_keeps_the_end() {
        let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/narrow"));
        let tokens = open(fixtures, None);
        let end = *tokens.encode("").unwrap().ids.last().unwrap();
        let long = tokens.encode(&"cat ".repeat(100)).unwrap();
        assert_eq!((long.ids.len(), long.ids.last()), (32, Some(&end)));
        assert!(long.count >= 102);
    }

    #[test]
    fn a_novel_is_refused() {
        let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/narrow"));
        let tokens = open(fixtures, None);
        assert!(tokens.encode(&"a".repeat(MAX_TEXT_BYTES)).is_ok());
        let (bytes, limit) = (MAX_TEXT_BYTES as u64 + 1, MAX_TEXT_BYTES as u64);
        let error = tokens.encode(&"a".repeat(MAX_TEXT_BYTES + 1)).err().unwrap();
        assert_eq!(error, Error::TextBytesExceeded { bytes, limit });
    }
}
