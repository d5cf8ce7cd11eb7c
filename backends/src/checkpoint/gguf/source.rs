//! A GGUF file as a [`WeightSource`] of a decoder.
//!
//! Opening plans every parameter and refuses a file that does not fit the
//! recipe exactly. Blocks are handed over as slices of the map, but for two
//! tensors: llama.cpp's converter moves rows of the query and key projections
//! of Llama, whose rotary embedding turns neighbouring pairs there and halves
//! of a head here. Blocks lie along rows, so that moving rows back loses
//! nothing.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::super::checks::nearest;
use super::super::error::{Problem, Problems};
use super::super::{CheckpointError, CheckpointSource};
use super::file::GgufFile;
use super::recipe;
use crate::backend::Precision;
use crate::blocks::{BlockType, Blocks, Segment};
use crate::error::{Error, Result};
use crate::nets::DecoderConfig;
use crate::params::ParamSpec;
use crate::recipe::Recipe;
use crate::weights::{HostData, HostTensor, Inventory, Part, WeightSource, WeightsInfo};

/// Frequencies of scaled rotary embeddings; ones where nothing is scaled.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// A tensor that a parameter is stacked from.
struct Piece {
    key: String,
    rows: usize,
    /// Heads whose rows are moved.
    heads: Option<usize>,
}

/// The weights of a decoder's file, and of a checkpoint folder for the rest of
/// the model.
pub struct GgufSource {
    file: GgufFile,
    plans: HashMap<String, Vec<Piece>>,
    holds: Option<Precision>,
    rest: Option<CheckpointSource>,
    info: WeightsInfo,
}

impl GgufSource {
    /// Maps the file, and plans every parameter of the decoder in `inventory`;
    /// the other parts come from the checkpoint folder `rest`.
    pub fn open(
        path: &Path,
        rest: Option<&Path>,
        recipe: &Recipe,
        inventory: &Inventory,
    ) -> Result<GgufSource> {
        let file = GgufFile::open(path)?;
        let decoder = &recipe.decoder()?.config;
        let architecture = recipe::architecture(&file)?;
        agree(&file, architecture, decoder)?;
        let plans = plan(&file, architecture, decoder, inventory)?;
        let rest = match rest {
            None => None,
            Some(folder) => {
                let mut parts = inventory.parts.clone();
                parts.retain(|(part, _)| *part != Part::Decoder);
                let encoder = Recipe {
                    decoder: None,
                    ..recipe.clone()
                };
                Some(CheckpointSource::open(
                    folder,
                    &encoder,
                    &Inventory { parts },
                )?)
            }
        };
        let layout = match &rest {
            None => format!("gguf {architecture}"),
            Some(rest) => format!("gguf {architecture}, {}", rest.info().layout),
        };
        Ok(GgufSource {
            holds: recipe::held(&file)?,
            info: WeightsInfo {
                source: "gguf",
                origin: path.display().to_string(),
                layout,
                files: Vec::new(),
            },
            file,
            plans,
            rest,
        })
    }

    fn segment(&self, piece: &Piece) -> Option<Segment<'_>> {
        let tensor = self.file.tensor(&piece.key)?;
        let bytes = self.file.bytes(tensor);
        Some(Segment {
            kind: tensor.kind?,
            rows: piece.rows,
            bytes: match piece.heads {
                None => Cow::Borrowed(bytes),
                Some(heads) => Cow::Owned(move_rows(bytes, piece.rows, heads)),
            },
        })
    }
}

impl WeightSource for GgufSource {
    fn info(&self) -> &WeightsInfo {
        &self.info
    }

