//! The strict loader: everything that does not fit is an error that names it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};
use serde_json::{Value, json};
use tempfile::TempDir;
use vlmbench_backends::Error;
use vlmbench_backends::checkpoint::{
    CheckpointError, CheckpointSource, Problem, WeightFiles, recipe_from_folder,
};
use vlmbench_backends::weights::{Inventory, Part, WeightSource};

use super::checkpoint::{fixture, open};

/// A tensor to write.
#[derive(Clone)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        (&self.bytes).into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

type Tensors = BTreeMap<String, Tensor>;

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(key, view)| {
            let tensor = Tensor {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                bytes: view.data().to_vec(),
            };
            (key, tensor)
        })
        .collect()
}

/// A copy of an unsharded fixture with its tensors and config changed.
fn changed(name: &str, change: impl FnOnce(&mut Tensors, &mut Value)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let (weights, config) = (
        folder.path().join("model.safetensors"),
        folder.path().join("config.json"),
    );
    let mut tensors = read(&weights);
    let mut value: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    change(&mut tensors, &mut value);
    safetensors::serialize_to_file(&tensors, None, &weights).unwrap();
    std::fs::write(&config, value.to_string()).unwrap();
    folder
}

#[track_caller]
fn refused(folder: &Path) -> CheckpointError {
    match open(folder) {
        Err(Error::Checkpoint(error)) => error,
        Err(other) => panic!("not a checkpoint error: {other}"),
        Ok(_) => panic!("opened"),
    }
}

#[track_caller]
fn problems(folder: &Path) -> (Vec<Problem>, String) {
    match refused(folder) {
        CheckpointError::Tensors { problems, .. } => {
            let text = problems.to_string();
            (problems.0, text)
        }
        other => panic!("not about tensors: {other}"),
    }
}

#[test]
fn every_missing_tensor_of_every_layout_is_named() {
    let fixtures = [
        "mci0/timm-train",
        "mci0/timm-inference",
        "mci0/apple-train",
        "mci3/apple-inference",
        "clip/clip_vision_model",
        "fastvlm/llava_qwen2",
        "llava/published",
        "qwen2/qwen2",
    ];
    // Keys that the layouts carry without need; of these, none may be missed.
    let needless = |key: &str| {
        [
            ".num_batches_tracked",
            "head.proj",
            "head.fc.",
            "post_layernorm",
            "encoder.layers.2.",
            "text_encoder",
            "logit_scale",
        ]
        .iter()
        .any(|part| key.contains(part))
    };
    for name in fixtures {
        let keys: Vec<String> = read(&fixture(name).join("model.safetensors"))
            .into_keys()
            .collect();
        for key in keys.iter().step_by(7) {
            let folder = changed(name, |tensors, _| {
                tensors.remove(key);
            });
            // Without a head, an Apple checkpoint that says tied is a tied one.
            if needless(key) || (key == "lm_head.weight" && name == "fastvlm/llava_qwen2") {
                open(folder.path()).unwrap_or_else(|e| panic!("{name} without {key}: {e}"));
                continue;
            }
            assert!(open(folder.path()).is_err(), "{name} opens without {key}");
            let (problems, text) = problems(folder.path());
            assert!(
                matches!(&problems[..], [Problem::Missing { key: missing, .. }, ..] if missing == key),
                "{name} without {key}: {text}"
            );
            assert_eq!(problems.len(), 1, "{name} without {key}: {text}");
        }
    }
}

#[test]
fn a_misnamed_tensor_is_missing_and_unused_and_its_neighbour_is_suggested() {
    let key = "model.layers.1.mlp.up_proj.weight";
    let folder = changed("fastvlm/llava_qwen2", |tensors, _| {
        let tensor = tensors.remove(key).unwrap();
        tensors.insert("model.layers.1.mlp.upproj.weight".into(), tensor);
    });
    let (problems, text) = problems(folder.path());
    assert_eq!(problems.len(), 2);
    assert_eq!(
        problems[0],
        Problem::Missing {
            part: Part::Decoder,
            parameter: "layers.1.gate_up.weight".into(),
            key: key.into(),
            nearest: Some("model.layers.1.mlp.upproj.weight".into()),
        }
    );
    assert!(
        text.contains("unused tensor `model.layers.1.mlp.upproj.weight` in model.safetensors"),
        "{text}"
    );
}

