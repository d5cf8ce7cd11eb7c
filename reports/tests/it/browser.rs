//! The page in a real browser: it draws, its controls work, nothing is fetched or complained about.

use std::{fs, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::json;
use tempfile::{TempDir, tempdir};
use vlmbench_reports::{
    record::{Exhibit, Record},
    report,
};

use crate::{synthetic::*, webdriver::Browser};

/// A report of cases that have times, measured accuracies and published ones.
fn page() -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    write(folder.path(), &metered_records());
    let files = report::report(&[folder.path()], folder.path()).unwrap();
    (folder, files.page)
}

#[test]
fn the_page_draws_and_its_controls_work() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (_folder, page) = page();
    browser.open(&page);
    assert_eq!(
        browser.run("return document.getElementById('explore').hidden"),
        false
    );
    let dots = "return document.querySelectorAll('#chart a').length";
    // Seven encoders and sides have a published accuracy.
    assert_eq!(browser.run(dots), 7);
    let best = "return document.getElementById('best').textContent";
    let whole = browser.run(best);
    assert!(whole.as_str().unwrap().contains("1024 px"), "{whole}");
    browser.screenshot("page-light");

    let set = |id: &str, value: &str| {
        browser.run(&format!(
            "const e = document.getElementById('{id}'); e.value = '{value}'; e.dispatchEvent(new Event('input'));"
        ))
    };
    // With the smallest budget only the fastest point is left.
    set("budget", "0");
    let fastest = browser.run(best);
    assert!(
        fastest.as_str().unwrap().contains("fastvithd 256 px"),
        "{fastest}"
    );
    let label =
        "return document.querySelector('#chart svg[aria-label]').getAttribute('aria-label')";
    let before = browser.run(label);
    set("axis", "tokens");
    let after = browser.run(label);
    assert_ne!(before, after);
    assert!(after.as_str().unwrap().contains("visual tokens"), "{after}");
    set("grouping", "all");
    assert_eq!(browser.run(dots), 7);

    // What was metered is one more axis; the case that was not has no point on it.
    set("axis", "energy");
    let metered = browser.run(label);
    assert!(
        metered.as_str().unwrap().contains("energy of a request"),
        "{metered}"
    );
    assert_eq!(browser.run(dots), 6);
    set("budget", "1000");
    let cheapest = browser.run(best);
    assert!(cheapest.as_str().unwrap().contains(" J"), "{cheapest}");
    set("budget", "0");
    set("axis", "tokens");

    // A point leads to its ledger.
    browser.run("document.querySelector('#chart a').dispatchEvent(new MouseEvent('click', {bubbles: true}))");
    let open = "return [...document.querySelectorAll('#ledgers details[open]')].map((d) => '#' + d.id).join()";
    let hash = browser.run("return location.hash");
    assert_eq!(browser.run(open), hash);
    assert!(hash.as_str().unwrap().starts_with("#case-"), "{hash}");

    // A table is sorted by a click, numbers as numbers.
    let column = "const t = document.querySelector('#time-to-first-token table');
        const i = [...t.tHead.rows[0].cells].findIndex((c) => c.textContent === 'TTFT ms');
        t.tHead.rows[0].cells[i].querySelector('button').click();
        return [...t.tBodies[0].rows].map((r) => Number(r.cells[i].textContent))";
    let sorted = browser.run(column);
    let times: Vec<f64> = serde_json::from_value(sorted).unwrap();
    assert!(times.len() == 8 && times.is_sorted(), "{times:?}");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn the_page_is_dark_where_that_is_asked_for_and_fits_a_phone() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (_folder, page) = page();
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.devtools("Emulation.setEmulatedMedia", dark);
    browser.open(&page);
    let paper = browser.run("return getComputedStyle(document.body).backgroundColor");
    assert_eq!(paper, "rgb(21, 23, 26)");
    let picture =
        "return getComputedStyle(document.querySelector('figure.picture svg > rect')).fill";
    assert_eq!(browser.run(picture), paper);
    browser.screenshot("page-dark");

    let phone = json!({"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true});
    browser.devtools("Emulation.setDeviceMetricsOverride", phone);
    browser.open(&page);
    let room = browser.run("return document.documentElement.scrollWidth - innerWidth");
    assert_eq!(room, 0, "the page must not scroll sideways");
    browser.screenshot("page-phone");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn without_scripts_the_page_says_everything() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (_folder, page) = page();
    browser.devtools(
        "Emulation.setScriptExecutionDisabled",
        json!({"value": true}),
    );
    browser.open(&page);
    // Commands of the driver still run; the page's own scripts have not.
    assert_eq!(
        browser.run("return document.getElementById('explore').hidden"),
        true
    );
    assert_eq!(browser.run("return typeof Plot"), "undefined");
    let rows =
        browser.run("return document.querySelectorAll('#time-to-first-token tbody tr').length");
    assert_eq!(rows, 8);
    let seen = browser.run(
        "return [...document.querySelectorAll('figure.picture svg')].every((s) => s.getBoundingClientRect().width > 400 \
         && s.getAttribute('aria-label'))",
    );
    assert_eq!(seen, true);
    let named = browser.run(
        "return [...document.querySelectorAll('img')].every((i) => i.alt) \
         && [...document.querySelectorAll('input, select')].every((c) => c.labels.length > 0)",
    );
    assert_eq!(named, true);
    browser.screenshot("page-without-scripts");
}

/// A picture of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[test]
fn samples_and_answers_that_differ_are_seen_with_their_pictures() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let mut base = suites_and_blind_records();
    base.push(Record::Exhibit(Exhibit {
        suite: "textvqa".into(),
        profile: "lmms@0.2.2".into(),
        sample: "q1".into(),
        question: "What is right?".into(),
        references: vec!["B".into()],
        images: vec!["gallery/q1.png".into()],
    }));
    let mut candidate = base.clone();
    for record in &mut candidate {
        if let Record::Sample(sample) = record
            && sample.sample == "q1"
        {
            sample.outcome = answered(&sample.case, "q1", 0, 1).outcome;
        }
    }
    let (one, other, out) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    write(one.path(), &base);
    write(other.path(), &candidate);
    let pixel = BASE64.decode(PIXEL).unwrap();
    fs::create_dir(other.path().join("gallery")).unwrap();
    fs::write(other.path().join("gallery/q1.png"), pixel).unwrap();
    let files = report::report(&[one.path(), other.path()], out.path()).unwrap();
    let phone = json!({"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true});
    browser.devtools("Emulation.setDeviceMetricsOverride", phone);
    browser.open(&files.page);
    for section in ["samples", "flips"] {
        let pictures = format!("[...document.querySelectorAll('#{section} img')]");
        let seen = format!(
            "const all = {pictures}; all.forEach((i) => {{ i.loading = 'eager'; i.scrollIntoView(); }});
             return Promise.all(all.map((i) => i.decode())).then(() => all.every((i) => i.naturalWidth === 1) && all.length > 0)"
        );
        assert_eq!(browser.run(&seen), true, "{section}");
    }
    let room = browser.run("return document.documentElement.scrollWidth - innerWidth");
    assert_eq!(room, 0, "the page must not scroll sideways");
    assert_eq!(browser.console(), Vec::<String>::new());
}
