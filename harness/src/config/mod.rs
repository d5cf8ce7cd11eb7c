//! What people write: experiments, model recipes, suites, published tables and packs.
//!
//! [`yaml`] is the only place that parses YAML, [`embedded`] finds a file by
//! name (in the folder given, or in the copy inside the binary), [`shipped`]
//! unpacks the trained checkpoints beside them, and [`experiment`] gives an
//! experiment its meaning, with [`latency`], [`grid`] and [`claims`] for its
//! parts and [`overrides`] for flags; [`pack`] finds what a pack refers to. The shapes of recipes, suites,
//! published tables and packs belong to the crates that use them.

pub mod claims;
pub mod embedded;
pub mod experiment;
pub mod grid;
pub mod latency;
mod must;
pub mod overrides;
pub mod pack;
pub mod shipped;
pub mod yaml;

use std::path::PathBuf;

pub use embedded::{ConfigKind, Configs, Found};
pub use experiment::Experiment;
pub use overrides::Overrides;

/// What is wrong with a configuration, with where and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key that its place does not have.
    #[error(
        "unknown key `{key}` at {file}:{line}:{column}{}; valid keys: {}",
        did_you_mean(nearest),
        valid.join(", ")
    )]
    UnknownKey {
        /// File or embedded name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The key as written.
        key: String,
        /// The valid key that is most like it.
        nearest: Option<String>,
        /// All valid keys at this place.
        valid: Vec<String>,
    },
    /// A word that is none of the choices.
    #[error(
        "unknown value `{value}` at {file}:{line}:{column}{}{}; valid values: {}",
        of_key(key),
        did_you_mean(nearest),
        valid.join(", ")
    )]
    UnknownValue {
        /// File or embedded name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The key whose value it is, empty at the top.
        key: String,
        /// The value as written.
        value: String,
        /// The valid value that is most like it.
        nearest: Option<String>,
        /// All valid values.
        valid: Vec<String>,
    },
    /// Anything else that the parser objects to.
    #[error("{file}:{line}:{column}{}: {problem}", of_key(key))]
    Parse {
        /// File or embedded name.
        file: String,
        /// Line, from 1; 0 if the parser does not say.
        line: usize,
        /// Column, from 1; 0 if the parser does not say.
        column: usize,
        /// The key whose value it is, empty at the top.
        key: String,
        /// What the parser says.
        problem: String,
    },
    /// A value of the right type that cannot work.
    #[error("{file}: `{key}` is {value}, {problem}")]
    Value {
        /// File or embedded name.
        file: String,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What it should be.
        problem: String,
    },
    /// A model recipe that does not resolve.
    #[error("{file} is not a usable recipe")]
    Recipe {
        /// File or embedded name.
        file: String,
        /// Why not.
        source: vlmbench_backends::Error,
    },
    /// A suite whose definition is not sound.
    #[error("{file} is not a usable suite")]
    Suite {
        /// File or embedded name.
        file: String,
        /// Why not.
        source: vlmbench_suites::SuiteError,
    },
    /// Published results that contradict themselves.
    #[error("{file} is not usable as published results")]
    Published {
        /// File or embedded name.
        file: String,
        /// Why not.
        source: vlmbench_reports::Error,
    },
    /// A pack that cannot be held to a run.
    #[error("{file} is not a usable pack")]
    Pack {
        /// File or embedded name.
        file: String,
        /// Why not.
        source: vlmbench_reports::Error,
    },
    /// No configuration of this name.
    #[error("unknown {kind} `{name}`{}; known: {}", did_you_mean(nearest), known.join(", "))]
    UnknownName {
        /// `model`, `suite`, `experiment`, `published results`, `pack`.
        kind: &'static str,
        /// The name as given.
        name: String,
        /// The known name that is most like it.
        nearest: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
    /// A file that is there and cannot be read, or was named and is not there.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// `--configs` names something that is not a folder.
    #[error("--configs {} is not a folder", path.display())]
    NoFolder {
        /// The path as given.
        path: PathBuf,
    },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!(", did you mean `{nearest}`?"),
        None => String::new(),
    }
}

fn of_key(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!(" (`{key}`)")
    }
}

/// The candidate most like `name`, if any is like it at all.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Below 0.7 Jaro-Winkler pairs words that share little but their first
    // letter, and a wrong suggestion is worse than none.
    const ALIKE: f64 = 0.7;
    let scored = candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(c, name), c))
        .filter(|(score, _)| *score >= ALIKE);
    scored
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_is_like_the_name_or_absent() {
        let known = ["resolutions", "model", "threads"];
        assert_eq!(nearest("resolutons", known), Some("resolutions"));
        assert_eq!(nearest("modell", known), Some("model"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
