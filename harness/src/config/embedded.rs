//! Finding a configuration by name.
//!
//! The repository's `configs/` folder is inside the binary, so that a binary
//! elsewhere knows the same models, suites and experiments. A name is looked
//! up as a path first, then in the folder given with `--configs` (by default
//! `./configs`, if it exists), then among the embedded files. Files in a folder
//! below their kind's are named with it: `paper/table-3`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use serde::de::DeserializeOwned;

use super::{ConfigError, nearest, shipped, yaml};

pub(super) static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../configs");

/// What a configuration describes; each has its own folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigKind {
    /// `configs/models/`: recipes.
    Model,
    /// `configs/suites/`: data sets, prompts, scoring.
    Suite,
    /// `configs/experiments/`: what to measure.
    Experiment,
    /// `configs/published/`: tables of papers.
    Published,
    /// `configs/packs/`: how these tables are measured here.
    Pack,
}

impl ConfigKind {
    /// Every kind.
    pub const ALL: [ConfigKind; 5] = [
        ConfigKind::Model,
        ConfigKind::Suite,
        ConfigKind::Experiment,
        ConfigKind::Published,
        ConfigKind::Pack,
    ];

    /// Folder below `configs/`.
    pub fn folder(self) -> &'static str {
        match self {
            ConfigKind::Model => "models",
            ConfigKind::Suite => "suites",
            ConfigKind::Experiment => "experiments",
            ConfigKind::Published => "published",
            ConfigKind::Pack => "packs",
        }
    }

    /// Singular, for messages.
    pub fn noun(self) -> &'static str {
        match self {
            ConfigKind::Model => "model",
            ConfigKind::Suite => "suite",
            ConfigKind::Experiment => "experiment",
            ConfigKind::Published => "published results",
            ConfigKind::Pack => "pack",
        }
    }
}

/// A configuration's text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name: as it was asked for. Of a path the name that means a file of the
    /// same stem and text, or else the stem.
    pub name: String,
    /// The path, or `embedded:` and the path below `configs/`.
    pub origin: String,
    /// The text.
    pub text: String,
}

impl Found {
    /// Parses the text.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        yaml::read(&self.origin, &self.text)
    }
}

/// Where configurations are looked up.
#[derive(Clone, Debug)]
pub struct Configs {
    folder: Option<PathBuf>,
}

impl Configs {
    /// Looks up in `folder`, or in `./configs` if that exists, and then among
    /// the embedded files.
    pub fn new(folder: Option<&Path>) -> Result<Configs, ConfigError> {
        match folder {
            Some(path) if !path.is_dir() => Err(ConfigError::NoFolder { path: path.into() }),
            Some(path) => Ok(Configs {
                folder: Some(path.into()),
            }),
            None => {
                let local = Path::new("configs");
                Ok(Configs {
                    folder: local.is_dir().then(|| local.into()),
                })
            }
        }
    }

    /// Only the embedded files.
    pub fn embedded() -> Configs {
        Configs { folder: None }
    }

    /// The folder looked up before the embedded files.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The configuration called `name`, which may be a path to a YAML file.
    pub fn find(&self, kind: ConfigKind, name: &str) -> Result<Found, ConfigError> {
        if is_yaml_path(name) {
            let found = read_file(Path::new(name))?;
            return Ok(self.known(kind, found));
        }
        match self.origin(kind, name) {
            Some(Origin::File(path)) => Ok(Found {
                name: name.into(),
                ..read_file(&path)?
            }),
            Some(Origin::Embedded(file)) => Ok(file),
            None => {
                let mut known: Vec<String> = self.names(kind).into_keys().collect();
                if kind == ConfigKind::Model {
                    known.extend(shipped::names().into_iter().map(str::to_owned));
                }
                Err(ConfigError::UnknownName {
                    kind: kind.noun(),
                    name: name.into(),
                    nearest: nearest(name, known.iter().map(String::as_str)).map(str::to_owned),
                    known,
                })
            }
        }
    }

    /// A file given by its path, under the name by which the same could have been
    /// asked for: what is one configuration has one name.
    fn known(&self, kind: ConfigKind, found: Found) -> Found {
        let names = self.names(kind).into_keys();
        let mut of_stem = names.filter(|name| name.rsplit('/').next() == Some(&found.name));
        let same = |name: &String| match self.origin(kind, name) {
            Some(Origin::File(path)) => {
                read_file(&path).is_ok_and(|known| known.text == found.text)
            }
            Some(Origin::Embedded(known)) => known.text == found.text,
            None => false,
        };
        match of_stem.find(same) {
            Some(name) => Found { name, ..found },
            None => found,
        }
    }

    /// Whether `name` is a known name or a path to a YAML file.
    pub fn has(&self, kind: ConfigKind, name: &str) -> bool {
        is_yaml_path(name) || self.origin(kind, name).is_some()
    }

    /// Every known name of a kind with where its file lies, sorted.
    pub fn names(&self, kind: ConfigKind) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        if let Some(dir) = EMBEDDED.get_dir(kind.folder()) {
            for path in embedded_files(dir) {
                if let Some(name) = yaml_name(path, kind.folder()) {
                    names.insert(name, embedded_name(path));
                }
            }
        }
        if let Some(folder) = &self.folder {
            let root = folder.join(kind.folder());
            for path in files_below(&root) {
                if let Some(name) = yaml_name(&path, &root) {
                    names.insert(name, path.display().to_string());
                }
            }
        }
        names
    }

    fn origin(&self, kind: ConfigKind, name: &str) -> Option<Origin> {
        // Nothing may reach out of the folder.
        let segment = |s: &str| !s.is_empty() && !s.contains('\\') && s != "." && s != "..";
        if !name.split('/').all(segment) {
            return None;
        }
        let file = format!("{name}.yaml");
        let on_disk = self
            .folder
            .as_ref()
            .map(|f| f.join(kind.folder()).join(&file))
            .filter(|path| path.is_file());
        if let Some(path) = on_disk {
            return Some(Origin::File(path));
        }
        let file = EMBEDDED.get_file(format!("{}/{file}", kind.folder()))?;
        Some(Origin::Embedded(Found {
            name: name.into(),
            origin: embedded_name(file.path()),
            text: file.contents_utf8()?.into(),
        }))
    }
}

