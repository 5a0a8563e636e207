//! Graphs with bf16 weights: the constant factors of matrix products and convolutions are rounded to bf16, half the bytes
//! of fp32, and a Cast makes fp32 numbers of them again.
//!
//! So every execution provider computes with the same weights. One with bf16 units also rounds the other factors. One
//! without computes in fp32, which changes the embeddings less than the rounding of the weights. Biases, norms, tables of
//! tokens and everything else stay the same. External crate: `prost`.

use std::collections::HashSet;

use prost::Message;
use prost::bytes::Bytes;

use crate::folder::Folder;
use crate::memory::reserve;
use crate::onnx::file::Onnx;
use crate::onnx::proto::{GraphProto, NodeProto, Refusal, TensorProto, decode, names};
use crate::onnx::weights::{FLOAT, Weights, encode, node, tensors, unquantized_nodes};

/// The type of bf16 tensors, by ONNX's number.
const BFLOAT16: i32 = 16;

/// The first version of the operators whose Cast reads bf16.
const MIN_OPSET: i64 = 13;

/// The operators whose second input is the weights, and the fewest dimensions of such weights.
const PRODUCTS: [(&str, usize); 3] = [("MatMul", 2), ("Gemm", 2), ("Conv", 3)];

/// Returns the graph of `file` with bf16 weights, all in one file.
pub(crate) fn round(onnx: &Onnx, folder: Folder<'_>, file: &str) -> Result<Vec<u8>, Refusal> {
    let nodes = unquantized_nodes(onnx, MIN_OPSET)?;
    let (tensors, weights) = (tensors(onnx)?, Weights { folder, file });
    let is_weight = |node: &NodeProto, name: &String| {
        let dimensions = PRODUCTS.iter().find(|&&(op_type, _)| node.op_type == op_type).map(|&(_, least)| least);
        let of_floats = |least| {
            let tensor = tensors.get(name);
            tensor.is_some_and(|tensor| tensor.data_type == Some(FLOAT) && tensor.dims.len() >= least)
        };
        matches!(&*node.domain, "" | "ai.onnx") && dimensions.is_some_and(of_floats)
    };
    let second = |node: &NodeProto| node.input.get(1).filter(|name| is_weight(node, name)).cloned();
    let rounded: HashSet<String> = nodes.iter().filter_map(second).collect();
    if rounded.is_empty() {
        return Err("it has no product with constant weights of single precision".into());
    }
    let (mut casts, mut initializer) = (Vec::new(), Vec::new());
    for bytes in &onnx.graph.initializer {
        let tensor: TensorProto = decode(bytes, "tensor")?;
        if !rounded.contains(&tensor.name) {
            initializer.push(weights.inside(tensor, bytes)?);
            continue;
        }
        let small = rounded_tensor(&weights, &tensor)?;
        casts.push(node("Cast", &[&small.name], &[&tensor.name], Some(FLOAT)));
        initializer.push(small.encode_to_vec().into());
    }
    // Graphs of an early format list constants among their inputs. The result of a node is none.
    let names = names(&onnx.graph.input)?;
    let inputs = onnx.graph.input.iter().zip(names).filter(|(_, name)| !rounded.contains(name));
    let graph = GraphProto {
        input: inputs.map(|(input, _)| input.clone()).collect(),
        node: casts.into_iter().chain(onnx.graph.node.iter().cloned()).collect(),
        initializer,
        ..onnx.graph.clone()
    };
    encode(onnx, graph)
}

/// Returns the tensor of bf16 numbers nearest to those of a tensor.
fn rounded_tensor(weights: &Weights<'_>, tensor: &TensorProto) -> Result<TensorProto, Refusal> {
    let values = weights.floats(tensor)?;
    if !values.iter().all(|value| value.is_finite()) {
        return Err(format!("{:?} is not finite", tensor.name));
    }
    let mut raw = reserve(values.len() * 2).map_err(|error| error.to_string())?;
    raw.extend(values.into_iter().flat_map(|value| nearest(value).to_le_bytes()));
    Ok(TensorProto {
        dims: tensor.dims.clone(),
        data_type: Some(BFLOAT16),
        name: format!("{}_bf16", tensor.name),
        raw_data: Some(Bytes::from(raw)),
        ..TensorProto::default()
    })
}

/// Returns the bits of the bf16 number nearest to a finite value, in a tie the even one. A value that would become
/// infinite becomes the largest number.
fn nearest(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    if rounded & 0x7f80 == 0x7f80 { (bits >> 16) as u16 } else { rounded as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bits: u16) -> f32 {
        f32::from_bits(u32::from(bits) << 16)
    }

    #[test]
    fn values_are_rounded_to_the_nearest_and_ties_to_the_even_one() {
        // Between 1 and 2, bf16 numbers are 1/128 apart.
        for (given, expected) in [
            (1.0, 1.0),
            (1.0 + 0.4 / 128.0, 1.0),
            (1.0 + 0.6 / 128.0, 1.0 + 1.0 / 128.0),
            (1.0 + 0.5 / 128.0, 1.0),
            (1.0 + 1.5 / 128.0, 1.0 + 2.0 / 128.0),
            (-1.0 - 0.6 / 128.0, -1.0 - 1.0 / 128.0),
            (0.0, 0.0),
        ] {
            assert_eq!(value(nearest(given)), expected, "{given}");
        }
        assert!(value(nearest(f32::MAX)).is_finite() && value(nearest(f32::MIN)).is_finite());
        assert_eq!(nearest(-0.0), 0x8000);
        for step in 0..100_000_u32 {
            let given = f32::from_bits(step.wrapping_mul(42_949));
            if given.is_finite() && given.is_normal() {
                let error = (f64::from(value(nearest(given))) - f64::from(given)).abs();
                assert!(error <= f64::from(given.abs()) / 256.0, "{given}");
            }
        }
    }

    #[test]
    fn products_read_rounded_weights_and_everything_else_is_kept() {
        let fixtures = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures"));
        let path = fixtures.join("models/wide");
        let folder = Folder { path: &path, model: "wide" };
        for file in ["onnx/text_model.onnx", "onnx/vision_model.onnx"] {
            let onnx = Onnx::read(folder, file).unwrap();
            let before = tensors(&onnx).unwrap();
            let made = Onnx::parse(round(&onnx, folder, file).unwrap()).unwrap();
            let after = tensors(&made).unwrap();
            let weights = Weights { folder, file };
            let small: Vec<_> = after.values().filter(|tensor| tensor.data_type == Some(BFLOAT16)).collect();
            assert!(small.len() >= 13, "{file}: {}", small.len());
            assert_eq!(made.graph.node.len(), onnx.graph.node.len() + small.len(), "{file}");
            assert_eq!(after.len(), before.len(), "{file}");
            for tensor in small {
                let name = tensor.name.strip_suffix("_bf16").unwrap();
                assert!(!after.contains_key(name), "{name} is there twice");
                let original = weights.floats(&before[name]).unwrap();
                let (raw, dims) = (tensor.raw_data.clone().unwrap(), &before[name].dims);
                assert_eq!((raw.len(), &tensor.dims), (original.len() * 2, dims), "{name}");
            }
            let facts = made.facts().unwrap();
            assert!(!facts.scaled_by_content && facts.data.is_empty());
            let again = round(&made, folder, file).unwrap_err();
            assert!(again.contains("no product"), "{again}");
        }
    }
}
