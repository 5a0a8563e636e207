//! The configuration files of a model, in the forms in which models are published: transformers', open_clip's (immich's
//! included) and sentence-transformers'. They are read once, when a model is added. External crate: `serde_json`.

use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::folder::Folder;
use crate::import::files::{CONFIG, MODULES, OPEN_CLIP, POOLING, find};
use crate::import::preprocessor::{Size, read_image};
use crate::recipe::{ImageSpec, Pooling};

/// The context length that open_clip and `CLIPTextConfig` use where the file has none.
const OPEN_CLIP_CONTEXT: usize = 77;

/// The configuration of both towers.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    /// `model_type`, as transformers names it (`clip`, `siglip`, …), or `open_clip`.
    pub family: String,
    /// Length of an embedding, if the configuration has it.
    pub dimensions: Option<usize>,
    /// Positions of the text tower, begin and end included.
    pub context_length: Option<usize>,
    pub pad_id: Option<u32>,
    /// The cleaning of texts that open_clip's code does before its tokenizer.
    pub clean: Option<String>,
    /// Everything except the graph.
    pub image: ImageSpec,
    /// The pooling of the text tower's output by sentence-transformers.
    pub pooling: Option<Pooling>,
    /// The files that were read.
    pub files: Vec<String>,
}

impl Configuration {
    pub(crate) fn read(folder: Folder<'_>) -> Result<Self, Error> {
        let mut files = Vec::new();
        let (file, model) = match (find(folder, OPEN_CLIP), find(folder, CONFIG)) {
            // A repository with both files has transformers' form in `config.json`.
            (_, Some(file)) => (file.clone(), folder.json::<Model>(&file)?),
            (Some(file), None) => (file.clone(), folder.json::<OpenClipFile>(&file)?.model_cfg),
            (None, None) => return Err(folder.unreadable(CONFIG, std::io::ErrorKind::NotFound.into())),
        };
        let invalid = |reason: &str| Error::invalid(folder.model, &file, reason);
        let image_size = model.vision_config.image_size.or(model.vision_cfg.image_size);
        let image = read_image(folder, image_size, &mut files)?;
        let text = &model.text_config;
        let family = match (&model.model_type, model.embed_dim) {
            (Some(family), _) => family.clone(),
            (None, Some(_)) => "open_clip".into(),
            (None, None) => return Err(invalid("\"model_type\" is missing")),
        };
        let is_open_clip = model.embed_dim.is_some();
        let context_length = match is_open_clip {
            true => Some(model.text_cfg.context_length.unwrap_or(OPEN_CLIP_CONTEXT)),
            false => text.positions(),
        };
        let pooling = read_pooling(folder, &mut files)?;
        files.push(file);
        Ok(Self {
            family,
            dimensions: model.projection_dim.or(model.embed_dim),
            context_length,
            pad_id: text.pad_token_id.or(is_open_clip.then_some(0)),
            clean: model.text_cfg.tokenizer_kwargs.clean,
            image,
            pooling,
            files,
        })
    }
}

/// `config.json`: transformers' fields and open_clip's.
#[derive(Deserialize)]
struct Model {
    model_type: Option<String>,
    projection_dim: Option<usize>,
    embed_dim: Option<usize>,
    #[serde(default)]
    text_config: TextConfig,
    #[serde(default)]
    vision_config: VisionConfig,
    #[serde(default)]
    text_cfg: OpenClipText,
    #[serde(default)]
    vision_cfg: VisionConfig,
}

#[derive(Default, Deserialize)]
struct TextConfig {
    model_type: Option<String>,
    max_position_embeddings: Option<usize>,
    pad_token_id: Option<u32>,
}

impl TextConfig {
    /// Returns the number of positions for tokens. RoBERTa and its variants begin to count after the padding token's
    /// id.
    fn positions(&self) -> Option<usize> {
        let kin = ["roberta", "camembert", "altclip"];
        let skipped = match &self.model_type {
            Some(name) if kin.iter().any(|kin| name.contains(kin)) => self.pad_token_id.unwrap_or(1) as usize + 1,
            _ => 0,
        };
        self.max_position_embeddings.map(|positions| positions.saturating_sub(skipped))
    }
}

#[derive(Default, Deserialize)]
struct VisionConfig {
    image_size: Option<Size>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OpenClipText {
    context_length: Option<usize>,
    tokenizer_kwargs: TokenizerArguments,
}

#[derive(Default, Deserialize)]
struct TokenizerArguments {
    clean: Option<String>,
}

#[derive(Deserialize)]
struct OpenClipFile {
    model_cfg: Model,
}

/// Returns the pooling of sentence-transformers. A layer after it would be missing from the graph.
fn read_pooling(folder: Folder<'_>, files: &mut Vec<String>) -> Result<Option<Pooling>, Error> {
    let Some(path) = find(folder, POOLING) else { return Ok(None) };
    if let Some(modules) = find(folder, MODULES) {
        let listed: Vec<Value> = folder.json(&modules)?;
        let dense = listed.iter().any(|module| module["type"].as_str().is_some_and(|kind| kind.ends_with("Dense")));
        if dense {
            let reason = "a dense layer follows the pooling: export the model with it in the graph";
            return Err(Error::invalid(folder.model, &modules, reason));
        }
        files.push(modules);
    }
    let modes: Value = folder.json(&path)?;
    let is_on = |mode: &str| modes[mode].as_bool() == Some(true);
    let known = [
        ("pooling_mode_cls_token", Pooling::Cls),
        ("pooling_mode_mean_tokens", Pooling::Mean),
        ("pooling_mode_lasttoken", Pooling::Last),
    ];
    let mut on = known.into_iter().filter(|(mode, _)| is_on(mode)).map(|(_, pooling)| pooling);
    let only = on.next().filter(|_| on.next().is_none());
    let only = only.ok_or_else(|| Error::invalid(folder.model, &path, "one of cls, mean and last token must be on"))?;
    files.push(path);
    Ok(Some(only))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roberta_counts_its_positions_from_behind_the_padding() {
        let positions = |json: &str| serde_json::from_str::<TextConfig>(json).unwrap().positions();
        let roberta = r#"{"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}"#;
        assert_eq!(positions(roberta), Some(512));
        assert_eq!(positions(r#"{"model_type": "bert", "max_position_embeddings": 512}"#), Some(512));
    }
}
