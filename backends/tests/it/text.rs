//! Tokenizers, prompt templates, prompt segments and stop rules. The tokenizers here are built on
//! the spot: byte-level BPE like Qwen2's, and SentencePiece-like BPE as Vicuna's.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use vlmbench_backends::text::prompt::IMAGE_SENTINEL;
use vlmbench_backends::text::template::{display, images_first};
use vlmbench_backends::text::{
    HfTokenizer, PlaceholderTokenizer, PromptPart, PromptTemplate, PromptTokens, Segment, Stop,
    StopRule, TextError, TextStream, Tokenizer,
};

fn write(dir: &Path, name: &str, value: &Value) {
    std::fs::write(dir.join(name), value.to_string()).unwrap();
}

fn added(first_id: usize, tokens: &[&str]) -> Vec<Value> {
    let token = |(offset, content): (usize, &&str)| {
        json!({"id": first_id + offset, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    tokens.iter().enumerate().map(token).collect()
}

/// 256 byte symbols, the merge "in", and ChatML's special tokens from id 257 on. It was saved with
/// a truncation, as some published files are.
fn chat_tokenizer() -> TempDir {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut vocab: serde_json::Map<String, Value> = alphabet
        .iter()
        .enumerate()
        .map(|(id, c)| (c.to_string(), json!(id)))
        .collect();
    vocab.insert("in".into(), json!(256));
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": added(257, &["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
                  "vocab": vocab, "merges": [["i", "n"]]}
    });
    let dir = TempDir::new().unwrap();
    write(dir.path(), "tokenizer.json", &tokenizer);
    write(
        dir.path(),
        "tokenizer_config.json",
        &json!({"bos_token": null, "eos_token": {"content": "<|im_end|>"}}),
    );
    write(
        dir.path(),
        "generation_config.json",
        &json!({"eos_token_id": [259, 257]}),
    );
    write(
        dir.path(),
        "config.json",
        &json!({"bos_token_id": 257, "image_token_index": 300}),
    );
    dir
}

/// `<s>`, `</s>`, 256 byte tokens, and single characters; a space becomes "▁", and one is put
/// before every text. Its post-processor puts `<s>` first.
fn sentencepiece_tokenizer() -> TempDir {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(
        ('a'..='z')
            .chain('A'..='Z')
            .chain("▁.,:'?".chars())
            .map(String::from),
    );
    let vocab: serde_json::Map<String, Value> = tokens
        .into_iter()
        .enumerate()
        .map(|(id, token)| (token, json!(id)))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added(0, &["<unk>", "<s>", "</s>"]),
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
                  "vocab": vocab, "merges": []}
    });
    let dir = TempDir::new().unwrap();
    write(dir.path(), "tokenizer.json", &tokenizer);
    write(
        dir.path(),
        "tokenizer_config.json",
        &json!({"bos_token": "<s>", "eos_token": "</s>"}),
    );
    dir
}

fn load(dir: &TempDir) -> HfTokenizer {
    HfTokenizer::from_dir(dir.path()).unwrap()
}

#[test]
fn special_tokens_come_from_the_files_beside_the_tokenizer() {
    let chat = load(&chat_tokenizer());
    // `bos_token: null` beats the config's id; the EOS ids of all files are joined, once each.
    assert_eq!(chat.special().bos, None);
    assert_eq!(chat.special().eos, [259, 257]);
    assert_eq!(chat.special().image, Some(300));
    assert_eq!(chat.vocab_size(), 260);

    let vicuna = load(&sentencepiece_tokenizer());
    assert_eq!(
        (vicuna.special().bos, vicuna.special().eos.as_slice()),
        (Some(1), [2].as_slice())
    );
    assert_eq!(vicuna.special().image, None);
}

#[test]
fn ids_are_read_from_a_nested_text_config() {
    let dir = sentencepiece_tokenizer();
    std::fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
    let config =
        json!({"image_token_id": 77, "text_config": {"bos_token_id": 1, "eos_token_id": 2}});
    write(dir.path(), "config.json", &config);
    let special = load(&dir).special().clone();
    assert_eq!(
        (special.bos, special.eos, special.image),
        (Some(1), vec![2], Some(77))
    );
}

#[test]
fn encoding_is_neither_truncated_nor_given_special_tokens() {
    let chat = load(&chat_tokenizer());
    let ids = chat.encode("<|im_start|>a line\n").unwrap();
    assert_eq!(
        ids.len(),
        7,
        "{ids:?}: one special token, six pieces with `in` merged"
    );
    assert_eq!(ids[0], 258);
    assert!(ids.contains(&256));
    assert_eq!(chat.decode(&ids).unwrap(), "a line\n");

    let vicuna = load(&sentencepiece_tokenizer());
    let ids = vicuna.encode("hi").unwrap();
    assert_eq!(ids.len(), 3, "{ids:?}: the space before, h, i, and no <s>");
    assert_eq!(vicuna.decode(&ids).unwrap(), "hi");
}

