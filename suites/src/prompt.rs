//! How questions are put, without any chat template.
//!
//! A prompt kind is one entry in [`PROMPTS`]. The texts are those of the reference toolkits to
//! the byte; what follows the image or wraps the whole is the model's template and not here.

use fancy_regex::Regex;
use std::sync::LazyLock;

use crate::error::{SuiteError, names};
use crate::python;
use crate::sample::{PromptPart, QuestionKind, Sample};
use crate::spec::PromptSpec;

/// A way to put a question.
#[derive(Debug)]
pub struct Prompt {
    /// The name in a suite's YAML.
    pub name: &'static str,
    /// One line on what it writes.
    pub description: &'static str,
    needs_open_instruction: bool,
    pub(crate) render: fn(&Sample, &PromptSpec) -> Result<Vec<PromptPart>, SuiteError>,
}

/// Every prompt kind, sorted by name.
pub const PROMPTS: &[Prompt] = &[
    Prompt {
        name: "lettered-choices",
        description: "question, options as `A. ...`, instruction, a line each",
        needs_open_instruction: false,
        render: lettered_choices,
    },
    Prompt {
        name: "mmmu-images-first",
        description: "the images that the text refers to, then question and options with a blank line before the instruction",
        needs_open_instruction: true,
        render: mmmu_images_first,
    },
    Prompt {
        name: "short-answer",
        description: "question and instruction, a line each",
        needs_open_instruction: false,
        render: |sample, spec| Ok(short_answer(&sample.question, "", spec)),
    },
    Prompt {
        name: "short-answer-capitalized",
        description: "as short-answer, the question passed through Python's capitalize()",
        needs_open_instruction: false,
        render: |sample, spec| {
            Ok(short_answer(
                &python::capitalize(&sample.question),
                "",
                spec,
            ))
        },
    },
    Prompt {
        name: "short-answer-ocr",
        description: "as short-answer, with a line of OCR tokens before the instruction",
        needs_open_instruction: false,
        render: |sample, spec| {
            let tokens = sample.ocr_tokens.join(", ");
            let reference = format!("\nReference OCR token: {tokens}");
            Ok(short_answer(&sample.question, &reference, spec))
        },
    },
];

/// The prompt kind that a suite names, if its instructions fit it.
pub(crate) fn find(suite: &str, spec: &PromptSpec) -> Result<&'static Prompt, SuiteError> {
    let found = PROMPTS.iter().find(|prompt| prompt.name == spec.kind);
    let prompt = found.ok_or_else(|| SuiteError::UnknownPrompt {
        suite: suite.to_owned(),
        kind: spec.kind.clone(),
        known: names(PROMPTS.iter().map(|prompt| prompt.name)),
    })?;
    if prompt.needs_open_instruction == spec.open_instruction.is_some() {
        return Ok(prompt);
    }
    Err(SuiteError::OpenInstruction {
        suite: suite.to_owned(),
        kind: prompt.name,
        problem: if prompt.needs_open_instruction {
            "needs"
        } else {
            "has no use for"
        },
    })
}

fn short_answer(question: &str, reference: &str, spec: &PromptSpec) -> Vec<PromptPart> {
    one_image(format!("{question}{reference}\n{}", spec.instruction))
}

fn one_image(text: String) -> Vec<PromptPart> {
    vec![PromptPart::Image(0), PromptPart::Text(text)]
}

fn lettered_choices(sample: &Sample, spec: &PromptSpec) -> Result<Vec<PromptPart>, SuiteError> {
    let (question, options) = (&sample.question, option_lines(sample));
    Ok(one_image(format!(
        "{question}\n{options}\n{}",
        spec.instruction
    )))
}

