//! `vlmbench latency --paced`: repetitions when another program says so.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::Value;

use crate::shell::{arg, checkpoint, fixture, vlmbench};

/// A measurement that waits.
struct Paced {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Paced {
    fn start(folder: &Path, model: &Path, more: &[&str]) -> Paced {
        let args = ["latency", arg(model), "--paced", "--threads", "1"];
        let mut child = vlmbench(folder, args.iter().chain(more))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        Paced {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Asks for one repetition and reads its line.
    fn next(&mut self) -> Value {
        self.input.write_all(b"go\n").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// Ends the input; what is printed then, and the exit code.
    fn end(mut self) -> (String, i32) {
        drop(self.input);
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().code().unwrap())
    }
}

#[test]
fn each_line_is_answered_by_one_repetition_until_the_input_ends() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--warm-up", "1", "--decode-tokens", "3", "--format", "json"];
    let mut paced = Paced::start(folder.path(), &fixture("tiny-fastvlm"), &more);
    let mut prefill = Vec::new();
    // More than are measured at full speed when their median is narrow.
    for i in 0..60 {
        let line = paced.next();
        assert_eq!(line["warm_up"], i == 0, "{line}");
        assert_eq!(line["iteration"], (i - 1).max(0), "{line}");
        assert_eq!(line["decode_ms"].as_array().unwrap().len(), 2, "{line}");
        for stage in [
            "preprocess_ms",
            "encode_ms",
            "project_ms",
            "prefill_ms",
            "ttft_user_ms",
        ] {
            assert!(line[stage].as_f64().unwrap() > 0.0, "{stage}: {line}");
        }
        if i > 0 {
            prefill.push(line["prefill_ms"].clone());
        }
    }
    let (rest, code) = paced.end();
    assert_eq!(code, 0);
    assert_eq!(rest.lines().count(), 1, "{rest}");
    let report: Value = serde_json::from_str(&rest).unwrap();
    assert_eq!(report["iterations"], 59);
    // Somebody else worked in between.
    let why = report["energy"]["device"]["missing"].as_str().unwrap();
    assert!(why.contains("another program"), "{why}");
    assert_eq!(report["joules_per_request"], Value::Null);
    // The same samples, in the same order.
    assert_eq!(
        report["stages"]["prefill"]["samples_ms"],
        Value::from(prefill)
    );
}

#[test]
fn a_decoder_alone_prefills_exactly_the_tokens_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let more = [
        "--warm-up",
        "0",
        "--prompt-tokens",
        "9",
        "--decode-tokens",
        "4",
        "--format",
        "json",
    ];
    let mut paced = Paced::start(folder.path(), &checkpoint("qwen2/qwen2"), &more);
    let line = paced.next();
    assert_eq!(line["warm_up"], false);
    assert_eq!(line["encode_ms"], Value::Null);
    assert!(line["prefill_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(line["decode_ms"].as_array().unwrap().len(), 3);
    let (rest, code) = paced.end();
    assert_eq!(code, 0);
    let report: Value = serde_json::from_str(&rest).unwrap();
    assert_eq!(report["prompt_tokens"], 9);
    assert_eq!(report["iterations"], 1);
}

#[test]
fn input_that_ends_at_once_and_a_count_of_iterations_both_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = checkpoint("qwen2/qwen2");
    let (rest, code) = Paced::start(folder.path(), &model, &["--format", "json"]).end();
    assert_eq!(code, 0);
    let report: Value = serde_json::from_str(&rest).unwrap();
    assert_eq!(report["iterations"], 0);
    assert_eq!(report["stages"]["prefill"]["median_ms"], Value::Null);

    let more = ["--warm-up", "0", "--iterations", "2"];
    let mut paced = Paced::start(folder.path(), &model, &more);
    for i in 0..2 {
        assert_eq!(paced.next()["iteration"], i);
    }
    // It ends while its input is still open, with the table for people.
    let mut rest = String::new();
    paced.output.read_to_string(&mut rest).unwrap();
    assert!(
        rest.contains("prefill") && rest.contains("decode"),
        "{rest}"
    );
    assert_eq!(paced.child.wait().unwrap().code(), Some(0));
}
