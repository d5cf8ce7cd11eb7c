//! Weights of several encoders, each in files of its own (Cambrian-1 publishes
//! none of its encoders').

use std::path::Path;

use crate::error::Result;
use crate::params::ParamSpec;
use crate::recipe::Recipe;
use crate::weights::{HostTensor, Inventory, Part, WeightSource, WeightsInfo};

use super::CheckpointSource;

/// A source for each encoder of a recipe, and one for all else.
pub struct TowersSource {
    towers: Vec<CheckpointSource>,
    rest: CheckpointSource,
}

impl TowersSource {
    /// Opens the folders of a recipe's encoders, in order, and that of all else.
    pub fn open(
        towers: &[&Path],
        rest: &Path,
        recipe: &Recipe,
        inventory: &Inventory,
    ) -> Result<TowersSource> {
        let open = |(index, folder): (usize, &&Path)| {
            let recipe = recipe.tower(index)?;
            let inventory = Inventory::of(&recipe)?;
            Ok(CheckpointSource::open(folder, &recipe, &inventory)?)
        };
        let towers = towers.iter().enumerate().map(open).collect::<Result<_>>()?;
        let parts = inventory.parts.iter();
        let others = Inventory {
            parts: parts.filter(|(p, _)| *p != Part::Vision).cloned().collect(),
        };
        let rest = CheckpointSource::open(rest, recipe, &others)?;
        Ok(TowersSource { towers, rest })
    }

    /// The source that has a parameter, and its name there.
    fn find<'a>(&self, part: Part, name: &'a str) -> (&CheckpointSource, &'a str) {
        let below = name
            .strip_prefix("towers.")
            .filter(|_| part == Part::Vision);
        let found = below.and_then(|below| {
            let (index, name) = below.split_once('.')?;
            Some((self.towers.get(index.parse::<usize>().ok()?)?, name))
        });
        found.unwrap_or((&self.rest, name))
    }
}

fn renamed(spec: &ParamSpec, name: &str) -> ParamSpec {
    ParamSpec {
        name: name.into(),
        ..spec.clone()
    }
}

impl WeightSource for TowersSource {
    fn info(&self) -> &WeightsInfo {
        self.rest.info()
    }

    fn get(&self, part: Part, spec: &ParamSpec) -> Result<HostTensor<'_>> {
        let (source, name) = self.find(part, &spec.name);
        source.get(part, &renamed(spec, name))
    }

    fn done(&self, part: Part, spec: &ParamSpec) {
        let (source, name) = self.find(part, &spec.name);
        source.done(part, &renamed(spec, name));
    }
}
