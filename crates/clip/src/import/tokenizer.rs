//! The tokenizer of a model as its publisher describes it. External crates: `serde_json`, `tokenizers`.

use serde_json::Value;
use tokenizers::{Normalizer, PaddingDirection, Tokenizer};

use crate::error::Error;
use crate::folder::Folder;
use crate::import::config::Configuration;
use crate::import::files::{TOKENIZER, TOKENIZER_CONFIG, find};
use crate::panics::catch_panic;
use crate::recipe::{GraphSpec, MAX_CONTEXT_LENGTH, TextSpec};
use crate::tokenizer::read;

/// Returns everything about texts except the graph, and the names of the files that it was read from.
pub(crate) fn describe(folder: Folder<'_>, config: &Configuration) -> Result<(TextSpec, Vec<String>), Error> {
    let missing = || folder.unreadable(TOKENIZER, std::io::ErrorKind::NotFound.into());
    let file = find(folder, TOKENIZER).ok_or_else(missing)?;
    let tokenizer = read(folder, &file)?;
    let mut files = vec![file.clone()];
    let settings = match find(folder, TOKENIZER_CONFIG) {
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

/// Returns the id that fills a row. A wrong one changes the embedding if the graph reads the padding.
fn pad_id(tokenizer: &Tokenizer, settings: &Value) -> Option<u32> {
    let token = &settings["pad_token"];
    token
        .as_str()
        .or_else(|| token["content"].as_str())
        .and_then(|token| tokenizer.token_to_id(token))
        .or_else(|| tokenizer.get_padding().map(|padding| padding.pad_id))
}

/// Returns true if the text must be made lower-case here: the settings ask for it and the tokenizer does not do it.
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
