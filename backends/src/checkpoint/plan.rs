//! Plans how each canonical parameter is made from the tensors of a checkpoint,
//! before any of them is read, and collects everything that does not fit.

use std::collections::HashMap;

use super::checks::Checks;
use super::error::{Problem, Problems};
use super::fold::{Branch, Kernel};
use super::layout::{Form, Layout, Numbers, Pieces, Place, Row, ScaleBranch, Skip, Split};
use super::{CheckpointError, WeightFiles, positions};
use crate::nets::fastvit::{AttentionNorm, Mixer};
use crate::nets::projector::NEWLINE;
use crate::nets::{EncoderConfig, FastVitConfig};
use crate::params::ParamSpec;
use crate::recipe::Recipe;
use crate::weights::{Inventory, Part};

/// Which tensor of a module is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    /// `.weight`.
    Weight,
    /// `.bias`.
    Bias,
}

impl Leaf {
    fn name(self) -> &'static str {
        match self {
            Leaf::Weight => "weight",
            Leaf::Bias => "bias",
        }
    }
}

/// How a canonical parameter is made.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    /// The tensor of this key as it is.
    Borrow(String),
    /// These tensors, one after another on the first axis.
    Stack(Vec<String>),
    /// The table of learned positions of this key, interpolated to another grid.
    Positions(String, positions::Change),
    /// Folded convolution branches.
    Sum(Leaf, Vec<Branch>),
    /// A linear module with the batch norm before it folded in.
    Normed {
        /// Weight or bias.
        leaf: Leaf,
        /// Path of the batch norm.
        norm: String,
        /// Path of the linear module.
        module: String,
    },
}

/// Plans by part and canonical name.
pub(super) type Plans = HashMap<(Part, String), Plan>;

/// Plans every parameter of `inventory`, or reports all that does not fit.
pub(super) fn plan(
    files: &WeightFiles,
    layout: &'static Layout,
    recipe: &Recipe,
    inventory: &Inventory,
) -> Result<Plans, CheckpointError> {
    let mut checks = Checks::new(files);
    let mut plans = Plans::new();
    for (part, specs) in &inventory.parts {
        let planner = PartPlanner::new(files, layout, *part, recipe);
        for spec in specs {
            if let Some(plan) = planner.plan(&mut checks, spec) {
                plans.insert((*part, spec.name.clone()), plan);
            }
        }
    }
    let problems = checks.finish(layout, recipe, inventory);
    if problems.is_empty() {
        return Ok(plans);
    }
    Err(CheckpointError::Tensors {
        folder: files.folder().to_path_buf(),
        layout: layout.name,
        problems: Problems(problems),
    })
}

/// What layer scales are called by those who publish them.
const LAYER_SCALES: [&str; 6] = [
    "gamma",
    "layer_scale",
    "layer_scale1",
    "layer_scale_1",
    "layer_scale_2",
    "layer_scale_parameter",
];

/// Branches of `x + conv(x)`, each with its kernel side.
fn residual(conv: &str, kernel: usize) -> Vec<(Branch, usize)> {
    let branch = Branch {
        bias: Some(format!("{conv}.bias")),
        ..Branch::new(Kernel::Tensor(format!("{conv}.weight")))
    };
    vec![(Branch::new(Kernel::Identity), 1), (branch, kernel)]
}

/// Plans the parameters of one part.
struct PartPlanner<'a> {
    files: &'a WeightFiles,
    part: Part,
    recipe: &'a Recipe,
    head: &'static str,
    newline: &'static str,
    place: Option<Place>,
    encoder: Option<&'a EncoderConfig>,
    fastvit: Option<&'a FastVitConfig>,
    train_time: bool,
    stem_scale: bool,
    layer_scales: bool,
}

