//! Tokenizers: the published one of a checkpoint, and a stand-in for models without files.
//!
//! [`HfTokenizer`] reads `tokenizer.json` and, for the special tokens, the JSON files beside it.
//! [`PlaceholderTokenizer`] exists so that prompts of an exact length can be made for seeded
//! weights; its text means nothing.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::TextError;

/// Ids with a role. A role that the checkpoint does not define is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begins a sequence. `None` if the tokenizer puts nothing first, whatever a config says.
    pub bos: Option<u32>,
    /// All ids that end an answer.
    pub eos: Vec<u32>,
    /// Stands for one visual token in ids that transformers prepares.
    pub image: Option<u32>,
}

/// Text to ids and back.
pub trait Tokenizer: Send + Sync {
    /// The ids of `text` alone: no BOS, no EOS. Special tokens spelt out in it are recognised.
    fn encode(&self, text: &str) -> Result<Vec<u32>, TextError>;

    /// The text of `ids`, special tokens left out.
    fn decode(&self, ids: &[u32]) -> Result<String, TextError>;

    /// The ids with a role.
    fn special(&self) -> &SpecialTokens;

    /// Number of ids the tokenizer knows; a model's embedding is often padded beyond it.
    fn vocab_size(&self) -> usize;
}

/// Hugging Face's `tokenizer.json`.
pub struct HfTokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialTokens,
}

impl HfTokenizer {
    /// Reads `tokenizer.json` in `dir`, and the special tokens from `tokenizer_config.json`,
    /// `generation_config.json` and `config.json` there, each of which may be absent.
    pub fn from_dir(dir: &Path) -> Result<Self, TextError> {
        let path = dir.join("tokenizer.json");
        let bytes = read(&path)?.ok_or_else(|| TextError::Read {
            path: path.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| TextError::Load {
                path: path.clone(),
                message: error.to_string(),
            })?;
        // A saved tokenizer may carry the truncation and padding of its last use, which would cut
        // prompts without a word.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| TextError::Load {
                path: path.clone(),
                message: error.to_string(),
            })?;
        let lookup = Lookup {
            tokenizer: &inner,
            tokenizer_path: path,
            tokenizer_config: JsonFile::read(dir.join("tokenizer_config.json"))?,
            generation_config: JsonFile::read(dir.join("generation_config.json"))?,
            config: JsonFile::read(dir.join("config.json"))?,
        };
        let special = lookup.special()?;
        Ok(Self { inner, special })
    }

    /// The id of a token, by its spelling in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }
}

impl Tokenizer for HfTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(TextError::Encode {
                len: text.len(),
                message: error.to_string(),
            }),
        }
    }

    fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.inner
            .decode(ids, true)
            .map_err(|error| TextError::Decode {
                len: ids.len(),
                message: error.to_string(),
            })
    }

    fn special(&self) -> &SpecialTokens {
        &self.special
    }

    fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

/// A file's bytes, `None` if it does not exist.
fn read(path: &Path) -> Result<Option<Vec<u8>>, TextError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A JSON object beside the tokenizer; empty if the file does not exist.
struct JsonFile {
    path: PathBuf,
    value: Value,
}

impl JsonFile {
    fn read(path: PathBuf) -> Result<Self, TextError> {
        let value = match read(&path)? {
            None => Value::Null,
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|source| TextError::Json {
                path: path.clone(),
                source,
            })?,
        };
        Ok(Self { path, value })
    }

    /// The value of `key`, here or in `text_config`, where composite models keep the decoder's.
    fn get(&self, key: &str) -> Option<&Value> {
        let here = self.value.get(key);
        here.or_else(|| self.value.get("text_config")?.get(key))
            .filter(|value| !value.is_null())
    }

    /// An id, or a list of ids, under `key`.
    fn ids(&self, key: &str) -> Result<Vec<u32>, TextError> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = match self.get(key) {
            None => Some(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(id).collect(),
            Some(value) => id(value).map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.bad_value(key, "a token id or a list of them"))
    }

    /// The spelling of a token under `key`: a string, or an object with `content`.
    fn token(&self, key: &str) -> Result<Option<&str>, TextError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let token = value.as_str().or_else(|| value.get("content")?.as_str());
        token
            .map(Some)
            .ok_or_else(|| self.bad_value(key, "a token"))
    }

    fn bad_value(&self, key: &str, expected: &'static str) -> TextError {
        let got = self.get(key).map(Value::to_string).unwrap_or_default();
        TextError::Key {
            path: self.path.clone(),
            key: key.to_owned(),
            got,
            expected,
        }
    }
}

/// Where special tokens are looked up.
struct Lookup<'a> {
    tokenizer: &'a tokenizers::Tokenizer,
    tokenizer_path: PathBuf,
    tokenizer_config: JsonFile,
    generation_config: JsonFile,
    config: JsonFile,
}