#[test]
fn a_misshapen_tensor_names_both_shapes() {
    let key = "stages.3.blocks.0.token_mixer.qkv.weight";
    let folder = changed("mci3/timm-inference", |tensors, _| {
        tensors.get_mut(key).unwrap().shape = vec![32, 96];
    });
    let (problems, text) = problems(folder.path());
    assert_eq!(problems.len(), 1);
    assert_eq!(
        text,
        format!(
            "tensor `{key}` in model.safetensors has shape [32, 96], expected [96, 32] \
             (for vision parameter `stages.3.blocks.0.qkv.weight`)"
        )
    );
}

#[test]
fn an_element_type_that_cannot_be_computed_with_is_named() {
    let folder = changed("qwen2/qwen2", |tensors, _| {
        let tensor = tensors.get_mut("model.norm.weight").unwrap();
        tensor.dtype = Dtype::I16;
    });
    let (problems, _) = problems(folder.path());
    assert!(
        matches!(&problems[..], [Problem::Dtype { key, got, .. }] if key == "model.norm.weight" && got == "I16")
    );
}

#[test]
fn many_problems_are_all_counted_and_the_first_listed() {
    let folder = changed("mci0/timm-inference", |tensors, _| {
        tensors.retain(|key, _| !key.starts_with("stages.1."));
    });
    let (problems, text) = problems(folder.path());
    assert!(problems.len() > 20);
    assert!(
        text.ends_with(&format!("and {} more", problems.len() - 20)),
        "{text}"
    );
}

#[test]
fn the_same_files_under_other_prefixes_open_too() {
    type Renames = &'static [(&'static str, &'static str)];
    let in_memory = |tower| -> Renames {
        match tower {
            4 => &[
                ("language_model.model.", "model.language_model."),
                ("language_model.lm_head.", "lm_head."),
                ("vision_tower.", "model.vision_tower."),
                ("multi_modal_projector.", "model.multi_modal_projector."),
            ],
            _ => &[
                ("language_model.model.", "model.language_model."),
                ("language_model.lm_head.", "lm_head."),
                ("vision_tower.vision_model.", "model.vision_tower."),
                ("multi_modal_projector.", "model.multi_modal_projector."),
            ],
        }
    };
    let cases: [(&str, Renames, &str); 6] = [
        (
            "mci0/timm-train",
            &[("", "visual.trunk.")],
            "fastvit (OpenCLIP)",
        ),
        (
            "mci0/timm-inference",
            &[("", "timm_model.")],
            "fastvit (transformers timm wrapper)",
        ),
        (
            "clip/clip_vision_model",
            &[("vision_model.", "")],
            "clip (bare)",
        ),
        (
            "qwen2/qwen2",
            &[("model.", "")],
            "language model without head (transformers)",
        ),
        (
            "llava/published",
            in_memory(4),
            "llava (transformers 4, in memory)",
        ),
        (
            "llava/published",
            in_memory(5),
            "llava (transformers 5, in memory)",
        ),
    ];
    for (name, renames, layout) in cases {
        let folder = changed(name, |tensors, _| {
            let renamed = |key: String| {
                let rename = renames.iter().find_map(|(from, to)| {
                    key.strip_prefix(from).map(|rest| format!("{to}{rest}"))
                });
                rename.unwrap_or(key)
            };
            *tensors = std::mem::take(tensors)
                .into_iter()
                .map(|(key, tensor)| (renamed(key), tensor))
                .collect();
        });
        let (_, _, source) = open(folder.path()).unwrap_or_else(|e| panic!("{layout}: {e}"));
        assert_eq!(source.info().layout, layout);
    }
}

