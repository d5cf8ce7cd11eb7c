//! The networks as ONNX graphs: recorded by one more interpreter of
//! [`crate::ops::Ops`], written with the weights of the strict loader.
//!
//! [`parts`] has one graph for each part of a recipe, with the inputs and
//! outputs of the published exports; [`write()`] puts one into a file, and
//! [`export()`] all of them.

mod attention;
mod export;
mod file;
mod graph;
mod ops;
pub mod parts;
pub mod proto;
pub mod published;

pub use export::{export, suffix};
pub use file::{Storage, Written, weights_beside, write};
pub use graph::{GraphBuilder, Operators, Target};
pub use parts::{decoder, embed_tokens, projector, vision};
