//! What planning a checkpoint checks of its tensors, and what it found wrong.

use std::collections::HashSet;

use super::WeightFiles;
use super::error::Problem;
use super::files::readable;
use super::layout::{Layout, Place, listed};
use crate::params::ParamSpec;
use crate::recipe::Recipe;
use crate::weights::{Inventory, Part};

/// What has been checked and found so far.
pub(super) struct Checks<'a> {
    files: &'a WeightFiles,
    used: HashSet<String>,
    seen: HashSet<String>,
    problems: Vec<Problem>,
}

impl<'a> Checks<'a> {
    /// Nothing checked yet.
    pub(super) fn new(files: &'a WeightFiles) -> Checks<'a> {
        Checks {
            files,
            used: HashSet::new(),
            seen: HashSet::new(),
            problems: Vec::new(),
        }
    }

    /// Records a problem.
    pub(super) fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Everything that was found, unused tensors included.
    pub(super) fn finish(
        mut self,
        layout: &Layout,
        recipe: &Recipe,
        inventory: &Inventory,
    ) -> Vec<Problem> {
        self.find_unused(layout, recipe, inventory);
        self.suggest();
        self.problems
    }

    /// Checks that `key` is there with this shape (trailing ones aside) and a
    /// readable element type.
    pub(super) fn need(&mut self, part: Part, spec: &ParamSpec, key: &str, expected: &[usize]) {
        if !self.seen.insert(key.into()) {
            return;
        }
        let Some(entry) = self.files.entry(key) else {
            return self.problems.push(Problem::Missing {
                part,
                parameter: spec.name.clone(),
                key: key.into(),
                nearest: None,
            });
        };
        self.used.insert(key.into());
        let file = self.files.file_of(key).to_string();
        if trimmed(&entry.shape) != trimmed(expected) {
            self.problems.push(Problem::Shape {
                part,
                parameter: spec.name.clone(),
                key: key.into(),
                file,
                expected: expected.to_vec(),
                got: entry.shape.clone(),
            });
        } else if !readable(entry.dtype) {
            self.problems.push(Problem::Dtype {
                key: key.into(),
                file,
                got: format!("{:?}", entry.dtype),
            });
        }
    }

    /// Reports keys that nothing uses, unless the layout carries them without
    /// need or they belong to a part that the recipe does not have.
    fn find_unused(&mut self, layout: &Layout, recipe: &Recipe, inventory: &Inventory) {
        let tied = recipe
            .decoder
            .as_ref()
            .is_some_and(|decoder| decoder.config.tied);
        let has = |part: Part| inventory.parts.iter().any(|(p, _)| *p == part);
        let head = format!("{}.weight", layout.head);
        for key in self.files.keys() {
            if self.used.contains(key) {
                continue;
            }
            let file = || self.files.file_of(key).to_string();
            if key == head && layout.decoder.is_some() {
                let embeddings = layout
                    .decoder
                    .map(|place| format!("{}embed_tokens.weight", place.prefix));
                if tied && !embeddings.is_some_and(|other| self.files.equal(key, &other)) {
                    self.problems.push(Problem::UntiedHead {
                        key: key.into(),
                        file: file(),
                    });
                }
                continue;
            }
            // A recipe that lays tokens out flat leaves it aside.
            let needless = key == layout.newline
                || listed(layout.unneeded, key)
                || match layout.part_of(key) {
                    None => false,
                    Some((part, _)) if !has(part) => true,
                    Some((_, place)) => needless_below(place, recipe, &key[place.prefix.len()..]),
                };
            if !needless {
                self.problems.push(Problem::Unused {
                    key: key.into(),
                    file: file(),
                });
            }
        }
    }

    /// Names the nearest unused key beside each missing one.
    fn suggest(&mut self) {
        let unused: Vec<&str> = self
            .files
            .keys()
            .filter(|key| !self.used.contains(*key))
            .collect();
        for problem in &mut self.problems {
            if let Problem::Missing { key, nearest, .. } = problem {
                *nearest = self::nearest(key, &unused);
            }
        }
    }
}

/// The one of `others` that is most like `key`.
pub(super) fn nearest(key: &str, others: &[&str]) -> Option<String> {
    let scored = others
        .iter()
        .map(|other| (strsim::jaro_winkler(key, other), other));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, other)| (*other).to_string())
}

/// Whether the dialect knows `key` (below the prefix) as one that no network
/// needs, layers that are not run among them.
fn needless_below(place: Place, recipe: &Recipe, key: &str) -> bool {
    if listed(place.dialect.unneeded, key) {
        return true;
    }
    let layer = place.dialect.layers.and_then(|prefix| {
        key.strip_prefix(prefix)?
            .split('.')
            .next()?
            .parse::<usize>()
            .ok()
    });
    let vit = recipe.encoder.as_ref().and_then(|e| e.config.vit());
    match (layer, vit) {
        (Some(layer), Some(c)) => (c.layers_run..c.layers).contains(&layer),
        _ => false,
    }
}

/// A shape without the ones at its ends: `(c, 1, 1)` and `(1, 1, c)` are `(c)`.
fn trimmed(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().rev().take_while(|&&side| side == 1).count();
    let shape = &shape[..shape.len() - ones];
    &shape[shape.iter().take_while(|&&side| side == 1).count()..]
}