    fn get(&self, part: Part, spec: &ParamSpec) -> Result<HostTensor<'_>> {
        let missing = || Error::MissingParam {
            name: format!("{}.{}", part.name(), spec.name),
        };
        if part != Part::Decoder {
            return self.rest.as_ref().ok_or_else(missing)?.get(part, spec);
        }
        let pieces = self.plans.get(&spec.name).ok_or_else(missing)?;
        let segments: Option<Vec<_>> = pieces.iter().map(|p| self.segment(p)).collect();
        let matrix = spec.shape.len() == 2;
        let blocks = Blocks {
            // A bias or a scale is a column.
            width: if matrix { spec.shape[1] } else { 1 },
            segments: segments.ok_or_else(missing)?,
        };
        Ok(HostTensor {
            shape: spec.shape.clone(),
            data: match self.holds {
                Some(_) if matrix => HostData::Blocks(blocks),
                _ => HostData::F32(blocks.to_f32().into()),
            },
        })
    }

    fn holds(&self) -> Option<Precision> {
        self.holds
    }

    fn done(&self, part: Part, spec: &ParamSpec) {
        if part != Part::Decoder {
            return self.rest.iter().for_each(|rest| rest.done(part, spec));
        }
        let pieces = self.plans.get(&spec.name).into_iter().flatten();
        for tensor in pieces.filter_map(|piece| self.file.tensor(&piece.key)) {
            self.file.release(tensor);
        }
    }
}

/// Rows as transformers has them: those of a head are its first halves, then
/// its second; in the file the two are in turns.
fn move_rows(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let row = bytes.len() / rows;
    let half = rows / heads / 2;
    let mut moved = Vec::with_capacity(bytes.len());
    for to in 0..rows {
        let (head, within) = (to / (2 * half), to % (2 * half));
        let from = head * 2 * half + within % half * 2 + within / half;
        moved.extend_from_slice(&bytes[from * row..][..row]);
    }
    moved
}

/// Errors unless the recipe's decoder computes what the file was made for.
fn agree(
    file: &GgufFile,
    architecture: &str,
    wanted: &DecoderConfig,
) -> Result<(), CheckpointError> {
    let own = recipe::decoder(file)?.config;
    let check = |leaf: &str, same: bool, wanted: String| match same {
        true => Ok(()),
        false => Err(file.error(
            &format!("{architecture}.{leaf}"),
            format!("the recipe's decoder has {wanted}"),
        )),
    };
    let numbers = [
        ("embedding_length", own.hidden, wanted.hidden),
        ("feed_forward_length", own.intermediate, wanted.intermediate),
        ("block_count", own.layers, wanted.layers),
        ("attention.head_count", own.heads, wanted.heads),
        ("attention.head_count_kv", own.kv_heads, wanted.kv_heads),
        ("attention.key_length", own.head_dim, wanted.head_dim),
    ];
    for (leaf, own, wanted) in numbers {
        check(leaf, own == wanted, wanted.to_string())?;
    }
    let (theta, eps) = (wanted.rope_theta, wanted.rms_eps);
    check("rope.freq_base", own.rope_theta == theta, theta.to_string())?;
    check(
        "attention.layer_norm_rms_epsilon",
        (own.rms_eps / eps - 1.0).abs() < 1e-3,
        eps.to_string(),
    )
}

/// The tensors of a canonical parameter: module names in the file with their
/// rows.
fn tensors(name: &str, rows: usize, c: &DecoderConfig) -> Option<Vec<(String, usize)>> {
    let (module, leaf) = name.rsplit_once('.')?;
    let whole = |module: &str| Some(vec![(format!("{module}.{leaf}"), rows)]);
    match module {
        "embed" => return whole("token_embd"),
        "norm" => return whole("output_norm"),
        "head" => return whole("output"),
        _ => {}
    }
    let (layer, module) = module.strip_prefix("layers.")?.split_once('.')?;
    let key = |module: &str| format!("blk.{layer}.{module}.{leaf}");
    let one = |module: &str| Some(vec![(key(module), rows)]);
    match module {
        "norm1" => one("attn_norm"),
        "norm2" => one("ffn_norm"),
        "out" => one("attn_output"),
        "down" => one("ffn_down"),
        "gate_up" => Some(vec![
            (key("ffn_gate"), c.intermediate),
            (key("ffn_up"), c.intermediate),
        ]),
        "qkv" => Some(vec![
            (key("attn_q"), c.heads * c.head_dim),
            (key("attn_k"), c.kv_heads * c.head_dim),
            (key("attn_v"), c.kv_heads * c.head_dim),
        ]),
        _ => None,
    }
}

