//! `vlmbench list KIND`: names that can be used in experiments and on the
//! command line.

use clap::ValueEnum;
use serde::Serialize;
use vlmbench_backends::backend::BACKENDS;
use vlmbench_backends::nets::registry::{DECODERS, ENCODERS};
use vlmbench_backends::recipe::{RecipeFile, Weights};
use vlmbench_reports::pack::Pack;
use vlmbench_reports::table::{Align, Column, Table};
use vlmbench_suites::SuiteSpec;

use super::Format;
use crate::config::experiment::ExperimentFile;
use crate::config::{ConfigKind, shipped};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::model_ref;

/// What to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Recipes under configs/models/.
    Models,
    /// Suites under configs/suites/.
    Suites,
    /// Suites with the ways to ask and to score them.
    Profiles,
    /// Experiments under configs/experiments/.
    Experiments,
    /// Papers whose tables a report can be held to, under configs/packs/.
    Packs,
    /// Engines of this build.
    Backends,
    /// Devices of every engine.
    Devices,
    /// Vision encoders for recipes.
    Encoders,
    /// Language models for recipes.
    Decoders,
}

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to list
    #[arg(value_enum)]
    pub kind: Kind,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Name as it is used.
    pub name: String,
    /// One line on what it is.
    pub about: String,
    /// Facts by name, in order.
    #[serde(flatten)]
    pub facts: serde_json::Map<String, serde_json::Value>,
}

impl Entry {
    fn new(name: &str, about: &str) -> Entry {
        Entry {
            name: name.into(),
            about: about.into(),
            facts: serde_json::Map::new(),
        }
    }

    fn with(mut self, fact: &str, value: impl Into<serde_json::Value>) -> Entry {
        self.facts.insert(fact.into(), value.into());
        self
    }
}

/// Prints a listing.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let entries = entries(args.kind, ctx)?;
    match args.format {
        Format::Json => ctx.print_json(&entries)?,
        Format::Text => ctx.print(&text(&entries, ctx.terminal.width))?,
    }
    Ok(Outcome::Done)
}

fn text(entries: &[Entry], width: usize) -> String {
    let column = |title: &str, rank| Column {
        title: title.into(),
        align: Align::Left,
        rank,
    };
    let mut facts: Vec<&String> = Vec::new();
    for fact in entries.iter().flat_map(|e| e.facts.keys()) {
        if !facts.contains(&fact) {
            facts.push(fact);
        }
    }
    let mut columns = vec![column("name", 0)];
    columns.extend(facts.iter().zip(2..).map(|(f, rank)| column(f, rank)));
    columns.push(column("about", 1));
    let mut table = Table::new(columns);
    for entry in entries {
        let mut row = vec![entry.name.clone()];
        row.extend(facts.iter().map(|fact| match entry.facts.get(*fact) {
            None | Some(serde_json::Value::Null) => String::new(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }));
        row.push(entry.about.clone());
        table.push(row);
    }
    table.to_text(width)
}

/// The entries of a kind, sorted by name.
pub fn entries(kind: Kind, ctx: &Context) -> Result<Vec<Entry>, Failure> {
    match kind {
        Kind::Models => models(ctx),
        Kind::Suites => suites(ctx, false),
        Kind::Profiles => suites(ctx, true),
        Kind::Experiments => experiments(ctx),
        Kind::Packs => packs(ctx),
        Kind::Backends => Ok(BACKENDS
            .iter()
            .map(|b| Entry::new(b.name, b.about))
            .collect()),
        Kind::Devices => Ok(devices()),
        Kind::Encoders => Ok(ENCODERS
            .iter()
            .map(|e| Entry::new(e.name, e.about).with("resolution", e.resolution))
            .collect()),
        Kind::Decoders => Ok(DECODERS
            .iter()
            .map(|d| Entry::new(d.name, d.about))
            .collect()),
    }
}

fn models(ctx: &Context) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for name in ctx.configs.names(ConfigKind::Model).into_keys() {
        let found = ctx.configs.find(ConfigKind::Model, &name)?;
        let file: RecipeFile = found.parse()?;
        let weights = match &file.weights {
            Weights::Seeded(_) => "seeded".to_owned(),
            Weights::Shipped(name) => format!("shipped {name}"),
            Weights::Folder(path) => path.display().to_string(),
            Weights::Gguf { decoder, .. } => decoder.display().to_string(),
            Weights::Hub { id, .. } => format!("hub {id}"),
        };
        entries.push(
            Entry::new(&name, &file.about)
                .with("encoder", file.encoder)
                .with("decoder", file.decoder)
                .with("weights", weights)
                .with("origin", found.origin),
        );
    }
    for name in shipped::names() {
        let recipe = model_ref::from_shipped(name)?;
        let label = |part: Option<&str>| part.map(str::to_owned);
        entries.push(
            Entry::new(name, "small, trained on drawn data; see tools/train")
                .with(
                    "encoder",
                    label(recipe.encoder.as_ref().map(|e| e.label.as_str())),
                )
                .with(
                    "decoder",
                    label(recipe.decoder.as_ref().map(|d| d.label.as_str())),
                )
                .with("weights", "shipped")
                .with("origin", format!("embedded:configs/checkpoints/{name}")),
        );
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn suites(ctx: &Context, by_profile: bool) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for name in ctx.configs.names(ConfigKind::Suite).into_keys() {
        let found = ctx.configs.find(ConfigKind::Suite, &name)?;
        let spec: SuiteSpec = found.parse()?;
        if by_profile {
            entries.extend(spec.profiles.iter().map(|profile| {
                Entry::new(&profile.id, &profile.note)
                    .with("suite", spec.id.as_str())
                    .with("metric", profile.metric.as_str())
                    .with("max_new_tokens", profile.max_new_tokens)
            }));
            continue;
        }
        entries.push(
            Entry::new(&spec.id, &spec.description)
                .with("title", spec.title.as_str())
                .with("hub", spec.hub.ids.first().cloned())
                .with("split", spec.hub.split.as_str())
                .with("origin", found.origin),
        );
    }
    Ok(entries)
}

fn experiments(ctx: &Context) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for name in ctx.configs.names(ConfigKind::Experiment).into_keys() {
        let found = ctx.configs.find(ConfigKind::Experiment, &name)?;
        let file: ExperimentFile = found.parse()?;
        entries.push(
            Entry::new(&name, &file.about)
                .with("models", file.models.len())
                .with("origin", found.origin),
        );
    }
    Ok(entries)
}

fn packs(ctx: &Context) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for name in ctx.configs.names(ConfigKind::Pack).into_keys() {
        let found = ctx.configs.find(ConfigKind::Pack, &name)?;
        let pack: Pack = found.parse()?;
        entries.push(
            Entry::new(&name, &pack.title)
                .with("tables", pack.tables.len())
                .with("origin", found.origin),
        );
    }
    Ok(entries)
}

fn devices() -> Vec<Entry> {
    let mut entries = Vec::new();
    for backend in BACKENDS {
        for device in (backend.devices)() {
            let about = match &device.missing {
                None => "available".to_owned(),
                Some(why) => format!("not available: {why}"),
            };
            entries.push(
                Entry::new(&device.name, &about)
                    .with("backend", backend.name)
                    .with("available", device.missing.is_none()),
            );
        }
    }
    entries
}