fn option_lines(sample: &Sample) -> String {
    let lines = letters().zip(&sample.choices);
    let lines = lines.map(|(letter, choice)| format!("{letter}. {choice}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// `A`, `B` and on, past `Z` as Python's `chr(ord("A") + i)` goes on.
pub(crate) fn letters() -> impl Iterator<Item = char> {
    'A'..=char::MAX
}

/// lmms-eval's prompt for models without interleaved input: `<image n>` stays in the text, and
/// the images it names come first, each once, in the order of the tokens sorted as text.
fn mmmu_images_first(sample: &Sample, spec: &PromptSpec) -> Result<Vec<PromptPart>, SuiteError> {
    static TOKEN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"<image (\d+)>").expect("the pattern is valid"));
    let open = spec.open_instruction.as_deref();
    let text = match sample.kind {
        QuestionKind::MultipleChoice => {
            let (question, options) = (&sample.question, option_lines(sample));
            format!("{question}\n{options}\n\n{}", spec.instruction)
        }
        QuestionKind::Open => format!("{}\n\n{}", sample.question, open.unwrap_or_default()),
    };
    let mut tokens: Vec<(&str, Option<usize>)> = TOKEN
        .captures_iter(&text)
        .flatten()
        .filter_map(|found| Some((found.get(0)?.as_str(), found.get(1)?.as_str())))
        .map(|(token, number)| (token, number.parse::<usize>().ok()))
        .collect();
    tokens.sort_unstable();
    tokens.dedup();
    let mut parts = Vec::with_capacity(tokens.len() + 1);
    for (token, number) in tokens {
        let slot = number.and_then(|number| number.checked_sub(1));
        parts.push(PromptPart::Image(slot.ok_or_else(|| {
            SuiteError::UnknownImage {
                id: sample.id.clone(),
                token: token.to_owned(),
            }
        })?));
    }
    parts.push(PromptPart::Text(text));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::testing;

    #[test]
    fn kinds_are_sorted_and_described() {
        assert!(PROMPTS.is_sorted_by(|a, b| a.name < b.name));
        assert!(PROMPTS.iter().all(|prompt| !prompt.description.is_empty()));
    }

    fn render(kind: &str, sample: &Sample) -> Vec<PromptPart> {
        let mut spec = PromptSpec {
            kind: kind.to_owned(),
            instruction: "Say.".to_owned(),
            open_instruction: None,
        };
        if find("test", &spec).is_err() {
            spec.open_instruction = Some("Speak.".to_owned());
        }
        let prompt = find("test", &spec).expect("a known kind");
        (prompt.render)(sample, &spec).expect("a prompt")
    }

    fn text(parts: &[PromptPart]) -> &str {
        match parts.last() {
            Some(PromptPart::Text(text)) => text,
            other => panic!("the text comes last, got {other:?}"),
        }
    }

    #[test]
    fn every_kind_writes_its_lines() {
        let mut sample = testing::choice(&["cat", "red fox"], "A");
        sample.question = "what IS it?".to_owned();
        sample.ocr_tokens = vec!["EXIT".to_owned(), "5,5".to_owned()];
        for (kind, expected) in [
            ("lettered-choices", "what IS it?\nA. cat\nB. red fox\nSay."),
            (
                "mmmu-images-first",
                "what IS it?\nA. cat\nB. red fox\n\nSay.",
            ),
            ("short-answer", "what IS it?\nSay."),
            ("short-answer-capitalized", "What is it?\nSay."),
            (
                "short-answer-ocr",
                "what IS it?\nReference OCR token: EXIT, 5,5\nSay.",
            ),
        ] {
            let parts = render(kind, &sample);
            assert_eq!(text(&parts), expected, "{kind}");
            let images = if kind == "mmmu-images-first" { 0 } else { 1 };
            assert_eq!(parts.len(), images + 1, "{kind}");
        }
        sample.kind = QuestionKind::Open;
        assert_eq!(
            text(&render("mmmu-images-first", &sample)),
            "what IS it?\n\nSpeak."
        );
    }

    #[test]
    fn mmmu_puts_each_named_image_once_in_the_order_of_the_tokens() {
        let mut sample = testing::choice(&["<image 3>", "<image 1>"], "A");
        sample.question = "Which of <image 2> and <image 3>?".to_owned();
        let parts = render("mmmu-images-first", &sample);
        assert_eq!(parts[..3], [0, 1, 2].map(PromptPart::Image));
        assert!(text(&parts).starts_with("Which of <image 2> and <image 3>?\nA. <image 3>\n"));
        sample.question = "See <image 0>".to_owned();
        let spec = PromptSpec {
            kind: "mmmu-images-first".to_owned(),
            instruction: String::new(),
            open_instruction: Some(String::new()),
        };
        let error = mmmu_images_first(&sample, &spec).expect_err("there is no image 0");
        assert!(error.to_string().contains("<image 0>"));
    }

    #[test]
    fn an_instruction_without_use_is_refused() {
        let spec = PromptSpec {
            kind: "short-answer".to_owned(),
            instruction: String::new(),
            open_instruction: Some(String::new()),
        };
        let error = find("test", &spec).expect_err("not needed").to_string();
        assert_eq!(
            error,
            "suite `test`: prompt kind `short-answer` has no use for `open_instruction`"
        );
    }
}
