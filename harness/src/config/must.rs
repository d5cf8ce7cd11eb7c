//! Checks of values.

use super::ConfigError;

/// Checks of values, with the file for the message.
pub(super) struct Must<'a> {
    pub(super) origin: &'a str,
}

impl Must<'_> {
    pub(super) fn be(
        &self,
        key: &str,
        value: impl std::fmt::Display,
        holds: bool,
        expected: &str,
    ) -> Result<(), ConfigError> {
        if holds {
            return Ok(());
        }
        Err(ConfigError::Value {
            file: self.origin.into(),
            key: key.into(),
            value: value.to_string(),
            problem: format!("expected {expected}"),
        })
    }

    pub(super) fn have<T>(&self, key: &str, list: &[T]) -> Result<(), ConfigError> {
        self.be(key, "empty", !list.is_empty(), "at least one entry")
    }
}
