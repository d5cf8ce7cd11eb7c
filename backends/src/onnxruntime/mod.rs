//! ONNX Runtime as an engine, through the `ort` crate.
//!
//! The runtime's shared library is found and loaded when the engine is asked
//! for ([`library`]); nothing else in the program needs it. A recipe's
//! networks are recorded as graphs by [`crate::onnx`], from the same weights
//! that candle gets, and run here.

pub mod backend;
pub mod device;
mod graph;
pub mod library;
mod model;
mod session;

pub use backend::OnnxRuntimeBackend;
pub use session::{Optimization, Settings};