#[test]
fn a_tied_head_may_be_stored_twice_but_not_differently() {
    let with_head = |flip: bool| {
        changed("qwen2/qwen2", |tensors, _| {
            let mut head = tensors["model.embed_tokens.weight"].clone();
            head.bytes[0] ^= u8::from(flip);
            tensors.insert("lm_head.weight".into(), head);
        })
    };
    let (recipe, _, _) = open(with_head(false).path()).unwrap();
    assert!(recipe.decoder().unwrap().config.tied);

    let folder = with_head(true);
    let (mut recipe, _, _) = open(folder.path()).unwrap();
    let decoder = recipe.decoder.as_mut().unwrap();
    assert!(!decoder.config.tied);
    decoder.config.tied = true;
    let inventory = Inventory::of(&recipe).unwrap();
    let Err(CheckpointError::Tensors { problems, .. }) =
        CheckpointSource::open(folder.path(), &recipe, &inventory)
    else {
        panic!("a tied recipe must not ignore another head");
    };
    assert!(
        matches!(&problems.0[..], [Problem::UntiedHead { key, .. }] if key == "lm_head.weight")
    );
}

/// A copy of a sharded fixture, changed.
fn changed_shards(change: impl FnOnce(&Path, &mut Value)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("fastvlm/fast_vlm")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join("model.safetensors.index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(folder.path(), &mut index);
    std::fs::write(path, index.to_string()).unwrap();
    folder
}

#[test]
fn shards_must_be_there_and_agree_with_the_index() {
    let second = "model-00002-of-00002.safetensors";
    let folder = changed_shards(|folder, _| std::fs::remove_file(folder.join(second)).unwrap());
    assert!(
        matches!(refused(folder.path()), CheckpointError::MissingShard { shard, .. } if shard == second)
    );

    let folder = changed_shards(|_, index| index["weight_map"]["extra.weight"] = json!(second));
    let CheckpointError::IndexDisagrees {
        tensor,
        shard,
        problem,
        ..
    } = refused(folder.path())
    else {
        panic!("disagreement");
    };
    assert_eq!((tensor.as_str(), shard.as_str()), ("extra.weight", second));
    assert_eq!(problem, "is in the index but not in the shard");

    let folder = changed_shards(|_, index| {
        index["weight_map"]
            .as_object_mut()
            .unwrap()
            .remove("lm_head.weight")
            .unwrap();
    });
    let CheckpointError::IndexDisagrees {
        tensor, problem, ..
    } = refused(folder.path())
    else {
        panic!("disagreement");
    };
    assert_eq!(
        (tensor.as_str(), problem),
        ("lm_head.weight", "is in the shard but not in the index")
    );
}

#[test]
fn folders_without_usable_files_are_refused() {
    let folder = changed("qwen2/qwen2", |_, _| {});
    let weights = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 2]).unwrap();
    assert!(
        matches!(refused(folder.path()), CheckpointError::Header { path, .. } if path == weights)
    );

    std::fs::rename(&weights, folder.path().join("a.safetensors")).unwrap();
    std::fs::write(folder.path().join("b.safetensors"), &bytes).unwrap();
    assert!(matches!(
        refused(folder.path()),
        CheckpointError::AmbiguousWeights { .. }
    ));

    std::fs::remove_file(folder.path().join("a.safetensors")).unwrap();
    open(folder.path()).expect("one file of any name is unambiguous");

    std::fs::rename(
        folder.path().join("b.safetensors"),
        folder.path().join("pytorch_model.bin"),
    )
    .unwrap();
    let CheckpointError::NoWeights { found, .. } = refused(folder.path()) else {
        panic!("no weights")
    };
    assert!(found.contains("pytorch_model.bin"));

    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        refused(empty.path()),
        CheckpointError::NoConfig { .. }
    ));
}

#[test]
fn keys_of_no_layout_are_refused() {
    let folder = changed("qwen2/qwen2", |tensors, _| {
        let (_, tensor) = tensors.pop_first().unwrap();
        tensors.clear();
        tensors.insert("transformer.wte.weight".into(), tensor);
    });
    let error = refused(folder.path());
    assert!(matches!(&error, CheckpointError::UnknownLayout { .. }));
    assert!(
        error.to_string().contains("`transformer.wte.weight`"),
        "{error}"
    );
}

