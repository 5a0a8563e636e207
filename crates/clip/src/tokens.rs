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
