//! Tests of the crate through its public interface.

mod exports;
mod folder;
mod format_v1;
mod gate;
mod pack;
mod published;
mod reports;
mod stats;
mod synthetic;
