//! Measuring: the clock, the memory mark, a loaded model with its tokenizer,
//! and the repetition of a latency request until its median is known.
//!
//! Nothing here knows run folders; [`crate::run`] records what this measures.

pub mod clock;
pub mod latency;
pub mod memory;
pub mod session;
