//! ONNX files, looked into without running them: what they need from outside, and a tower taken out of a whole model.
//!
//! Only the few fields that matter are decoded; nodes, weights and the rest are kept as the bytes that they are.
//! External crate: `prost`.

pub(crate) mod quantize;

use std::collections::{BTreeSet, HashMap, HashSet};

use prost::Message;
use prost::bytes::Bytes;

use crate::error::Error;
use crate::folder::{Folder, is_inside};

/// Operators that ONNX Runtime brings itself, the last two where it has optimised a graph. Any other needs a library of
/// the model's own, which is never loaded.
const DOMAINS: [&str; 6] =
    ["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"];

/// Scales that depend on all that is in one run: another text or picture in it changes the result.
pub(crate) const SCALED_BY_CONTENT: [&str; 3] =
    ["DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"];

/// Graphs within graphs (branches, loops) go no deeper in any export.
const MAX_DEPTH: usize = 8;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelProto {
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub opset_import: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "14")]
    pub metadata_props: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "25")]
    pub functions: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraphProto {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub node: Vec<Bytes>,
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub initializer: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub input: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "12")]
    pub output: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "14")]
    pub quantization_annotation: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "15")]
    pub sparse_initializer: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct FunctionProto {
    #[prost(bytes = "bytes", repeated, tag = "7")]
    node: Vec<Bytes>,
    #[prost(string, tag = "10")]
    domain: String,
    #[prost(message, repeated, tag = "11")]
    attribute_proto: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AttributeProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub tensor: Option<Bytes>,
    #[prost(message, optional, tag = "6")]
    pub graph: Option<GraphProto>,
    #[prost(bytes = "bytes", repeated, tag = "10")]
    pub tensors: Vec<Bytes>,
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<GraphProto>,
    #[prost(int32, optional, tag = "20")]
    pub kind: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "22")]
    pub sparse_tensor: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "23")]
    pub sparse_tensors: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct SparseTensorProto {
    #[prost(bytes = "bytes", optional, tag = "1")]
    values: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    indices: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Entry>,
    /// 1 where the data is in a file.
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
}

/// A pair of strings.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// An input or output.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// What a graph file needs and is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Files that hold its weights, by their paths beside it.
    pub data: BTreeSet<String>,
    /// The pieces of those files that it reads.
    pub pieces: Vec<Piece>,
    /// Whether a text or picture gets another embedding in company.
    pub scaled_by_content: bool,
    pub inputs: Vec<String>,
}

/// Where a tensor's bytes, or those that ONNX Runtime packed of it, are in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub offset: u64,
    /// Nothing where the piece ends with the file.
    pub length: Option<u64>,
}

/// An ONNX file in memory.
pub(crate) struct Onnx {
    pub model: ModelProto,
    pub graph: GraphProto,
}

/// The reason why a file is refused.
pub(crate) type Refusal = String;

impl Onnx {
    pub(crate) fn read(folder: Folder<'_>, file: &str) -> Result<Self, Error> {
        let bytes = std::fs::read(folder.path.join(file)).map_err(|error| folder.unreadable(file, error))?;
        Self::parse(bytes).map_err(|reason| Error::invalid(folder.model, file, reason))
    }

    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Refusal> {
        let mut model = decode::<ModelProto>(&Bytes::from(bytes), "model")?;
        let graph = model.graph.take().ok_or("it is no ONNX file: there is no graph in it")?;
        Ok(Self { model, graph })
    }

    /// Look at all of it; refuse what reaches outside.
    pub(crate) fn facts(&self) -> Result<Facts, Refusal> {
        let mut facts = Facts { inputs: names(&self.graph.input)?, ..Facts::default() };
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

    /// The part of the graph that computes `outputs`, as a file of its own. Weights outside are named as before.
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
            let (file, mut pieces) = tensor.place()?;
            self.data.insert(file);
            self.pieces.append(&mut pieces);
        }
        Ok(())
    }
}

/// The names that a node reads, those that its branches and loops read from outside them included.
pub(crate) fn reads(node: &NodeProto, names: &mut Vec<String>, depth: usize) -> Result<(), Refusal> {
    if depth > MAX_DEPTH {
        return Err("its graphs are nested too deeply".into());
    }
    names.extend(node.input.iter().filter(|name| !name.is_empty()).cloned());
    for graph in node.attribute.iter().flat_map(|attribute| attribute.graph.iter().chain(&attribute.graphs)) {
        // Names that the inner graph makes itself are no names of the outer one: asking for them finds nothing.
        names.extend(self::names(&graph.output)?);
        for inner in &graph.node {
            reads(&decode(inner, "node")?, names, depth + 1)?;
        }
    }
    Ok(())
}

