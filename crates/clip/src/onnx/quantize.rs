//! Graphs with 8-bit weights: faster on processors with 8-bit multiplication, with a small loss of accuracy.
//!
//! The result is that of onnxruntime's `quantize_dynamic` with `weight_type=QInt8`, `per_channel=True` and
//! `op_types_to_quantize=["MatMul"]`: the weights of each matrix product become bytes with a scale per column, and the
//! other factor is scaled to bytes at run time. Everything else stays the same. External crate: `prost`.

use std::collections::{HashMap, HashSet};

use prost::Message;
use prost::bytes::Bytes;

use crate::folder::Folder;
use crate::onnx::file::Onnx;
use crate::onnx::int8::quantize_columns;
use crate::onnx::part::reads;
use crate::onnx::proto::{GraphProto, NodeProto, Refusal, TensorProto, decode, names};
use crate::onnx::weights::{FLOAT, Weights, encode, node, tensors, unquantized_nodes};

/// The type of tensors of bytes, by ONNX's number.
const INT8: i32 = 3;

/// The first version of the operators that has DynamicQuantizeLinear.
const MIN_OPSET: i64 = 11;

/// Returns the graph of `file` with 8-bit weights, all in one file.
pub(crate) fn quantize(onnx: &Onnx, folder: Folder<'_>, file: &str) -> Result<Vec<u8>, Refusal> {
    let nodes = unquantized_nodes(onnx, MIN_OPSET)?;
    let tensors = tensors(onnx)?;
    let weights = Weights { folder, file };
    let mut rewriter = Rewriter { weights, tensors, scaled: HashSet::new(), made: HashMap::new(), nodes: Vec::new() };
    for (node, bytes) in nodes.iter().zip(&onnx.graph.node) {
        rewriter.node(node, bytes)?;
    }
    if rewriter.made.is_empty() {
        return Err("it has no matrix product with constant weights of single precision".into());
    }
    let graph = rewriter.finish(onnx, &nodes)?;
    encode(onnx, graph)
}

struct Rewriter<'a> {
    weights: Weights<'a>,
    tensors: HashMap<String, TensorProto>,
    /// Activations that have bytes already, because several products may read one.
    scaled: HashSet<String>,
    /// The bytes, the scales and the zero points that replace weights, by the name of the weights.
    made: HashMap<String, [TensorProto; 3]>,
    nodes: Vec<Bytes>,
}

