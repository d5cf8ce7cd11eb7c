//! The only place that parses YAML.
//!
//! Every reader goes through [`read`], so that every mistake is reported the
//! same way: file, line, column, the offending key, and for a misspelt key or
//! word the nearest valid one. Enums with data are written as plain maps
//! (`weights: {seeded: 0}`), without YAML tags.

use serde::de::DeserializeOwned;
use serde_yaml::with::singleton_map_recursive;

use super::{ConfigError, nearest};

/// Parses `text`, which came from `file` (a path, or the name of an embedded
/// file).
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ConfigError> {
    let document = serde_yaml::Deserializer::from_str(text);
    singleton_map_recursive::deserialize(document).map_err(|error| explain(file, &error))
}

/// Turns the parser's message into facts. serde's wording of unknown fields
/// and variants is fixed by its trait methods; other messages pass unchanged.
fn explain(file: &str, error: &serde_yaml::Error) -> ConfigError {
    let (line, column) = error.location().map_or((0, 0), |l| (l.line(), l.column()));
    let message = error.to_string();
    let place = format!(" at line {line} column {column}");
    let message = message.strip_suffix(&place).unwrap_or(&message);
    let file = file.to_owned();
    if let Some(Unknown { value, valid, .. }) = unknown(message, "unknown field `") {
        return ConfigError::UnknownKey {
            nearest: suggestion(&value, &valid),
            file,
            line,
            column,
            key: value,
            valid,
        };
    }
    if let Some(Unknown { key, value, valid }) = unknown(message, "unknown variant `") {
        return ConfigError::UnknownValue {
            nearest: suggestion(&value, &valid),
            file,
            line,
            column,
            key,
            value,
            valid,
        };
    }
    let (key, problem) = match message.split_once(": ") {
        // The parser puts the path of the value before its message.
        Some((path, rest)) if !path.contains(char::is_whitespace) => (path, rest),
        _ => ("", message),
    };
    ConfigError::Parse {
        file,
        line,
        column,
        key: key.to_owned(),
        problem: problem.to_owned(),
    }
}

fn suggestion(value: &str, valid: &[String]) -> Option<String> {
    nearest(value, valid.iter().map(String::as_str)).map(str::to_owned)
}

/// A name that serde did not expect.
struct Unknown {
    key: String,
    value: String,
    valid: Vec<String>,
}

/// Takes ``PATH: unknown field `x`, expected one of `a`, `b` `` apart.
fn unknown(message: &str, wording: &str) -> Option<Unknown> {
    let (path, rest) = message.split_once(wording)?;
    let (value, expected) = rest.split_once("`, ")?;
    let valid = expected.split('`').skip(1).step_by(2);
    Some(Unknown {
        key: path.trim_end_matches(": ").to_owned(),
        value: value.to_owned(),
        valid: valid.map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::experiment::ExperimentFile;
    use vlmbench_backends::recipe::{RecipeFile, Weights};

    fn message<T: DeserializeOwned>(text: &str) -> String {
        match read::<T>("x.yaml", text) {
            Ok(_) => panic!("parsed"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn an_unknown_key_names_place_and_nearest_key() {
        let text = "about: x\nmodels:\n  - model: a\n    resolutons: [256]\n";
        assert_eq!(
            message::<ExperimentFile>(text),
            "unknown key `resolutons` at x.yaml:4:5, did you mean `resolutions`?; \
             valid keys: model, resolutions"
        );
    }

    #[test]
    fn an_unknown_word_names_the_choices() {
        let text = "about: x\nmodels: [{model: a}]\nprecisions: [f33]\n";
        assert_eq!(
            message::<ExperimentFile>(text),
            "unknown value `f33` at x.yaml:3:14 (`precisions[0]`), did you mean `f32`?; \
             valid values: f32, f16, bf16, q8_0, q4_k_m"
        );
    }

    #[test]
    fn other_mistakes_keep_the_parsers_words() {
        let found = message::<ExperimentFile>("about: x\nmodels: 3\n");
        assert!(
            found.starts_with("x.yaml:2:9 (`models`): invalid type"),
            "{found}"
        );
        let found = message::<ExperimentFile>("models: []\n");
        assert!(found.contains("missing field `about`"), "{found}");
        let found = message::<ExperimentFile>("about: [x\n");
        assert!(found.starts_with("x.yaml:"), "{found}");
    }

    #[test]
    fn enums_with_data_are_plain_maps() {
        let recipe = |weights: &str| {
            let text = format!("about: x\ndecoder: qwen2-0.5b\nweights: {weights}\n");
            read::<RecipeFile>("x.yaml", &text).map(|r| r.weights)
        };
        assert_eq!(recipe("{seeded: 3}").unwrap(), Weights::Seeded(3));
        assert_eq!(
            recipe("{folder: /models/x}").unwrap(),
            Weights::Folder("/models/x".into())
        );
        assert_eq!(
            recipe("{hub: {id: org/name}}").unwrap(),
            Weights::Hub {
                id: "org/name".into(),
                revision: "main".into()
            }
        );
        assert_eq!(
            recipe("{gguf: {decoder: x.gguf, rest: /models/x}}").unwrap(),
            Weights::Gguf {
                decoder: "x.gguf".into(),
                rest: Some("/models/x".into())
            }
        );
        let e = recipe("{seedd: 3}").unwrap_err().to_string();
        assert!(e.contains("did you mean `seeded`?"), "{e}");
    }
}
