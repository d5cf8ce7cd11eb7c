//! Data set formats: which columns play which part, and how a row becomes a sample.
//!
//! A format names roles; a suite's YAML says which columns play them. A new format is one entry
//! in [`FORMATS`] with one function.

use std::collections::BTreeMap;

use super::table::{Cells, ColumnKind, Table};
use crate::error::{SuiteError, names};
use crate::python;
use crate::sample::QuestionKind;
use crate::spec::SuiteSpec;

/// How many columns play a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arity {
    /// One.
    One,
    /// Several candidates, of which the first that the file has is taken.
    FirstPresent,
    /// Any number, all of them, in order.
    Each,
}

/// One part that columns play in a format.
#[derive(Debug)]
pub(super) struct Role {
    name: &'static str,
    kind: ColumnKind,
    arity: Arity,
    required: bool,
}

const fn role(name: &'static str, kind: ColumnKind, arity: Arity) -> Role {
    Role {
        name,
        kind,
        arity,
        required: true,
    }
}

const fn optional(name: &'static str, kind: ColumnKind, arity: Arity) -> Role {
    Role {
        name,
        kind,
        arity,
        required: false,
    }
}

const ID: Role = role("id", ColumnKind::Key, Arity::FirstPresent);
const QUESTION: Role = role("question", ColumnKind::Text, Arity::One);
const ANSWER: Role = role("answer", ColumnKind::Text, Arity::One);
const GROUPS: Role = optional("groups", ColumnKind::Key, Arity::Each);

/// A way in which data sets lay out questions.
#[derive(Debug)]
pub struct Format {
    /// The name in a suite's YAML.
    pub name: &'static str,
    /// One line on what it reads.
    pub description: &'static str,
    roles: &'static [Role],
    build: fn(&Row<'_>) -> Result<Parts, Problem>,
}

/// Every data set format, sorted by name.
pub const FORMATS: &[Format] = &[
    Format {
        name: "choice-columns",
        description: "multiple choice, one column per option, the answer a letter",
        roles: &[
            ID,
            QUESTION,
            role("choices", ColumnKind::Text, Arity::Each),
            ANSWER,
            role("images", ColumnKind::Images, Arity::Each),
            GROUPS,
        ],
        build: choice_columns,
    },
    Format {
        name: "choice-literal",
        description: "multiple choice or open, the options one text that is a Python list",
        roles: &[
            ID,
            QUESTION,
            role("options", ColumnKind::Text, Arity::One),
            ANSWER,
            role("question_type", ColumnKind::Text, Arity::One),
            role("images", ColumnKind::Images, Arity::Each),
            GROUPS,
        ],
        build: choice_literal,
    },
    Format {
        name: "vqa",
        description: "an open question with a list of accepted answers",
        roles: &[
            ID,
            QUESTION,
            optional("answers", ColumnKind::TextList, Arity::One),
            optional("ocr_tokens", ColumnKind::TextList, Arity::One),
            role("images", ColumnKind::Images, Arity::Each),
            GROUPS,
        ],
        build: vqa,
    },
];

fn vqa(row: &Row<'_>) -> Result<Parts, Problem> {
    Ok(Parts {
        kind: QuestionKind::Open,
        choices: Vec::new(),
        ocr_tokens: row.list("ocr_tokens")?,
        golds: row.list("answers")?,
        groups: None,
    })
}

fn choice_columns(row: &Row<'_>) -> Result<Parts, Problem> {
    Ok(Parts {
        kind: QuestionKind::MultipleChoice,
        choices: row.texts("choices")?,
        ocr_tokens: Vec::new(),
        golds: row.gold_letter_or_text(),
        groups: None,
    })
}

fn choice_literal(row: &Row<'_>) -> Result<Parts, Problem> {
    let kind = match row.text("question_type")? {
        "multiple-choice" => QuestionKind::MultipleChoice,
        "open" => QuestionKind::Open,
        other => {
            let problem = format!("`{other}` is neither `multiple-choice` nor `open`");
            return Err(row.problem("question_type", problem));
        }
    };
    let choices = match kind {
        QuestionKind::Open => Vec::new(),
        QuestionKind::MultipleChoice => python::parse_list(row.text("options")?)
            .map_err(|error| row.problem("options", error.to_string()))?,
    };
    Ok(Parts {
        kind,
        choices,
        ocr_tokens: Vec::new(),
        golds: row.gold_letter_or_text(),
        groups: subject(row.id()?).map(|subject| ("subject".to_owned(), subject.to_owned())),
    })
}

/// MMMU's ids carry the subject: `validation_Art_Theory_12`.
fn subject(id: &str) -> Option<&str> {
    let (subject, number) = id.split_once('_')?.1.rsplit_once('_')?;
    number.parse::<u32>().ok().map(|_| subject)
}

/// What a format makes of a row, beside id, question and groups.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) kind: QuestionKind,
    pub(super) choices: Vec<String>,
    pub(super) ocr_tokens: Vec<String>,
    pub(super) golds: Vec<String>,
    /// Groups that no column names.
    pub(super) groups: Option<(String, String)>,
}