impl Rewriter<'_> {
    /// Copies a node, or replaces it with nodes that compute the same with bytes.
    fn node(&mut self, node: &NodeProto, bytes: &Bytes) -> Result<(), Refusal> {
        let (Some([input, weights]), Some(output)) = (node.input.first_chunk::<2>(), node.output.first()) else {
            self.nodes.push(bytes.clone());
            return Ok(());
        };
        let is_product = node.op_type == "MatMul" && matches!(&*node.domain, "" | "ai.onnx");
        let is_matrix = |tensor: &TensorProto| tensor.data_type == Some(FLOAT) && tensor.dims.len() == 2;
        if !is_product || !self.tensors.get(weights).is_some_and(is_matrix) {
            self.nodes.push(bytes.clone());
            return Ok(());
        }
        if !self.made.contains_key(weights) {
            let made = self.quantized(weights)?;
            self.made.insert(weights.clone(), made);
        }
        let of = |name: &str, what: &str| format!("{name}_{what}");
        if self.scaled.insert(input.clone()) {
            let outputs = ["quantized", "scale", "zero_point"].map(|what| of(input, what));
            self.push("DynamicQuantizeLinear", &[input], &outputs.each_ref().map(|name| &**name), None);
        }
        let [product, float, scale] = ["integer", "float", "scale"].map(|what| of(output, what));
        let bytes =
            [of(input, "quantized"), of(weights, "quantized"), of(input, "zero_point"), of(weights, "zero_point")];
        self.push("MatMulInteger", &bytes.each_ref().map(|name| &**name), &[&product], None);
        self.push("Cast", &[&product], &[&float], Some(FLOAT));
        self.push("Mul", &[&of(input, "scale"), &of(weights, "scale")], &[&scale], None);
        self.push("Mul", &[&float, &scale], &[output], None);
        Ok(())
    }

    fn push(&mut self, op_type: &str, input: &[&str], output: &[&str], to: Option<i32>) {
        self.nodes.push(node(op_type, input, output, to));
    }

    /// Returns the bytes, scales and zero points of the weights of that name.
    fn quantized(&self, name: &str) -> Result<[TensorProto; 3], Refusal> {
        let tensor = &self.tensors[name];
        let values = self.weights.floats(tensor)?;
        let &[rows, columns] = &*tensor.dims else { return Err(format!("{name:?} is no matrix")) };
        let size = |side: i64| usize::try_from(side).map_err(|_| format!("{name:?} has a negative side"));
        let (rows, columns) = (size(rows)?, size(columns)?);
        if rows.checked_mul(columns) != Some(values.len()) || values.is_empty() {
            return Err(format!("{name:?} has not as many values as its shape says"));
        }
        let (bytes, scales) = quantize_columns(&values, columns).ok_or_else(|| format!("{name:?} is not finite"))?;
        let tensor = |what: &str, dims: &[usize], data_type: i32, raw: Vec<u8>| TensorProto {
            dims: dims.iter().map(|&side| side as i64).collect(),
            data_type: Some(data_type),
            name: format!("{name}_{what}"),
            raw_data: Some(raw.into()),
            ..TensorProto::default()
        };
        Ok([
            tensor("quantized", &[rows, columns], INT8, bytes),
            tensor("scale", &[columns], FLOAT, scales.iter().flat_map(|scale| scale.to_le_bytes()).collect()),
            tensor("zero_point", &[columns], INT8, vec![0; columns]),
        ])
    }

    /// Returns the whole graph, without weights that are no longer read, and with external weights inside.
    fn finish(self, onnx: &Onnx, nodes: &[NodeProto]) -> Result<GraphProto, Refusal> {
        // Weights are kept if anything else than the right side of a product reads them, including branches and loops.
        let mut kept: HashSet<String> = HashSet::new();
        for node in nodes {
            let is_product = node.op_type == "MatMul";
            let mut names = Vec::new();
            reads(node, &mut names, 0)?;
            kept.extend(
                names.into_iter().enumerate().filter(|&(place, _)| !(is_product && place == 1)).map(|(_, name)| name),
            );
        }
        let is_gone = |name: &str| self.made.contains_key(name) && !kept.contains(name);
        let mut initializer = Vec::new();
        for bytes in &onnx.graph.initializer {
            let tensor: TensorProto = decode(bytes, "tensor")?;
            if is_gone(&tensor.name) {
                continue;
            }
            initializer.push(self.weights.inside(tensor, bytes)?);
        }
        // In the order of the graph, so that the same model gives the same file.
        for bytes in &onnx.graph.initializer {
            let name = decode::<TensorProto>(bytes, "tensor")?.name;
            for made in self.made.get(&name).into_iter().flatten() {
                initializer.push(made.encode_to_vec().into());
            }
        }
        let names = names(&onnx.graph.input)?;
        let inputs =
            onnx.graph.input.iter().zip(names).filter(|(_, name)| !is_gone(name)).map(|(input, _)| input.clone());
        Ok(GraphProto { node: self.nodes, initializer, input: inputs.collect(), ..onnx.graph.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weights are, bit for bit, those of onnxruntime's quantize_dynamic.
    #[test]
    fn weights_are_those_of_onnxruntime() {
        let fixtures = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures"));
        let golden = std::fs::read(fixtures.join("golden/quantized.json")).unwrap();
        let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
        let path = fixtures.join("models/wide");
        let folder = Folder { path: &path, model: "wide" };
        for (tower, file) in [("text", "onnx/text_model.onnx"), ("image", "onnx/vision_model.onnx")] {
            let made = quantize(&Onnx::read(folder, file).unwrap(), folder, file).unwrap();
            let made = Onnx::parse(made).unwrap();
            let tensors = made.graph.initializer.iter().map(|tensor| decode::<TensorProto>(tensor, "tensor").unwrap());
            let tensors: HashMap<String, TensorProto> = tensors.map(|tensor| (tensor.name.clone(), tensor)).collect();
            let weights = golden[tower]["weights"].as_object().unwrap();
            assert!(weights.len() >= 13, "{tower}");
            assert_eq!(tensors.keys().filter(|name| name.ends_with("_quantized")).count(), weights.len(), "{tower}");
            for (name, digests) in weights {
                assert!(!tensors.contains_key(name), "{tower}: {name} is there twice");
                for (what, digest) in ["quantized", "scale"].into_iter().zip(digests.as_array().unwrap()) {
                    let raw = tensors[&format!("{name}_{what}")].raw_data.clone().unwrap();
                    assert_eq!(
                        crate::store::manifest::digest(&raw),
                        digest.as_str().unwrap(),
                        "{tower}: {name}_{what}"
                    );
                }
            }
            let facts = made.facts().unwrap();
            assert!(facts.scaled_by_content && facts.data.is_empty());
            let again = quantize(&made, folder, file).unwrap_err();
            assert!(again.contains("already"), "{again}");
        }
    }
}
