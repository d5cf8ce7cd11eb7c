//! Recorded graphs and their files, without any engine: well formed, complete,
//! and in the layout of the published exports.

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;
use vlmbench_backends::backend::Precision;
use vlmbench_backends::checkpoint::{CheckpointSource, SeededSource, recipe_from_folder};
use vlmbench_backends::onnx::proto::{Extent, Graph, Model, Tensor};
use vlmbench_backends::onnx::{self, Operators, Storage, Target, Written, parts};
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::weights::{Inventory, Part};

use crate::parity::fixture;

fn target(precision: Precision) -> Target {
    Target {
        precision,
        ..Target::default()
    }
}

fn small() -> (Recipe, Inventory) {
    let recipe = recipe_from_folder(&fixture("fastvlm/fast_vlm")).unwrap();
    let inventory = Inventory::of(&recipe).unwrap();
    (recipe, inventory)
}

fn read(path: &Path) -> Model {
    Model::decode(std::fs::read(path).unwrap().as_slice()).unwrap()
}

fn exported(precision: Precision) -> (tempfile::TempDir, Vec<Written>) {
    let (recipe, inventory) = small();
    let folder = tempfile::tempdir().unwrap();
    let source = SeededSource::new(1);
    let written = onnx::export(
        &recipe,
        &inventory,
        &source,
        target(precision),
        folder.path(),
    )
    .unwrap();
    (folder, written)
}

/// Every value is made once and before it is read, and nothing is unused.
fn check(graph: &Graph) {
    let mut known: BTreeSet<&str> = BTreeSet::new();
    let given = graph.input.iter().map(|i| &i.name);
    for name in given.chain(graph.initializer.iter().map(|t| &t.name)) {
        assert!(known.insert(name), "{name} twice");
    }
    let mut used: BTreeSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    for node in &graph.node {
        for input in node.input.iter().filter(|i| !i.is_empty()) {
            assert!(
                known.contains(input.as_str()),
                "{} reads {input}",
                node.name
            );
            used.insert(input);
        }
        for output in &node.output {
            assert!(known.insert(output), "{output} twice");
        }
        assert!(node.domain.is_empty(), "{} is not standard", node.op_type);
    }
    for output in &graph.output {
        assert!(known.contains(output.name.as_str()), "{}", output.name);
    }
    let idle: Vec<&str> = known.difference(&used).copied().collect();
    assert!(idle.is_empty(), "made and not used: {idle:?}");
}

/// Dimensions of an input or output as text.
fn dims(graph: &Graph, name: &str) -> Vec<String> {
    let all = graph.input.iter().chain(&graph.output);
    let found = all.into_iter().find(|v| v.name == name).unwrap();
    let tensor = found.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
    let shape = tensor.shape.as_ref().unwrap();
    (shape.dim.iter())
        .map(|d| match d.value.as_ref().unwrap() {
            Extent::Fixed(n) => n.to_string(),
            Extent::Named(name) => name.clone(),
        })
        .collect()
}

#[test]
fn graphs_are_well_formed_and_hold_every_parameter() {
    let (_folder, written) = exported(Precision::F32);
    let mut held = BTreeSet::new();
    for file in &written {
        let model = read(&file.model);
        let graph = model.graph.unwrap();
        check(&graph);
        let weights = graph.initializer.iter().map(|t| t.name.as_str());
        held.extend(weights.map(|name| name.trim_end_matches(".transposed").to_owned()));
    }
    let (_, inventory) = small();
    for (part, spec) in inventory.iter() {
        let name = format!("{}.{}", part.name(), spec.name);
        assert!(held.contains(&name), "{name} is in no graph");
    }
}

#[test]
fn names_and_free_axes_are_those_of_the_published_exports() {
    let (folder, written) = exported(Precision::F32);
    let names: Vec<_> = (written.iter())
        .map(|w| w.model.file_name().unwrap().to_str().unwrap())
        .collect();
    let expected = [
        "vision_encoder.onnx",
        "embed_tokens.onnx",
        "decoder_model_merged.onnx",
    ];
    assert_eq!(names, expected);
    let graph = |name: &str| read(&folder.path().join(name)).graph.unwrap();
    let vision = graph("vision_encoder.onnx");
    assert_eq!(
        dims(&vision, "pixel_values"),
        ["batch_size", "3", "height", "width"]
    );
    assert_eq!(dims(&vision, "image_features")[1], "image_tokens");
    let embed = graph("embed_tokens.onnx");
    assert_eq!(dims(&embed, "input_ids"), ["batch_size", "sequence_length"]);
    let decoder = graph("decoder_model_merged.onnx");
    assert_eq!(dims(&decoder, "attention_mask")[1], "total_sequence_length");
    assert_eq!(
        dims(&decoder, "past_key_values.0.key")[2],
        "past_sequence_length"
    );
    assert_eq!(
        dims(&decoder, "present.1.value")[2],
        "total_sequence_length"
    );
    assert_eq!(dims(&decoder, "logits")[1], "1");
}

