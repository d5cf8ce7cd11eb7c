//! A committed run folder of format version 1 must load for as long as the version is supported.

use std::path::Path;

use vlmbench_reports::{
    history::fingerprint,
    record::{Run, Weights},
    summary::{Figure, summarise},
};

#[test]
fn the_committed_folder_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/run-v1");
    let run = Run::read(&folder).unwrap();
    assert_eq!(run.manifest.plan.len(), 2);
    assert_eq!(run.published[0].points.len(), 2);
    assert!(run.peaks.is_empty());
    // The passport has grown since; what is written of such a machine has not, nor has its fingerprint, by which
    // histories know it.
    let written = serde_json::to_value(&run.manifest.machine).unwrap();
    let text = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written, manifest["machine"]);
    assert_eq!(fingerprint(&run.manifest.machine), "f51f8b78239b80ad");
    assert!(!run.torn);
    let summaries = summarise(0, &run);
    let ttft = summaries[0].figure(Figure::TtftPaper).unwrap();
    assert_eq!((ttft.n, ttft.median), (3, 600.0));
    assert!(summaries[0].facts.as_ref().unwrap().weights.is_seeded());
    let accuracy = summaries[1].accuracy.as_ref().unwrap();
    assert_eq!((accuracy.n, accuracy.failed, accuracy.truncated), (3, 1, 1));
    assert_eq!(accuracy.sum.fraction(), Some((5, 3)));
    let weights = &summaries[1].facts.as_ref().unwrap().weights;
    assert!(matches!(weights, Weights::Checkpoint { digests, .. } if digests.len() == 1));
}
