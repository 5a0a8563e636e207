//! Models that `pull` knows by name: the weights, their export, and their purpose.
//! The data is from the repositories' own listings. No repository could be fetched when it was written, so each entry
//! is marked as not verified; `add` examines the fetched files.

use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Entry {
    /// Name in the database, unless another is given.
    pub name: &'static str,
    /// The maker of the weights.
    pub weights: &'static str,
    /// The repository of the ONNX export.
    pub repository: &'static str,
    pub revision: &'static str,
    pub license: &'static str,
    pub dimensions: u32,
    /// Sides of the images that the model reads, in pixels.
    pub image_size: u32,
    /// Approximate size of the fetched files of the text and the image tower, in megabytes.
    pub megabytes: [u32; 2],
    pub good_for: &'static str,
    pub verified: bool,
}

/// False because no entry was fetched and run.
const NOT_VERIFIED: bool = false;

pub const CATALOG: [Entry; 8] = [
    Entry {
        name: "clip-vit-base-patch32",
        weights: "openai/clip-vit-base-patch32",
        repository: "Xenova/clip-vit-base-patch32",
        revision: "main",
        license: "MIT",
        dimensions: 512,
        image_size: 224,
        megabytes: [254, 352],
        good_for: "the usual first choice: fast, English, photographs of everything",
        verified: NOT_VERIFIED,
    },
    Entry {
        name: "clip-vit-base-patch16",
        weights: "openai/clip-vit-base-patch16",
        repository: "Xenova/clip-vit-base-patch16",
        revision: "main",
        license: "MIT",
        dimensions: 512,
        image_size: 224,
        megabytes: [254, 345],
        good_for: "finer details than patch32, at about four times the cost per image",
        verified: NOT_VERIFIED,
    },
    Entry {
        name: "clip-vit-large-patch14",
        weights: "openai/clip-vit-large-patch14",
        repository: "Xenova/clip-vit-large-patch14",
        revision: "main",
        license: "MIT",
        dimensions: 768,
        image_size: 224,
        megabytes: [495, 1215],
        good_for: "the best of OpenAI's at 224 pixels; slow without many cores",
        verified: NOT_VERIFIED,
    },
    Entry {
        name: "laion-vit-base-patch32",
        weights: "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        repository: "immich-app/ViT-B-32__laion2b-s34b-b79k",
        revision: "main",
        license: "MIT",
        dimensions: 512,
        image_size: 224,
        megabytes: [254, 352],
        good_for: "as fast as OpenAI's patch32, trained on open data, better on most benchmarks",
        verified: NOT_VERIFIED,
    },
    Entry {
        name: "siglip-base",
        weights: "google/siglip-base-patch16-224",
        repository: "Xenova/siglip-base-patch16-224",
        revision: "main",
        license: "Apache-2.0",
        dimensions: 768,
        image_size: 224,
        megabytes: [441, 372],
        good_for: "better search than CLIP of its size; probabilities that stand for themselves",
        verified: NOT_VERIFIED,
    },
    Entry {
        name: "siglip2-base",
        weights: "google/siglip2-base-patch16-224",
        repository: "onnx-community/siglip2-base-patch16-224-ONNX",
        revision: "main",
        license: "Apache-2.0",
        dimensions: 768,
        image_size: 224,
        megabytes: [1130, 372],
        good_for: "many languages, and the best search of its size; --variant fp16 halves the download",
        verified: NOT_VERIFIED,
    },
    Entry {
        name: "mobileclip-s0",
        weights: "apple/MobileCLIP-S0",
        repository: "Xenova/mobileclip_s0",
        revision: "main",
        license: "Apple ASCL or AMLR: read it before commercial use",
        dimensions: 512,
        image_size: 256,
        megabytes: [170, 46],
        good_for: "the fastest for images: bulk work on few cores",
        verified: NOT_VERIFIED,
    },
    Entry {
        name: "multilingual-vit-base-patch32",
        weights: "M-CLIP/XLM-Roberta-Large-Vit-B-32",
        repository: "immich-app/XLM-Roberta-Large-Vit-B-32",
        revision: "main",
        license: "MIT",
        dimensions: 512,
        image_size: 224,
        megabytes: [2240, 352],
        good_for: "texts in 48 languages, with OpenAI's patch32 for images",
        verified: NOT_VERIFIED,
    },
];

/// Returns the entry of a name, of the original weights or of the export.
pub fn find(model: &str) -> Option<&'static Entry> {
    let names = |entry: &Entry| [entry.name, entry.weights, entry.repository];
    CATALOG.iter().find(|entry| names(entry).iter().any(|name| name.eq_ignore_ascii_case(model)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_models_names_and_unambiguous() {
        for entry in &CATALOG {
            assert!(clip::store::check_name(entry.name).is_ok(), "{}", entry.name);
            for name in [entry.name, entry.weights, entry.repository] {
                assert!(std::ptr::eq(find(name).unwrap(), entry), "{name}");
            }
        }
        assert!(find("nobody/nothing").is_none());
    }
}