impl TensorProto {
    /// The file that holds a tensor that is outside, and where in it: the tensor itself first, then what was packed of it.
    pub(crate) fn place(&self) -> Result<(String, Vec<Piece>), Refusal> {
        let (mut file, mut whole, mut packed) = (String::new(), Piece { offset: 0, length: None }, Vec::new());
        for Entry { key, value } in &self.external_data {
            match key.as_str() {
                "location" => file = value.clone(),
                "offset" => whole.offset = number(value)?,
                "length" => whole.length = Some(number(value)?),
                // KEY|OFFSET;LENGTH;CHECKSUM|…
                key if key.starts_with("prepacked_") => {
                    for piece in value.split('|').skip(1) {
                        let (offset, rest) = piece.split_once(';').ok_or("a packed tensor has no place")?;
                        let length = rest.split(';').next().unwrap_or_default();
                        packed.push(Piece { offset: number(offset)?, length: Some(number(length)?) });
                    }
                }
                _ => {}
            }
        }
        // ONNX Runtime's own mark for what is no file but a place in memory.
        match is_inside(&file) && !file.contains("_ORT_MEM_ADDR_") {
            true => Ok((file, [vec![whole], packed].concat())),
            false => Err("its weights are in a file that is not inside the folder".into()),
        }
    }
}

fn number(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| format!("{text:?} is no place in a file"))
}

pub(crate) fn names(entries: &[Bytes]) -> Result<Vec<String>, Refusal> {
    entries.iter().map(|entry| Ok(decode::<Named>(entry, "name")?.name)).collect()
}

fn keep_tensors(tensors: &[Bytes], wanted: &HashSet<String>) -> Result<Vec<Bytes>, Refusal> {
    let mut kept = Vec::new();
    for tensor in tensors {
        if wanted.contains(&decode::<TensorProto>(tensor, "tensor")?.name) {
            kept.push(tensor.clone());
        }
    }
    Ok(kept)
}

