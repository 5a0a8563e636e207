//! Tests of facts and parts of small graphs.

use std::collections::BTreeSet;

use prost::Message;
use prost::bytes::Bytes;

use super::facts::DataRange;
use super::file::Onnx;
use super::proto::{
    AttributeProto, Entry, FunctionProto, GraphProto, ModelProto, Named, NodeProto, SparseTensorProto, TensorProto,
    names,
};

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
    assert_eq!(facts.ranges, [DataRange { offset: 0, length: None }]);
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
    let range = |offset, length| DataRange { offset, length: Some(length) };
    assert_eq!(facts.ranges, [range(64, 16), range(128, 64), range(256, 32)]);
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
