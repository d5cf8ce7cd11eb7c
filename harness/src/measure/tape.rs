//! What a request did and when: phases by its marks, and inside them the
//! operations that the engine reports.
//!
//! The same tape is the engine's observer and the request's marks, so that an
//! operation belongs to the phase whose mark comes next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vlmbench_backends::generate::{Marks, Phase};
use vlmbench_backends::ops::Shape;
use vlmbench_backends::trace::{Observer, OpEvent, OpKind};

use super::clock::Clock;

/// An operation that ran.
#[derive(Clone, Debug, PartialEq)]
pub struct OpRun {
    /// Stage of the network.
    pub stage: String,
    /// Kind.
    pub kind: OpKind,
    /// Path of its parameters; the path of the block and the kind where it has
    /// none.
    pub name: String,
    /// Shape of its output.
    pub shape: Shape,
    /// Floating-point operations, a multiply-add as 2.
    pub flops: u64,
    /// Bytes of parameters, inputs and output.
    pub bytes: u64,
    /// Time that it took.
    pub time: Duration,
}

/// A phase that ran.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseRun {
    /// Phase.
    pub phase: Phase,
    /// Time that it took, between operations included.
    pub time: Duration,
    /// Its operations in order; empty if nobody observed.
    pub ops: Vec<OpRun>,
}

/// Records a request. Clones write on the same tape.
#[derive(Clone)]
pub struct Tape<C>(Arc<Mutex<State<C>>>);

struct State<C> {
    clock: C,
    /// When the present phase began.
    began: Duration,
    /// When the present operation began.
    entered: Duration,
    ops: Vec<OpRun>,
    phases: Vec<PhaseRun>,
}

impl<C: Clock> Tape<C> {
    /// An empty tape that starts now.
    pub fn start(clock: C) -> Tape<C> {
        let now = clock.now();
        Tape(Arc::new(Mutex::new(State {
            clock,
            began: now,
            entered: now,
            ops: Vec::new(),
            phases: Vec::new(),
        })))
    }

    /// Takes what was recorded and starts anew.
    pub fn cut(&self) -> Vec<PhaseRun> {
        let mut state = self.state();
        state.ops.clear();
        state.began = state.clock.now();
        std::mem::take(&mut state.phases)
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        // A panic elsewhere ends the measurement anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Clock + Send> Observer for Tape<C> {
    fn enter(&mut self, op: &OpEvent<'_>) {
        let mut state = self.state();
        let name = match op.name {
            "" => format!("{}{}", block(&state.ops), op.kind),
            name => name.to_owned(),
        };
        state.ops.push(OpRun {
            stage: op.stage.to_owned(),
            kind: op.kind,
            name,
            shape: op.shape,
            flops: op.flops,
            bytes: op.bytes,
            time: Duration::ZERO,
        });
        // Last, so that the tape's own work is in no operation.
        state.entered = state.clock.now();
    }

    fn leave(&mut self) {
        let mut state = self.state();
        let time = state.clock.now() - state.entered;
        if let Some(op) = state.ops.last_mut() {
            op.time = time;
        }
    }
}

/// Path of the block that the last operation belongs to, with its final dot.
fn block(ops: &[OpRun]) -> &str {
    let last = ops.last().map_or("", |op| op.name.as_str());
    last.rfind('.').map_or("", |dot| &last[..=dot])
}

impl<C: Clock> Marks for Tape<C> {
    fn mark(&mut self, phase: Phase) {
        let mut state = self.state();
        let now = state.clock.now();
        let run = PhaseRun {
            phase,
            time: now - state.began,
            ops: std::mem::take(&mut state.ops),
        };
        state.phases.push(run);
        state.began = now;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<AtomicU64>);

    impl Clock for Shared {
        fn now(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn operations_belong_to_the_phase_whose_mark_comes_next() {
        let clock = Shared::default();
        let pass = |ms| clock.0.fetch_add(ms, Ordering::Relaxed);
        let mut tape = Tape::start(clock.clone());
        let mut observer: Box<dyn Observer> = Box::new(tape.clone());
        let mut op = |name: &str, kind, ms| {
            observer.enter(&OpEvent {
                stage: "s",
                kind,
                name,
                shape: Shape::Tokens { b: 1, n: 2, d: 3 },
                flops: 4,
                bytes: 5,
            });
            pass(ms);
            observer.leave();
        };
        pass(100);
        tape.cut();
        pass(1);
        op("layers.0.qkv", OpKind::Linear, 10);
        op("", OpKind::Attention, 20);
        pass(2);
        tape.mark(Phase::Encode);
        op("", OpKind::Embed, 3);
        tape.mark(Phase::Prefill);
        let phases = tape.cut();
        let ms = |phase: &PhaseRun| phase.time.as_millis();
        assert_eq!(phases.iter().map(ms).collect::<Vec<_>>(), [33, 3]);
        let names = |phase: &PhaseRun| -> Vec<(String, u128)> {
            let ops = phase.ops.iter();
            ops.map(|op| (op.name.clone(), op.time.as_millis()))
                .collect()
        };
        assert_eq!(
            names(&phases[0]),
            [
                ("layers.0.qkv".into(), 10),
                ("layers.0.attention".into(), 20)
            ]
        );
        assert_eq!(names(&phases[1]), [("embed".into(), 3)]);
        assert_eq!(tape.cut(), []);
    }
}
