//! A graph under construction: values by name, nodes in order, constants.
//!
//! Weights are recorded by where they come from, not by content, so that a
//! graph is small until it is written ([`super::file`]).

use std::collections::HashMap;
use std::ops::Range;

use super::proto::{
    Attribute, Dimension, Extent, Graph, Node, Scalar, Tensor, TensorShape, TensorType, Type,
    ValueInfo, attribute_type,
};
use crate::backend::Precision;
use crate::error::{Error, Result};
use crate::nets::registry::one_of;
use crate::params::ParamSpec;
use crate::weights::Part;

/// One axis of an input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Always this long.
    Fixed(usize),
    /// As long as the caller likes; equal names are equal lengths.
    Free(&'static str),
}

/// A parameter of the network as a constant of the graph.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Name in the graph.
    pub name: String,
    /// Shape in the graph.
    pub dims: Vec<usize>,
    /// Part of the model that the parameter belongs to.
    pub part: Part,
    /// The canonical parameter.
    pub spec: ParamSpec,
    /// Whether a canonical `(out, in)` matrix is held as `(in, out)`.
    pub transposed: bool,
}

/// An attribute's value.
#[derive(Clone, Debug)]
pub enum Attr {
    /// A float.
    Float(f32),
    /// An integer.
    Int(i64),
    /// Integers.
    Ints(Vec<i64>),
    /// Text.
    Text(&'static str),
}

/// Which operators a graph may use.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Operators {
    /// Those of the standard: every runtime runs them.
    #[default]
    Standard,
    /// ONNX Runtime's fused attention of decoders as well
    /// (`GroupQueryAttention`), which makes long prompts faster; that of
    /// encoders (`MultiHeadAttention`) was measured and is not. Positions then
    /// follow from the mask, so a decoder takes no position ids, and prompts of
    /// a batch are padded on the right.
    Fused,
}

impl Operators {
    /// Both.
    pub const ALL: [Operators; 2] = [Operators::Standard, Operators::Fused];

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Operators::Standard => "standard",
            Operators::Fused => "fused",
        }
    }
}

impl std::str::FromStr for Operators {
    type Err = Error;

    fn from_str(s: &str) -> Result<Operators> {
        one_of("set of operators", s, Operators::ALL, Operators::name)
    }
}

/// What a graph is recorded for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Type of weights and activations.
    pub precision: Precision,
    /// Operators it may use.
    pub operators: Operators,
}

/// A recorded graph.
pub struct GraphBuilder {
    name: &'static str,
    target: Target,
    nodes: Vec<Node>,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    constants: Vec<Tensor>,
    weights: Vec<Weight>,
    /// Constants and weights that are there already, by what they are.
    known: HashMap<String, String>,
    scope: String,
}

/// Domain of ONNX Runtime's own operators.
pub const FUSED_DOMAIN: &str = "com.microsoft";

