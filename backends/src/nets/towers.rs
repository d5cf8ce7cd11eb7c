//! Several encoders on one image, each at its own side, their features resized
//! to grids that fit one another (Cambrian-1).

use super::EncoderConfig;
use super::multiscale::staged;
use crate::error::{Error, Result};
use crate::mix::{Mix, bilinear};
use crate::ops::{Ops, Shape};

/// One of several encoders.
#[derive(Clone, Debug, PartialEq)]
pub struct Tower {
    /// The encoder.
    pub config: EncoderConfig,
    /// Side of its input in pixels.
    pub side: usize,
    /// Features along a side that are handed on.
    pub grid: usize,
    /// Whether the outputs of all its stages are handed on, one behind the other
    /// over channels, rather than its features.
    pub stages: bool,
}

impl Tower {
    /// Channels of what is handed on.
    pub fn feature_dim(&self) -> usize {
        match self.stages {
            true => staged(&self.config).map_or(0, |(dims, _)| dims.iter().sum()),
            false => self.config.feature_dim(),
        }
    }

    /// Errors unless the encoder admits the side and has what is read.
    pub fn check(&self) -> Result<()> {
        self.config.visual_tokens(self.side, self.side)?;
        if self.stages {
            staged(&self.config)?;
        }
        Ok(())
    }
}

/// Several encoders.
#[derive(Clone, Debug, PartialEq)]
pub struct TowersConfig {
    /// In order.
    pub towers: Vec<Tower>,
}

impl TowersConfig {
    /// Features of all encoders together.
    pub fn tokens(&self) -> usize {
        self.towers.iter().map(|t| t.grid * t.grid).sum()
    }

    /// The largest input side.
    pub fn side(&self) -> usize {
        self.towers.iter().map(|t| t.side).max().unwrap_or(0)
    }

    /// [`Self::tokens`]; an error unless both sides are the largest encoder's.
    pub fn visual_tokens(&self, height: usize, width: usize) -> Result<usize> {
        self.towers.iter().try_for_each(Tower::check)?;
        match (height, width) == (self.side(), self.side()) {
            true => Ok(self.tokens()),
            false => Err(Error::Config {
                what: "resolution".into(),
                value: format!("{height}x{width}"),
                problem: format!(
                    "each of several encoders has its own; it is {} here",
                    self.side()
                ),
            }),
        }
    }
}

/// The error for one input where there are several encoders, or several where
/// there is one.
pub(super) fn several() -> Error {
    Error::Shape {
        op: "encode",
        name: "inputs".into(),
        expected: "one input for each encoder".into(),
        got: "another number".into(),
    }
}

/// An input `(1, 3, side, side)` an encoder to features `(1, grid², dim)` each.
/// Parameters of the encoder `i` are below `towers.{i}`.
pub fn forward<O: Ops>(o: &mut O, c: &TowersConfig, inputs: &[O::V]) -> Result<Vec<O::V>> {
    if inputs.len() != c.towers.len() {
        return Err(several());
    }
    let mut features = Vec::with_capacity(inputs.len());
    for (i, (tower, input)) in c.towers.iter().zip(inputs).enumerate() {
        o.scope(&format!("towers.{i}."));
        let seen = if tower.stages {
            let mut stages = Vec::new();
            tower.config.stages(o, input, |o, _, map| {
                let tokens = o.to_tokens(map)?;
                stages.push(resized(o, &tokens, tower.grid)?);
                Ok(())
            })?;
            o.concat_channels(&stages)?
        } else {
            let tokens = tower.config.forward(o, input)?;
            resized(o, &tokens, tower.grid)?
        };
        features.push(seen);
    }
    o.scope("");
    Ok(features)
}

/// Tokens of a square as those of a square of `grid` a side, bilinearly.
fn resized<O: Ops>(o: &mut O, x: &O::V, grid: usize) -> Result<O::V> {
    let Shape::Tokens { n, .. } = o.shape(x) else {
        return Ok(x.clone());
    };
    let side = n.isqrt();
    if side * side != n {
        return Err(Error::Config {
            what: "towers".into(),
            value: format!("{n} features"),
            problem: "do not lie in a square".into(),
        });
    }
    if side == grid {
        return Ok(x.clone());
    }
    let axis = bilinear(side, grid);
    let mut mix = Mix::default();
    for vertical in &axis {
        for horizontal in &axis {
            mix.square(vertical, horizontal, |y, x| y * side + x);
        }
    }
    o.stage("resize");
    o.mix_tokens(x, &mix)
}
