//! Where in a folder the graphs are: the names under which CLIP models are published.

use crate::error::Error;
use crate::folder::{Folder, files_of};

/// Stems of the files, in the layouts of transformers.js and optimum, of immich, and of sentence-transformers.
const TEXT: [&str; 4] = ["onnx/text_model", "textual/model", "textual/onnx/model", "text_model"];
const IMAGE: [&str; 4] = ["onnx/vision_model", "visual/model", "visual/onnx/model", "vision_model"];
/// Both towers in one file.
const WHOLE: [&str; 3] = ["onnx/model", "model", "0_CLIPModel/onnx/model"];

/// The file of each tower; of both, where one graph has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub text: String,
    pub image: String,
}

impl Layout {
    /// Find the graphs of a variant (`fp16`, `int8`, …), or the full ones; a path that is given is taken.
    pub(crate) fn find(
        folder: Folder<'_>,
        variant: Option<&str>,
        text: Option<&str>,
        image: Option<&str>,
    ) -> Result<Self, Error> {
        let suffix = variant.map(|variant| format!("_{variant}")).unwrap_or_default();
        let find = |stems: &[&str]| {
            stems.iter().map(|stem| format!("{stem}{suffix}.onnx")).find(|path| folder.has(path))
        };
        let whole = find(&WHOLE);
        let given = |path: Option<&str>, stems: &[&str]| match path {
            Some(path) if folder.has(path) => Ok(path.to_owned()),
            Some(path) => Err(folder.unreadable(path, std::io::ErrorKind::NotFound.into())),
            None => find(stems).or(whole.clone()).ok_or_else(|| {
                let file = format!("{}{suffix}.onnx", stems[0]);
                match variants(folder) {
                    others if others.is_empty() => folder.unreadable(&file, std::io::ErrorKind::NotFound.into()),
                    others => Error::invalid(
                        folder.model,
                        &file,
                        format_args!("there is no such file; variants that are there: {}", others.join(", ")),
                    ),
                }
            }),
        };
        Ok(Self { text: given(text, &TEXT)?, image: given(image, &IMAGE)? })
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.text == self.image
    }
}

/// The variants that both towers have.
fn variants(folder: Folder<'_>) -> Vec<String> {
    let of = |stems: &[&str]| {
        let files = files_of(folder.path).unwrap_or_default();
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

/// The repository's files that [`Layout::find`] and the readers of the configuration may want, weights of other forms
/// left out: what is to be fetched of a repository that is not here yet.
pub fn is_wanted(path: &str, variant: Option<&str>) -> bool {
    let suffix = variant.map(|variant| format!("_{variant}")).unwrap_or_default();
    let stems = || TEXT.iter().chain(&IMAGE).chain(&WHOLE);
    let is_graph = |stem: &str| {
        path.strip_prefix(stem).and_then(|rest| rest.strip_prefix(suffix.as_str())).is_some_and(|rest| {
            // External weights: `.onnx_data`, `.onnx_data_1`, `.onnx.data`.
            rest.starts_with(".onnx")
        })
    };
    let is_configuration = path.ends_with(".json")
        && !path.contains("onnx/")
        && path.matches('/').count() <= 1
        && !path.ends_with("vocab.json")
        && !path.ends_with("index.json");
    is_configuration || stems().any(|stem| is_graph(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_repository_only_what_is_needed_is_wanted() {
        let wanted = ["config.json", "tokenizer.json", "1_Pooling/config.json", "onnx/text_model.onnx", "visual/model.onnx"];
        assert!(wanted.into_iter().all(|path| is_wanted(path, None)));
        let data = ["onnx/model.onnx_data", "onnx/model.onnx", "model.onnx"];
        assert!(data.into_iter().all(|path| is_wanted(path, None)));
        let left = ["model.safetensors", "vocab.json", "onnx/text_model_fp16.onnx", "README.md", "onnx/config.json"];
        assert!(!left.into_iter().any(|path| is_wanted(path, None)));
        assert!(is_wanted("onnx/text_model_fp16.onnx", Some("fp16")));
        assert!(!is_wanted("onnx/text_model.onnx", Some("fp16")));
    }
}