pub(crate) fn decode<T: Message + Default>(bytes: &Bytes, what: &str) -> Result<T, Refusal> {
    T::decode(bytes.clone()).map_err(|error| format!("it is no ONNX file, or a damaged one: {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op_type: &str, domain: &str, input: &[&str], output: &[&str]) -> Bytes {
        let names = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
        let node = NodeProto {
            input: names(input),
            output: names(output),
            op_type: op_type.into(),
            attribute: Vec::new(),
            domain: domain.into(),
        };
        node.encode_to_vec().into()
    }

    fn weights(name: &str, location: Option<&str>) -> Bytes {
        let entry = |value: &str| Entry { key: "location".into(), value: value.into() };
        let external_data = location.map(entry).into_iter().collect();
        TensorProto { name: name.into(), external_data, ..TensorProto::default() }.encode_to_vec().into()
    }

    fn onnx(node: Vec<Bytes>, initializer: Vec<Bytes>) -> Onnx {
        let named = |name: &str| Bytes::from(Named { name: name.into() }.encode_to_vec());
        let (input, output) = (vec![named("a"), named("b")], vec![named("x"), named("y")]);
        let graph = GraphProto { node, initializer, input, output, ..GraphProto::default() };
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        Onnx::parse(model.encode_to_vec()).unwrap()
    }

    #[test]
    fn operators_of_a_library_are_refused() {
        let refused = onnx(vec![node("Run", "evil.example", &[], &[])], vec![]).facts().unwrap_err();
        assert!(refused.contains("evil.example"), "{refused}");
        assert!(onnx(vec![node("FusedMatMul", "com.microsoft", &[], &[])], vec![]).facts().is_ok());
    }

    #[test]
    fn weights_outside_the_folder_are_refused() {
        for outside in ["/etc/passwd", "../other.bin", ""] {
            assert!(onnx(vec![], vec![weights("w", Some(outside))]).facts().is_err(), "{outside:?}");
        }
        let facts = onnx(vec![], vec![weights("w", Some("model.onnx_data")), weights("v", None)]).facts().unwrap();
        assert_eq!(facts.data, BTreeSet::from(["model.onnx_data".into()]));
        assert_eq!(facts.pieces, [Piece { offset: 0, length: None }]);
    }

    #[test]
    fn weights_outside_the_folder_are_refused_wherever_they_are_named() {
        let refused = |graph: GraphProto, functions: Vec<Bytes>| {
            let model = ModelProto { graph: Some(graph), functions, ..ModelProto::default() };
            Onnx::parse(model.encode_to_vec()).unwrap().facts().is_err()
        };
        let of = |attribute: AttributeProto| GraphProto {
            node: vec![NodeProto { attribute: vec![attribute], ..NodeProto::default() }.encode_to_vec().into()],
            ..GraphProto::default()
        };
        for (location, expected) in [("../other.bin", true), ("model.onnx_data", false)] {
            let weights = || weights("w", Some(location));
            let sparse = |values, indices| Bytes::from(SparseTensorProto { values, indices }.encode_to_vec());
            let attribute = AttributeProto { tensor: Some(weights()), ..AttributeProto::default() };
            let inner = GraphProto { initializer: vec![weights()], ..GraphProto::default() };
            for named in [
                GraphProto { sparse_initializer: vec![sparse(Some(weights()), None)], ..GraphProto::default() },
                GraphProto { sparse_initializer: vec![sparse(None, Some(weights()))], ..GraphProto::default() },
                of(AttributeProto { tensors: vec![weights()], ..AttributeProto::default() }),
                of(AttributeProto { sparse_tensor: Some(sparse(Some(weights()), None)), ..AttributeProto::default() }),
                of(AttributeProto { sparse_tensors: vec![sparse(None, Some(weights()))], ..AttributeProto::default() }),
                of(AttributeProto { graph: Some(inner.clone()), ..AttributeProto::default() }),
                of(AttributeProto { graphs: vec![inner], ..AttributeProto::default() }),
                of(attribute.clone()),
            ] {
                assert_eq!(refused(named.clone(), vec![]), expected, "{named:?}");
            }
            for function in [
                FunctionProto { node: of(attribute.clone()).node, ..FunctionProto::default() },
                FunctionProto { attribute_proto: vec![attribute], ..FunctionProto::default() },
            ] {
                let encoded = function.encode_to_vec().into();
                assert_eq!(refused(GraphProto::default(), vec![encoded]), expected, "{function:?}");
            }
        }
    }

    #[test]
    fn packed_weights_have_places_too() {
        let tensor = |entries: &[(&str, &str)]| {
            let entry = |&(key, value): &(&str, &str)| Entry { key: key.into(), value: value.into() };
            let external_data = entries.iter().map(entry).collect();
            onnx(
                vec![],
                vec![TensorProto { name: "w".into(), external_data, ..TensorProto::default() }.encode_to_vec().into()],
            )
            .facts()
        };
        let packed = ("prepacked_0", "MatMul+14|128;64;0|256;32;0");
        let facts = tensor(&[("location", "d"), ("offset", "64"), ("length", "16"), packed]).unwrap();
        let piece = |offset, length| Piece { offset, length: Some(length) };
        assert_eq!(facts.pieces, [piece(64, 16), piece(128, 64), piece(256, 32)]);
        for broken in ["MatMul|x;1;0", "MatMul|64", "MatMul|-64;1;0", "MatMul|64;;0"] {
            assert!(tensor(&[("location", "d"), ("prepacked_0", broken)]).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_part_has_what_its_output_needs_and_no_more() {
        let nodes = vec![
            node("Add", "", &["a", "w"], &["m"]),
            node("Relu", "", &["m"], &["x"]),
            node("Mul", "", &["b", "v"], &["y"]),
        ];
        let whole = onnx(nodes, vec![weights("w", None), weights("v", None)]);
        let part = Onnx::parse(whole.part(&["x"]).unwrap()).unwrap();
        assert_eq!((part.graph.node.len(), part.graph.initializer.len()), (2, 1));
        assert_eq!(names(&part.graph.input).unwrap(), ["a"]);
        assert_eq!(names(&part.graph.output).unwrap(), ["x"]);
    }

    #[test]
    fn what_is_no_onnx_file_is_refused() {
        assert!(Onnx::parse(b"hello, this is text".to_vec()).is_err());
        assert!(Onnx::parse(Vec::new()).is_err());
    }
}
