//! Texts: strings become the ids that the text tower reads, as `tokenizer.json` says. External crate: `tokenizers`.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{Lowercase, Sequence};
use tokenizers::{
    DecoderWrapper, Model, ModelWrapper, Normalizer, NormalizerWrapper, PaddingDirection, PostProcessorWrapper,
    PreTokenizerWrapper, Tokenizer, TokenizerImpl, TruncationDirection,
};

use crate::error::{Error, Tower};
use crate::folder::Folder;
use crate::import::config::{self, Configuration};
use crate::memory::{HEADROOM, headroom, reserve};
use crate::panics::catch_panic;
use crate::recipe::{GraphSpec, MAX_CONTEXT_LENGTH, TextSpec};

/// A context holds some dozens of tokens; a megabyte is a novel. Tokenising cannot be interrupted, so it is bounded.
pub const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// What a byte of text takes while it is tokenised, in many small pieces: of digits, each is a token of its own.
const BYTES_PER_BYTE: u64 = 640;

/// While a vocabulary is read, many times the file's size is in use.
const TOKENIZER_COPIES: u64 = 16;

pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    context_length: usize,
    model: String,
}

/// The ids of one text, begin and end included, cut to the context with the end kept.
pub(crate) struct Encoded {
    pub ids: Vec<u32>,
    /// Tokens before the cut.
    pub count: usize,
}

