//! Decoding, resizing and preprocessing against Pillow, torchvision and transformers. The fixtures,
//! and the versions that made them, are described in `tools/fixtures/image_fixtures.py`.

use std::path::PathBuf;

use serde_json::Value;
use vlmbench_backends::image::policy::{CropOffset, Geometry};
use vlmbench_backends::image::resize::{PassOrder, Resample, Window, resize_window};
use vlmbench_backends::image::{
    ExifPolicy, ImageError, ImagePolicy, Interpolation, Rgb8, decode, resize,
};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/image")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

fn picture(name: &str) -> Rgb8 {
    decode(&bytes(name), ExifPolicy::Ignore).unwrap()
}

fn cases(name: &str) -> Vec<Value> {
    serde_json::from_slice(&bytes(name)).unwrap()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap()
}

fn number(case: &Value, key: &str) -> u32 {
    case[key].as_u64().unwrap().try_into().unwrap()
}

/// The values of a little-endian f32 `.npy` file of format version 1.
fn npy(name: &str) -> Vec<f32> {
    let bytes = bytes(name);
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[10 + header..]
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

fn largest_difference(a: &Rgb8, b: &Rgb8) -> u8 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    a.data()
        .iter()
        .zip(b.data())
        .map(|(a, b)| a.abs_diff(*b))
        .max()
        .unwrap()
}

#[test]
fn resize_is_pillows_to_the_bit() {
    let cases = cases("resize.json");
    assert_eq!(cases.len(), 100);
    for case in &cases {
        let filter: Interpolation = serde_json::from_value(case["filter"].clone()).unwrap();
        let source = picture(&format!("source_{}.png", text(case, "source")));
        let result = resize(
            &source,
            number(case, "width"),
            number(case, "height"),
            filter,
        )
        .unwrap();
        if let Some(pixels) = case["pixels"].as_str() {
            assert_eq!(largest_difference(&result, &picture(pixels)), 0, "{case}");
        }
        assert_eq!(result.sha256(), text(case, "sha256"), "{case}");
    }
}

#[test]
fn the_older_order_of_passes_differs_where_the_height_shrinks_most() {
    let source = picture("source_tall.png");
    let older = |width, height| {
        let how = Resample {
            filter: Interpolation::Bicubic,
            order: PassOrder::HorizontalFirst,
        };
        resize(&source, width, height, how).unwrap()
    };
    let newer = |width, height| resize(&source, width, height, Interpolation::Bicubic).unwrap();
    // 64x133 to 48x64: 69 rows fewer against 16 columns.
    assert_ne!(older(48, 64), newer(48, 64));
    // To 30x65: 68 rows fewer are not more than twice 34 columns.
    assert_eq!(older(30, 65), newer(30, 65));
    assert_eq!(
        older(48, 64),
        resize(&older(48, 133), 48, 64, Interpolation::Bicubic).unwrap()
    );
}

#[test]
fn a_window_is_cut_from_the_whole() {
    let source = picture("source_wide.png");
    let whole = resize(&source, 90, 70, Interpolation::Bicubic).unwrap();
    let window = Window {
        left: 13,
        top: 41,
        width: 50,
        height: 29,
    };
    let part = resize_window(&source, 90, 70, window, Interpolation::Bicubic).unwrap();
    let cut: Vec<u8> = (41..70)
        .flat_map(|y| whole.data()[3 * (y * 90 + 13)..][..150].to_vec())
        .collect();
    assert_eq!(part, Rgb8::new(50, 29, cut).unwrap());

    let outside = Window { left: 41, ..window };
    assert!(matches!(
        resize_window(&source, 90, 70, outside, Interpolation::Bicubic),
        Err(ImageError::OutsideWindow { .. })
    ));
}

#[test]
fn decoding_is_pillows_convert_rgb() {
    let cases = cases("decode.json");
    assert_eq!(cases.len(), 24);
    for case in &cases {
        let name = format!("decode/{}", text(case, "file"));
        let (decoded, expected) = (picture(&name), picture(&format!("{name}.rgb.png")));
        assert_eq!(
            expected.sha256(),
            text(case, "sha256"),
            "{name}: the expected picture itself"
        );
        let difference = largest_difference(&decoded, &expected);
        assert!(
            u32::from(difference) <= number(case, "tolerance"),
            "{name}: {difference} levels off"
        );

        let upright = decode(&bytes(&name), ExifPolicy::Apply).unwrap();
        let size: (u32, u32) = serde_json::from_value(case["upright_size"].clone()).unwrap();
        assert_eq!((upright.width(), upright.height()), size, "{name}");
    }
}

#[test]
fn orientation_moves_pixels_only_when_asked() {
    let bytes = bytes("decode/turned.jpg");
    let stored = decode(&bytes, ExifPolicy::Ignore).unwrap();
    let upright = decode(&bytes, ExifPolicy::Apply).unwrap();
    let (width, height) = (stored.width() as usize, stored.height() as usize);
    // Orientation 6: the stored left column, read upwards, is the upright top row.
    let left: Vec<u8> = (0..height)
        .rev()
        .flat_map(|y| stored.data()[3 * y * width..][..3].to_vec())
        .collect();
    assert_eq!(upright.data()[..3 * height], left);
}

