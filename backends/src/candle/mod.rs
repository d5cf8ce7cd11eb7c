//! The candle engine: tensors, weights and the interpreter of
//! [`Ops`](crate::ops::Ops) that computes.
//!
//! On the CPU, feature maps are stored channels-last and the heavy operations
//! are our own [`kernels`], entered through candle's custom operations so that
//! a tensor stays a candle tensor and other devices can add their own forward.

pub mod backend;
pub mod custom;
pub mod kernels;
pub mod model;
pub mod ops;
pub mod store;

pub use backend::CandleBackend;
