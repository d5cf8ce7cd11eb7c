//! Small parquet files in the layouts of the real exports.

use std::fs::File;
use std::path::{Path, PathBuf};

use polars::prelude::*;
use vlmbench_suites::{Dataset, OpenOptions, Suite, SuiteSpec};

/// The definition of a suite as it ships.
pub fn spec(id: &str) -> SuiteSpec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../configs/suites/{id}.yaml"));
    let text = std::fs::read_to_string(path).expect("the suite's file");
    serde_yaml::from_str(&text).expect("a suite")
}

pub fn suite(id: &str, profile: &str) -> Suite {
    Suite::new(&spec(id), profile).expect("a profile")
}

pub fn open(id: &str, path: &Path) -> Dataset {
    Dataset::open(&spec(id), path, &OpenOptions::default()).expect("a data set")
}

/// Writes a frame with two rows a row group.
pub fn write(root: &Path, file: &str, frame: &DataFrame) -> PathBuf {
    let path = root.join(file);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    ParquetWriter::new(File::create(&path).expect("a file"))
        .with_compression(ParquetCompression::Uncompressed)
        .with_row_group_size(Some(2))
        .finish(&mut frame.clone())
        .expect("a parquet file");
    path
}

pub fn frame(columns: Vec<Series>) -> DataFrame {
    DataFrame::new_infer_height(columns.into_iter().map(Column::from).collect())
        .expect("columns of one length")
}

pub fn text(name: &str, values: &[&str]) -> Series {
    Series::new(name.into(), values)
}

pub fn lists(name: &str, rows: &[Vec<&str>]) -> Series {
    let rows: Vec<Series> = rows
        .iter()
        .map(|row| Series::new("item".into(), row))
        .collect();
    Series::new(name.into(), rows)
}

/// The bytes that stand for the image of that name.
pub fn pixels(name: &str) -> Vec<u8> {
    [b"\xff\xd8", name.as_bytes(), &[0; 600]].concat()
}

/// An `Image` column; `None` is a null cell.
pub fn images(column: &str, rows: &[Option<&str>]) -> Series {
    let bytes: Vec<Option<Vec<u8>>> = rows.iter().map(|name| name.map(pixels)).collect();
    let bytes =
        BinaryChunked::from_iter_options("bytes".into(), bytes.iter().map(Option::as_deref));
    let paths = Series::new("path".into(), rows);
    StructChunked::from_series(
        column.into(),
        rows.len(),
        [bytes.into_series(), paths].iter(),
    )
    .expect("a struct")
    .into_series()
}

/// A column of lists of images.
pub fn image_lists(column: &str, rows: &[Vec<&str>]) -> Series {
    let rows: Vec<Series> = rows
        .iter()
        .map(|row| images("item", &row.iter().copied().map(Some).collect::<Vec<_>>()))
        .collect();
    Series::new(column.into(), rows)
}

/// TextVQA rows `ids`, the annotators agreeing on `answer <id>` but for `dissent` of the ten.
pub fn textvqa(ids: &[i32], dissent: usize) -> DataFrame {
    let names: Vec<String> = ids.iter().map(|id| format!("{id}.jpg")).collect();
    let answers: Vec<String> = ids.iter().map(|id| format!("answer {id}")).collect();
    let golds: Vec<Vec<&str>> = answers
        .iter()
        .map(|gold| {
            (0..10)
                .map(|n| if n < dissent { "other" } else { gold })
                .collect()
        })
        .collect();
    let questions: Vec<String> = ids
        .iter()
        .map(|id| format!("what does SIGN {id} say?"))
        .collect();
    frame(vec![
        text("image_id", &vec!["x"; ids.len()]),
        Series::new("question_id".into(), ids),
        Series::new("question".into(), questions),
        images(
            "image",
            &names
                .iter()
                .map(|name| Some(name.as_str()))
                .collect::<Vec<_>>(),
        ),
        lists("answers", &golds),
        lists("ocr_tokens", &vec![vec!["EXIT", "12"]; ids.len()]),
    ])
}

