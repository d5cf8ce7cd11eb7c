//! Tests of the crate through its public interface.

mod browser;
mod energy;
mod exports;
mod folder;
mod format_v1;
mod gate;
mod hardware;
mod pack;
mod page;
mod published;
mod reports;
mod stats;
mod synthetic;
mod webdriver;
