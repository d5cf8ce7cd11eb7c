//! The `vlmbench` binary.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// Image decoding and table building allocate from many threads at once.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    vlmbench::measure::memory::keep_freed();
    vlmbench::cmd::main().into()
}
