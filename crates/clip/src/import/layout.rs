//! The graphs in a folder, by the names under which CLIP models are published.

use crate::error::Error;
use crate::folder::{Folder, beside, files_of};
use crate::import::choices::Choices;
use crate::import::files;
use crate::onnx::file::Onnx;

/// Stems of the files, in the layouts of transformers.js and optimum, of immich, and of sentence-transformers.
const TEXT: [&str; 4] = ["onnx/text_model", "textual/model", "textual/onnx/model", "text_model"];
const IMAGE: [&str; 4] = ["onnx/vision_model", "visual/model", "visual/onnx/model", "vision_model"];
/// Both towers in one file.
const WHOLE: [&str; 3] = ["onnx/model", "model", "0_CLIPModel/onnx/model"];

/// The file of each tower. It is the same if one graph has both towers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub text: String,
    pub image: String,
}

impl Layout {
    /// Finds the graphs among the files of a model: the chosen ones, or those in full precision.
    pub(crate) fn find(model: &str, files: &[String], choices: &Choices) -> Result<Self, Error> {
        let missing = |path: &str| Error::ModelFile {
            model: model.into(),
            file: path.into(),
            reason: "there is no such file".into(),
        };
        let suffix = choices.variant.as_ref().map(|variant| format!("_{variant}")).unwrap_or_default();
        let has = |path: &String| files.contains(path);
        let find = |stems: &[&str]| stems.iter().map(|stem| format!("{stem}{suffix}.onnx")).find(&has);
        let whole = find(&WHOLE);
        let tower = |chosen: Option<&String>, stems: &[&str]| match chosen {
            Some(path) if has(path) => Ok(path.clone()),
            Some(path) => Err(missing(path)),
            None => find(stems).or(whole.clone()).ok_or_else(|| {
                let file = format!("{}{suffix}.onnx", stems[0]);
                match variants(files) {
                    others if others.is_empty() => missing(&file),
                    others => {
                        let reason = format!("there is no such file; variants that are there: {}", others.join(", "));
                        Error::invalid(model, &file, reason)
                    }
                }
            }),
        };
        let (text, image) = (choices.text.graph.as_ref(), choices.image.graph.as_ref());
        Ok(Self { text: tower(text, &TEXT)?, image: tower(image, &IMAGE)? })
    }

    /// Finds the graphs in a folder.
    pub(crate) fn find_in(folder: Folder<'_>, choices: &Choices) -> Result<Self, Error> {
        let files = files_of(folder.path).map_err(|error| folder.unreadable("", error))?;
        Self::find(folder.model, &files, choices)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.text == self.image
    }
}

/// Returns the variants that both towers have.
fn variants(files: &[String]) -> Vec<String> {
    let of = |stems: &[&str]| {
        let variant = |file: &String| {
            let file = file.strip_suffix(".onnx")?;
            stems.iter().find_map(|stem| file.strip_prefix(stem)?.strip_prefix('_').map(str::to_owned))
        };
        files.iter().filter_map(variant).collect::<Vec<_>>()
    };
    let (images, mut whole) = (of(&IMAGE), of(&WHOLE));
    let mut both: Vec<_> = of(&TEXT).into_iter().filter(|variant| images.contains(variant)).collect();
    both.append(&mut whole);
    both
}

/// Returns the files to fetch first, from the names of the files of a remote model. The files that [`weights_of`]
/// returns for the graphs come next.
pub fn wanted(model: &str, files: &[String], choices: &Choices) -> Result<Vec<String>, Error> {
    let layout = Layout::find(model, files, choices)?;
    let mut wanted: Vec<_> = files::paths().filter(|path| files.contains(path)).collect();
    wanted.extend([layout.text.clone(), layout.image.clone()]);
    wanted.dedup();
    Ok(wanted)
}

/// Returns the files that hold the weights of a graph in `folder`, by their paths in it.
pub fn weights_of(model: &str, folder: &std::path::Path, graph: &str) -> Result<Vec<String>, Error> {
    let folder = Folder { path: folder, model };
    let facts = Onnx::read(folder, graph)?.facts().map_err(|reason| Error::invalid(model, graph, reason))?;
    Ok(facts.data.iter().map(|data| beside(graph, data)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(files: &[&str], variant: Option<&str>) -> Result<Vec<String>, Error> {
        let files: Vec<_> = files.iter().map(|&file| file.to_owned()).collect();
        super::wanted("m", &files, &Choices { variant: variant.map(Into::into), ..Choices::default() })
    }

    #[test]
    fn of_a_repository_only_what_is_needed_is_wanted() {
        let files = [
            "README.md",
            "config.json",
            "tokenizer.json",
            "vocab.json",
            "model.safetensors",
            "onnx/model.onnx",
            "onnx/text_model.onnx",
            "onnx/vision_model.onnx",
            "onnx/text_model_fp16.onnx",
            "onnx/vision_model_fp16.onnx",
        ];
        let full = ["config.json", "tokenizer.json", "onnx/text_model.onnx", "onnx/vision_model.onnx"];
        assert_eq!(wanted(&files, None).unwrap(), full);
        assert_eq!(
            wanted(&files, Some("fp16")).unwrap()[2..],
            ["onnx/text_model_fp16.onnx", "onnx/vision_model_fp16.onnx"]
        );
        assert_eq!(wanted(&["config.json", "model.onnx"], None).unwrap(), ["config.json", "model.onnx"]);
        let error = wanted(&files, Some("q4")).unwrap_err().to_string();
        assert!(error.contains("variants that are there: fp16"), "{error}");
    }
}
