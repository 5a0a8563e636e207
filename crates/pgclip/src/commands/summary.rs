//! The description of a model for people.

use clip::{MANIFEST_FILE, Manifest, Resize};

use crate::output;

/// Returns the answer as a word.
pub fn yes_or_no(answer: bool) -> &'static str {
    if answer { "yes" } else { "no" }
}

/// Returns a line for each property of a model.
pub fn summary(manifest: &Manifest, prepared: bool) -> String {
    let (text, image) = (&manifest.text, &manifest.image);
    let resize = match image.resize {
        None => "as they are".into(),
        Some(Resize::ShortestEdge(edge)) => format!("shorter side to {edge}"),
        Some(Resize::Exact { width, height }) => format!("squashed to {width} x {height}"),
    };
    let mut lines = vec![
        ("name", manifest.name.clone()),
        ("family", manifest.family.clone()),
        ("dimensions", manifest.dimensions.to_string()),
        (
            "texts",
            format!(
                "up to {} tokens, {}{}",
                text.context_length,
                if text.natural_length { "short ones run short" } else { "all padded to that length" },
                if text.lowercase { ", lower-case" } else { "" },
            ),
        ),
        ("images", format!("{} x {} pixels, {resize}", image.width, image.height)),
        (
            "graphs",
            format!("{} ({}), {} ({})", text.graph.file, text.graph.output, image.graph.file, image.graph.output),
        ),
        ("digest", manifest.digest.clone()),
        ("size", output::size(manifest.size_bytes())),
        ("prepared", yes_or_no(prepared).into()),
    ];
    let optional = [
        ("logit scale", manifest.logit_scale.map(|scale| scale.to_string())),
        ("logit bias", manifest.logit_bias.map(|bias| bias.to_string())),
        ("license", manifest.license.clone()),
        ("source", manifest.source.as_ref().map(|source| format!("{}@{}", source.repository, source.revision))),
        ("manifest", Some(MANIFEST_FILE.to_owned())),
    ];
    lines.extend(optional.into_iter().filter_map(|(title, value)| Some((title, value?))));
    let lines: Vec<_> = lines.into_iter().map(|(title, value)| format!("{title:16}{value}")).collect();
    lines.join("\n")
}
