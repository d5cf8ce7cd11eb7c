//! `vlmbench worker`: one launch, measured for another process of this program,
//! which writes the job to standard input and reads records from standard
//! output. Not for people.

use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::launch::Job;
use crate::run::work;

/// Does the job of the first line of standard input.
pub fn run(ctx: &Context) -> Result<Outcome, Failure> {
    let line = ctx.next_line()?.unwrap_or_default();
    let job: Job = serde_json::from_str(&line).map_err(|e| Failure::Input {
        path: "standard input".into(),
        problem: format!("not a job that this version knows: {e}"),
    })?;
    work(&job, ctx)?;
    Ok(Outcome::Done)
}