/// DocVQA rows with two golds each.
pub fn docvqa(ids: &[&str]) -> DataFrame {
    let golds: Vec<String> = ids.iter().map(|id| format!("Invoice {id}")).collect();
    let golds: Vec<Vec<&str>> = golds
        .iter()
        .map(|gold| vec!["zzzzzz", gold.as_str()])
        .collect();
    frame(vec![
        text("questionId", ids),
        text("question", &vec!["What is written?"; ids.len()]),
        lists("question_types", &vec![vec!["layout"]; ids.len()]),
        images("image", &ids.iter().copied().map(Some).collect::<Vec<_>>()),
        Series::new("docId".into(), vec![7_i64; ids.len()]),
        lists("answers", &golds),
        text("data_split", &vec!["val"; ids.len()]),
    ])
}

/// SEED-Bench rows `(question_id, data_type, answer)`.
pub fn seedbench(rows: &[(&str, &str, &str)]) -> DataFrame {
    let ids: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let kinds: Vec<&str> = rows.iter().map(|row| row.1).collect();
    let answers: Vec<&str> = rows.iter().map(|row| row.2).collect();
    let frames: Vec<Vec<&str>> = rows
        .iter()
        .map(|row| vec![row.0; if row.1 == "video" { 8 } else { 1 }])
        .collect();
    let types: Vec<i64> = (0..rows.len() as i64).map(|n| n % 2 + 1).collect();
    frame(vec![
        text("answer", &answers),
        text("choice_a", &vec!["One"; rows.len()]),
        text("choice_b", &vec!["Two"; rows.len()]),
        text("choice_c", &vec!["Three"; rows.len()]),
        text("choice_d", &vec!["Four"; rows.len()]),
        text("data_id", &ids.iter().rev().copied().collect::<Vec<_>>()),
        text("data_type", &kinds),
        text(
            "question",
            &vec!["How many towels are in the image?"; rows.len()],
        ),
        text("question_id", &ids),
        Series::new("question_type_id".into(), types),
        image_lists("image", &frames),
    ])
}

/// One MMMU row.
#[derive(Clone, Copy)]
pub struct Mmmu {
    pub id: &'static str,
    pub question: &'static str,
    pub options: &'static str,
    pub answer: &'static str,
    pub images: [Option<&'static str>; 2],
}

/// Five rows of two subjects: three multiple choice, two open, one of these with a list of golds.
pub const MMMU: [Mmmu; 5] = [
    Mmmu {
        id: "validation_Art_1",
        question: "Who painted <image 1>?",
        options: r#"['Monet', "O'Keeffe", 'Klee']"#,
        answer: "B",
        images: [Some("a1"), None],
    },
    Mmmu {
        id: "validation_Art_2",
        question: "Which is older?",
        options: "['<image 2>', '<image 1>']",
        answer: "A",
        images: [Some("a2"), Some("a3")],
    },
    Mmmu {
        id: "validation_Art_Theory_1",
        question: "Name the style of <image 1>.",
        options: "['Dada', 'Op', 'Pop', 'Minimal', 'Fluxus']",
        answer: "E",
        images: [Some("a4"), None],
    },
    Mmmu {
        id: "validation_Math_1",
        question: "Find x in <image 1>.",
        options: "[]",
        answer: "8.4",
        images: [Some("m1"), None],
    },
    Mmmu {
        id: "validation_Math_2",
        question: "Name the curve in <image 1>.",
        options: "[]",
        answer: "['ellipse', 'an ellipse']",
        images: [Some("m2"), None],
    },
];

/// The columns of MMMU; `image_1` to `image_7` as in the export.
pub fn mmmu(rows: &[Mmmu]) -> DataFrame {
    let column = |name: &str, pick: fn(&Mmmu) -> &'static str| {
        text(name, &rows.iter().map(pick).collect::<Vec<_>>())
    };
    let mut columns = vec![
        column("id", |row| row.id),
        column("question", |row| row.question),
        column("options", |row| row.options),
        column("answer", |row| row.answer),
        column("question_type", |row| {
            if row.options == "[]" {
                "open"
            } else {
                "multiple-choice"
            }
        }),
        column("subfield", |row| {
            if row.id.contains("Math") {
                "Algebra"
            } else {
                "Art"
            }
        }),
    ];
    for slot in 0..7 {
        let cells: Vec<Option<&str>> = rows
            .iter()
            .map(|row| row.images.get(slot).copied().flatten())
            .collect();
        columns.push(images(&format!("image_{}", slot + 1), &cells));
    }
    frame(columns)
}