impl Lookup<'_> {
    fn special(&self) -> Result<SpecialTokens, TextError> {
        // Qwen2's config names a BOS id that its tokenizer never uses (`bos_token` is null there),
        // so the configs count only where the tokenizer is silent.
        let bos = if self.tokenizer_config.value.get("bos_token").is_some() {
            self.named("bos_token")?
        } else {
            let ids = self.generation_config.ids("bos_token_id")?;
            ids.into_iter()
                .chain(self.config.ids("bos_token_id")?)
                .next()
        };
        // Chat models end a turn with the tokenizer's EOS and a text with the configs'.
        let mut eos = self.generation_config.ids("eos_token_id")?;
        eos.extend(self.config.ids("eos_token_id")?);
        eos.extend(self.named("eos_token")?);
        let mut seen = std::collections::BTreeSet::new();
        eos.retain(|id| seen.insert(*id));

        let mut image = self.config.ids("image_token_index")?;
        image.extend(self.config.ids("image_token_id")?);
        image.extend(self.tokenizer.token_to_id("<image>"));
        Ok(SpecialTokens {
            bos,
            eos,
            image: image.first().copied(),
        })
    }

    /// The id of the token that `tokenizer_config.json` names under `key`.
    fn named(&self, key: &str) -> Result<Option<u32>, TextError> {
        let Some(token) = self.tokenizer_config.token(key)? else {
            return Ok(None);
        };
        let id = self
            .tokenizer
            .token_to_id(token)
            .ok_or_else(|| TextError::UnknownToken {
                path: self.tokenizer_config.path.clone(),
                key: key.to_owned(),
                token: token.to_owned(),
                tokenizer: self.tokenizer_path.clone(),
            })?;
        Ok(Some(id))
    }
}

/// A stand-in for the tokenizer of a model with seeded weights: each byte is the id of its value,
/// so a text of `n` bytes is `n` tokens. An id above 255 decodes to its number in angle brackets.
#[derive(Debug, Clone)]
pub struct PlaceholderTokenizer {
    vocab_size: usize,
    special: SpecialTokens,
}

impl PlaceholderTokenizer {
    /// For a model with `vocab_size` embeddings, at least 256.
    pub fn new(vocab_size: usize) -> Result<Self, TextError> {
        if vocab_size < 256 {
            return Err(TextError::SmallVocabulary { vocab_size });
        }
        // A BOS, because templates may ask for one; no EOS, so that every run is equally long.
        let special = SpecialTokens {
            bos: Some(1),
            ..SpecialTokens::default()
        };
        Ok(Self {
            vocab_size,
            special,
        })
    }

    /// A text of exactly `tokens` tokens.
    pub fn text_of(tokens: usize) -> String {
        "vlm ".chars().cycle().take(tokens).collect()
    }
}

impl Tokenizer for PlaceholderTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(text.bytes().map(u32::from).collect())
    }

    fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        let mut bytes = Vec::with_capacity(ids.len());
        for &id in ids {
            match u8::try_from(id) {
                Ok(byte) => bytes.push(byte),
                Err(_) => bytes.extend(format!("<{id}>").into_bytes()),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn special(&self) -> &SpecialTokens {
        &self.special
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

/// Decodes an answer while it grows.
///
/// One id need not be whole characters, and its text can depend on the ids before it, so each step
/// decodes a short tail twice, without and with the new id, and hands out the difference. All
/// pieces and [`Self::finish`] together are the text of all ids.
pub struct TextStream<'a> {
    tokenizer: &'a dyn Tokenizer,
    ids: Vec<u32>,
    /// Start of the tail that is decoded.
    tail: usize,
    /// Ids whose text has been handed out.
    done: usize,
}

impl<'a> TextStream<'a> {
    /// A stream with no ids yet.
    pub fn new(tokenizer: &'a dyn Tokenizer) -> Self {
        Self {
            tokenizer,
            ids: Vec::new(),
            tail: 0,
            done: 0,
        }
    }

    /// Adds an id; returns the text that is now certain, empty while a character is incomplete.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        self.ids.push(id);
        let text = self.pending()?;
        if text.is_empty() || text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.tail = self.done;
        self.done = self.ids.len();
        Ok(text)
    }

    /// The text held back at the end, with a replacement character for what never completed.
    pub fn finish(&mut self) -> Result<String, TextError> {
        let text = self.pending()?;
        self.tail = self.done;
        self.done = self.ids.len();
        Ok(text)
    }

    /// The ids so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    fn pending(&self) -> Result<String, TextError> {
        let before = self.tokenizer.decode(&self.ids[self.tail..self.done])?;
        let with = self.tokenizer.decode(&self.ids[self.tail..])?;
        Ok(with.get(before.len()..).unwrap_or_default().to_owned())
    }
}
