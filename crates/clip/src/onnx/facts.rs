//! Facts about an ONNX file that decide whether it is safe, and how it may be run. External crate: `prost`, for its
//! bytes.

use std::collections::BTreeSet;

use prost::bytes::Bytes;

use crate::folder::is_inside;
use crate::onnx::file::Onnx;
use crate::onnx::proto::{
    AttributeProto, Entry, FunctionProto, GraphProto, NodeProto, Refusal, SparseTensorProto, TensorProto, decode,
};

/// Domains of the operators that ONNX Runtime contains, the last two in graphs that it has optimized. Any other domain
/// needs a library of the model's own, which is never loaded.
const DOMAINS: [&str; 6] =
    ["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"];

/// Operators whose scales depend on everything in one run: another text or image in the batch changes the result.
pub(crate) const SCALED_BY_CONTENT: [&str; 3] =
    ["DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"];

/// Deepest nesting of graphs in branches and loops. No export has more.
pub(super) const MAX_DEPTH: usize = 8;

/// Facts about a graph file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Files that hold its weights, by their paths relative to it.
    pub data: BTreeSet<String>,
    /// The ranges of those files that it reads.
    pub ranges: Vec<DataRange>,
    /// True if a batch changes the embedding of a text or image in it.
    pub scaled_by_content: bool,
}

/// The range of a file that holds the bytes of a tensor, or those that ONNX Runtime packed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataRange {
    pub offset: u64,
    /// None if the range ends with the file.
    pub length: Option<u64>,
}

impl Onnx {
    /// Examines the whole file. Rejects weights outside the folder, and operators of other libraries.
    pub(crate) fn facts(&self) -> Result<Facts, Refusal> {
        let mut facts = Facts::default();
        let functions: Vec<FunctionProto> =
            self.model.functions.iter().map(|function| decode(function, "function")).collect::<Result<_, _>>()?;
        let mut domains: BTreeSet<String> = DOMAINS.map(Into::into).into();
        domains.extend(functions.iter().map(|function| function.domain.clone()));
        facts.read_graph(&self.graph, &domains, 0)?;
        for function in &functions {
            facts.read_attributes(&function.attribute_proto, &domains, 0)?;
            facts.read_nodes(&function.node, &domains, 0)?;
        }
        Ok(facts)
    }
}

impl Facts {
    fn read_graph(&mut self, graph: &GraphProto, domains: &BTreeSet<String>, depth: usize) -> Result<(), Refusal> {
        if depth > MAX_DEPTH {
            return Err("its graphs are nested too deeply".into());
        }
        self.read_tensors(graph.initializer.iter())?;
        self.read_sparse_tensors(graph.sparse_initializer.iter())?;
        self.read_nodes(&graph.node, domains, depth)
    }

    fn read_sparse_tensors<'a>(&mut self, tensors: impl Iterator<Item = &'a Bytes>) -> Result<(), Refusal> {
        for sparse in tensors {
            let sparse: SparseTensorProto = decode(sparse, "sparse tensor")?;
            self.read_tensors(sparse.values.iter().chain(&sparse.indices))?;
        }
        Ok(())
    }

    fn read_attributes(
        &mut self,
        attributes: &[AttributeProto],
        domains: &BTreeSet<String>,
        depth: usize,
    ) -> Result<(), Refusal> {
        for attribute in attributes {
            self.read_tensors(attribute.tensor.iter().chain(&attribute.tensors))?;
            self.read_sparse_tensors(attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors))?;
            for graph in attribute.graph.iter().chain(&attribute.graphs) {
                self.read_graph(graph, domains, depth + 1)?;
            }
        }
        Ok(())
    }

    fn read_nodes(&mut self, nodes: &[Bytes], domains: &BTreeSet<String>, depth: usize) -> Result<(), Refusal> {
        for node in nodes {
            let node: NodeProto = decode(node, "node")?;
            if !domains.contains(&node.domain) {
                return Err(format!(
                    "the operator {:?} of domain {:?} is not ONNX Runtime's own",
                    node.op_type, node.domain
                ));
            }
            self.scaled_by_content |= SCALED_BY_CONTENT.contains(&node.op_type.as_str());
            self.read_attributes(&node.attribute, domains, depth)?;
        }
        Ok(())
    }

    fn read_tensors<'a>(&mut self, tensors: impl Iterator<Item = &'a Bytes>) -> Result<(), Refusal> {
        for tensor in tensors {
            let tensor: TensorProto = decode(tensor, "tensor")?;
            if tensor.external_data.is_empty() {
                continue;
            }
            let (file, mut ranges) = tensor.place()?;
            self.data.insert(file);
            self.ranges.append(&mut ranges);
        }
        Ok(())
    }
}

impl TensorProto {
    /// Returns the file that holds an external tensor, and its ranges: the tensor itself first, then its packed copies.
    pub(crate) fn place(&self) -> Result<(String, Vec<DataRange>), Refusal> {
        let (mut file, mut whole, mut packed) = (String::new(), DataRange { offset: 0, length: None }, Vec::new());
        for Entry { key, value } in &self.external_data {
            match key.as_str() {
                "location" => file = value.clone(),
                "offset" => whole.offset = number(value)?,
                "length" => whole.length = Some(number(value)?),
                // KEY|OFFSET;LENGTH;CHECKSUM|…
                key if key.starts_with("prepacked_") => {
                    for range in value.split('|').skip(1) {
                        let (offset, rest) = range.split_once(';').ok_or("a packed tensor has no place")?;
                        let length = rest.split(';').next().unwrap_or_default();
                        packed.push(DataRange { offset: number(offset)?, length: Some(number(length)?) });
                    }
                }
                _ => {}
            }
        }
        // ONNX Runtime's own mark for a place in memory instead of a file.
        match is_inside(&file) && !file.contains("_ORT_MEM_ADDR_") {
            true => Ok((file, [vec![whole], packed].concat())),
            false => Err("its weights are in a file that is not inside the folder".into()),
        }
    }
}

fn number(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| format!("{text:?} is no place in a file"))
}