#[test]
fn broken_files_say_what_is_wrong() {
    let error = |bytes: &[u8]| decode(bytes, ExifPolicy::Ignore).unwrap_err().to_string();
    assert_eq!(
        error(b"<html>no image"),
        "unknown image format: 14 bytes beginning with [3c, 68, 74, 6d, 6c, 3e, 6e, 6f] \
         (expected jpeg, png, webp, gif, bmp or tiff)"
    );
    assert!(error(b"").starts_with("unknown image format: 0 bytes"));
    for name in ["rgb.jpg", "progressive.jpg", "turned.jpg"] {
        let whole = bytes(&format!("decode/{name}"));
        let half = &whole[..whole.len() / 2];
        assert!(error(half).contains("truncated"), "{name}");
    }
    for name in [
        "rgb.png",
        "palette.gif",
        "rgb.bmp",
        "rgb.tif",
        "rgb_lossy.webp",
    ] {
        let whole = bytes(&format!("decode/{name}"));
        let message = error(&whole[..whole.len() / 2]);
        assert!(message.starts_with("failed to decode"), "{name}: {message}");
    }
}

#[test]
fn policies_match_their_reference_code() {
    let cases = cases("policy.json");
    assert_eq!(cases.len(), 20);
    for case in &cases {
        let policy = match text(case, "policy") {
            "clip" => ImagePolicy::clip(),
            "clip_surrounded" => ImagePolicy {
                crop_fraction: 1.25,
                ..ImagePolicy::clip()
            },
            "llava_pad" => ImagePolicy::llava_pad(),
            "fastvlm_pad" => ImagePolicy::fastvlm_pad(),
            "fastvlm_crop" => ImagePolicy::fastvlm_crop(),
            "siglip" => ImagePolicy::siglip(),
            "mobileclip" => ImagePolicy::mobileclip(),
            other => panic!("no policy {other}"),
        };
        let side = number(case, "side");
        let source = picture(&format!("source_{}.png", text(case, "source")));
        let pixels = policy.apply(&source, side).unwrap();
        let expected = npy(text(case, "tensor"));
        let side = side as usize;
        assert_eq!(
            (pixels.channels, pixels.height, pixels.width),
            (3, side, side)
        );
        assert_eq!(pixels.data.len(), expected.len());
        for (index, (got, expected)) in pixels.data.iter().zip(&expected).enumerate() {
            // One unit in the last place; a level is 1/255 / std, at least 0.0039.
            assert!(
                (got - expected).abs() <= f32::EPSILON * expected.abs(),
                "{case}: {got} for {expected} at {index}"
            );
        }
    }
}

#[test]
fn mean_padding_with_a_zero_mean_is_black_padding() {
    let source = picture("source_tall.png");
    let by_mean = ImagePolicy {
        geometry: Geometry::PadMean,
        ..ImagePolicy::fastvlm_pad()
    };
    assert_eq!(
        by_mean.apply(&source, 64).unwrap(),
        ImagePolicy::fastvlm_pad().apply(&source, 64).unwrap()
    );
}

#[test]
fn policy_reads_strictly() {
    let text = "{geometry: center_crop, interpolation: bilinear, mean: [0, 0, 0], std: [1, 1, 1], crop_offset: half_even}";
    let policy: ImagePolicy = serde_yaml::from_str(text).unwrap();
    assert_eq!(policy, ImagePolicy::mobileclip());
    assert_eq!(policy.crop_offset, CropOffset::HalfEven);
    let typo = text.replace("crop_offset", "crop_ofset");
    let error = serde_yaml::from_str::<ImagePolicy>(&typo)
        .unwrap_err()
        .to_string();
    assert!(error.contains("crop_ofset"), "{error}");
}

#[test]
fn unusable_policies_and_sides_are_refused() {
    let source = picture("source_dot.png");
    let refusal = |policy: ImagePolicy, side| policy.apply(&source, side).unwrap_err().to_string();
    let policy = ImagePolicy {
        std: [1.0, 0.0, 1.0],
        ..ImagePolicy::clip()
    };
    assert_eq!(
        refusal(policy, 8),
        "image policy: `std` is [1.0, 0.0, 1.0], expected three positive numbers"
    );
    let policy = ImagePolicy {
        mean: [122.0, 116.0, 104.0],
        ..ImagePolicy::clip()
    };
    assert!(refusal(policy, 8).contains("`mean`"));
    let policy = ImagePolicy {
        crop_fraction: 0.0,
        ..ImagePolicy::clip()
    };
    assert!(refusal(policy, 8).contains("`crop_fraction`"));
    assert!(refusal(ImagePolicy::siglip(), 0).contains("no pixels"));
}

#[test]
fn rgb_data_must_fit_its_size() {
    assert!(matches!(
        Rgb8::new(2, 2, vec![0; 11]),
        Err(ImageError::WrongLength {
            expected: 12,
            got: 11,
            ..
        })
    ));
    assert!(matches!(
        Rgb8::new(0, 2, vec![]),
        Err(ImageError::Empty { .. })
    ));
}