#[test]
fn a_vision_transformer_has_the_sides_it_was_made_for() {
    let recipe = recipe_from_folder(&fixture("llava/published")).unwrap();
    let inventory = Inventory::of(&recipe).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vision_encoder.onnx");
    let graph = parts::vision(&recipe, &inventory, target(Precision::F32), true).unwrap();
    onnx::write(graph, &SeededSource::new(1), &path, Storage::Beside).unwrap();
    let graph = read(&path).graph.unwrap();
    check(&graph);
    let side = recipe.resolution.to_string();
    assert_eq!(dims(&graph, "pixel_values")[2..], [side.clone(), side]);
}

#[test]
fn weights_beside_the_model_are_aligned_and_the_same() {
    let folder = fixture("qwen2/qwen2");
    let recipe = recipe_from_folder(&folder).unwrap();
    let inventory = Inventory::of(&recipe).unwrap();
    let source = CheckpointSource::open(&folder, &recipe, &inventory).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tensors = |name: &str, storage| -> (Vec<Tensor>, Option<Vec<u8>>) {
        let graph = parts::decoder(&recipe, &inventory, target(Precision::F16)).unwrap();
        let written = onnx::write(graph, &source, &dir.path().join(name), storage).unwrap();
        let beside = written.weights.map(|path| std::fs::read(path).unwrap());
        (read(&written.model).graph.unwrap().initializer, beside)
    };
    let (inline, none) = tensors("inline.onnx", Storage::Within(u64::MAX));
    let (beside, data) = tensors("beside.onnx", Storage::Beside);
    assert!(none.is_none() && inline.len() == beside.len());
    let data = data.unwrap();
    let mut moved = 0;
    for (a, b) in inline.iter().zip(&beside) {
        assert_eq!(
            (&a.name, &a.dims, a.data_type),
            (&b.name, &b.dims, b.data_type)
        );
        if b.data_location == 0 {
            assert_eq!(a.raw_data, b.raw_data, "{}", a.name);
            continue;
        }
        let number = |key: &str| -> usize {
            let entry = b.external_data.iter().find(|e| e.key == key).unwrap();
            entry.value.parse().unwrap()
        };
        let (offset, length) = (number("offset"), number("length"));
        assert_eq!(offset % 4096, 0, "{}", a.name);
        assert_eq!(a.raw_data, data[offset..offset + length], "{}", a.name);
        moved += 1;
    }
    assert!(moved > 0);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        3,
        "no partial file is left"
    );
}

#[test]
fn fused_attention_is_used_only_when_it_is_asked_for() {
    let (recipe, inventory) = small();
    let folder = tempfile::tempdir().unwrap();
    let fused = Target {
        operators: Operators::Fused,
        ..Target::default()
    };
    let source = SeededSource::new(1);
    for written in onnx::export(&recipe, &inventory, &source, fused, folder.path()).unwrap() {
        let model = read(&written.model);
        let domains: Vec<&str> = model
            .opset_import
            .iter()
            .map(|o| o.domain.as_str())
            .collect();
        let graph = model.graph.unwrap();
        let own = graph.node.iter().filter(|n| !n.domain.is_empty());
        let own: BTreeSet<&str> = own.map(|n| n.op_type.as_str()).collect();
        let expected: &[&str] = match graph.name.as_str() {
            "decoder_model_merged" => &["GroupQueryAttention"],
            _ => &[],
        };
        assert!(
            own.into_iter().eq(expected.iter().copied()),
            "{}",
            graph.name
        );
        let expected = if expected.is_empty() { 1 } else { 2 };
        assert_eq!(domains.len(), expected, "{}", graph.name);
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let (recipe, inventory) = small();
    let source = SeededSource::new(1);
    let nowhere = Path::new("/nonexistent/folder");
    let error = onnx::export(
        &recipe,
        &inventory,
        &source,
        target(Precision::F32),
        nowhere,
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("cannot write /nonexistent"),
        "{error}"
    );
    assert!(
        inventory
            .parts
            .iter()
            .any(|(part, _)| *part == Part::Decoder)
    );
}
