//! Reading parquet exports.

use std::path::Path;

use polars::prelude::*;
use vlmbench_suites::{Dataset, OpenOptions, QuestionKind, SuiteError, sha256_file};

use crate::fixtures::{self, MMMU, frame, images, open, pixels, spec, text, write};

fn ids(dataset: &Dataset) -> Vec<&str> {
    dataset
        .samples()
        .iter()
        .map(|sample| sample.id.as_str())
        .collect()
}

fn error(suite: &str, path: &Path) -> String {
    let opened = Dataset::open(&spec(suite), path, &OpenOptions::default());
    opened.expect_err("the data is wrong").to_string()
}

#[test]
fn textvqa_over_shards_and_row_groups() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        "data/validation-00000-of-00002.parquet",
        &fixtures::textvqa(&[34602, 34603, 34604], 0),
    );
    write(
        root.path(),
        "data/validation-00001-of-00002.parquet",
        &fixtures::textvqa(&[34605, 34606], 0),
    );
    write(
        root.path(),
        "data/train-00000-of-00001.parquet",
        &fixtures::textvqa(&[1], 0),
    );
    let dataset = open("textvqa", root.path());
    assert_eq!(ids(&dataset), ["34602", "34603", "34604", "34605", "34606"]);
    assert_eq!(
        (
            dataset.split(),
            dataset.missing_shards(),
            dataset.files().len()
        ),
        ("validation", 0, 2)
    );
    let sample = &dataset.samples()[3];
    assert_eq!(sample.question, "what does SIGN 34605 say?");
    assert_eq!(sample.golds, vec!["answer 34605"; 10]);
    assert_eq!(sample.ocr_tokens, ["EXIT", "12"]);
    assert_eq!(dataset.index_of("34606"), Some(4));

    // Images come for the samples that are asked for, in that order.
    let order = [4, 0, 1, 2];
    let found: Vec<_> = dataset.images(order).collect();
    assert_eq!(
        found.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
        order
    );
    for (index, slots) in found {
        let slots = slots.unwrap();
        let image = slots[0].as_ref().unwrap();
        let name = format!("{}.jpg", dataset.samples()[index].id);
        assert_eq!((slots.len(), image.bytes.clone()), (1, pixels(&name)));
        assert_eq!(image.path, Some(name));
    }
}

#[test]
fn another_split_and_a_limit() {
    let root = tempfile::tempdir().unwrap();
    for shard in 0..3 {
        let start = 10 * shard;
        let file = format!("data/train-0000{shard}-of-00004.parquet");
        write(
            root.path(),
            &file,
            &fixtures::textvqa(&[start, start + 1, start + 2], 0),
        );
    }
    let options = OpenOptions {
        split: Some("train".to_owned()),
        limit: Some(4),
        ..OpenOptions::default()
    };
    let dataset = Dataset::open(&spec("textvqa"), root.path(), &options).unwrap();
    assert_eq!(ids(&dataset), ["0", "1", "2", "10"]);
    assert_eq!((dataset.files().len(), dataset.missing_shards()), (2, 1));
    let message = error("textvqa", root.path());
    assert!(
        message.contains("split `validation`") && message.ends_with("found splits `train`"),
        "{message}"
    );
}

#[test]
fn docvqa_is_not_mixed_with_infographics() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        "DocVQA/validation-00000-of-00001.parquet",
        &fixtures::docvqa(&["49153", "24580"]),
    );
    write(
        root.path(),
        "InfographicVQA/validation-00000-of-00001.parquet",
        &fixtures::docvqa(&["98313"]),
    );
    let dataset = open("docvqa", root.path());
    assert_eq!(ids(&dataset), ["49153", "24580"]);
    assert_eq!(dataset.samples()[0].golds, ["zzzzzz", "Invoice 49153"]);
    let options = OpenOptions {
        config: Some("InfographicVQA".to_owned()),
        ..OpenOptions::default()
    };
    let other = Dataset::open(&spec("docvqa"), root.path(), &options).unwrap();
    assert_eq!(ids(&other), ["98313"]);
    // A folder of one configuration, or one file, needs no name that says so.
    assert_eq!(open("docvqa", &root.path().join("DocVQA")).len(), 2);
    assert_eq!(
        open(
            "docvqa",
            &root.path().join("DocVQA/validation-00000-of-00001.parquet")
        )
        .len(),
        2
    );
}

#[test]
fn seedbench_leaves_videos_out_and_knows_them() {
    let root = tempfile::tempdir().unwrap();
    let rows = [
        ("101", "image", "A"),
        ("v1", "video", "B"),
        ("102", "image", "D"),
        ("v2", "video", "C"),
    ];
    let path = write(
        root.path(),
        "data/test-00000-of-00001.parquet",
        &fixtures::seedbench(&rows),
    );
    let dataset = open("seedbench", &path);
    assert_eq!(ids(&dataset), ["101", "102"]);
    assert_eq!(dataset.excluded().iter().collect::<Vec<_>>(), ["v1", "v2"]);
    assert_eq!(
        dataset.samples()[1].choices,
        ["One", "Two", "Three", "Four"]
    );
    assert_eq!(dataset.samples()[1].groups["question_type_id"], "1");
    let (_, slots) = dataset.images([1]).next().unwrap();
    let slots = slots.unwrap();
    assert_eq!(slots.len(), 1);
    assert_eq!(slots[0].as_ref().unwrap().bytes, pixels("102"));

    // Without question_id the other key of the file is taken.
    let renamed = fixtures::seedbench(&rows).drop("question_id").unwrap();
    let path = write(root.path(), "renamed.parquet", &renamed);
    assert_eq!(ids(&open("seedbench", &path)), ["v2", "v1"]);
}

