//! A headless browser for tests of the page, driven through chromedriver.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// Set where the tests must not be left out.
const REQUIRED: &str = "VLMBENCH_REQUIRE_BROWSER";

/// A browser window; closed with the value.
pub struct Browser {
    driver: Child,
    session: String,
}

impl Browser {
    /// Starts one; `None` where there is no chromedriver and none is required.
    pub fn start() -> Option<Self> {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                assert!(
                    std::env::var_os(REQUIRED).is_none(),
                    "chromedriver: {error}"
                );
                eprintln!("left out: there is no chromedriver");
                return None;
            }
        };
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let port = line.split_once("started successfully on port ")?.1;
            Some(port.trim_end_matches('.').to_owned())
        });
        let port = port.expect("chromedriver does not say its port");
        let server = format!("http://127.0.0.1:{port}/session");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,1000",
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let started = post(&server, &wanted);
        let id = started["sessionId"].as_str().expect("a session");
        let session = format!("{server}/{id}");
        Some(Self { driver, session })
    }

    /// Opens a file.
    pub fn open(&self, page: &Path) {
        let url = format!("file://{}", page.display());
        post(&format!("{}/url", self.session), &json!({"url": url}));
    }

    /// Runs a function body in the page and returns what it returns.
    pub fn run(&self, body: &str) -> Value {
        let call = json!({"script": body, "args": []});
        post(&format!("{}/execute/sync", self.session), &call)
    }

    /// Gives a command of Chrome's own protocol.
    pub fn devtools(&self, command: &str, parameters: Value) {
        let call = json!({"cmd": command, "params": parameters});
        post(&format!("{}/goog/cdp/execute", self.session), &call);
    }

    /// What the page wrote to the console, or was refused, since it was last asked.
    pub fn console(&self) -> Vec<String> {
        let log = post(
            &format!("{}/se/log", self.session),
            &json!({"type": "browser"}),
        );
        let entries = log.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|entry| entry["message"].to_string())
            .collect()
    }

    /// Saves what is to be seen among the tests' artefacts.
    pub fn screenshot(&self, name: &str) {
        let text = value(ureq::get(format!("{}/screenshot", self.session)).call());
        let bytes = STANDARD.decode(text.as_str().unwrap()).unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = ureq::delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn post(url: &str, body: &Value) -> Value {
    let request = ureq::post(url).config().http_status_as_error(false).build();
    let request = request.header("content-type", "application/json");
    value(request.send(body.to_string()))
}

fn value(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Value {
    let mut response = response.expect("chromedriver answers");
    let text = response
        .body_mut()
        .with_config()
        .limit(1 << 28)
        .read_to_string()
        .unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    let value = whole["value"].clone();
    assert!(value.get("error").is_none(), "{value}");
    value
}