/// What is wrong with a row.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) column: String,
    pub(super) problem: String,
}

/// A format with the columns that a suite gives to its roles.
#[derive(Debug)]
pub(crate) struct Layout {
    format: &'static Format,
    columns: Vec<(&'static Role, Vec<String>)>,
}

impl Layout {
    /// Checks a suite's columns against its format's roles.
    pub(crate) fn resolve(spec: &SuiteSpec) -> Result<Self, SuiteError> {
        let named = &spec.dataset.format;
        let format = FORMATS.iter().find(|format| format.name == named);
        let format = format.ok_or_else(|| SuiteError::UnknownFormat {
            suite: spec.id.clone(),
            format: named.clone(),
            known: names(FORMATS.iter().map(|format| format.name)),
        })?;
        let known = |name: &str| format.roles.iter().any(|role| role.name == name);
        if let Some(role) = spec.dataset.columns.keys().find(|name| !known(name)) {
            return Err(SuiteError::UnknownRole {
                suite: spec.id.clone(),
                format: format.name,
                role: role.clone(),
                known: names(format.roles.iter().map(|role| role.name)),
            });
        }
        let mut columns = Vec::new();
        for role in format.roles {
            let given = spec.dataset.columns.get(role.name);
            let given = given.cloned().unwrap_or_default();
            let (fits, takes) = match (role.arity, role.required) {
                (Arity::One, true) => (given.len() == 1, "one column"),
                (Arity::One, false) => (given.len() <= 1, "at most one column"),
                (_, true) => (!given.is_empty(), "at least one column"),
                (_, false) => (true, "any number of columns"),
            };
            if !fits {
                return Err(SuiteError::RoleColumns {
                    suite: spec.id.clone(),
                    format: format.name,
                    role: role.name,
                    takes,
                    got: given.len(),
                });
            }
            columns.push((role, given));
        }
        Ok(Self { format, columns })
    }

    /// The columns that are images.
    pub(super) fn image_columns(&self) -> Vec<String> {
        let images = self
            .columns
            .iter()
            .filter(|(role, _)| role.kind == ColumnKind::Images);
        images.flat_map(|(_, columns)| columns.clone()).collect()
    }

    /// Fixes the layout to one file: checks types, settles alternatives, drops absent optional
    /// columns.
    pub(super) fn bind(&self, table: &Table) -> Result<Binding, SuiteError> {
        let mut columns = Vec::new();
        for (role, given) in &self.columns {
            let chosen: Vec<&String> = match role.arity {
                Arity::FirstPresent => {
                    let present = given.iter().find(|column| table.has(column));
                    present.or(given.first()).into_iter().collect()
                }
                _ if role.required => given.iter().collect(),
                _ => given.iter().filter(|column| table.has(column)).collect(),
            };
            for (place, column) in chosen.into_iter().enumerate() {
                // A file may have fewer image columns than the format allows for.
                if role.kind == ColumnKind::Images && place > 0 && !table.has(column) {
                    continue;
                }
                table.check(column, role.kind)?;
                if role.kind != ColumnKind::Images {
                    columns.push((*role, column.clone()));
                }
            }
        }
        Ok(Binding {
            format: self.format,
            columns,
        })
    }
}

/// A layout fixed to the columns of one file, images left out.
#[derive(Debug)]
pub(super) struct Binding {
    format: &'static Format,
    columns: Vec<(&'static Role, String)>,
}

impl Binding {
    pub(super) fn columns(&self) -> impl Iterator<Item = (&str, ColumnKind)> {
        self.columns
            .iter()
            .map(|(role, column)| (column.as_str(), role.kind))
    }

