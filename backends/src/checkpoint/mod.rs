//! Weights: published checkpoints in any known layout, and seeded ones.
//!
//! [`files`] maps safetensors into memory, [`layout`] holds the published key
//! layouts as tables, [`source`] plans how every canonical parameter is made
//! from them (strictly: before a tensor is read, each missing, misshapen or
//! unused one is known), `fold` does the arithmetic of re-parameterisation,
//! [`config`] reads a checkpoint's own `config.json` into a recipe, [`gguf`] has
//! decoders of llama.cpp's files, and [`seeded`] needs no files at all.

mod checks;
pub mod config;
mod error;
pub mod files;
mod fold;
pub mod gguf;
mod json;
pub mod layout;
mod plan;
mod positions;
pub mod seeded;
pub mod source;
mod towers;

pub use config::recipe_from_folder;
pub use error::{CheckpointError, Problem, Problems};
pub use files::WeightFiles;
pub use gguf::{GgufSource, recipe_from_gguf};
pub use seeded::SeededSource;
pub use source::CheckpointSource;
pub use towers::TowersSource;