#[test]
fn mmmu_options_kinds_and_image_slots() {
    let root = tempfile::tempdir().unwrap();
    let path = write(
        root.path(),
        "data/validation-00000-of-00001.parquet",
        &fixtures::mmmu(&MMMU),
    );
    let dataset = open("mmmu", &path);
    assert_eq!(dataset.len(), 5);
    assert_eq!(dataset.samples()[0].choices, ["Monet", "O'Keeffe", "Klee"]);
    assert_eq!(dataset.samples()[0].kind, QuestionKind::MultipleChoice);
    assert_eq!(dataset.samples()[3].kind, QuestionKind::Open);
    assert_eq!(dataset.samples()[2].groups["subject"], "Art_Theory");
    let (_, slots) = dataset.images([1]).next().unwrap();
    let held: Vec<bool> = slots.unwrap().iter().map(Option::is_some).collect();
    assert_eq!(held, [true, true, false, false, false, false, false]);

    // Fewer image columns are empty slots, not an error.
    let fewer = fixtures::mmmu(&MMMU).drop_many(["image_2", "image_7"]);
    let path = write(root.path(), "fewer.parquet", &fewer);
    let dataset = open("mmmu", &path);
    let (_, slots) = dataset.images([1]).next().unwrap();
    assert_eq!(
        slots.unwrap().iter().filter(|slot| slot.is_some()).count(),
        1
    );

    let mut rows = MMMU;
    rows[1].options = "['<image 2>', '<image 1>'";
    let path = write(root.path(), "bad.parquet", &fixtures::mmmu(&rows));
    let message = error("mmmu", &path);
    assert!(
        message.contains("bad.parquet: row 1, column `options`: not a python list"),
        "{message}"
    );
}

#[test]
fn types_that_mean_the_same_are_read_alike() {
    let root = tempfile::tempdir().unwrap();
    let plain = fixtures::textvqa(&[5, 6, 7], 2);
    let mut other = plain.clone();
    other
        .with_column(
            plain
                .column("question_id")
                .unwrap()
                .cast(&DataType::Int64)
                .unwrap(),
        )
        .unwrap();
    let categories = DataType::from_categories(Categories::global());
    other
        .with_column(plain.column("question").unwrap().cast(&categories).unwrap())
        .unwrap();
    let list = DataType::List(Box::new(categories));
    other
        .with_column(plain.column("answers").unwrap().cast(&list).unwrap())
        .unwrap();
    let a = open("textvqa", &write(root.path(), "a.parquet", &plain));
    let b = open("textvqa", &write(root.path(), "b.parquet", &other));
    assert_eq!(a.samples(), b.samples());
    assert_eq!(a.digest(), b.digest());
}