impl<'a> PartPlanner<'a> {
    fn new(
        files: &'a WeightFiles,
        layout: &'static Layout,
        part: Part,
        recipe: &'a Recipe,
    ) -> Self {
        let place = layout.place(part);
        let encoder = recipe.encoder.as_ref().filter(|_| part == Part::Vision);
        let encoder = encoder.map(|encoder| &encoder.config);
        let fastvit = match encoder.map(EncoderConfig::network) {
            Some(EncoderConfig::FastVit(config)) => Some(config),
            _ => None,
        };
        let any = |segment: &str| {
            place.is_some_and(|place| {
                files
                    .keys_under(place.prefix)
                    .any(|key| key.split('.').any(|s| s == segment))
            })
        };
        let pieces = place.and_then(|place| place.dialect.pieces);
        let stem_scale = pieces.zip(place).is_some_and(|(pieces, place)| {
            place.dialect.rows.iter().take(2).any(|row| {
                let stem = format!("{}{}.{}.", place.prefix, row.sources[0], pieces.scale);
                files.keys_under(&stem).next().is_some()
            })
        });
        PartPlanner {
            files,
            part,
            recipe,
            head: layout.head,
            newline: layout.newline,
            place,
            encoder,
            fastvit,
            train_time: pieces.is_some_and(|pieces| any(pieces.conv)),
            stem_scale,
            layer_scales: LAYER_SCALES.iter().copied().any(any),
        }
    }

    /// How `spec` is made; `None` if the reason why not is already recorded.
    fn plan(&self, checks: &mut Checks, spec: &ParamSpec) -> Option<Plan> {
        let (module, leaf) = match spec.name.rsplit_once('.') {
            Some((module, "weight")) => (module, Leaf::Weight),
            Some((module, "bias")) => (module, Leaf::Bias),
            _ => (spec.name.as_str(), Leaf::Weight),
        };
        if self.part == Part::Decoder && module == "head" {
            return Some(self.module(checks, spec, leaf, self.head));
        }
        if self.part == Part::Projector && module == NEWLINE && !self.newline.is_empty() {
            checks.need(self.part, spec, self.newline, &spec.shape);
            return Some(Plan::Borrow(self.newline.to_owned()));
        }
        let place = self.place;
        let found = place.and_then(|place| {
            place
                .dialect
                .rows
                .iter()
                .find_map(|row| Some((place, row, row.captures(module)?)))
        });
        let Some((place, row, numbers)) = found else {
            checks.push(Problem::Missing {
                part: self.part,
                parameter: spec.name.clone(),
                key: format!("{}{}", place.map_or("", |place| place.prefix), spec.name),
                nearest: None,
            });
            return None;
        };
        Some(self.planned_row(checks, spec, leaf, place, row, numbers))
    }

    fn planned_row(
        &self,
        checks: &mut Checks,
        spec: &ParamSpec,
        leaf: Leaf,
        place: Place,
        row: &Row,
        numbers: Numbers,
    ) -> Plan {
        let source = |index| row.source(index, place.prefix, numbers, self.fastvit);
        let sources = || (0..row.sources.len()).map(source).collect::<Vec<_>>();
        match row.form {
            Form::Module => self.module(checks, spec, leaf, &source(0)),
            Form::Tensor => {
                let key = source(0);
                let mut stored = spec.shape.clone();
                let change = self.positions_change(spec);
                if let Some(change) = change {
                    stored[0] = change.rows_before();
                }
                checks.need(self.part, spec, &key, &stored);
                match change {
                    Some(change) => Plan::Positions(key, change),
                    None => Plan::Borrow(key),
                }
            }
            Form::Stacked(split) => self.stacked(checks, spec, leaf, &sources(), split),
            Form::Normed => self.normed(checks, spec, leaf, source(0), source(1)),
            Form::Scaled => self.scaled(checks, spec, leaf, &sources(), numbers.stage()),
            Form::Residual { kernel } => self.sum(checks, spec, leaf, residual(&source(0), kernel)),
            Form::ConvNorm => {
                let branch = self.conv_norm(&source(0));
                self.sum(checks, spec, leaf, vec![(branch, 7)])
            }
            Form::Block { .. } | Form::LargeKernel | Form::RepMixer | Form::PositionEncoding => {
                let pieces = place
                    .dialect
                    .pieces
                    .expect("FastViT dialects name their pieces");
                self.foldable(checks, spec, leaf, &source(0), row.form, pieces)
            }
        }
    }