/// The scalar of a precision; quantised ones, whose scalars outside of blocks
/// are bf16, are refused before a graph is recorded.
pub fn scalar(precision: Precision) -> Scalar {
    match precision {
        Precision::F32 => Scalar::F32,
        Precision::F16 => Scalar::F16,
        Precision::Bf16 | Precision::Q8_0 | Precision::Q4KM => Scalar::Bf16,
    }
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: &'static str, target: Target) -> GraphBuilder {
        GraphBuilder {
            name,
            target,
            nodes: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            constants: Vec::new(),
            weights: Vec::new(),
            known: HashMap::new(),
            scope: String::new(),
        }
    }

    /// Type of weights and activations.
    pub fn precision(&self) -> Precision {
        self.target.precision
    }

    /// Whether a node is one of ONNX Runtime's own operators.
    pub fn is_fused(&self) -> bool {
        self.nodes.iter().any(|node| !node.domain.is_empty())
    }

    /// Parameters that the graph reads.
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// What the names of further nodes begin with.
    pub fn set_scope(&mut self, scope: &str) {
        self.scope = scope.to_owned();
    }

    /// Declares an input.
    pub fn input(&mut self, name: &str, scalar: Scalar, axes: &[Axis]) -> String {
        self.inputs.push(value_info(name, scalar, axes));
        name.to_owned()
    }

    /// Declares `value`, which a node of this graph has made, an output called
    /// `name`.
    pub fn output(&mut self, value: &str, name: &str, scalar: Scalar, axes: &[Axis]) {
        for node in &mut self.nodes {
            for used in node.input.iter_mut().chain(&mut node.output) {
                if used == value {
                    *used = name.to_owned();
                }
            }
        }
        self.outputs.push(value_info(name, scalar, axes));
    }

    /// Adds a node with one output.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attr)]) -> String {
        self.nodes_of(op, inputs, attributes, 1).remove(0)
    }

    /// Adds a node with `outputs` outputs.
    pub fn nodes_of(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attr)],
        outputs: usize,
    ) -> Vec<String> {
        let name = format!("{}/{op}_{}", self.scope, self.nodes.len());
        let output: Vec<String> = match outputs {
            1 => vec![format!("{name}.out")],
            _ => (0..outputs).map(|i| format!("{name}.out{i}")).collect(),
        };
        self.nodes.push(Node {
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: output.clone(),
            name,
            op_type: op.to_owned(),
            attribute: attributes.iter().map(|(n, v)| attribute(n, v)).collect(),
            domain: String::new(),
        });
        output
    }

    /// Adds a node of ONNX Runtime's own operators.
    pub fn fused(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attr)],
        outputs: usize,
    ) -> Vec<String> {
        let output = self.nodes_of(op, inputs, attributes, outputs);
        if let Some(node) = self.nodes.last_mut() {
            node.domain = FUSED_DOMAIN.to_owned();
        }
        output
    }

    /// `x` as another type.
    pub fn cast(&mut self, x: &str, to: Scalar) -> String {
        self.node("Cast", &[x], &[("to", Attr::Int(to as i64))])
    }

    /// Sizes of some axes of `x`, a vector of integers.
    pub fn sides(&mut self, x: &str, axes: Range<i64>) -> String {
        let axes = [
            ("start", Attr::Int(axes.start)),
            ("end", Attr::Int(axes.end)),
        ];
        self.node("Shape", &[x], &axes)
    }

    /// A constant matrix of the graph's precision.
    pub fn matrix(&mut self, what: &str, dims: [usize; 2], values: &[f32]) -> String {
        let dims = dims.map(|d| d as i64).to_vec();
        self.floats(what.to_owned(), dims, values)
    }

    /// A constant vector of integers.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(
            format!("ints{values:?}"),
            Scalar::I64,
            vec![values.len() as i64],
            bytes,
        )
    }

    /// A constant integer without axes.
    pub fn int(&mut self, value: i64) -> String {
        let bytes = value.to_le_bytes().to_vec();
        self.constant(format!("int {value}"), Scalar::I64, vec![], bytes)
    }

    /// A constant of the graph's precision without axes.
    pub fn float(&mut self, value: f32) -> String {
        self.floats(format!("float {value}"), vec![], &[value])
    }

    /// Constants of the graph's precision.
    fn floats(&mut self, what: String, dims: Vec<i64>, values: &[f32]) -> String {
        let values = values.iter();
        let bytes = match self.precision() {
            Precision::F32 => values.flat_map(|v| v.to_le_bytes()).collect(),
            Precision::F16 => values
                .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
                .collect(),
            Precision::Bf16 | Precision::Q8_0 | Precision::Q4KM => values
                .flat_map(|v| half::bf16::from_f32(*v).to_le_bytes())
                .collect(),
        };
        self.constant(what, scalar(self.precision()), dims, bytes)
    }

    /// A constant vector of f32, whatever the precision.
    pub fn f32s(&mut self, values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let dims = vec![values.len() as i64];
        self.constant(format!("f32s{values:?}"), Scalar::F32, dims, bytes)
    }

    fn constant(
        &mut self,
        what: String,
        scalar: Scalar,
        dims: Vec<i64>,
        raw_data: Vec<u8>,
    ) -> String {
        if let Some(name) = self.known.get(&what) {
            return name.clone();
        }
        let name = format!("constant_{}", self.constants.len());
        self.constants.push(Tensor {
            dims,
            data_type: scalar as i32,
            name: name.clone(),
            raw_data,
            ..Tensor::default()
        });
        self.known.insert(what, name.clone());
        name
    }

    /// The parameter `spec` in shape `dims`.
    pub fn weight(
        &mut self,
        part: Part,
        spec: &ParamSpec,
        dims: Vec<usize>,
        transposed: bool,
    ) -> String {
        let turned = if transposed { ".transposed" } else { "" };
        let what = format!("{}.{}{turned}", part.name(), spec.name);
        if let Some(name) = self.known.get(&what) {
            return name.clone();
        }
        self.weights.push(Weight {
            name: what.clone(),
            dims,
            part,
            spec: spec.clone(),
            transposed,
        });
        self.known.insert(what.clone(), what.clone());
        what
    }

    /// The graph, with `weights` in the order of [`GraphBuilder::weights`].
    pub fn finish(mut self, weights: Vec<Tensor>) -> Graph {
        self.constants.extend(weights);
        Graph {
            node: self.nodes,
            name: self.name.to_owned(),
            initializer: self.constants,
            input: self.inputs,
            output: self.outputs,
        }
    }
}

fn value_info(name: &str, scalar: Scalar, axes: &[Axis]) -> ValueInfo {
    let dim = axes.iter().map(|axis| Dimension {
        value: Some(match *axis {
            Axis::Fixed(n) => Extent::Fixed(n as i64),
            Axis::Free(name) => Extent::Named(name.to_owned()),
        }),
    });
    ValueInfo {
        name: name.to_owned(),
        r#type: Some(Type {
            tensor_type: Some(TensorType {
                elem_type: scalar as i32,
                shape: Some(TensorShape { dim: dim.collect() }),
            }),
        }),
    }
}

fn attribute(name: &str, value: &Attr) -> Attribute {
    let mut attribute = Attribute {
        name: name.to_owned(),
        ..Attribute::default()
    };
    match value {
        Attr::Float(f) => (attribute.f, attribute.r#type) = (*f, attribute_type::FLOAT),
        Attr::Int(i) => (attribute.i, attribute.r#type) = (*i, attribute_type::INT),
        Attr::Ints(ints) => {
            (attribute.ints, attribute.r#type) = (ints.clone(), attribute_type::INTS);
        }
        Attr::Text(s) => {
            (attribute.s, attribute.r#type) = (s.as_bytes().to_vec(), attribute_type::STRING);
        }
    }
    attribute
}
