//! Checkpoint folders: every layout opens, equal networks give equal canonical
//! parameters, published configs become recipes.
//!
//! The fixtures are written by `tools/fixtures/checkpoint_fixtures.py`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vlmbench_backends::Error;
use vlmbench_backends::checkpoint::{CheckpointSource, recipe_from_folder};
use vlmbench_backends::image::ImagePolicy;
use vlmbench_backends::nets::{EncoderConfig, ProjectorKind};
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::weights::{HostData, Inventory, Part, WeightSource};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/checkpoints")
        .join(name)
}

pub(crate) fn open(folder: &Path) -> Result<(Recipe, Inventory, CheckpointSource), Error> {
    let recipe = recipe_from_folder(folder)?;
    let inventory = Inventory::of(&recipe)?;
    let source = CheckpointSource::open(folder, &recipe, &inventory)?;
    Ok((recipe, inventory, source))
}

/// Every canonical parameter of a fixture, in f32.
fn parameters(name: &str) -> BTreeMap<(Part, String), Vec<f32>> {
    let (_, inventory, source) = open(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut all = BTreeMap::new();
    for (part, spec) in inventory.iter() {
        let tensor = source.get(part, spec).unwrap();
        assert_eq!(tensor.shape, spec.shape, "{}", spec.name);
        assert_eq!(tensor.data.len(), spec.elements(), "{}", spec.name);
        all.insert((part, spec.name.clone()), tensor.data.to_f32().into_owned());
    }
    all
}

#[track_caller]
fn assert_equal_networks(a: &str, b: &str, tolerance: f32) {
    let (left, right) = (parameters(a), parameters(b));
    assert_eq!(
        left.keys().collect::<Vec<_>>(),
        right.keys().collect::<Vec<_>>()
    );
    for (name, left) in &left {
        let worst = left
            .iter()
            .zip(&right[name])
            .map(|(x, y)| (x - y).abs())
            .fold(0.0, f32::max);
        assert!(
            worst <= tolerance,
            "{name:?} of {a} and {b} differ by {worst}"
        );
    }
}

#[test]
fn every_layout_is_recognised() {
    let layouts = [
        ("mci0/timm-train", "fastvit (timm)"),
        ("mci0/timm-inference", "fastvit (timm)"),
        ("mci0/apple-train", "mobileclip (Apple)"),
        ("mci0/apple-inference", "mobileclip (Apple, bare)"),
        ("mci3/apple-inference", "mobileclip (Apple, bare)"),
        ("clip/clip", "clip"),
        ("clip/clip_vision_model", "clip"),
        ("siglip/siglip", "clip"),
        ("siglip/siglip_vision_model", "clip"),
        ("convnext/timm", "convnext (timm)"),
        ("convnext/open_clip", "convnext (OpenCLIP)"),
        ("convnext/transformers", "convnext (transformers)"),
        ("vitamin/timm", "vitamin (timm)"),
        ("vitamin/open_clip", "vitamin (OpenCLIP)"),
        ("multiscale/fastvit-depthwise/timm", "fastvit (timm)"),
        ("multiscale/convnext-depthwise/timm", "convnext (timm)"),
        ("dinov2/transformers", "dinov2 (transformers)"),
        ("dinov2-gated/transformers", "dinov2 (transformers)"),
        ("fastvlm/fast_vlm", "fast_vlm (transformers)"),
        ("fastvlm/llava_qwen2", "llava_qwen2 (Apple FastVLM)"),
        ("mobilevlm/mobilevlm", "mobilevlm (MobileVLM v2)"),
        ("convllava/beside", "llava (ConvLLaVA)"),
        ("convllava/one", "llava (ConvLLaVA, in one)"),
        ("llava/published", "llava (transformers, published)"),
        ("llava/transformers5", "llava (transformers 5)"),
        ("llava/llava", "llava (LLaVA)"),
        ("qwen2/qwen2", "causal language model (transformers)"),
    ];
    for (name, layout) in layouts {
        let (_, _, source) = open(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(source.info().layout, layout, "{name}");
    }
}

#[test]
fn train_time_networks_fold_to_what_timm_folds_them_to() {
    for network in ["mci0", "mci3"] {
        let of = |layout: &str| format!("{network}/{layout}");
        assert_equal_networks(&of("timm-train"), &of("timm-inference"), 1e-5);
        assert_equal_networks(&of("apple-train"), &of("timm-train"), 0.0);
        assert_equal_networks(&of("apple-inference"), &of("timm-inference"), 0.0);
    }
}

#[test]
fn one_network_is_the_same_in_every_layout_and_element_type() {
    assert_equal_networks("fastvlm/fast_vlm", "fastvlm/llava_qwen2", 1e-5);
    assert_equal_networks("llava/published", "llava/transformers5", 0.0);
    assert_equal_networks("llava/published", "llava/llava", 0.0);
    assert_equal_networks("clip/clip", "clip/clip_vision_model", 0.0);
    assert_equal_networks("convnext/timm", "convnext/transformers", 0.0);
    assert_equal_networks("convnext/timm", "convnext/open_clip", 0.0);
    assert_equal_networks("vitamin/timm", "vitamin/open_clip", 0.0);
    assert_equal_networks("siglip/siglip", "siglip/siglip_vision_model", 0.0);
}

#[test]
fn untouched_tensors_are_borrowed_in_their_own_type_and_stacks_keep_it() {
    let (_, inventory, source) = open(&fixture("llava/llava")).unwrap();
    let get = |wanted: &str| {
        let (part, spec) = inventory
            .iter()
            .find(|(part, spec)| *part == Part::Decoder && spec.name == wanted)
            .unwrap();
        source.get(part, spec).unwrap().data
    };
    assert!(matches!(
        get("embed.weight"),
        HostData::BF16(Cow::Borrowed(_))
    ));
    assert!(matches!(
        get("layers.0.qkv.weight"),
        HostData::BF16(Cow::Owned(_))
    ));
}

#[test]
fn digests_are_computed_when_asked_for() {
    let (_, _, mut source) = open(&fixture("llava/transformers5")).unwrap();
    assert!(source.info().files.is_empty());
    source.compute_digests();
    let files = &source.info().files;
    assert_eq!(files.len(), 3);
    for digest in files {
        let path = fixture("llava/transformers5").join(&digest.file);
        assert_eq!(digest.bytes, path.metadata().unwrap().len());
        assert_eq!(digest.sha256.len(), 64);
    }
    assert_ne!(files[0].sha256, files[1].sha256);
}

#[test]
fn fastvlm_configs_become_recipes() {
    let apple = recipe_from_folder(&fixture("fastvlm/llava_qwen2")).unwrap();
    let decoder = &apple.decoder().unwrap().config;
    assert_eq!(
        decoder.vocab, 176,
        "the padded table's rows, not the config's 160"
    );
    assert!(!decoder.tied, "the file's own head wins over the config");
    assert!(decoder.qkv_bias);
    assert_eq!((apple.resolution, apple.input_tokens().unwrap()), (128, 4));
    assert_eq!(apple.prompt.name, "qwen_2");
    assert_eq!(apple.image_token, Some(151));
    assert_eq!(apple.image, Some(ImagePolicy::fastvlm_pad()));

    let port = recipe_from_folder(&fixture("fastvlm/fast_vlm")).unwrap();
    assert_eq!(port.image, Some(ImagePolicy::fastvlm_crop()));
    assert_eq!(port.encoder, apple.encoder);
    assert_eq!(port.projector, apple.projector);
    assert_eq!(port.resolution, 128);
    assert_eq!(port.image_token, Some(151));
    assert_eq!(port.decoder().unwrap().config.rope_theta, 1e6);
}

#[test]
fn llava_and_bare_configs_become_recipes() {
    let llava = recipe_from_folder(&fixture("llava/published")).unwrap();
    let EncoderConfig::Vit(vit) = &llava.encoder().unwrap().config else {
        panic!("a ViT")
    };
    assert_eq!((vit.layers, vit.layers_run, vit.positions()), (3, 2, 17));
    assert_eq!(llava.prompt.name, "vicuna_v1");
    assert_eq!(llava.image, Some(ImagePolicy::clip()));
    let two_layers = ProjectorKind::Mlp { depth: 2 };
    assert_eq!(llava.projector().unwrap().kind, two_layers);
    let original = recipe_from_folder(&fixture("llava/llava")).unwrap();
    assert_eq!(original.image, Some(ImagePolicy::llava_pad()));
    assert_eq!(original.encoder, llava.encoder);

    let mobile = recipe_from_folder(&fixture("mobilevlm/mobilevlm")).unwrap();
    assert_eq!(mobile.projector().unwrap().kind, ProjectorKind::Ldpv2);
    assert_eq!(mobile.encoder_tokens().unwrap(), 24 * 24);
    assert_eq!(mobile.input_tokens().unwrap(), 12 * 12);
    // A grid of 20 cannot be pooled to 12.
    let e = mobile.clone().at_resolution(80).unwrap_err().to_string();
    assert!(e.contains("multiple of 12"), "{e}");

    let siglip = recipe_from_folder(&fixture("siglip/siglip")).unwrap();
    assert_eq!(siglip.image, Some(ImagePolicy::siglip()));
    // The last 4 of 60 pixels do not fill a patch of 14.
    assert_eq!(siglip.input_tokens().unwrap(), 16);
    let EncoderConfig::Vit(vit) = &siglip.encoder().unwrap().config else {
        panic!("a ViT")
    };
    assert_eq!((vit.layers, vit.layers_run), (3, 2));

    let convnext = recipe_from_folder(&fixture("convnext/transformers")).unwrap();
    assert_eq!(convnext.image, Some(ImagePolicy::dinov2()));
    // The last 6 of 70 pixels do not fill a position.
    let smaller = convnext.clone().at_resolution(70).unwrap();
    assert_eq!(convnext.input_tokens().unwrap(), 9);
    assert_eq!(smaller.input_tokens().unwrap(), 4);

    let dinov2 = recipe_from_folder(&fixture("dinov2/transformers")).unwrap();
    // 56 of 64 pixels, as 224 of 256.
    assert_eq!(dinov2.image, Some(ImagePolicy::dinov2()));

    let vitamin = recipe_from_folder(&fixture("vitamin/open_clip")).unwrap();
    let policy = vitamin.image.as_ref().unwrap();
    assert_eq!(policy.mean, ImagePolicy::clip().mean);
    assert_eq!(
        (vitamin.resolution, vitamin.input_tokens().unwrap()),
        (64, 16)
    );
    assert_eq!(vitamin.encoder().unwrap().label, "ViTamin (3 x 64)");

    let scales = recipe_from_folder(&fixture("multiscale/fastvit-average/timm")).unwrap();
    let encoder = scales.encoder().unwrap();
    assert_eq!(encoder.label, "FastViT (6 x 32), multi-scale (average)");
    // Three stages, and the final convolution of twice the last one's width.
    assert_eq!(encoder.config.feature_dim(), 8 + 16 + 32 + 64);
    let e = scales.clone().at_resolution(70).unwrap_err().to_string();
    assert!(e.contains("multiple of 32"), "{e}");

    let qwen = recipe_from_folder(&fixture("qwen2/qwen2")).unwrap();
    assert!(qwen.encoder.is_none() && qwen.projector.is_none());
    assert!(qwen.decoder().unwrap().config.tied);
    assert_eq!(qwen.prompt.name, "plain");

    let timm = recipe_from_folder(&fixture("mci0/timm-train")).unwrap();
    let policy = timm.image.as_ref().unwrap();
    assert_eq!(policy.crop_fraction, 0.95);
    assert_eq!((timm.resolution, timm.input_tokens().unwrap()), (64, 4));
}
