//! Generated samples as parquet files, column by column as the published data
//! sets have them.

use polars::prelude::*;

use super::Item;
use super::pages::Page;
use super::scenes::{LETTERS, Scene};
use super::signs::Signs;

/// Columns of TextVQA.
pub(super) fn textvqa(items: &[Item<Signs>], set: &str) -> PolarsResult<DataFrame> {
    let sizes = |side: fn(&Signs) -> usize| {
        items
            .iter()
            .map(|item| side(&item.sample) as i32)
            .collect::<Vec<_>>()
    };
    frame(vec![
        texts("image_id", items.iter().map(|item| item.name.clone())),
        Series::new(
            "question_id".into(),
            items
                .iter()
                .map(|item| item.index as i32)
                .collect::<Vec<_>>(),
        ),
        texts(
            "question",
            items.iter().map(|item| item.sample.question.clone()),
        ),
        lists(
            "question_tokens",
            items.iter().map(|item| tokens(&item.sample.question)),
        ),
        images("image", items)?,
        Series::new(
            "image_width".into(),
            sizes(|signs| signs.picture.canvas.width),
        ),
        Series::new(
            "image_height".into(),
            sizes(|signs| signs.picture.canvas.height),
        ),
        texts("flickr_original_url", items.iter().map(|_| String::new())),
        texts("flickr_300k_url", items.iter().map(|_| String::new())),
        lists(
            "answers",
            items.iter().map(|item| item.sample.answers.clone()),
        ),
        lists(
            "image_classes",
            items.iter().map(|item| {
                item.sample
                    .classes
                    .iter()
                    .map(|class| (*class).to_owned())
                    .collect()
            }),
        ),
        texts("set_name", items.iter().map(|_| set.to_owned())),
        lists(
            "ocr_tokens",
            items.iter().map(|item| item.sample.words.clone()),
        ),
    ])
}

/// Columns of DocVQA.
pub(super) fn docvqa(items: &[Item<Page>], set: &str) -> PolarsResult<DataFrame> {
    frame(vec![
        texts(
            "questionId",
            items.iter().map(|item| item.index.to_string()),
        ),
        texts(
            "question",
            items.iter().map(|item| item.sample.question.clone()),
        ),
        lists(
            "question_types",
            items.iter().map(|item| {
                item.sample
                    .types
                    .iter()
                    .map(|kind| (*kind).to_owned())
                    .collect()
            }),
        ),
        images("image", items)?,
        Series::new(
            "docId".into(),
            items
                .iter()
                .map(|item| item.index as i64)
                .collect::<Vec<_>>(),
        ),
        texts(
            "ucsf_document_id",
            items.iter().map(|item| item.name.clone()),
        ),
        texts(
            "ucsf_document_page_no",
            items.iter().map(|_| "1".to_owned()),
        ),
        lists(
            "answers",
            items.iter().map(|item| item.sample.answers.clone()),
        ),
        texts("data_split", items.iter().map(|_| set.to_owned())),
    ])
}

/// Columns of SEED-Bench.
pub(super) fn seedbench(items: &[Item<Scene>]) -> PolarsResult<DataFrame> {
    let choice = |name: &str, at: usize| {
        texts(
            name,
            items.iter().map(|item| item.sample.choices[at].clone()),
        )
    };
    let letter = |item: &Item<Scene>| LETTERS[item.sample.answer].to_owned();
    let pictures = images("item", items)?;
    let lists: Vec<Series> = (0..items.len())
        .map(|row| pictures.slice(row as i64, 1))
        .collect();
    let segments = vec![Series::new_empty("item".into(), &DataType::Int64); items.len()];
    frame(vec![
        texts("answer", items.iter().map(letter)),
        choice("choice_a", 0),
        choice("choice_b", 1),
        choice("choice_c", 2),
        choice("choice_d", 3),
        texts("data_id", items.iter().map(|item| item.name.clone())),
        texts("data_type", items.iter().map(|_| "image".to_owned())),
        texts(
            "question",
            items.iter().map(|item| item.sample.question.clone()),
        ),
        texts(
            "question_id",
            items.iter().map(|item| item.index.to_string()),
        ),
        Series::new(
            "question_type_id".into(),
            items
                .iter()
                .map(|item| item.sample.kind)
                .collect::<Vec<_>>(),
        ),
        Series::new("image".into(), lists),
        Series::new("segment".into(), segments),
    ])
}

/// Words and marks of a question, as TextVQA lists them.
fn tokens(question: &str) -> Vec<String> {
    question
        .trim_end_matches('?')
        .to_lowercase()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

fn frame(columns: Vec<Series>) -> PolarsResult<DataFrame> {
    DataFrame::new_infer_height(columns.into_iter().map(Column::from).collect())
}

fn texts(name: &str, values: impl Iterator<Item = String>) -> Series {
    Series::new(name.into(), values.collect::<Vec<_>>())
}

fn lists(name: &str, rows: impl Iterator<Item = Vec<String>>) -> Series {
    let rows: Vec<Series> = rows.map(|row| Series::new("item".into(), row)).collect();
    Series::new(name.into(), rows)
}

/// A column of the hub's `Image` feature.
fn images<S>(name: &str, items: &[Item<S>]) -> PolarsResult<Series> {
    let bytes = items.iter().map(|item| Some(item.png.as_slice()));
    let bytes = BinaryChunked::from_iter_options("bytes".into(), bytes).into_series();
    let paths = texts(
        "path",
        items.iter().map(|item| format!("{}.png", item.name)),
    );
    let column = StructChunked::from_series(name.into(), items.len(), [bytes, paths].iter())?;
    Ok(column.into_series())
}