    /// What becomes of learned positions at another side than they were learned for.
    fn positions_change(&self, spec: &ParamSpec) -> Option<positions::Change> {
        let encoder = self.encoder.filter(|_| spec.name == "positions")?;
        let vit = encoder.vit()?;
        let change = positions::Change {
            kept: usize::from(vit.class_token),
            from: vit.grid(),
            to: self.recipe.resolution / vit.patch,
            filter: match encoder {
                EncoderConfig::Vitamin(_) => positions::Filter::Smooth,
                _ => positions::Filter::Plain,
            },
        };
        (change.from != change.to).then_some(change)
    }

    /// The module at `path` as it is; a linear module may be stored as a 1x1 convolution.
    fn module(&self, checks: &mut Checks, spec: &ParamSpec, leaf: Leaf, path: &str) -> Plan {
        let key = format!("{path}.{}", leaf.name());
        checks.need(self.part, spec, &key, &spec.shape);
        Plan::Borrow(key)
    }

    fn stacked(
        &self,
        checks: &mut Checks,
        spec: &ParamSpec,
        leaf: Leaf,
        paths: &[String],
        split: Split,
    ) -> Plan {
        let decoder = self.recipe.decoder.as_ref().map(|decoder| &decoder.config);
        let rows = match (split, decoder) {
            (Split::Heads, Some(c)) => {
                let kv = c.kv_heads * c.head_dim;
                vec![c.heads * c.head_dim, kv, kv]
            }
            _ => vec![spec.shape[0] / paths.len(); paths.len()],
        };
        let mut keys = Vec::with_capacity(paths.len());
        for (path, rows) in paths.iter().zip(rows) {
            let key = format!("{path}.{}", leaf.name());
            let mut shape = spec.shape.clone();
            shape[0] = rows;
            checks.need(self.part, spec, &key, &shape);
            keys.push(key);
        }
        Plan::Stack(keys)
    }

    fn normed(
        &self,
        checks: &mut Checks,
        spec: &ParamSpec,
        leaf: Leaf,
        norm: String,
        module: String,
    ) -> Plan {
        if self
            .fastvit
            .is_some_and(|c| c.attention_norm == AttentionNorm::LayerChannel)
        {
            return self.module(checks, spec, leaf, &module);
        }
        // The bias has no source of its own: it is the norm's shift through the weight.
        let inputs = spec.shape[0] / 3;
        self.need_norm(checks, spec, &norm, inputs);
        checks.need(
            self.part,
            spec,
            &format!("{module}.weight"),
            &[spec.shape[0], inputs],
        );
        Plan::Normed { leaf, norm, module }
    }

    fn scaled(
        &self,
        checks: &mut Checks,
        spec: &ParamSpec,
        leaf: Leaf,
        sources: &[String],
        stage: usize,
    ) -> Plan {
        let plain = self.module(checks, spec, leaf, &sources[0]);
        if !self.layer_scales {
            return plain;
        }
        // The feed-forward scale of an attention block, which has two, is named last.
        let attention = self
            .fastvit
            .is_some_and(|c| c.mixers[stage] == Mixer::Attention);
        let scale = if attention {
            &sources[sources.len() - 1]
        } else {
            &sources[1]
        };
        checks.need(self.part, spec, scale, &spec.shape[..1]);
        let path = &sources[0];
        let branch = Branch {
            bias: Some(format!("{path}.bias")),
            scale: Some(scale.clone()),
            ..Branch::new(Kernel::Tensor(format!("{path}.weight")))
        };
        Plan::Sum(leaf, vec![branch])
    }

    /// A convolution without bias and the batch norm after it.
    fn conv_norm(&self, path: &str) -> Branch {
        Branch {
            norm: Some(format!("{path}.bn")),
            ..Branch::new(Kernel::Tensor(format!("{path}.conv.weight")))
        }
    }