/// Plans every parameter of the decoder, or reports all that does not fit.
fn plan(
    file: &GgufFile,
    architecture: &str,
    c: &DecoderConfig,
    inventory: &Inventory,
) -> Result<HashMap<String, Vec<Piece>>, CheckpointError> {
    let mut plans = HashMap::new();
    let mut problems = Vec::new();
    let mut used = HashSet::from([ROPE_FACTORS.to_owned()]);
    let specs = inventory.parts.iter().filter(|(p, _)| *p == Part::Decoder);
    for spec in specs.flat_map(|(_, specs)| specs) {
        let mut pieces = Vec::new();
        for (key, rows) in tensors(&spec.name, spec.shape[0], c).unwrap_or_default() {
            let expected = [&[rows], &spec.shape[1..]].concat();
            problems.extend(problem(file, spec, &key, &expected));
            let heads = match key.split('.').nth(2) {
                Some("attn_q") if architecture == "llama" => Some(c.heads),
                Some("attn_k") if architecture == "llama" => Some(c.kv_heads),
                _ => None,
            };
            used.insert(key.clone());
            pieces.push(Piece { key, rows, heads });
        }
        plans.insert(spec.name.clone(), pieces);
    }
    let unused: Vec<&str> = file.keys().filter(|key| !used.contains(*key)).collect();
    for problem in &mut problems {
        if let Problem::Missing {
            key, nearest: near, ..
        } = problem
        {
            *near = nearest(key, &unused);
        }
    }
    problems.extend(unused.iter().map(|key| Problem::Unused {
        key: (*key).into(),
        file: file.name(),
    }));
    if let Some(factors) = file.tensor(ROPE_FACTORS)
        && !ones(file.bytes(factors), factors.kind)
    {
        return Err(file.error(
            ROPE_FACTORS,
            "the tensor scales rotary embeddings, which is not supported",
        ));
    }
    if problems.is_empty() {
        return Ok(plans);
    }
    Err(CheckpointError::Tensors {
        folder: file.path().to_path_buf(),
        layout: "gguf",
        problems: Problems(problems),
    })
}

/// What is wrong with the tensor `key`, if anything is.
fn problem(file: &GgufFile, spec: &ParamSpec, key: &str, expected: &[usize]) -> Option<Problem> {
    let Some(tensor) = file.tensor(key) else {
        return Some(Problem::Missing {
            part: Part::Decoder,
            parameter: spec.name.clone(),
            key: key.into(),
            nearest: None,
        });
    };
    if tensor.shape != expected {
        return Some(Problem::Shape {
            part: Part::Decoder,
            parameter: spec.name.clone(),
            key: key.into(),
            file: file.name(),
            expected: expected.to_vec(),
            got: tensor.shape.clone(),
        });
    }
    match tensor.kind {
        Some(kind) if expected.len() == 2 || kind.scalars() == 1 => None,
        _ => Some(Problem::BlockType {
            key: key.into(),
            file: file.name(),
            got: tensor.type_id,
        }),
    }
}

fn ones(bytes: &[u8], kind: Option<BlockType>) -> bool {
    let Some(kind) = kind else { return false };
    let mut values = vec![0.0; bytes.len() / kind.bytes() * kind.scalars()];
    kind.dequantise(bytes, &mut values);
    values.iter().all(|v| *v == 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As llama.cpp's converter permutes: `reshape(heads, 2, half).swapaxes(1, 2)`.
    #[test]
    fn rows_are_moved_back_to_where_they_were() {
        let (heads, half) = (3, 4);
        let rows = heads * 2 * half;
        let mut permuted = Vec::new();
        for head in 0..heads {
            for i in 0..half {
                for part in 0..2 {
                    permuted.extend([(head * 2 * half + part * half + i) as u8; 5]);
                }
            }
        }
        let expected: Vec<u8> = (0..rows).flat_map(|row| [row as u8; 5]).collect();
        assert_eq!(move_rows(&permuted, rows, heads), expected);
    }
}
