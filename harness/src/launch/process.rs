//! The parent's side of a launch.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use vlmbench_reports::record::Record;

use super::Job;
use crate::context::Context;
use crate::error::Failure;

/// `program`, or this one.
pub fn program_or_this(program: Option<&Path>) -> Result<PathBuf, Failure> {
    match program {
        Some(program) => Ok(program.to_path_buf()),
        None => std::env::current_exe()
            .map_err(|e| Failure::Internal(format!("this program cannot be found: {e}"))),
    }
}

/// A child that does a job.
pub struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts `program`, this one by default, on a job.
    pub fn start(program: Option<&Path>, job: &Job, ctx: &Context) -> Result<Worker, Failure> {
        let program = program_or_this(program)?;
        let refused = |e: std::io::Error| Failure::Input {
            path: program.clone(),
            problem: format!("cannot be run: {e}"),
        };
        let mut child = Command::new(&program)
            .args(&ctx.inherited)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(refused)?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::Internal("a child without pipes".into()));
        };
        let job = serde_json::to_string(job).map_err(|e| Failure::Internal(e.to_string()))?;
        // A child that does not read says why on its standard error, and its end is seen below.
        let _ = writeln!(input, "{job}");
        Ok(Worker {
            child,
            input: Some(input),
            output: BufReader::new(output),
        })
    }

    /// Lets a paced child measure `times` more; `false` if it has ended.
    pub fn go(&mut self, times: u32) -> bool {
        let Some(input) = &mut self.input else {
            return false;
        };
        writeln!(input, "{times}")
            .and_then(|()| input.flush())
            .is_ok()
    }

    /// Tells a paced child that it was enough; it sends what it has left.
    pub fn enough(&mut self) {
        self.input = None;
    }

    /// The next record; `None` when the child has no more. `Err` says in words
    /// what it wrote instead of one.
    pub fn record(&mut self) -> Result<Option<Record>, String> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => serde_json::from_str(&line)
                .map(Some)
                .map_err(|e| format!("the worker wrote no record, {e}: {}", line.trim_end())),
            Err(e) => Err(format!("the worker cannot be read: {e}")),
        }
    }

    /// Waits for the child's end: `Err` says in words how it died.
    pub fn end(mut self) -> Result<(), String> {
        self.enough();
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(how(status)),
            Err(e) => Err(format!("the worker was lost: {e}")),
        }
    }
}

impl Drop for Worker {
    /// A parent that gives up leaves nothing running.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn how(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let why = match signal {
            9 => ", which the system sends when memory runs out",
            _ => "",
        };
        return format!("the worker was ended by signal {signal}{why}");
    }
    format!("the worker ended with {status}; its message is above")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_death_is_told_in_words() {
        use std::os::unix::process::ExitStatusExt;
        assert!(how(ExitStatus::from_raw(9)).contains("memory runs out"));
        assert!(how(ExitStatus::from_raw(11)).contains("signal 11"));
        assert!(how(ExitStatus::from_raw(3 << 8)).contains('3'));
    }
}
