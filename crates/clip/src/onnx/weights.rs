//! The weights of a graph, read and rewritten: the common parts of graphs with 8-bit weights and with bf16 weights.
//!
//! External crate: `prost`.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use prost::Message;
use prost::bytes::Bytes;

use crate::folder::{Folder, beside};
use crate::memory::reserve;
use crate::onnx::facts::{DataRange, SCALED_BY_CONTENT};
use crate::onnx::file::Onnx;
use crate::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSet, Refusal, TensorProto, decode,
};

/// The type of tensors of single precision, by ONNX's number.
pub(super) const FLOAT: i32 = 1;

/// The type of attributes that are integers, by ONNX's number.
const ATTRIBUTE_INT: i32 = 2;

/// A file of more bytes is no protobuf.
const MAX_BYTES: usize = (2 << 30) - 1;

/// Returns the nodes of a graph. Rejects one that is quantized already, or has operators older than a version.
pub(super) fn unquantized_nodes(onnx: &Onnx, min_opset: i64) -> Result<Vec<NodeProto>, Refusal> {
    let opset = onnx.model.opset_import.iter().map(|set| decode::<OperatorSet>(set, "operator set"));
    let opset = opset.collect::<Result<Vec<_>, _>>()?.into_iter().find(|set| matches!(&*set.domain, "" | "ai.onnx"));
    if opset.is_none_or(|set| set.version < min_opset) {
        return Err(format!("it uses operators older than version {min_opset}; export it with a newer opset"));
    }
    let nodes: Vec<NodeProto> = onnx.graph.node.iter().map(|node| decode(node, "node")).collect::<Result<_, _>>()?;
    if nodes.iter().any(|node| SCALED_BY_CONTENT.contains(&&*node.op_type) || node.op_type == "DequantizeLinear") {
        return Err("it is quantised already".into());
    }
    Ok(nodes)
}

/// Returns the constant tensors of a graph by their names.
pub(super) fn tensors(onnx: &Onnx) -> Result<HashMap<String, TensorProto>, Refusal> {
    let named = |bytes: &Bytes| decode::<TensorProto>(bytes, "tensor").map(|tensor| (tensor.name.clone(), tensor));
    onnx.graph.initializer.iter().map(named).collect()
}

/// Returns a node of ONNX's own operators. `to` is the type to which a Cast converts.
pub(super) fn node(op_type: &str, input: &[&str], output: &[&str], to: Option<i32>) -> Bytes {
    let attribute = to.map(|to| AttributeProto {
        name: "to".into(),
        i: Some(to.into()),
        kind: Some(ATTRIBUTE_INT),
        ..AttributeProto::default()
    });
    let names = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
    let node = NodeProto {
        input: names(input),
        output: names(output),
        op_type: op_type.into(),
        attribute: attribute.into_iter().collect(),
        domain: String::new(),
    };
    node.encode_to_vec().into()
}

/// Returns the file of a graph that replaces the one of `onnx`.
pub(super) fn encode(onnx: &Onnx, graph: GraphProto) -> Result<Vec<u8>, Refusal> {
    let model = ModelProto { graph: Some(graph), ..onnx.model.clone() };
    match model.encoded_len() {
        length if length > MAX_BYTES => {
            Err(format!("it would have {length} bytes in one file; at most {MAX_BYTES} can be read"))
        }
        _ => Ok(model.encode_to_vec()),
    }
}

/// The weights of a graph file, with those that are in external files.
pub(super) struct Weights<'a> {
    pub folder: Folder<'a>,
    pub file: &'a str,
}

impl Weights<'_> {
    /// Returns the values of a tensor of single precision.
    pub(super) fn floats(&self, tensor: &TensorProto) -> Result<Vec<f32>, Refusal> {
        if !tensor.float_data.is_empty() {
            return Ok(tensor.float_data.clone());
        }
        let raw = self.raw(tensor)?;
        let (numbers, rest) = raw.as_chunks::<4>();
        match rest {
            [] => Ok(numbers.iter().map(|&number| f32::from_le_bytes(number)).collect()),
            _ => Err(format!("{:?} is truncated", tensor.name)),
        }
    }

    /// Returns the message of a tensor, with an external tensor inside. `bytes` is its message now.
    pub(super) fn inside(&self, tensor: TensorProto, bytes: &Bytes) -> Result<Bytes, Refusal> {
        if tensor.external_data.is_empty() {
            return Ok(bytes.clone());
        }
        let raw_data = Some(self.raw(&tensor)?);
        let inside = TensorProto { raw_data, external_data: Vec::new(), data_location: None, ..tensor };
        Ok(inside.encode_to_vec().into())
    }

    /// Returns the bytes of a tensor, from the graph or from its external file.
    fn raw(&self, tensor: &TensorProto) -> Result<Bytes, Refusal> {
        if tensor.external_data.is_empty() {
            return Ok(tensor.raw_data.clone().unwrap_or_default());
        }
        let (data, ranges) = tensor.place()?;
        let Some(&DataRange { offset, length }) = ranges.first() else {
            return Err(format!("{:?} has no place", tensor.name));
        };
        let read = || -> std::io::Result<Bytes> {
            let file = File::open(self.folder.path.join(beside(self.file, &data)))?;
            let rest = file.metadata()?.len().saturating_sub(offset);
            let length = length.unwrap_or(rest);
            if length > rest {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let mut bytes = reserve(length as usize).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
            bytes.resize(length as usize, 0);
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes.into())
        };
        read().map_err(|error| format!("{:?} cannot be read: {error}", tensor.name))
    }
}
