//! Images in tiles against transformers: the tiles' pixels, the order of the
//! tokens, their number, and what a model answers.
//!
//! References are computed by `tools/fixtures/anyres_fixtures.py`.

use std::path::Path;

use serde::Deserialize;
use vlmbench_backends::anyres::{EncodeTiles, Grids, Merge, Tiling};
use vlmbench_backends::backend::{Features, LoadedModel};
use vlmbench_backends::checkpoint::recipe_from_folder;
use vlmbench_backends::image::{ExifPolicy, Rgb8, decode};
use vlmbench_backends::recipe::{Inputs, Recipe};

use super::parity::{
    assert_close, check_answer, check_projected, engines, fixture, floats, integers, open_on,
};

const LAYOUTS: [&str; 3] = ["published", "transformers5", "llava"];
const SUFFIXES: [&str; 3] = ["", "_tall", "_large"];

fn image(path: &Path) -> Rgb8 {
    decode(&std::fs::read(path).unwrap(), ExifPolicy::Ignore).unwrap()
}

/// The visual tokens of an image.
fn see(model: &mut dyn LoadedModel, inputs: &Inputs) -> Features {
    let encoded = inputs.batches().map(|batch| model.encode(batch).unwrap());
    let encoded: Vec<Features> = encoded.collect();
    model.project(&encoded, &inputs.place).unwrap()
}

fn check(family: &str, layout: &str) {
    for engine in engines() {
        let (mut recipe, mut model) = open_on(&format!("{family}/{layout}"), engine);
        for encode in [EncodeTiles::Batched, EncodeTiles::Sequential] {
            recipe.tiles.as_mut().unwrap().encode = encode;
            for suffix in SUFFIXES {
                let name = |name: &str| fixture(family).join(format!("reference/{name}{suffix}"));
                let file = |stem: &str| name(stem).with_added_extension("npy");
                let what = |part: &str| format!("{family}/{layout}{suffix} {part} {engine:?}");
                let image = image(&name("image").with_added_extension("png"));
                let inputs = recipe.prepare(&image, 1).unwrap();
                let (_, expected) = floats(&file("input"));
                let got: Vec<f32> = inputs.pixels.iter().flat_map(|p| p.data.clone()).collect();
                assert_close(&what("pixels"), &got, &expected, 1e-6);
                let seen = see(model.as_mut(), &inputs);
                let counted = recipe.visual_tokens(image.width(), image.height());
                assert_eq!(counted.unwrap(), seen.tokens);
                check_projected(model.as_ref(), &seen, &file, &what);
                check_answer(&recipe, model.as_mut(), vec![seen], &file, &what);
            }
        }
    }
}

#[test]
fn llava_onevision_agrees_with_transformers_in_every_layout() {
    for layout in LAYOUTS {
        check("llava-onevision", layout);
    }
}

#[test]
fn llava_next_agrees_with_transformers_in_every_layout() {
    for layout in LAYOUTS {
        check("llava-next", layout);
    }
}

#[test]
fn the_fixtures_have_tiles_of_several_grids_and_a_shrunk_one() {
    let recipe = recipe_from_folder(&fixture("llava-onevision/llava")).unwrap();
    let grids = SUFFIXES.map(|suffix| {
        let sizes = fixture("llava-onevision/reference").join(format!("image_sizes{suffix}.npy"));
        let [height, width] = integers(&sizes)[..] else {
            panic!("{sizes:?}")
        };
        let place = recipe.place(width as u32, height as u32);
        let mix = recipe.arrangement(&place).unwrap().unwrap();
        (place.grid.unwrap().into(), mix.widest())
    });
    assert_eq!(grids, [([2, 1], 1), ([1, 3], 4), ([3, 3], 4)]);
}

/// A row of the table of token counts.
#[derive(Deserialize)]
struct Row {
    width: u32,
    height: u32,
    onevision: usize,
    next: usize,
}

#[test]
fn token_counts_are_those_of_the_published_processors() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/anyres_tokens.json");
    let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(table).unwrap()).unwrap();
    assert!(rows.len() > 50);
    let onevision = Tiling {
        grids: Grids::UpTo([6, 6].into()),
        merge: Merge::SpatialUnpad,
        shrink_above: Some(9),
        encode: EncodeTiles::default(),
        single_image_only: true,
    };
    let next = Tiling {
        // transformers' order, which is not that of LLaVA's own code.
        grids: Grids::Of(
            [[2, 1], [1, 2], [2, 2], [1, 3], [3, 1]]
                .map(Into::into)
                .into(),
        ),
        shrink_above: None,
        ..onevision.clone()
    };
    for row in rows {
        let count = |tiling: &Tiling, side: usize, tokens: usize| {
            let place = tiling.place(row.width, row.height, side);
            tiling.arrange(&place, tokens).unwrap().len()
        };
        let size = (row.width, row.height);
        assert_eq!(count(&onevision, 384, 729), row.onevision, "{size:?}");
        assert_eq!(count(&next, 336, 576), row.next, "{size:?}");
    }
}

#[test]
fn one_of_several_images_is_tiled_only_where_the_recipe_says_so() {
    let photo = Rgb8::filled(90, 70, [10, 20, 30]).unwrap();
    let shape = |family: &str, images: usize| {
        let recipe: Recipe = recipe_from_folder(&fixture(family).join("llava")).unwrap();
        let inputs = recipe.prepare(&photo, images).unwrap();
        let tokens = recipe.arrangement(&inputs.place).unwrap().unwrap().len();
        (inputs.pixels.len(), tokens)
    };
    // A square of 4 x 4 tokens and one newline.
    assert_eq!(shape("llava-onevision", 2), (1, 17));
    assert_eq!(shape("llava-onevision", 1).0, 10);
    assert_eq!(shape("llava-next", 2), shape("llava-next", 1));
}

#[test]
fn tokens_that_do_not_lie_in_a_square_cannot_be_unpadded() {
    let mut recipe = recipe_from_folder(&fixture("llava-next/llava")).unwrap();
    recipe.tiles.as_mut().unwrap().grids = Grids::Of(Vec::new());
    let error = recipe.at_resolution(32).unwrap_err().to_string();
    assert!(error.contains("tiles.grids"), "{error}");
}
