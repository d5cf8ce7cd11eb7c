//! The binary from the shell: real files in, exit code, output and run folder out.

mod audit;
mod cli;
mod device;
mod end_to_end;
mod gate;
mod gguf;
mod history;
mod onnx;
mod paced;
mod pack;
mod peak;
mod profile;
mod score;
mod shell;
mod verify;
mod zoo;
