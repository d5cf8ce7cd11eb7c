//! Prompt templates: the exact bytes around a user's turn.
//!
//! A template is data (what precedes the turn, what follows it, whether a BOS token comes first,
//! what ends the answer), so another one is a few lines of configuration. The built-in ones follow
//! the conversation styles of the same names in LLaVA and FastVLM (`llava/conversation.py`).

use serde::{Deserialize, Serialize};

use super::{PromptTokens, TextError, Tokenizer};

/// A piece of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptPart {
    /// Literal text. An `<image>` spelt out here stays text.
    Text(String),
    /// Where the visual tokens of the next image go.
    Image,
}

/// The text around one user turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptTemplate {
    /// Name, for records and messages.
    pub name: String,
    /// Everything before the user's turn: system prompt and role marker.
    pub prefix: String,
    /// Everything after it, up to where the answer begins.
    pub suffix: String,
    /// Whether the tokenizer's BOS token comes first.
    pub bos: bool,
    /// Strings that end the answer and are not part of it.
    #[serde(default)]
    pub stop: Vec<String>,
}

/// A built-in template: name, prefix, suffix, BOS, stop string (none if empty).
struct BuiltIn(&'static str, &'static str, &'static str, bool, &'static str);

/// The built-in templates, sorted by name.
const BUILT_IN: &[BuiltIn] = &[
    // Llama 3's with Cambrian-1's system prompt, line breaks and spaces as in its code.
    BuiltIn(
        "cambrian_llama_3",
        "<|start_header_id|>system<|end_header_id|>You are Cambrian, a highly intelligent multimodal AI trained by NYU \
         Vision X. \n    As a multimodal AI, you have the ability to process and analyze images. Whenever an image is \
         present in the conversation, very carefully examine it and consider its content when formulating your \
         response.\n    You should give concise responses to very simple questions, but provide thorough responses to \
         more complex and open-ended questions. <|eot_id|><|start_header_id|>user<|end_header_id|>",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>",
        true,
        "<|eot_id|>",
    ),
    // Llama 3's with LLaVA-NeXT's system prompt.
    BuiltIn(
        "llava_llama_3",
        "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful language and vision assistant. You are able \
         to understand the visual content that the user provides, and assist the user with a variety of tasks using \
         natural language.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        true,
        "<|eot_id|>",
    ),
    // Nothing around the turn, for base models and for prompts that arrive complete.
    BuiltIn("plain", "", "", false, ""),
    // ChatML with Qwen2's system prompt: FastVLM and LLaVA-OneVision.
    BuiltIn(
        "qwen_2",
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
        false,
        "<|im_end|>",
    ),
    // Vicuna v1: LLaVA-1.5 and ConvLLaVA.
    BuiltIn(
        "vicuna_v1",
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
         detailed, and polite answers to the user's questions. USER: ",
        " ASSISTANT:",
        true,
        "</s>",
    ),
];

impl PromptTemplate {
    /// The built-in template of this name; see [`Self::names`].
    pub fn named(name: &str) -> Result<Self, TextError> {
        let found = BUILT_IN.iter().find(|built_in| built_in.0 == name);
        let Some(&BuiltIn(name, prefix, suffix, bos, stop)) = found else {
            return Err(TextError::UnknownTemplate {
                name: name.to_owned(),
                known: Self::names().collect::<Vec<_>>().join(", "),
            });
        };
        Ok(Self {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
            bos,
            stop: if stop.is_empty() {
                Vec::new()
            } else {
                vec![stop.to_owned()]
            },
        })
    }

    /// The names of all built-in templates, sorted.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|built_in| built_in.0)
    }

    /// The whole prompt around a user's turn. Neighbouring text is joined, because a tokenizer
    /// may merge across the seam.
    pub fn render(&self, turn: &[PromptPart]) -> Vec<PromptPart> {
        let prefix = PromptPart::Text(self.prefix.clone());
        let suffix = PromptPart::Text(self.suffix.clone());
        let mut rendered: Vec<PromptPart> = Vec::with_capacity(turn.len() + 2);
        for part in std::iter::once(&prefix)
            .chain(turn)
            .chain(std::iter::once(&suffix))
        {
            match (rendered.last_mut(), part) {
                (_, PromptPart::Text(text)) if text.is_empty() => {}
                (Some(PromptPart::Text(before)), PromptPart::Text(text)) => before.push_str(text),
                _ => rendered.push(part.clone()),
            }
        }
        rendered
    }

    /// The prompt around a user's turn in tokens, each image as long as `visual_tokens` says.
    pub fn tokenize(
        &self,
        turn: &[PromptPart],
        tokenizer: &dyn Tokenizer,
        visual_tokens: &[usize],
    ) -> Result<PromptTokens, TextError> {
        let bos = match tokenizer.special().bos {
            _ if !self.bos => None,
            None => {
                return Err(TextError::NoBos {
                    template: self.name.clone(),
                });
            }
            bos => bos,
        };
        PromptTokens::from_parts(&self.render(turn), tokenizer, bos, visual_tokens)
    }
}

/// A user's turn with its images first, as LLaVA, FastVLM and lmms-eval build it: one `<image>`
/// after another with spaces between, a line break, the question.
pub fn images_first(images: usize, question: &str) -> Vec<PromptPart> {
    let mut turn = Vec::with_capacity(2 * images + 1);
    for index in 0..images {
        if index > 0 {
            turn.push(PromptPart::Text(" ".to_owned()));
        }
        turn.push(PromptPart::Image);
    }
    let separator = if images > 0 { "\n" } else { "" };
    turn.push(PromptPart::Text(format!("{separator}{question}")));
    turn
}

/// The prompt as text with `<image>` for each image: what a record shows and hashes.
pub fn display(parts: &[PromptPart]) -> String {
    let text = |part: &PromptPart| match part {
        PromptPart::Text(text) => text.clone(),
        PromptPart::Image => "<image>".to_owned(),
    };
    parts.iter().map(text).collect()
}