#[test]
fn config_values_that_cannot_be_honoured_are_errors() {
    type Edit = fn(&mut Value);
    let cases: &[(&str, Edit, &str, &str)] = &[
        (
            "qwen2/qwen2",
            |c| c["model_type"] = json!("mistral"),
            "model_type",
            "known: clip, clip_vision_model",
        ),
        (
            "qwen2/qwen2",
            |c| c["hidden_act"] = json!("gelu"),
            "hidden_act",
            "only `silu`",
        ),
        (
            "qwen2/qwen2",
            |c| c["hidden_size"] = json!("64"),
            "hidden_size",
            "a whole number",
        ),
        (
            "qwen2/qwen2",
            |c| c["rope_parameters"]["rope_type"] = json!("yarn"),
            "rope_parameters.rope_type",
            "only `default`",
        ),
        (
            "mci0/timm-inference",
            |c| c["architecture"] = json!("resnet50"),
            "architecture",
            "known: convnext_large",
        ),
        (
            "mci0/timm-inference",
            |c| c["model_args"]["embed_dim"] = json!([8]),
            "model_args",
            "unknown field `embed_dim`",
        ),
        (
            "mci0/timm-inference",
            |c| c["model_args"]["down_stride"] = json!(4),
            "model_args.down_stride",
            "only 2",
        ),
        (
            "fastvlm/llava_qwen2",
            |c| c["mm_vision_tower"] = json!("siglip"),
            "mm_vision_tower",
            "mobileclip_l_<side>",
        ),
        (
            "siglip/siglip_vision_model",
            |c| c["hidden_act"] = json!("mish"),
            "hidden_act",
            "gelu_pytorch_tanh",
        ),
        (
            "fastvlm/llava_qwen2",
            |c| c["mm_hidden_size"] = json!(3072),
            "mm_hidden_size",
            "64 channels",
        ),
        (
            "fastvlm/llava_qwen2",
            |c| c["image_aspect_ratio"] = json!("stretch"),
            "image_aspect_ratio",
            "`pad`",
        ),
        (
            "fastvlm/llava_qwen2",
            |c| c["image_aspect_ratio"] = json!("anyres"),
            "image_grid_pinpoints",
            "needed with an anyres",
        ),
        (
            "llava-onevision/llava",
            |c| c["image_aspect_ratio"] = json!("anyres_max_many"),
            "image_aspect_ratio",
            "the tiles must follow",
        ),
        (
            "llava-onevision/llava",
            |c| c["mm_patch_merge_type"] = json!("spatial"),
            "mm_patch_merge_type",
            "`spatial_unpad`",
        ),
        (
            "llava-onevision/published",
            |c| c["image_grid_pinpoints"] = json!([[32, 33]]),
            "image_grid_pinpoints",
            "multiples of the encoder's side, 32 pixels",
        ),
        (
            "llava-onevision/published",
            |c| c["vision_aspect_ratio"] = json!("pad"),
            "vision_aspect_ratio",
            "anyres_max_",
        ),
        (
            "llava-next/published",
            |c| c["use_image_newline_parameter"] = json!(false),
            "use_image_newline_parameter",
            "only true",
        ),
        (
            "llava/published",
            |c| c["vision_feature_select_strategy"] = json!("full"),
            "vision_feature_select_strategy",
            "default",
        ),
    ];
    for (name, edit, key, problem) in cases {
        let folder = changed(name, |_, config| edit(config));
        match refused(folder.path()) {
            CheckpointError::Config {
                key: at,
                problem: text,
                ..
            } => {
                assert_eq!(at, *key, "{name}: {text}");
                assert!(text.contains(problem), "{name} {key}: {text}");
            }
            other => panic!("{name} {key}: {other}"),
        }
    }
}

#[test]
fn an_encoder_can_be_taken_from_a_whole_model() {
    let folder = fixture("fastvlm/llava_qwen2");
    let mut recipe = recipe_from_folder(&folder).unwrap();
    (recipe.decoder, recipe.projector) = (None, None);
    let inventory = Inventory::of(&recipe).unwrap();
    CheckpointSource::open(&folder, &recipe, &inventory).unwrap();
}

#[test]
fn files_say_where_a_key_is() {
    let files = WeightFiles::open(&fixture("fastvlm/fast_vlm")).unwrap();
    assert!(files.file_of("lm_head.weight").starts_with("model-0000"));
    assert_eq!(files.file_of("no.such.key"), "");
    assert!(files.data("no.such.key").is_none());
    assert!(files.keys_under("model.multi_modal_projector.").count() == 4);
}
