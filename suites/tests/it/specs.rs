//! The suites as they ship.

use vlmbench_suites::{PromptPart, SuiteSpec, formats, metrics, prompts};

use crate::fixtures::{self, MMMU, open, spec, suite, write};

const IDS: [&str; 4] = ["docvqa", "mmmu", "seedbench", "textvqa"];

#[test]
fn every_suite_is_sound_and_named_like_its_file() {
    for id in IDS {
        let spec = spec(id);
        assert_eq!(spec.id, id);
        spec.check().unwrap();
        assert_eq!(spec.hub.revision.len(), 40, "{id}: a commit, not a branch");
        assert!(spec.hub.ids.len() == 2 && spec.hub.ids[0].starts_with("lmms-lab-encoder/"));
    }
}

#[test]
fn nothing_that_is_registered_goes_unused() {
    let specs = IDS.map(spec);
    for format in formats() {
        assert!(
            specs.iter().any(|spec| spec.dataset.format == format.name),
            "{}",
            format.name
        );
    }
    let profiles = || specs.iter().flat_map(|spec| &spec.profiles);
    for metric in metrics() {
        assert!(
            profiles().any(|profile| profile.metric == metric.name),
            "{}",
            metric.name
        );
    }
    for prompt in prompts() {
        assert!(
            profiles().any(|profile| profile.prompt.kind == prompt.name),
            "{}",
            prompt.name
        );
    }
}

#[test]
fn profiles_and_their_limits() {
    let stop = ["ASSISTANT:"].as_slice();
    for (id, profile, tokens, stop) in [
        ("textvqa", "llava-official@c121f04", 128, [].as_slice()),
        ("textvqa", "lmms@0.2.2", 1024, stop),
        ("textvqa", "lmms@75571cf", 1024, stop),
        ("docvqa", "lmms@0.2.2", 32, &[]),
        ("docvqa", "lmms@75571cf", 32, &[]),
        ("seedbench", "lmms@0.2.2", 1024, stop),
        ("seedbench", "lmms@75571cf", 1024, stop),
        ("mmmu", "lmms@0.2.2", 16, &[]),
        ("mmmu", "lmms@75571cf", 128, &[]),
    ] {
        let limits = suite(id, profile).limits();
        assert_eq!(
            (limits.max_new_tokens, limits.stop.as_slice()),
            (
                tokens,
                stop.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .as_slice()
            )
        );
    }
    assert_eq!(IDS.map(|id| spec(id).profiles.len()), [2, 2, 2, 3]);
    let error = vlmbench_suites::Suite::new(&spec("docvqa"), "llava-official@c121f04").unwrap_err();
    assert_eq!(
        error.to_string(),
        "suite `docvqa` has no profile `llava-official@c121f04`; it has `lmms@0.2.2`, `lmms@75571cf`"
    );
}

#[test]
fn prompts_to_the_byte() {
    const SW: &str = "Answer the question using a single word or phrase.";
    const LT: &str = "Answer with the option's letter from the given choices directly.";
    let root = tempfile::tempdir().unwrap();
    let textvqa = open(
        "textvqa",
        &write(root.path(), "t.parquet", &fixtures::textvqa(&[1], 0)),
    );
    let docvqa = open(
        "docvqa",
        &write(root.path(), "d.parquet", &fixtures::docvqa(&["1"])),
    );
    let seed = open(
        "seedbench",
        &write(
            root.path(),
            "s.parquet",
            &fixtures::seedbench(&[("1", "image", "A")]),
        ),
    );
    let mmmu = open(
        "mmmu",
        &write(root.path(), "m.parquet", &fixtures::mmmu(&MMMU)),
    );
    for (id, profile, dataset, index, images, text) in [
        (
            "textvqa",
            "llava-official@c121f04",
            &textvqa,
            0,
            vec![0],
            format!("what does SIGN 1 say?\nReference OCR token: EXIT, 12\n{SW}"),
        ),
        (
            "textvqa",
            "lmms@0.2.2",
            &textvqa,
            0,
            vec![0],
            format!("What does sign 1 say?\n{SW}"),
        ),
        (
            "textvqa",
            "lmms@75571cf",
            &textvqa,
            0,
            vec![0],
            format!("What does sign 1 say?\n{SW}"),
        ),
        (
            "docvqa",
            "lmms@0.2.2",
            &docvqa,
            0,
            vec![0],
            format!("What is written?\n{SW}"),
        ),
        (
            "seedbench",
            "lmms@75571cf",
            &seed,
            0,
            vec![0],
            format!("How many towels are in the image?\nA. One\nB. Two\nC. Three\nD. Four\n{LT}"),
        ),
        (
            "mmmu",
            "lmms@0.2.2",
            &mmmu,
            0,
            vec![0],
            format!("Who painted <image 1>?\nA. Monet\nB. O'Keeffe\nC. Klee\n\n{LT}"),
        ),
        (
            "mmmu",
            "lmms@75571cf",
            &mmmu,
            1,
            vec![0, 1],
            format!("Which is older?\nA. <image 2>\nB. <image 1>\n\n{LT}"),
        ),
        (
            "mmmu",
            "lmms@0.2.2",
            &mmmu,
            3,
            vec![0],
            format!("Find x in <image 1>.\n\n{SW}"),
        ),
    ] {
        let mut expected: Vec<_> = images.into_iter().map(PromptPart::Image).collect();
        expected.push(PromptPart::Text(text));
        let parts = suite(id, profile)
            .render(&dataset.samples()[index])
            .unwrap();
        assert_eq!(parts, expected, "{id} {profile}");
    }
}

/// What `check` says of a shipped suite after an edit.
fn broken(edit: impl FnOnce(&mut SuiteSpec)) -> String {
    let mut spec = spec("docvqa");
    edit(&mut spec);
    spec.check().unwrap_err().to_string()
}

#[test]
fn unsound_definitions_say_what_would_be_right() {
    let columns = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (message, expected) in [
        (
            broken(|s| s.dataset.format = "tsv".into()),
            "unknown dataset format `tsv`; known are `choice-columns`",
        ),
        (
            broken(|s| drop(s.dataset.columns.insert("answer".into(), columns(&["a"])))),
            "format `vqa` has no role `answer`; its roles are `id`, `question`, `answers`",
        ),
        (
            broken(|s| {
                drop(
                    s.dataset
                        .columns
                        .insert("question".into(), columns(&["a", "b"])),
                )
            }),
            "role `question` of format `vqa` takes one column, got 2",
        ),
        (
            broken(|s| drop(s.dataset.columns.remove("images"))),
            "role `images` of format `vqa` takes at least one column, got 0",
        ),
        (broken(|s| s.profiles.clear()), "defines no profile"),
        (
            broken(|s| s.profiles[1].id = "lmms@0.2.2".into()),
            "defines profile `lmms@0.2.2` twice",
        ),
        (
            broken(|s| s.profiles[0].metric = "ANLS".into()),
            "unknown metric `ANLS`; known are `anls`",
        ),
        (
            broken(|s| s.profiles[0].prompt.kind = "cot".into()),
            "unknown prompt kind `cot`; known are",
        ),
        (
            broken(|s| s.profiles[0].prompt.kind = "mmmu-images-first".into()),
            "prompt kind `mmmu-images-first` needs `open_instruction`",
        ),
    ] {
        assert!(
            message.starts_with("suite `docvqa`") && message.contains(expected),
            "{message}"
        );
    }
    let unknown = serde_yaml::from_str::<SuiteSpec>("id: x\ntitel: X\n")
        .unwrap_err()
        .to_string();
    assert!(unknown.contains("unknown field `titel`"), "{unknown}");
}
