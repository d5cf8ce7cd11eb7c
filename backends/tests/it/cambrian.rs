//! Cambrian-1 against a reference of its published definition: encoders of
//! transformers and timm, the aggregator and its samplers written from the
//! paper and the released code (`tools/fixtures/cambrian_fixtures.py`).

use vlmbench_backends::anyres::Placement;
use vlmbench_backends::backend::LoadedModel;
use vlmbench_backends::backend::{self, EngineOptions, LoadOptions, Precision};
use vlmbench_backends::checkpoint::{SeededSource, TowersSource, recipe_from_folder};
use vlmbench_backends::nets::sva::{Samplers, SvaTower};
use vlmbench_backends::nets::{
    EncoderConfig, ProjectorConfig, ProjectorKind, SvaConfig, Tower, TowersConfig,
};
use vlmbench_backends::recipe::{Encoder, Recipe, TowerInput};
use vlmbench_backends::weights::Inventory;

use super::parity::{
    CANDLE, check_answer, check_projected, engines, fixture, integers, load, pixels,
};

const TOWERS: [&str; 4] = ["siglip", "clip", "dinov2", "convnext"];

/// The recipe of the fixture: its encoders' own configurations in one.
pub fn recipe() -> Recipe {
    let grids = [(4, false), (4, false), (4, false), (8, true)];
    let mut towers = Vec::new();
    let mut inputs = Vec::new();
    for (name, (grid, stages)) in TOWERS.iter().zip(grids) {
        let own = recipe_from_folder(&fixture("cambrian").join(name)).unwrap();
        let mut config = own.encoder.unwrap().config;
        if let (EncoderConfig::Vit(c), "siglip") = (&mut config, *name) {
            (c.layers_run, c.post_norm) = (c.layers, true);
        }
        towers.push(Tower {
            config,
            side: own.resolution,
            grid,
            stages,
        });
        inputs.push(TowerInput {
            image: own.image.unwrap(),
            weights: None,
        });
    }
    let config = TowersConfig { towers };
    let mut recipe = recipe_from_folder(&fixture("llava/llava")).unwrap();
    let decoder = &mut recipe.decoder.as_mut().unwrap().config;
    (decoder.layers, decoder.kv_heads) = (4, 1);
    let sva = SvaConfig {
        width: 32,
        heads: 16,
        side: 4,
        depth: 3,
        towers: (config.towers.iter())
            .map(|tower| SvaTower {
                dim: tower.feature_dim(),
                window: tower.grid / 4,
            })
            .collect(),
        samplers: Some(Samplers {
            start: 0,
            stride: 2,
            count: 2,
        }),
    };
    recipe.projector = Some(ProjectorConfig {
        d_in: config.towers.iter().map(Tower::feature_dim).sum(),
        d_out: decoder.hidden,
        kind: ProjectorKind::Sva(sva),
        pooled: None,
        newline: true,
    });
    recipe.resolution = config.side();
    recipe.encoder = Some(Encoder {
        label: "four".into(),
        config: EncoderConfig::Towers(config),
    });
    recipe.towers = inputs;
    recipe.image = None;
    recipe
}

fn check(model: &mut dyn LoadedModel, recipe: &Recipe, suffix: &str, what: &str) {
    let file = |name: &str| fixture("cambrian").join(format!("reference/{name}{suffix}.npy"));
    let what = |part: &str| format!("{suffix} {part} with {what}");
    let inputs = TOWERS.map(|name| pixels(&file(&format!("input.{name}"))));
    let [height, width] = integers(&file("image_sizes"))[..] else {
        panic!("one image")
    };
    let place = Placement {
        width: width as u32,
        height: height as u32,
        grid: None,
    };
    let features = model.encode(&inputs).unwrap();
    let projected = model.project(&[features], &place).unwrap();
    let counted = recipe.visual_tokens(place.width, place.height);
    assert_eq!(counted.unwrap(), projected.tokens);
    check_projected(model, &projected, &file, &what);
    check_answer(recipe, model, vec![projected], &file, &what);
}

#[test]
fn cambrian_agrees_with_its_published_definition() {
    let recipe = recipe();
    let inventory = Inventory::of(&recipe).unwrap();
    let folders = TOWERS.map(|name| fixture("cambrian").join(name));
    let towers = folders.each_ref().map(|folder| folder.as_path());
    let rest = fixture("cambrian/model");
    let source = TowersSource::open(&towers, &rest, &recipe, &inventory).unwrap();
    for engine in engines() {
        if engine.backend != CANDLE.backend {
            continue;
        }
        let mut model = load(&recipe, &source, Precision::F32, engine);
        for suffix in ["", "_wide"] {
            check(model.as_mut(), &recipe, suffix, &format!("{engine:?}"));
        }
    }
}

#[test]
fn inputs_that_are_not_one_of_each_encoder_are_an_error() {
    let recipe = recipe();
    let mut model = load(&recipe, &SeededSource::new(1), Precision::F32, CANDLE);
    let file = fixture("cambrian/reference/input.clip.npy");
    let error = model.encode(&[pixels(&file)]).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("each encoder"), "{error}");
    let resized = recipe.clone().at_resolution(32).unwrap_err();
    assert!(resized.to_string().contains("resolution"), "{resized}");
}

#[test]
fn an_engine_that_cannot_run_it_says_so() {
    let recipe = recipe();
    let options = EngineOptions::new("cpu", Precision::F32, 1);
    let Ok(engine) = backend::open("onnxruntime", &options) else {
        return;
    };
    let inventory = Inventory::of(&recipe).unwrap();
    let loaded = engine.load(
        &recipe,
        &inventory,
        &SeededSource::new(1),
        LoadOptions { context: 64 },
    );
    let error = loaded.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("candle"), "{error}");
}