#[test]
fn the_digest_sees_questions_and_golds_and_not_the_files() {
    let root = tempfile::tempdir().unwrap();
    let whole = write(
        root.path(),
        "whole.parquet",
        &fixtures::textvqa(&[7, 5, 6], 0),
    );
    write(
        root.path(),
        "shards/validation-00000-of-00002.parquet",
        &fixtures::textvqa(&[6], 0),
    );
    write(
        root.path(),
        "shards/validation-00001-of-00002.parquet",
        &fixtures::textvqa(&[7, 5], 0),
    );
    let other = write(
        root.path(),
        "other.parquet",
        &fixtures::textvqa(&[7, 5, 6], 1),
    );
    let digest = open("textvqa", &whole).digest();
    assert_eq!(digest.len(), 64);
    assert_eq!(
        digest,
        open("textvqa", &root.path().join("shards")).digest()
    );
    assert_ne!(digest, open("textvqa", &other).digest());
    assert_ne!(sha256_file(&whole).unwrap(), sha256_file(&other).unwrap());
    std::fs::write(root.path().join("abc"), "abc").unwrap();
    assert_eq!(
        sha256_file(&root.path().join("abc")).unwrap(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn schema_errors_name_file_column_and_types() {
    let root = tempfile::tempdir().unwrap();
    let good = fixtures::textvqa(&[1, 2], 0);
    let cases = [
        (
            good.drop("question").unwrap(),
            "no column `question` (expected text)",
        ),
        (good.drop("image").unwrap(), "no column `image`"),
        (
            good.drop("question_id").unwrap(),
            "no column `question_id` (expected text or an integer)",
        ),
        (
            good.clone()
                .with_column(Column::from(text("answers", &["a", "b"])))
                .unwrap()
                .clone(),
            "column `answers` is str, expected a list of texts",
        ),
        (
            good.clone()
                .with_column(Column::from(text("image", &["a.jpg", "b.jpg"])))
                .unwrap()
                .clone(),
            "column `image` is str, expected an image {bytes, path}",
        ),
        (
            good.clone()
                .with_column(Column::from(Series::new("question".into(), [1.5, 2.5])))
                .unwrap()
                .clone(),
            "column `question` is f64, expected text",
        ),
    ];
    for (index, (frame, expected)) in cases.iter().enumerate() {
        let path = write(root.path(), &format!("case-{index}.parquet"), frame);
        let message = error("textvqa", &path);
        assert!(message.contains(expected), "{message}");
        assert!(
            message.contains(&format!("case-{index}.parquet")),
            "{message}"
        );
    }
    std::fs::write(root.path().join("not.parquet"), "PAR?").unwrap();
    assert!(error("textvqa", &root.path().join("not.parquet")).contains("not.parquet as parquet"));
    assert!(error("textvqa", &root.path().join("absent")).contains("cannot read"));
}

#[test]
fn rows_that_are_no_samples_are_named() {
    let root = tempfile::tempdir().unwrap();
    let path = write(
        root.path(),
        "twice.parquet",
        &fixtures::textvqa(&[1, 2, 3, 2], 0),
    );
    assert!(error("textvqa", &path).ends_with("twice.parquet: row 3 repeats id `2`"));
    let mut nulls = fixtures::textvqa(&[1, 2, 3], 0);
    nulls
        .with_column(Column::from(Series::new(
            "question".into(),
            [Some("a"), Some("b"), None],
        )))
        .unwrap();
    let path = write(root.path(), "null.parquet", &nulls);
    assert!(error("textvqa", &path).ends_with("null.parquet: row 2, column `question`: is null"));
}

#[test]
fn an_image_that_is_not_there_fails_its_sample_only() {
    let root = tempfile::tempdir().unwrap();
    let mut rows = fixtures::textvqa(&[1, 2, 3], 0);
    rows.with_column(Column::from(images(
        "image",
        &[Some("1.jpg"), None, Some("3.jpg")],
    )))
    .unwrap();
    let dataset = open("textvqa", &write(root.path(), "null.parquet", &rows));
    let slots: Vec<_> = dataset
        .images(0..3)
        .map(|(_, slots)| slots.unwrap())
        .collect();
    assert_eq!(slots[1], [None]);
    assert!(slots[0][0].is_some() && slots[2][0].is_some());

    let bytes =
        BinaryChunked::from_iter_options("bytes".into(), [Some(b"x".as_slice()), None].into_iter());
    let columns = [bytes.into_series(), text("path", &["1.jpg", "2.jpg"])];
    let image = StructChunked::from_series("image".into(), 2, columns.iter()).unwrap();
    let mut rows = fixtures::textvqa(&[1, 2], 0);
    rows.with_column(Column::from(image.into_series())).unwrap();
    let dataset = open("textvqa", &write(root.path(), "path.parquet", &rows));
    let found: Vec<_> = dataset.images(0..2).map(|(_, slots)| slots).collect();
    assert!(found[0].is_ok());
    let Err(SuiteError::BadRow { row, problem, .. }) = &found[1] else {
        panic!("a path is no image: {found:?}");
    };
    assert_eq!((*row, problem.contains("2.jpg")), (1, true));
}

#[test]
fn scoring_never_reads_the_images() {
    let root = tempfile::tempdir().unwrap();
    let path = write(root.path(), "x.parquet", &fixtures::textvqa(&[1, 2, 3], 0));
    let mut file = std::fs::read(&path).unwrap();
    let mut reader = ParquetReader::new(std::fs::File::open(&path).unwrap());
    let metadata = reader.get_metadata().unwrap().clone();
    for group in &metadata.row_groups {
        for column in group.columns_under_root_iter("image").unwrap() {
            let range = column.byte_range();
            file[range.start as usize..range.end as usize].fill(0xff);
        }
    }
    std::fs::write(&path, file).unwrap();
    let dataset = open("textvqa", &path);
    assert_eq!(dataset.samples()[2].golds[0], "answer 3");
    assert!(dataset.images([0]).all(|(_, slots)| slots.is_err()));
}

#[test]
fn a_test_split_without_answers_opens() {
    let root = tempfile::tempdir().unwrap();
    let hidden = fixtures::docvqa(&["1", "2"]).drop("answers").unwrap();
    let path = write(root.path(), "test-00000-of-00001.parquet", &hidden);
    assert!(
        open("docvqa", &path)
            .samples()
            .iter()
            .all(|sample| sample.golds.is_empty())
    );
    let nulls = Series::full_null(
        "answers".into(),
        2,
        &DataType::List(Box::new(DataType::String)),
    );
    let columns = hidden
        .columns()
        .iter()
        .cloned()
        .map(|c| c.take_materialized_series());
    let hidden = frame(columns.chain([nulls]).collect());
    let path = write(root.path(), "null.parquet", &hidden);
    assert!(open("docvqa", &path).samples()[1].golds.is_empty());
}