    pub(super) fn row<'a>(&'a self, cells: &'a BTreeMap<String, Cells>, index: usize) -> Row<'a> {
        Row {
            binding: self,
            cells,
            index,
        }
    }
}

/// One row, its cells found by role.
#[derive(Debug)]
pub(super) struct Row<'a> {
    binding: &'a Binding,
    cells: &'a BTreeMap<String, Cells>,
    index: usize,
}

impl<'a> Row<'a> {
    pub(super) fn build(&self) -> Result<Parts, Problem> {
        (self.binding.format.build)(self)
    }

    pub(super) fn id(&self) -> Result<&'a str, Problem> {
        self.text(ID.name)
    }

    pub(super) fn question(&self) -> Result<&'a str, Problem> {
        self.text(QUESTION.name)
    }

    /// Column and value of every group that the row has.
    pub(super) fn groups(&self) -> BTreeMap<String, String> {
        let columns = self.columns(GROUPS.name);
        let cell = |column: &'a str| Some((column.to_owned(), self.cell(column)?.to_owned()));
        columns.filter_map(cell).collect()
    }

    /// The text in a column, `None` where it is null.
    pub(super) fn cell(&self, column: &str) -> Option<&'a str> {
        match self.cells.get(column)? {
            Cells::Text(cells) => cells.get(self.index)?.as_deref(),
            Cells::List(_) => None,
        }
    }

    fn columns(&self, role: &'static str) -> impl Iterator<Item = &'a str> {
        let columns = self.binding.columns.iter();
        columns
            .filter(move |(of, _)| of.name == role)
            .map(|(_, column)| column.as_str())
    }

    fn problem(&self, role: &'static str, problem: String) -> Problem {
        let column = self.columns(role).next().unwrap_or(role);
        Problem {
            column: column.to_owned(),
            problem,
        }
    }

    fn texts(&self, role: &'static str) -> Result<Vec<String>, Problem> {
        let text = |column: &str| {
            self.cell(column).map(str::to_owned).ok_or_else(|| Problem {
                column: column.to_owned(),
                problem: "is null".to_owned(),
            })
        };
        self.columns(role).map(text).collect()
    }

    fn text(&self, role: &'static str) -> Result<&'a str, Problem> {
        let text = self
            .columns(role)
            .next()
            .and_then(|column| self.cell(column));
        text.ok_or_else(|| self.problem(role, "is null".to_owned()))
    }

    /// The list in the role's column; empty where the column is absent or null.
    fn list(&self, role: &'static str) -> Result<Vec<String>, Problem> {
        let column = self.columns(role).next();
        let Some(Cells::List(cells)) = column.and_then(|column| self.cells.get(column)) else {
            return Ok(Vec::new());
        };
        let Some(Some(items)) = cells.get(self.index) else {
            return Ok(Vec::new());
        };
        let items: Option<Vec<String>> = items.iter().cloned().collect();
        items.ok_or_else(|| self.problem(role, "has a null in its list".to_owned()))
    }

    /// The answer as it stands. Test splits have `?`, nothing or null where the answer is secret.
    fn gold_letter_or_text(&self) -> Vec<String> {
        let answer = self
            .columns(ANSWER.name)
            .next()
            .and_then(|column| self.cell(column));
        let known = answer.filter(|answer| !matches!(*answer, "" | "?"));
        known.map(str::to_owned).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mmmu_ids_name_their_subject() {
        assert_eq!(subject("validation_Art_Theory_12"), Some("Art_Theory"));
        for other in ["12", "validation_Art", "validation_Art_x"] {
            assert_eq!(subject(other), None, "{other}");
        }
    }

    #[test]
    fn formats_are_sorted_described_and_complete() {
        assert!(FORMATS.is_sorted_by(|a, b| a.name < b.name));
        for format in FORMATS {
            assert!(!format.description.is_empty(), "{}", format.name);
            for needed in ["id", "question", "images", "groups"] {
                assert!(
                    format.roles.iter().any(|role| role.name == needed),
                    "{needed} in {}",
                    format.name
                );
            }
        }
    }
}
