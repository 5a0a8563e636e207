//! The tokenizer of a model: strings become the ids that the text tower reads, as `tokenizer.json` defines. External
//! crate: `tokenizers`.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{Lowercase, Sequence};
use tokenizers::{
    DecoderWrapper, Model, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
    TokenizerImpl, TruncationDirection,
};

use crate::error::{Error, Tower};
use crate::folder::Folder;
use crate::memory::{HEADROOM, headroom, reserve};
use crate::panics::catch_panic;
use crate::recipe::TextSpec;

/// Longest text. A context holds some dozens of tokens, and a megabyte is a novel. Tokenization cannot be interrupted,
/// so it is limited.
pub const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// Memory for each byte of text during tokenization, in many small allocations: each digit is a token.
const BYTES_PER_BYTE: u64 = 640;

/// Memory in use while a vocabulary is read, in copies of the file.
const TOKENIZER_COPIES: u64 = 16;

pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    context_length: usize,
    model: String,
}

/// The ids of one text, begin and end included, truncated to the context length. The end token is kept.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub(crate) ids: Vec<u32>,
    /// Tokens before truncation.
    pub(crate) count: usize,
}

impl TextTokenizer {
    pub(crate) fn open(folder: Folder<'_>, spec: &TextSpec) -> Result<Self, Error> {
        let mut tokenizer = read(folder, &spec.tokenizer)?;
        let invalid = |reason: String| Error::invalid(folder.model, &spec.tokenizer, reason);
        // Truncation and padding are done in this crate, which needs the length before truncation.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| invalid(error.to_string()))?;
        if spec.lowercase {
            // The order of `Siglip2Tokenizer`: lower-casing comes first, but special tokens keep their case.
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

    /// Returns the error of a text: the file of the tokenizer was read before.
    fn failed(&self, reason: impl ToString) -> Error {
        Error::Inference { model: self.model.clone(), tower: Tower::Text, reason: reason.to_string() }
    }

    fn encode_or_panic(&self, text: &str) -> Result<Encoded, Error> {
        let invalid = |error| self.failed(error);
        // Not the library's function for batches, because that starts threads.
        let mut encoding = self.tokenizer.encode_fast(text, false).map_err(invalid)?;
        let special = self.special_tokens();
        let count = encoding.get_ids().len() + special;
        encoding.truncate(self.context_length - special, 0, TruncationDirection::Right);
        let encoding = self.tokenizer.post_process(encoding, None, true).map_err(invalid)?;
        Ok(Encoded { ids: encoding.get_ids().to_vec(), count })
    }

    /// Returns the number of tokens that the post-processor adds to one text.
    fn special_tokens(&self) -> usize {
        use tokenizers::PostProcessor;
        self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false))
    }
}

/// Returns the ids of the texts of one run, padded to `length`, and a mask that is false for padding.
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

/// Reads a file of the library's own format.
pub(crate) fn read(folder: Folder<'_>, file: &str) -> Result<Tokenizer, Error> {
    let bytes = folder.read(file)?;
    headroom(TOKENIZER_COPIES * bytes.len() as u64 + HEADROOM)?;
    // Unusual files are left to the library, whose result counts. It panics on some files that are not JSON.
    let tokenizer = catch_panic(|| match read_typed(&bytes) {
        Some(tokenizer) => Ok(tokenizer),
        None => Tokenizer::from_bytes(&bytes),
    });
    let tokenizer =
        tokenizer.ok_or_else(|| Error::invalid(folder.model, file, "the tokenizer does not understand it"))?;
    tokenizer.map_err(|error| Error::invalid(folder.model, file, error))
}

/// Reads a tokenizer, and its model directly into its type.
/// The library reads the model as a tree of JSON first, to find its type. For CLIP's 49,408 tokens that takes 30 ms
/// more and leaves 6 MB more in use.
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

#[cfg(test)]
mod tests;
