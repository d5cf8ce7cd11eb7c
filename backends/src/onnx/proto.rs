//! The part of ONNX's protobuf schema (`onnx.proto3`) that a model is made of.
//!
//! Field numbers are the schema's; fields that neither we nor ONNX Runtime
//! need are left out, and protobuf readers skip what they do not know.

use prost::Message;

/// Version of the file format that goes with [`OPSET`].
pub const IR_VERSION: i64 = 9;
/// Version of the standard operator set that graphs are written in: the first
/// with GELU as an operator.
pub const OPSET: i64 = 20;
/// The first version of the file format and of the operator set whose
/// convolutions take bf16.
pub const BF16: (i64, i64) = (10, 22);

/// `ModelProto`: a graph and what it needs.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// Version of the file format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// Program that wrote it.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// Version of that program.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// Graph.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// Operator sets.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    /// Free-form facts.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<Entry>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    /// Domain, empty for the standard one.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// Key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// Nodes in an order in which they can run.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// Inputs.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// Outputs.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Values read; an empty name is an input left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Values written.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    /// Domain, empty for the standard one.
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// `AttributeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value of type [`attribute_type::FLOAT`].
    #[prost(float, tag = "2")]
    pub f: f32,
    /// Value of type [`attribute_type::INT`].
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// Value of type [`attribute_type::STRING`].
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    /// Value of type [`attribute_type::INTS`].
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Which of the fields is the value.
    #[prost(int32, tag = "20")]
    pub r#type: i32,
}

/// Values of [`Attribute::type`].
pub mod attribute_type {
    /// One float.
    pub const FLOAT: i32 = 1;
    /// One integer.
    pub const INT: i32 = 2;
    /// Bytes.
    pub const STRING: i32 = 3;
    /// Integers.
    pub const INTS: i32 = 7;
}

/// Types of scalars, as numbered in `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// 32-bit float.
    F32 = 1,
    /// 32-bit integer.
    I32 = 6,
    /// 64-bit integer.
    I64 = 7,
    /// Boolean.
    Bool = 9,
    /// IEEE half.
    F16 = 10,
    /// bfloat16.
    Bf16 = 16,
}

/// `TensorProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Shape.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// A [`Scalar`].
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// Name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Scalars, little endian, if they are in this file.
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    /// `location`, `offset` and `length` of scalars in another file.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Entry>,
    /// 1 if the scalars are in another file.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// `ValueInfoProto`.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
}

/// `TypeProto`, of tensors only.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    /// The tensor's type.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// A [`Scalar`].
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// Shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShape {
    /// Dimensions.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// A number, or the name of one that is known when the graph runs.
    #[prost(oneof = "Extent", tags = "1, 2")]
    pub value: Option<Extent>,
}

/// The size of a dimension.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Extent {
    /// Fixed.
    #[prost(int64, tag = "1")]
    Fixed(i64),
    /// Named.
    #[prost(string, tag = "2")]
    Named(String),
}
