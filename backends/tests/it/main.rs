//! Integration tests: one binary, a module a topic.

mod checkpoint;
mod hub;
mod image;
mod parity;
mod strictness;
mod text;
mod trace;
