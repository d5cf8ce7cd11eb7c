//! GGUF files of llama.cpp: decoders, most of them in blocks
//! ([`crate::blocks`]).
//!
//! [`mod@file`] reads the container, [`recipe`] its metadata, and [`source`] plans
//! every canonical parameter of a decoder from its tensors, as strictly as from
//! any other checkpoint. A vision-language model takes its other parts from a
//! checkpoint folder.

pub mod file;
pub mod recipe;
pub mod source;

pub use recipe::recipe_from_gguf;
pub use source::GgufSource;
