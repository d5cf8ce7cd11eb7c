//! What a MODEL argument means: a name under `configs/models/`, a shipped
//! checkpoint, a checkpoint folder, a GGUF file, or a hub id.
//!
//! Nothing is loaded here. A hub id needs the checkpoint's `config.json`, so
//! resolving one may fetch the checkpoint; with [`HubOptions::offline`] only
//! the cache is asked. A recipe whose weights are on the hub resolves without
//! it, and its files are found by [`weights_folder`] when it is loaded.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vlmbench_backends::checkpoint::{recipe_from_folder, recipe_from_gguf};
use vlmbench_backends::hub::{
    self, Download, FileFilter, HubOptions, HubRequest, RepoKind, Snapshot, is_repo_id,
};
use vlmbench_backends::recipe::{Recipe, RecipeFile, Weights};

use crate::config::{ConfigError, ConfigKind, Configs, shipped};
use crate::error::Failure;

/// What llama.cpp's files end with.
const GGUF: &str = "gguf";
/// The file that a checkpoint's tokenizer is read from.
pub const TOKENIZER: &str = "tokenizer.json";

/// A model that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelRef {
    /// The recipe at its own resolution.
    pub recipe: Recipe,
    /// Where it was found, for listings and manifests.
    pub definition: Definition,
}

/// What defines a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Definition {
    /// A recipe file.
    Recipe {
        /// Path or embedded name.
        origin: String,
        /// Its content.
        file: Box<RecipeFile>,
    },
    /// A checkpoint inside the program.
    Shipped {
        /// Its name.
        name: String,
    },
    /// A checkpoint's own configuration.
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// A GGUF file's own metadata.
    Gguf {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint on the hub.
    Hub {
        /// `ORG/NAME`.
        id: String,
        /// Commit that the revision means.
        commit: String,
    },
}