#[test]
fn broken_files_are_named() {
    let error = |dir: &TempDir| HfTokenizer::from_dir(dir.path()).err().unwrap().to_string();
    let dir = TempDir::new().unwrap();
    assert!(error(&dir).contains("failed to read") && error(&dir).contains("tokenizer.json"));
    write(dir.path(), "tokenizer.json", &json!({"model": 1}));
    assert!(error(&dir).contains("does not hold a tokenizer"));

    let dir = chat_tokenizer();
    write(
        dir.path(),
        "generation_config.json",
        &json!({"eos_token_id": "two"}),
    );
    let message = error(&dir);
    assert!(
        message.contains("generation_config.json: `eos_token_id` is \"two\", expected a token id"),
        "{message}"
    );
    write(dir.path(), "generation_config.json", &json!({}));
    write(
        dir.path(),
        "tokenizer_config.json",
        &json!({"eos_token": "<|eot|>"}),
    );
    assert!(error(&dir).contains("`eos_token` names \"<|eot|>\""));
    std::fs::write(dir.path().join("config.json"), "{").unwrap();
    assert!(error(&dir).contains("config.json is not valid json"));
}

fn streamed(tokenizer: &dyn Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = TextStream::new(tokenizer);
    let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    pieces.push(stream.finish().unwrap());
    pieces
}

#[test]
fn streamed_pieces_are_whole_characters_and_join_to_the_text() {
    let chat = load(&chat_tokenizer());
    let vicuna = load(&sentencepiece_tokenizer());
    let tokenizers: [&dyn Tokenizer; 2] = [&chat, &vicuna];
    for tokenizer in tokenizers {
        for text in [
            "plain words in line",
            "gr\u{fc}\u{df}e \u{4f60}\u{597d} \u{1f600}!",
            "",
        ] {
            let ids = tokenizer.encode(text).unwrap();
            let pieces = streamed(tokenizer, &ids);
            assert_eq!(pieces.concat(), tokenizer.decode(&ids).unwrap());
            assert_eq!(pieces.concat(), text);
            assert!(!pieces.concat().contains(char::REPLACEMENT_CHARACTER));
        }
    }
    // Cut inside a character: held back, then shown as what it is.
    let ids = chat.encode("\u{1f600}").unwrap();
    let pieces = streamed(&chat, &ids[..2]);
    assert_eq!(&pieces[..2], ["", ""]);
    assert!(pieces[2].contains(char::REPLACEMENT_CHARACTER));
}

#[test]
fn templates_have_the_published_bytes() {
    let shown = |name: &str| {
        let template = PromptTemplate::named(name).unwrap();
        display(&template.render(&images_first(1, "What is this?")))
    };
    assert_eq!(
        shown("qwen_2"),
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\nWhat is this?\
         <|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(
        shown("vicuna_v1"),
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
         detailed, and polite answers to the user's questions. USER: <image>\nWhat is this? ASSISTANT:"
    );
    assert_eq!(
        shown("llava_llama_3"),
        "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful language and vision assistant. You are able to \
         understand the visual content that the user provides, and assist the user with a variety of tasks using \
         natural language.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<image>\nWhat is this?<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
    assert_eq!(shown("plain"), "<image>\nWhat is this?");
    assert_eq!(
        PromptTemplate::named("vicuna").unwrap_err().to_string(),
        "unknown prompt template \"vicuna\" (known: cambrian_llama_3, llava_llama_3, plain, qwen_2, vicuna_v1)"
    );
    let names: Vec<_> = PromptTemplate::names().collect();
    assert!(names.is_sorted());
    assert_eq!(display(&images_first(0, "q")), "q");
    assert_eq!(display(&images_first(2, "q")), "<image> <image>\nq");
}

#[test]
fn a_template_reads_strictly() {
    let text = "{name: mine, prefix: 'Q: ', suffix: ' A:', bos: false}";
    let mine: PromptTemplate = serde_yaml::from_str(text).unwrap();
    assert_eq!(
        display(&mine.render(&[PromptPart::Text("x".into())])),
        "Q: x A:"
    );
    let error = serde_yaml::from_str::<PromptTemplate>(&text.replace("bos", "boss")).unwrap_err();
    assert!(error.to_string().contains("boss"));
}

#[test]
fn prompts_are_tokenized_side_by_side() {
    let chat = load(&chat_tokenizer());
    let template = PromptTemplate::named("qwen_2").unwrap();
    let prompt = template
        .tokenize(&images_first(1, "in?"), &chat, &[16])
        .unwrap();
    let before = chat.encode(&template.prefix).unwrap();
    let after = chat
        .encode("\nin?<|im_end|>\n<|im_start|>assistant\n")
        .unwrap();
    assert_eq!(
        (prompt.visual_len(), prompt.text_len()),
        (16, before.len() + after.len())
    );
    assert_eq!(prompt.total_len(), 16 + before.len() + after.len());
    assert_eq!(
        prompt.segments(),
        [
            Segment::Text(before),
            Segment::Image {
                index: 0,
                tokens: 16
            },
            Segment::Text(after)
        ]
    );
}

#[test]
fn vicuna_begins_with_bos_once_and_prefixes_both_sides() {
    let vicuna = load(&sentencepiece_tokenizer());
    let template = PromptTemplate::named("vicuna_v1").unwrap();
    let prompt = template
        .tokenize(&images_first(1, "hi"), &vicuna, &[4])
        .unwrap();
    let [Segment::Text(before), _, Segment::Text(after)] = prompt.segments() else {
        panic!("{prompt:?}")
    };
    assert_eq!(before[0], 1);
    assert_eq!(before.iter().filter(|id| **id == 1).count(), 1);
    // LLaVA tokenizes the right side by itself, so it begins with the dummy space, then "\n".
    let dummy = vicuna.token_id("\u{2581}").unwrap();
    assert_eq!(after[..2], [dummy, vicuna.token_id("<0x0A>").unwrap()]);

    let chat = load(&chat_tokenizer());
    let error = template.tokenize(&[], &chat, &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"vicuna_v1\" begins with a bos token")
    );
}

#[test]
fn image_counts_must_agree() {
    let chat = load(&chat_tokenizer());
    let template = PromptTemplate::named("plain").unwrap();
    let error = template
        .tokenize(&images_first(2, "q"), &chat, &[16])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "prompt has 2 image markers, but 1 images were given"
    );
}

