//! The profile as a picture: model, phases, stages, kinds, operations.

use vlmbench_reports::plot::{Block, Icicle};
use vlmbench_reports::table::milliseconds;

use super::Profile;
use super::tables::{conditions, name};
use crate::measure::profile::{Figures, PhaseProfile, Stage};

/// The picture of a profile.
pub(super) fn icicle(p: &Profile<'_>) -> Icicle {
    let gflops = p.peak_flops / 1e9;
    let bandwidth = p.peak_bandwidth / 1e9;
    let floor: f64 = p.phases.iter().map(|phase| phase.figures.floor_ms).sum();
    Icicle {
        title: format!("Where the time of {} goes", name(p)),
        subtitle: conditions(p),
        shade_title: "floor / time".into(),
        unshaded_title: "outside of operations".into(),
        caption: vec![
            format!(
                "Width: median time. Colour: the floor as a share of the time, where the floor of an operation is the \
                 larger of its FLOPs over the machine's measured peak ({gflops:.0} GFLOP/s) and its bytes over the \
                 measured memory bandwidth ({bandwidth:.0} GB/s)."
            ),
            "From above: model, phase (decode is one step), stage, kind of operation, operation. What is still in a cache is read faster \
             than memory, so a short operation may beat its floor."
                .into(),
        ],
        root: Block {
            label: p.model.to_owned(),
            detail: format!("{} ms", milliseconds(p.total_ms)),
            ms: p.total_ms,
            shade: Some(floor / p.total_ms),
            children: p.phases.iter().map(phase).collect(),
        },
    }
}

fn phase(p: &PhaseProfile) -> Block {
    let stages = p.stages.iter();
    let mut stages: Vec<Block> = stages.map(|stage| self::stage(p, stage)).collect();
    stages.push(Block {
        label: "outside of operations".into(),
        detail: format!("{} ms", milliseconds(p.outside_ms)),
        ms: p.outside_ms,
        shade: None,
        children: Vec::new(),
    });
    block(p.phase, &p.figures, stages)
}

/// A stage by kinds of operation, the longest first.
fn stage(p: &PhaseProfile, stage: &Stage) -> Block {
    let kinds = stage.kinds.iter();
    let kinds = kinds.map(|kind| {
        let operations = p.operations.iter();
        let operations =
            operations.filter(|op| op.stage == stage.group.name && op.kind == kind.name);
        let parts = operations.map(|op| block(&op.name, &op.figures, Vec::new()));
        block(&kind.name, &kind.figures, parts.collect())
    });
    block(&stage.group.name, &stage.group.figures, kinds.collect())
}

fn block(label: &str, figures: &Figures, children: Vec<Block>) -> Block {
    Block {
        label: label.to_owned(),
        detail: format!(
            "{} ms, {:.0}% of peak",
            milliseconds(figures.median_ms),
            100.0 * figures.peak_share
        ),
        ms: figures.median_ms,
        shade: Some(figures.floor_ms / figures.median_ms),
        children,
    }
}
