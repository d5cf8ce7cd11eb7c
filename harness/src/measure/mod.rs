//! Measuring: the clock, the memory mark, a loaded model with its tokenizer,
//! agreement of outputs, the repetition of a latency request until its median is known, its
//! energy, the machine's peak, and where the time of a request goes beside it.
//!
//! Nothing here knows run folders; [`crate::run`] records what this measures.

pub mod agreement;
pub mod clock;
pub mod energy;
pub mod latency;
pub mod memory;
pub mod peak;
pub mod profile;
pub mod session;
pub mod tape;
