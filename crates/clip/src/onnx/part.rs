//! A part of an ONNX file as a file of its own: one tower of a graph that has both. External crate: `prost`.

use std::collections::{BTreeSet, HashMap, HashSet};

use prost::Message;
use prost::bytes::Bytes;

use crate::onnx::facts::MAX_DEPTH;
use crate::onnx::file::Onnx;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, Refusal, TensorProto, decode, names};

impl Onnx {
    /// Returns the part of the graph that computes `outputs`, as a file. The names of external files stay the same.
    pub(crate) fn part(&self, outputs: &[&str]) -> Result<Vec<u8>, Refusal> {
        let nodes: Vec<NodeProto> =
            self.graph.node.iter().map(|node| decode(node, "node")).collect::<Result<_, _>>()?;
        let mut maker = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            maker.extend(node.output.iter().map(|name| (name.as_str(), index)));
        }
        let mut wanted: HashSet<String> = HashSet::new();
        let mut kept = BTreeSet::new();
        let mut pending: Vec<String> = outputs.iter().map(|&name| name.to_owned()).collect();
        while let Some(name) = pending.pop() {
            if let Some(&index) = maker.get(name.as_str())
                && kept.insert(index)
            {
                reads(&nodes[index], &mut pending, 0)?;
            }
            wanted.insert(name);
        }
        let keep = |entries: &[Bytes]| -> Result<Vec<Bytes>, Refusal> {
            let names = names(entries)?;
            Ok(entries
                .iter()
                .zip(names)
                .filter(|(_, name)| wanted.contains(name))
                .map(|(entry, _)| entry.clone())
                .collect())
        };
        let graph = GraphProto {
            node: kept.into_iter().map(|index| self.graph.node[index].clone()).collect(),
            name: self.graph.name.clone(),
            initializer: keep_tensors(&self.graph.initializer, &wanted)?,
            input: keep(&self.graph.input)?,
            output: keep(&self.graph.output)?.into_iter().collect(),
            quantization_annotation: keep(&self.graph.quantization_annotation)?,
            sparse_initializer: self.graph.sparse_initializer.clone(),
        };
        Ok(ModelProto { graph: Some(graph), ..self.model.clone() }.encode_to_vec())
    }
}

/// Adds the names that a node reads, including those that its branches and loops read from outside.
pub(crate) fn reads(node: &NodeProto, names: &mut Vec<String>, depth: usize) -> Result<(), Refusal> {
    if depth > MAX_DEPTH {
        return Err("its graphs are nested too deeply".into());
    }
    names.extend(node.input.iter().filter(|name| !name.is_empty()).cloned());
    for graph in node.attribute.iter().flat_map(|attribute| attribute.graph.iter().chain(&attribute.graphs)) {
        // Names that the inner graph makes itself are not in the outer one, so they have no effect.
        names.extend(crate::onnx::proto::names(&graph.output)?);
        for inner in &graph.node {
            reads(&decode(inner, "node")?, names, depth + 1)?;
        }
    }
    Ok(())
}

/// Returns the tensors with a wanted name.
fn keep_tensors(tensors: &[Bytes], wanted: &HashSet<String>) -> Result<Vec<Bytes>, Refusal> {
    let mut kept = Vec::new();
    for tensor in tensors {
        if wanted.contains(&decode::<TensorProto>(tensor, "tensor")?.name) {
            kept.push(tensor.clone());
        }
    }
    Ok(kept)
}