impl TextTokenizer {
    pub(crate) fn open(folder: Folder<'_>, spec: &TextSpec) -> Result<Self, Error> {
        let mut tokenizer = read(folder, &spec.tokenizer)?;
        let invalid = |reason: String| Error::invalid(folder.model, &spec.tokenizer, reason);
        // Cutting and padding are done here, where the length before the cut is known.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| invalid(error.to_string()))?;
        if spec.lowercase {
            // As `Siglip2Tokenizer` does it: before all else, but special tokens are found as they are written.
            let lower = NormalizerWrapper::Lowercase(Lowercase);
            let steps = std::iter::once(lower).chain(tokenizer.get_normalizer().cloned()).collect();
            let steps = tokenizer.with_normalizer(Some(NormalizerWrapper::Sequence(Sequence::new(steps)))).map(drop);
            steps.map_err(|error| invalid(error.to_string()))?;
        }
        let tokens = Self { tokenizer, context_length: spec.context_length, model: folder.model.into() };
        let context_length = spec.context_length;
        if tokens.special_tokens() >= context_length {
            return Err(invalid("no room for text within the context length".into()));
        }
        Ok(tokens)
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Encoded, Error> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::TextBytesExceeded { bytes: text.len() as u64, limit: MAX_TEXT_BYTES as u64 });
        }
        headroom(BYTES_PER_BYTE * text.len() as u64 + HEADROOM)?;
        catch_panic(|| self.encode_or_panic(text))
            .unwrap_or_else(|| Err(self.failed("the tokenizer does not understand the text")))
    }

    /// It is the text that it fails for: the file was read.
    fn failed(&self, reason: impl ToString) -> Error {
        Error::Inference { model: self.model.clone(), tower: Tower::Text, reason: reason.to_string() }
    }

    fn encode_or_panic(&self, text: &str) -> Result<Encoded, Error> {
        let invalid = |error| self.failed(error);
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

/// Texts of one run, filled up to `length`: their ids, and which of them are not padding.
pub(crate) fn rows<T: AsRef<[u32]>>(
    texts: &[T],
    length: usize,
    pad_id: u32,
    pad_left: bool,
) -> Result<(Vec<u32>, Vec<bool>), Error> {
    let size = texts.len() * length;
    let (mut ids, mut mask) = (reserve(size)?, reserve(size)?);
    for text in texts.iter().map(AsRef::as_ref) {
        let padding = length.saturating_sub(text.len());
        let (before, after) = if pad_left { (padding, 0) } else { (0, padding) };
        for (kind, count) in [(false, before), (true, text.len()), (false, after)] {
            mask.extend(std::iter::repeat_n(kind, count));
        }
        ids.extend(std::iter::repeat_n(pad_id, before));
        ids.extend_from_slice(text);
        ids.extend(std::iter::repeat_n(pad_id, after));
    }
    Ok((ids, mask))
}

/// How a model's texts become ids, as its files have it; and the names of those files.
pub(crate) fn describe(folder: Folder<'_>, config: &Configuration) -> Result<(TextSpec, Vec<String>), Error> {
    let missing = || folder.unreadable(TOKENIZER, std::io::ErrorKind::NotFound.into());
    let file = config::find(folder, TOKENIZER).ok_or_else(missing)?;
    let tokenizer = read(folder, &file)?;
    let mut files = vec![file.clone()];
    let settings = match config::find(folder, TOKENIZER_CONFIG) {
        Some(path) => {
            files.push(path.clone());
            folder.json(&path)?
        }
        None => Value::Null,
    };
    let invalid = |reason: &str| Error::invalid(folder.model, TOKENIZER_CONFIG, reason);
    let pad_id = pad_id(&tokenizer, &settings).or(config.pad_id).ok_or_else(|| invalid("there is no \"pad_token\""))?;
    // `model_max_length` of tokenizers that have none is 1e30.
    let longest = settings["model_max_length"].as_f64().filter(|&length| length < MAX_CONTEXT_LENGTH as f64);
    let context_length = [config.context_length, longest.map(|length| length as usize)].into_iter().flatten().min();
    let context_length = context_length.ok_or_else(|| invalid("there is no \"model_max_length\""))?;
    let pad_left = match (settings["padding_side"].as_str(), tokenizer.get_padding()) {
        (Some(side), _) => side == "left",
        (None, Some(padding)) => matches!(padding.direction, PaddingDirection::Left),
        (None, None) => false,
    };
    let lowercase = catch_panic(|| lowercase(&tokenizer, &settings, config.clean.as_deref()))
        .unwrap_or_else(|| Err("the tokenizer does not understand the letter A".into()))
        .map_err(|reason| invalid(&reason))?;
    let graph = GraphSpec::unknown();
    let spec = TextSpec { graph, tokenizer: file, context_length, pad_id, pad_left, lowercase, natural_length: false };
    Ok((spec, files))
}

fn read(folder: Folder<'_>, file: &str) -> Result<Tokenizer, Error> {
    let bytes = folder.read(file)?;
    headroom(TOKENIZER_COPIES * bytes.len() as u64 + HEADROOM)?;
    // Whatever is odd is left to the library, whose answer counts. It panics on some files that are no JSON.
    let tokenizer = catch_panic(|| match read_typed(&bytes) {
        Some(tokenizer) => Ok(tokenizer),
        None => Tokenizer::from_bytes(&bytes),
    });
    let tokenizer =
        tokenizer.ok_or_else(|| Error::invalid(folder.model, file, "the tokenizer does not understand it"))?;
    tokenizer.map_err(|error| Error::invalid(folder.model, file, error))
}

/// A tokenizer whose model is read straight into its type.
///
/// The library itself reads the model as a tree of JSON first, to find out its type: for CLIP's 49,408 tokens that takes
/// 30 ms more and leaves 6 MB more behind.
fn read_typed(bytes: &[u8]) -> Option<Tokenizer> {
    #[derive(Deserialize)]
    struct Head {
        model: Type,
    }
    #[derive(Deserialize)]
    struct Type {
        #[serde(rename = "type")]
        name: String,
    }
    fn typed<M: Model + DeserializeOwned + Into<ModelWrapper>>(bytes: &[u8]) -> Option<Tokenizer> {
        type Whole<M> = TokenizerImpl<M, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;
        serde_json::from_slice::<Whole<M>>(bytes).ok().map(Into::into)
    }
    match serde_json::from_slice::<Head>(bytes).ok()?.model.name.as_str() {
        "BPE" => typed::<BPE>(bytes),
        "Unigram" => typed::<Unigram>(bytes),
        "WordPiece" => typed::<WordPiece>(bytes),
        "WordLevel" => typed::<WordLevel>(bytes),
        _ => None,
    }
}

/// The id that fills a row: a wrong one moves the embedding wherever the graph looks at padding.
fn pad_id(tokenizer: &Tokenizer, settings: &Value) -> Option<u32> {
    let token = &settings["pad_token"];
    token
        .as_str()
        .or_else(|| token["content"].as_str())
        .and_then(|token| tokenizer.token_to_id(token))
        .or_else(|| tokenizer.get_padding().map(|padding| padding.pad_id))
}

/// Whether the text has to be made lower-case here: where the settings want it and the tokenizer does not do it.
fn lowercase(tokenizer: &Tokenizer, settings: &Value, clean: Option<&str>) -> Result<bool, String> {
    let normal = |text: &str| -> Result<String, String> {
        let mut normalized = text.into();
        if let Some(normalizer) = tokenizer.get_normalizer() {
            normalizer.normalize(&mut normalized).map_err(|error| error.to_string())?;
        }
        Ok(normalized.get().to_owned())
    };
    match clean {
        // open_clip's cleaning, which its tokenizers leave to the code around them.
        Some("canonicalize") if normal("a, b.")? != normal("a b")? => {
            return Err("the tokenizer leaves punctuation in, which \"clean\": \"canonicalize\" takes out".into());
        }
        None | Some("lower" | "whitespace" | "canonicalize") => {}
        Some(other) => return Err(format!("\"clean\": {other:?} is not known")),
    }
    let wanted = settings["do_lower_case"].as_bool() == Some(true) || matches!(clean, Some("lower" | "canonicalize"));
    Ok(wanted && normal("A")? != normal("a")?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

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

    /// A text of pieces that tokenizers treat differently, drawn by a generator that is the same in each run.
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

    /// Both ways to read a tokenizer give the same ids, of all texts.
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
        for model in
            ["models/wide", "models/bidirectional", "families/chinese_clip", "families/altclip", "families/siglip"]
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
}
