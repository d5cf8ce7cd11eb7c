//! Integration tests: one binary, a module a topic.

mod anyres;
mod cambrian;
mod checkpoint;
mod conformance;
mod gguf;
mod gpu;
mod hub;
mod image;
mod onnx;
mod parity;
mod reduce;
mod strictness;
mod text;
mod trace;
