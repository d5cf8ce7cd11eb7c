//! How a vision-language model is computed.
//!
//! Networks are written once over a small operation set ([`ops`]); each
//! interpreter of it gives them another meaning: [`candle`] computes, [`onnx`]
//! records graphs, which [`onnxruntime`] runs, [`cost`] counts. Around them stand what a model needs besides: recipes ([`recipe`]),
//! checkpoints ([`checkpoint`]), preprocessing ([`image`], and [`anyres`] for images in tiles), tokenizers and
//! prompts ([`text`]), the hub ([`hub`]). The harness drives it all through
//! [`backend`] (engines and loaded models) and [`generate`] (requests and
//! their phases); [`trace`] reports single operations, and [`peak`] does work
//! of a known amount, so that a caller with a clock learns the machine's peak.
//!
//! Not here: data sets, scores, clocks, repetition, statistics, printing.

pub mod anyres;
pub mod backend;
pub mod blocks;
pub mod candle;
pub mod checkpoint;
pub mod cost;
pub mod error;
pub mod generate;
pub mod hub;
pub mod image;
pub mod mix;
pub mod nets;
pub mod npy;
pub mod onnx;
pub mod onnxruntime;
pub mod ops;
pub mod params;
pub mod peak;
pub mod recipe;
pub mod reduce;
pub mod sampling;
pub mod text;
pub mod trace;
pub mod weights;

pub use error::{Error, Result};
