//! The candle engine: tensors, weights and the interpreter of
//! [`Ops`](crate::ops::Ops) that computes.
//!
//! Feature maps are stored channels-last. On the CPU the heavy operations are our
//! own [`kernels`], entered through candle's custom operations so that a tensor
//! stays a candle tensor; on a GPU they are those of [`gpu`].

pub mod backend;
pub mod custom;
pub mod gpu;
pub mod kernels;
pub mod model;
pub mod ops;
pub mod store;

pub use backend::CandleBackend;
