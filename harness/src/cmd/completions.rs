//! `vlmbench completions SHELL`.

use clap_complete::Shell;

use crate::context::Context;
use crate::error::{Failure, Outcome};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell to complete for
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    let mut command = super::command();
    clap_complete::generate(args.shell, &mut command, "vlmbench", &mut script);
    let script = String::from_utf8(script)
        .map_err(|e| Failure::Internal(format!("the completion script is not UTF-8: {e}")))?;
    ctx.print(&script)?;
    Ok(Outcome::Done)
}