#[test]
fn both_styles_of_ready_made_ids_give_the_same_prompt() {
    let expected = [
        Segment::Text(vec![5, 6]),
        Segment::Image {
            index: 0,
            tokens: 3,
        },
        Segment::Image {
            index: 1,
            tokens: 2,
        },
        Segment::Text(vec![7]),
    ];
    let sentinel = [5, 6, IMAGE_SENTINEL, IMAGE_SENTINEL, 7];
    let repeated = [5, 6, 9, 9, 9, 9, 9, 7];
    for ids in [&sentinel[..], &repeated[..]] {
        let prompt = PromptTokens::from_input_ids(ids, Some(9), &[3, 2]).unwrap();
        assert_eq!(prompt.segments(), expected);
        assert_eq!((prompt.total_len(), prompt.image_count()), (8, 2));
    }
    // Without an image token, 9 is text.
    let prompt = PromptTokens::from_input_ids(&[5, 9], None, &[]).unwrap();
    assert_eq!(prompt.segments(), [Segment::Text(vec![5, 9])]);
}

#[test]
fn ready_made_ids_that_do_not_fit_are_refused() {
    let error = |ids: &[i64], visual: &[usize]| {
        PromptTokens::from_input_ids(ids, Some(9), visual).unwrap_err()
    };
    assert!(matches!(
        error(&[5, 9, 9], &[3]),
        TextError::ImageRun {
            position: 1,
            got: 2,
            expected: 3
        }
    ));
    assert!(matches!(
        error(&[9, 9, 9, 9], &[3]),
        TextError::ImageRun {
            position: 0,
            got: 4,
            expected: 3
        }
    ));
    assert!(matches!(
        error(&[5], &[3]),
        TextError::ImageCount {
            prompt: 0,
            given: 1
        }
    ));
    assert!(matches!(
        error(&[-200, -200], &[3]),
        TextError::ImageCount {
            prompt: 2,
            given: 1
        }
    ));
    assert!(matches!(
        error(&[5, -1], &[]),
        TextError::BadId {
            id: -1,
            position: 1
        }
    ));
    assert!(matches!(
        error(&[1 << 40], &[]),
        TextError::BadId { position: 0, .. }
    ));
}

#[test]
fn answers_end_at_eos_or_before_a_stop_string() {
    let rule = StopRule::new(vec![2], ["</s>", "", "ASSISTANT:"].map(String::from));
    assert_eq!(rule.strings(), ["</s>", "ASSISTANT:"]);
    assert_eq!(rule.check(2, "an answer"), Some(Stop::Eos));
    assert_eq!(rule.check(3, "an answer"), None);
    assert_eq!(rule.check(3, "an answer</s>"), Some(Stop::String));
    assert_eq!(rule.cut("B ASSISTANT: more</s>"), "B ");
    assert_eq!(rule.cut("gr\u{fc}n</s>"), "gr\u{fc}n");
    assert_eq!(rule.cut("whole"), "whole");
    assert_eq!(StopRule::default().check(0, ""), None);
}

#[test]
fn the_placeholder_makes_prompts_of_exact_length() {
    let tokenizer = PlaceholderTokenizer::new(151_936).unwrap();
    for tokens in [0, 1, 64, 333] {
        assert_eq!(
            tokenizer
                .encode(&PlaceholderTokenizer::text_of(tokens))
                .unwrap()
                .len(),
            tokens
        );
    }
    let vicuna = PromptTemplate::named("vicuna_v1").unwrap();
    let prompt = vicuna
        .tokenize(&images_first(1, "q"), &tokenizer, &[576])
        .unwrap();
    assert_eq!(
        prompt.text_len(),
        1 + vicuna.prefix.len() + 2 + vicuna.suffix.len()
    );
    assert_eq!(tokenizer.decode(&[104, 105, 70_000]).unwrap(), "hi<70000>");
    assert!(matches!(
        PlaceholderTokenizer::new(255),
        Err(TextError::SmallVocabulary { .. })
    ));
}