/// Finds the recipe that `model` means. A hub checkpoint that is not cached is
/// fetched unless `hub` is offline; `observe` hears of it.
pub fn resolve(
    model: &str,
    configs: &Configs,
    hub: &HubOptions,
    observe: &mut dyn FnMut(Download<'_>),
) -> Result<ModelRef, Failure> {
    if configs.has(ConfigKind::Model, model) {
        return Ok(from_config(model, configs)?);
    }
    if shipped::names().contains(&model) {
        return Ok(ModelRef {
            recipe: from_shipped(model)?,
            definition: Definition::Shipped { name: model.into() },
        });
    }
    let path = Path::new(model);
    if path.is_dir() {
        let mut recipe = recipe_from_folder(path)?;
        recipe.name = folder_name(path);
        return Ok(ModelRef {
            recipe,
            definition: Definition::Folder { path: path.into() },
        });
    }
    if path.extension().is_some_and(|e| e == GGUF) {
        if !path.is_file() {
            return Err(Failure::Input {
                path: path.into(),
                problem: "no such file".into(),
            });
        }
        return Ok(ModelRef {
            recipe: recipe_from_gguf(path)?,
            definition: Definition::Gguf { path: path.into() },
        });
    }
    let (id, revision) = split_revision(model);
    if is_repo_id(id) {
        return from_hub(model, id, revision, hub, observe);
    }
    if model.contains(['/', '\\']) {
        return Err(Failure::Input {
            path: path.into(),
            problem: "no such folder; give a checkpoint folder, a .gguf file, a hub id ORG/NAME[@REVISION], \
                      or a name from `vlmbench list models`"
                .into(),
        });
    }
    // The look-up fails again, this time with the names that are like it.
    Ok(from_config(model, configs)?)
}

/// Whether a failure of [`resolve`] is a name that exists nowhere (a mistake
/// in the experiment) rather than something that is missing on this machine.
pub fn is_misspelt(failure: &Failure) -> bool {
    matches!(failure, Failure::Config(ConfigError::UnknownName { .. }))
}

fn from_config(model: &str, configs: &Configs) -> Result<ModelRef, ConfigError> {
    let found = configs.find(ConfigKind::Model, model)?;
    let file: RecipeFile = found.parse()?;
    let recipe = Recipe::from_file(&found.name, &file).map_err(|source| ConfigError::Recipe {
        file: found.origin.clone(),
        source,
    })?;
    Ok(ModelRef {
        recipe,
        definition: Definition::Recipe {
            origin: found.origin,
            file: Box::new(file),
        },
    })
}

/// The recipe of a shipped checkpoint.
pub fn from_shipped(name: &str) -> Result<Recipe, Failure> {
    let mut recipe = recipe_from_folder(&shipped::unpack(name)?)?;
    recipe.name = name.to_owned();
    recipe.weights = Weights::Shipped(name.to_owned());
    Ok(recipe)
}

fn from_hub(
    model: &str,
    id: &str,
    revision: &str,
    hub: &HubOptions,
    observe: &mut dyn FnMut(Download<'_>),
) -> Result<ModelRef, Failure> {
    let snapshot = checkpoint(id, revision, hub, observe)?;
    let mut recipe = recipe_from_folder(&snapshot.dir)?;
    recipe.name = model.to_owned();
    // By commit, so that the weights loaded later are those of this
    // configuration whatever the branch means by then.
    recipe.weights = Weights::Hub {
        id: id.to_owned(),
        revision: snapshot.commit.clone(),
    };
    Ok(ModelRef {
        recipe,
        definition: Definition::Hub {
            id: id.to_owned(),
            commit: snapshot.commit,
        },
    })
}

/// The folder that holds a recipe's weights, and what to call it in records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightsFolder {
    /// The folder; of a GGUF file that in which the tokenizer is looked for.
    pub dir: PathBuf,
    /// The folder or file, or the hub id with its commit.
    pub origin: String,
}

/// Finds the weights of a recipe, fetching them if they are on the hub and not
/// cached; `None` for seeded weights.
pub fn weights_folder(
    weights: &Weights,
    hub: &HubOptions,
    observe: &mut dyn FnMut(Download<'_>),
) -> Result<Option<WeightsFolder>, Failure> {
    match weights {
        Weights::Seeded(_) => Ok(None),
        Weights::Shipped(name) => Ok(Some(WeightsFolder {
            dir: shipped::unpack(name)?,
            origin: format!("shipped {name}"),
        })),
        Weights::Folder(dir) if dir.is_dir() => Ok(Some(WeightsFolder {
            dir: dir.clone(),
            origin: dir.display().to_string(),
        })),
        Weights::Folder(dir) => Err(Failure::Input {
            path: dir.clone(),
            problem: "no such folder; correct `weights` in the recipe".into(),
        }),
        Weights::Gguf { decoder, rest } => {
            for path in [Some(decoder), rest.as_ref()].into_iter().flatten() {
                if !path.exists() {
                    return Err(Failure::Input {
                        path: path.clone(),
                        problem: "not there; correct `weights` in the recipe".into(),
                    });
                }
            }
            let beside = decoder.parent().filter(|p| !p.as_os_str().is_empty());
            let beside = beside.unwrap_or(Path::new("."));
            let dir = match rest {
                Some(rest) if !beside.join(TOKENIZER).is_file() => rest,
                _ => beside,
            };
            Ok(Some(WeightsFolder {
                dir: dir.into(),
                origin: decoder.display().to_string(),
            }))
        }
        Weights::Hub { id, revision } => {
            let snapshot = checkpoint(id, revision, hub, observe)?;
            Ok(Some(WeightsFolder {
                origin: format!("{id}@{}", snapshot.commit),
                dir: snapshot.dir,
            }))
        }
    }
}

fn checkpoint(
    id: &str,
    revision: &str,
    hub: &HubOptions,
    observe: &mut dyn FnMut(Download<'_>),
) -> Result<Snapshot, Failure> {
    let request = HubRequest {
        id: id.into(),
        kind: RepoKind::Model,
        revision: revision.into(),
        files: FileFilter::Checkpoint,
    };
    Ok(hub::resolve(&request, hub, observe)?)
}

/// Takes `ORG/NAME[@REVISION]` apart.
pub fn split_revision(text: &str) -> (&str, &str) {
    text.split_once('@').unwrap_or((text, "main"))
}

/// The last component of a folder's path, which names the model.
fn folder_name(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.into());
    let name = full.file_name().unwrap_or(full.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    fn offline(cache: &Path) -> HubOptions {
        HubOptions {
            offline: true,
            ..HubOptions::new(cache)
        }
    }

    fn find(model: &str) -> Result<ModelRef, Failure> {
        let cache = tempfile::tempdir().unwrap();
        resolve(
            model,
            &Configs::embedded(),
            &offline(cache.path()),
            &mut |_| {},
        )
    }

    #[test]
    fn every_shipped_model_resolves_and_is_described() {
        let configs = Configs::embedded();
        let names = configs.names(ConfigKind::Model);
        assert!(names.len() >= 15, "{names:?}");
        for name in names.keys() {
            let found =
                find(name).unwrap_or_else(|e| panic!("{name}: {}", crate::error::chain(&e)));
            assert_eq!(&found.recipe.name, name);
            let Definition::Recipe { file, .. } = found.definition else {
                panic!("{name} is no recipe")
            };
            assert!(
                !file.about.is_empty() && !file.about.ends_with('.'),
                "{name}"
            );
        }
    }

    #[test]
    fn a_misspelt_name_is_told_from_a_missing_checkpoint() {
        let misspelt = find("fastvithdd").unwrap_err();
        assert!(is_misspelt(&misspelt));
        assert_eq!(misspelt.exit(), Exit::InvalidConfig);
        let text = misspelt.to_string();
        assert!(text.contains("did you mean `fastvithd`?"), "{text}");
        for missing in ["./no/such/folder", "no-such/model@abc"] {
            let failure = find(missing).unwrap_err();
            assert!(!is_misspelt(&failure), "{missing}");
            assert_eq!(failure.exit(), Exit::Missing, "{missing}");
        }
    }

    #[test]
    fn weights_that_are_not_there_are_named() {
        let hub = offline(Path::new("/nonexistent-cache"));
        let seeded = weights_folder(&Weights::Seeded(1), &hub, &mut |_| {});
        assert!(matches!(seeded, Ok(None)));
        let folder = Weights::Folder("/nonexistent-weights".into());
        let failure = weights_folder(&folder, &hub, &mut |_| {}).unwrap_err();
        assert_eq!(failure.exit(), Exit::Missing);
        assert!(failure.to_string().contains("/nonexistent-weights"));
    }
}