    /// A re-parameterisable module: the folded convolution if the file has it,
    /// else the sum of its train-time branches, all of which must be there.
    fn foldable(
        &self,
        checks: &mut Checks,
        spec: &ParamSpec,
        leaf: Leaf,
        path: &str,
        form: Form,
        pieces: &Pieces,
    ) -> Plan {
        let folded = match form {
            Form::LargeKernel => pieces.folded_large,
            _ => pieces.folded,
        };
        let folded = format!("{path}.{folded}");
        let has_folded = self
            .files
            .keys_under(&format!("{folded}."))
            .next()
            .is_some();
        if has_folded || !self.train_time {
            return self.module(checks, spec, leaf, &folded);
        }
        let branches = match form {
            Form::Block {
                kernel,
                skip,
                scale,
            } => {
                let skip = match skip {
                    Skip::Never => false,
                    Skip::Always => true,
                    Skip::IfHeadKeepsWidth => self
                        .fastvit
                        .is_some_and(|c| c.embed_dims.last() == Some(&c.feature_dim())),
                };
                let scale = match scale {
                    ScaleBranch::Never => false,
                    ScaleBranch::Always => true,
                    ScaleBranch::IfStemHasIt => self.stem_scale,
                };
                self.block(path, pieces, kernel, scale, skip)
            }
            Form::LargeKernel => vec![
                (self.conv_norm(&format!("{path}.{}", pieces.large)), 7),
                (self.conv_norm(&format!("{path}.{}", pieces.small)), 3),
            ],
            Form::PositionEncoding => residual(&format!("{path}.{}", pieces.position), 7),
            _ => self.rep_mixer(path, pieces),
        };
        self.sum(checks, spec, leaf, branches)
    }

    /// Branches of a MobileOne block, each with its kernel side.
    fn block(
        &self,
        path: &str,
        pieces: &Pieces,
        kernel: usize,
        scale: bool,
        skip: bool,
    ) -> Vec<(Branch, usize)> {
        let conv = |n: usize| format!("{path}.{}.{n}", pieces.conv);
        let mut branches = vec![(self.conv_norm(&conv(0)), kernel)];
        for n in 1.. {
            if self
                .files
                .keys_under(&format!("{}.", conv(n)))
                .next()
                .is_none()
            {
                break;
            }
            branches.push((self.conv_norm(&conv(n)), kernel));
        }
        if scale {
            branches.push((self.conv_norm(&format!("{path}.{}", pieces.scale)), 1));
        }
        if skip {
            branches.push((identity_norm(path, pieces), 1));
        }
        branches
    }

    fn rep_mixer(&self, path: &str, pieces: &Pieces) -> Vec<(Branch, usize)> {
        let scale = self
            .layer_scales
            .then(|| format!("{path}.{}", pieces.layer_scale));
        let mut branches = vec![(Branch::new(Kernel::Identity), 1)];
        for (branch, kernel) in self.block(&format!("{path}.mixer"), pieces, 3, true, true) {
            branches.push((
                Branch {
                    scale: scale.clone(),
                    ..branch
                },
                kernel,
            ));
        }
        let norm = identity_norm(&format!("{path}.norm"), pieces);
        branches.push((
            Branch {
                scale,
                negative: true,
                ..norm
            },
            1,
        ));
        branches
    }

    /// Checks every tensor of `branches` that `leaf` is made from.
    fn sum(
        &self,
        checks: &mut Checks,
        spec: &ParamSpec,
        leaf: Leaf,
        branches: Vec<(Branch, usize)>,
    ) -> Plan {
        let channels = spec.shape[0];
        for (branch, side) in &branches {
            if let (Leaf::Weight, Kernel::Tensor(key)) = (leaf, &branch.kernel) {
                checks.need(
                    self.part,
                    spec,
                    key,
                    &[channels, spec.shape[1], *side, *side],
                );
            }
            if let Some(norm) = &branch.norm {
                self.need_norm(checks, spec, norm, channels);
            }
            for key in branch.bias.iter().chain(&branch.scale) {
                checks.need(self.part, spec, key, &[channels]);
            }
        }
        Plan::Sum(
            leaf,
            branches.into_iter().map(|(branch, _)| branch).collect(),
        )
    }

    fn need_norm(&self, checks: &mut Checks, spec: &ParamSpec, norm: &str, channels: usize) {
        for name in ["weight", "bias", "running_mean", "running_var"] {
            checks.need(self.part, spec, &format!("{norm}.{name}"), &[channels]);
        }
    }
}

/// The identity branch: a batch norm alone.
fn identity_norm(path: &str, pieces: &Pieces) -> Branch {
    Branch {
        norm: Some(format!("{path}.{}", pieces.skip)),
        ..Branch::new(Kernel::Identity)
    }
}