enum Origin {
    File(PathBuf),
    Embedded(Found),
}

fn embedded_name(path: &Path) -> String {
    format!("embedded:configs/{}", path.display())
}

fn is_yaml_path(name: &str) -> bool {
    name.ends_with(".yaml") || name.ends_with(".yml")
}

/// Name of a YAML file below `root`: its path without the ending, `/` between folders.
fn yaml_name(path: &Path, root: impl AsRef<Path>) -> Option<String> {
    if path.extension().is_none_or(|e| e != "yaml") {
        return None;
    }
    let name = path.strip_prefix(root).ok()?.with_extension("");
    let parts: Option<Vec<&str>> = name.iter().map(|part| part.to_str()).collect();
    Some(parts?.join("/"))
}

fn embedded_files(dir: &Dir<'static>) -> Vec<&'static Path> {
    let own = dir.files().map(|file| file.path());
    own.chain(dir.dirs().flat_map(embedded_files)).collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => vec![path],
        })
        .collect()
}

fn read_file(path: &Path) -> Result<Found, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })?;
    let stem = path.file_stem().unwrap_or_default();
    Ok(Found {
        name: stem.to_string_lossy().into_owned(),
        origin: path.display().to_string(),
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beats_the_embedded_one_of_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        let models = dir.path().join("models");
        std::fs::create_dir(&models).unwrap();
        std::fs::write(models.join("fastvithd.yaml"), "mine").unwrap();
        let configs = Configs::new(Some(dir.path())).unwrap();
        let mine = configs.find(ConfigKind::Model, "fastvithd").unwrap();
        assert_eq!(
            (mine.name.as_str(), mine.text.as_str()),
            ("fastvithd", "mine")
        );
        let other = configs.find(ConfigKind::Suite, "textvqa").unwrap();
        assert_eq!(other.origin, "embedded:configs/suites/textvqa.yaml");
        let by_path = models.join("fastvithd.yaml");
        let by_path = configs.find(ConfigKind::Model, by_path.to_str().unwrap());
        assert_eq!(by_path.unwrap().text, "mine");
    }

    #[test]
    fn a_path_and_the_name_of_the_same_text_are_one() {
        let find = |configs: &Configs, path: &Path| {
            let found = configs.find(ConfigKind::Experiment, path.to_str().unwrap());
            found.unwrap().name
        };
        let embedded = Configs::embedded();
        let known = embedded.find(ConfigKind::Experiment, "paper/table-3");
        let known = known.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("table-3.yaml");
        std::fs::write(&copy, &known.text).unwrap();
        assert_eq!(find(&embedded, &copy), known.name);
        // Another text, or another name, is another configuration.
        let renamed = dir.path().join("mine.yaml");
        std::fs::write(&renamed, &known.text).unwrap();
        assert_eq!(find(&embedded, &renamed), "mine");
        std::fs::write(&copy, format!("{}\n", known.text)).unwrap();
        assert_eq!(find(&embedded, &copy), "table-3");
        // What the name means is what the folder says, not what is embedded.
        let below = dir.path().join("experiments/paper");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::copy(&copy, below.join("table-3.yaml")).unwrap();
        let configs = Configs::new(Some(dir.path())).unwrap();
        assert_eq!(find(&configs, &copy), known.name);
        assert_eq!(find(&configs, &below.join("table-3.yaml")), known.name);
        std::fs::write(&copy, &known.text).unwrap();
        assert_eq!(find(&configs, &copy), "table-3");
    }

    #[test]
    fn unknown_names_suggest_and_never_leave_the_folder() {
        let configs = Configs::embedded();
        let e = configs.find(ConfigKind::Suite, "textvq").unwrap_err();
        assert!(e.to_string().contains("did you mean `textvqa`?"), "{e}");
        assert!(
            configs
                .find(ConfigKind::Suite, "../suites/textvqa")
                .is_err()
        );
        assert!(configs.find(ConfigKind::Suite, "./textvqa").is_err());
        let e = Configs::new(Some(Path::new("/nonexistent"))).unwrap_err();
        assert!(matches!(e, ConfigError::NoFolder { .. }));
    }

    #[test]
    fn files_in_folders_are_named_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("experiments/mine/deeper");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join("x.yaml"), "text").unwrap();
        std::fs::write(below.join("notes.txt"), "no configuration").unwrap();
        let configs = Configs::new(Some(dir.path())).unwrap();
        let known = configs.names(ConfigKind::Experiment);
        assert!(known.contains_key("mine/deeper/x"), "{known:?}");
        assert!(known.keys().all(|name| !name.contains("notes")));
        let found = configs
            .find(ConfigKind::Experiment, "mine/deeper/x")
            .unwrap();
        assert_eq!(
            (found.name.as_str(), found.text.as_str()),
            ("mine/deeper/x", "text")
        );
        assert!(
            configs
                .find(ConfigKind::Experiment, "mine//deeper/x")
                .is_err()
        );
    }
}
