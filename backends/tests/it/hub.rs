//! Hub ids against a cache made by hand and against a small server that speaks the few endpoints
//! of the hub which a download needs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use vlmbench_backends::hub::{
    FileFilter, HubError, HubOptions, HubRequest, RepoKind, Snapshot, is_repo_id, resolve,
};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn model(revision: &str) -> HubRequest {
    HubRequest {
        id: "org/tiny".into(),
        kind: RepoKind::Model,
        revision: revision.into(),
        files: FileFilter::Checkpoint,
    }
}

fn offline(cache: &Path) -> HubOptions {
    HubOptions {
        offline: true,
        ..HubOptions::new(cache)
    }
}

fn quietly(request: &HubRequest, options: &HubOptions) -> Result<Snapshot, HubError> {
    resolve(request, options, &mut |_| {})
}

/// A cache as Hugging Face's tools leave it, without our list of files.
fn cache_with(files: &[(&str, &str)]) -> TempDir {
    let cache = TempDir::new().unwrap();
    let repo = cache.path().join("models--org--tiny");
    std::fs::create_dir_all(repo.join("refs")).unwrap();
    std::fs::write(repo.join("refs/main"), format!("{COMMIT}\n")).unwrap();
    for (name, text) in files {
        let path = repo.join("snapshots").join(COMMIT).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    cache
}

/// A hub with one repository; every path it is asked for is noted.
struct Server {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `repo` is the path part of the repository (`org/tiny`, `datasets/org/set`); `status` other
    /// than 200 answers every request.
    fn start(repo: &str, files: &[(&str, &str)], status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let api = if repo.starts_with("datasets/") {
            repo.into()
        } else {
            format!("models/{repo}")
        };
        let names: Vec<_> = files
            .iter()
            .map(|(name, _)| serde_json::json!({"rfilename": name}))
            .collect();
        let listing = serde_json::json!({"sha": COMMIT, "siblings": names}).to_string();
        let mut pages: BTreeMap<String, String> = files
            .iter()
            .map(|(name, text)| {
                (
                    format!("/{repo}/resolve/{COMMIT}/{name}"),
                    (*text).to_owned(),
                )
            })
            .collect();
        pages.insert(format!("/api/{api}/revision/main"), listing);
        let log = Arc::clone(&asked);
        // The thread ends with the process, like the connections it serves.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &pages, status, &log);
            }
        });
        Self { endpoint, asked }
    }

    fn options(&self, cache: &TempDir) -> HubOptions {
        HubOptions {
            endpoint: self.endpoint.clone(),
            ..HubOptions::new(cache.path())
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers one request, whole or from an offset on, and closes the connection.
fn answer(
    mut stream: TcpStream,
    pages: &BTreeMap<String, String>,
    status: u16,
    log: &Mutex<Vec<String>>,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = headers.iter().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("range: bytes=")
            .map(str::to_owned)
    });
    let token = headers
        .iter()
        .find(|line| line.to_lowercase().starts_with("authorization:"));
    log.lock()
        .unwrap()
        .push(path.clone() + token.map_or("", |_| " with token"));
    let (status, body, extra) = match pages.get(&path) {
        _ if status != 200 => (status, "", String::new()),
        None => (404, "", String::new()),
        Some(text) => match range {
            None => (200, text.as_str(), String::new()),
            Some(range) => {
                let (first, last) = range.split_once('-').unwrap();
                let first: usize = first.parse().unwrap();
                let end = last
                    .parse()
                    .map_or(text.len(), |last: usize| (last + 1).min(text.len()));
                let header = format!(
                    "content-range: bytes {first}-{}/{}\r\n",
                    end.max(1) - 1,
                    text.len()
                );
                (206, &text[first..end], header)
            }
        },
    };
    let length = body.len();
    // The path makes a fine etag: distinct for each file, and without slashes.
    let etag = path.replace('/', "_");
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\netag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\n\
         {extra}connection: close\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
}

#[test]
fn ids_have_two_segments() {
    for good in ["apple/FastVLM-0.5B", "lmms-lab/textvqa", "a_b/c.d-e"] {
        assert!(is_repo_id(good), "{good}");
    }
    for bad in [
        "gpt2",
        "./model",
        "/abs/path",
        "a/b/c",
        "org/",
        "../x",
        "a/..",
        "org/na me",
    ] {
        assert!(!is_repo_id(bad), "{bad}");
    }
    let request = HubRequest {
        id: "gpt2".into(),
        ..model("main")
    };
    let error = quietly(&request, &offline(Path::new("nowhere"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"gpt2\" is not a hub id: expected ORG/NAME"
    );
}

#[test]
fn a_cache_made_elsewhere_serves_offline_by_branch_and_by_commit() {
    let cache = cache_with(&[
        ("config.json", "{}"),
        ("model.safetensors", "weights"),
        ("README.md", "read me"),
        ("onnx/model.json", "{}"),
    ]);
    for revision in ["main", COMMIT] {
        let snapshot = quietly(&model(revision), &offline(cache.path())).unwrap();
        assert_eq!(snapshot.commit, COMMIT);
        assert_eq!(snapshot.files, ["config.json", "model.safetensors"]);
        assert_eq!(snapshot.fetched, 0);
        assert_eq!(
            std::fs::read_to_string(snapshot.dir.join("model.safetensors")).unwrap(),
            "weights"
        );
    }
}

#[test]
fn offline_says_what_is_missing() {
    let error = |cache: &TempDir| {
        quietly(&model("main"), &offline(cache.path()))
            .unwrap_err()
            .to_string()
    };
    let empty = TempDir::new().unwrap();
    let message = error(&empty);
    assert!(
        message.starts_with("model org/tiny at revision main is not in the cache"),
        "{message}"
    );
    assert!(
        message.contains("hf download org/tiny --repo-type model --revision main"),
        "{message}"
    );

    let message = error(&cache_with(&[("config.json", "{}")]));
    assert!(message.contains("lacks model.safetensors"), "{message}");

    let index =
        r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "part-b.safetensors"}}"#;
    let message = error(&cache_with(&[
        ("model.safetensors.index.json", index),
        ("model-00001-of-00002.safetensors", "1"),
    ]));
    assert!(
        message.contains("lacks model-00002-of-00002.safetensors, part-b.safetensors"),
        "{message}"
    );
}

#[cfg(unix)]
#[test]
fn a_link_to_a_deleted_blob_is_a_missing_file() {
    let cache = cache_with(&[("config.json", "{}")]);
    let link = cache
        .path()
        .join("models--org--tiny/snapshots")
        .join(COMMIT)
        .join("model.safetensors");
    std::os::unix::fs::symlink("../../blobs/gone", link).unwrap();
    assert!(matches!(
        quietly(&model("main"), &offline(cache.path())),
        Err(HubError::Incomplete { .. })
    ));
}

#[test]
fn a_download_fills_the_cache_once() {
    let files = [
        ("config.json", "{}"),
        ("model.safetensors", "many weights"),
        ("tokenizer.json", "{\"t\": 1}"),
        ("pytorch_model.bin", "not wanted"),
    ];
    let server = Server::start("org/tiny", &files, 200);
    let cache = TempDir::new().unwrap();
    let mut last = BTreeMap::new();
    let snapshot = resolve(&model("main"), &server.options(&cache), &mut |download| {
        last.insert(
            download.file.to_owned(),
            (download.bytes, download.total_bytes),
        );
    })
    .unwrap();
    assert_eq!(
        snapshot.files,
        ["config.json", "model.safetensors", "tokenizer.json"]
    );
    assert_eq!((snapshot.commit.as_str(), snapshot.fetched), (COMMIT, 3));
    assert_eq!(last["model.safetensors"], (12, 12));
    assert_eq!(
        std::fs::read_to_string(snapshot.dir.join("model.safetensors")).unwrap(),
        "many weights"
    );
    assert!(
        !server
            .asked()
            .iter()
            .any(|path| path.contains("pytorch_model"))
    );

    // Again: from the cache, by branch or commit, without a word to the server.
    let asked = server.asked().len();
    for revision in ["main", COMMIT] {
        let again = quietly(&model(revision), &server.options(&cache)).unwrap();
        assert_eq!((again.dir, again.fetched), (snapshot.dir.clone(), 0));
    }
    assert_eq!(server.asked().len(), asked);

    // A file lost from the cache is noticed, and it alone is fetched.
    std::fs::remove_file(snapshot.dir.join("tokenizer.json")).unwrap();
    let message = quietly(&model("main"), &offline(cache.path()))
        .unwrap_err()
        .to_string();
    assert!(message.contains("lacks tokenizer.json"), "{message}");
    assert_eq!(
        quietly(&model("main"), &server.options(&cache))
            .unwrap()
            .fetched,
        1
    );
}

#[test]
fn a_dataset_is_filtered_by_config_and_split() {
    let files = [
        ("DocVQA/validation-00000-of-00002.parquet", "v0"),
        ("DocVQA/validation-00001-of-00002.parquet", "v1"),
        ("DocVQA/test-00000-of-00001.parquet", "t"),
        ("InfographicVQA/validation-00000-of-00001.parquet", "i"),
        ("README.md", "card"),
    ];
    let server = Server::start("datasets/org/docs", &files, 200);
    let cache = TempDir::new().unwrap();
    let request = |config: Option<&str>, split: Option<&str>| HubRequest {
        id: "org/docs".into(),
        kind: RepoKind::Dataset,
        revision: "main".into(),
        files: FileFilter::Parquet {
            config: config.map(Into::into),
            split: split.map(Into::into),
        },
    };
    let options = server.options(&cache);
    let snapshot = quietly(&request(Some("DocVQA"), Some("validation")), &options).unwrap();
    assert_eq!(snapshot.files.len(), 2);
    assert!(
        snapshot
            .dir
            .starts_with(cache.path().join("datasets--org--docs/snapshots"))
    );
    let all = quietly(&request(None, None), &options).unwrap();
    assert_eq!((all.files.len(), all.fetched), (4, 2));
    let error = quietly(&request(Some("docvqa"), None), &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("has 5 files, but none that fits"), "{error}");
}

#[test]
fn refusals_say_what_to_do() {
    let error = |status| {
        let server = Server::start("org/tiny", &[], status);
        let cache = TempDir::new().unwrap();
        quietly(&model("main"), &server.options(&cache)).unwrap_err()
    };
    assert!(matches!(error(404), HubError::NotFound { .. }));
    let denied = error(401);
    assert!(matches!(denied, HubError::Denied { status: 401, .. }));
    let message = denied.to_string();
    assert!(
        message.contains("/org/tiny and give an access token"),
        "{message}"
    );
    assert!(matches!(error(403), HubError::Denied { status: 403, .. }));
    assert!(matches!(error(500), HubError::Fetch { .. }));
}

#[test]
fn an_unreachable_hub_is_an_error_only_without_a_cache() {
    // A port that was free a moment ago and that nobody listens on.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let unreachable = |cache: &TempDir| HubOptions {
        endpoint: format!("http://{address}"),
        ..HubOptions::new(cache.path())
    };
    let empty = TempDir::new().unwrap();
    let error = quietly(&model("main"), &unreachable(&empty)).unwrap_err();
    assert!(matches!(error, HubError::Fetch { .. }), "{error}");
    let full = cache_with(&[("config.json", "{}"), ("model.safetensors", "w")]);
    assert_eq!(
        quietly(&model("main"), &unreachable(&full))
            .unwrap()
            .fetched,
        0
    );
}

#[test]
fn a_token_is_sent_and_unsafe_names_are_refused() {
    let server = Server::start("org/tiny", &[("../../escape.json", "{}")], 200);
    let cache = TempDir::new().unwrap();
    let options = HubOptions {
        token: Some("secret".into()),
        ..server.options(&cache)
    };
    // The checkpoint filter takes only the top folder; a dataset's shards may lie deeper.
    let error = quietly(&model("main"), &options).unwrap_err();
    assert!(matches!(error, HubError::NoFiles { .. }), "{error}");
    assert_eq!(
        server.asked(),
        ["/api/models/org/tiny/revision/main with token"]
    );

    let server = Server::start(
        "datasets/org/set",
        &[("../train-00000-of-00001.parquet", "x")],
        200,
    );
    let request = HubRequest {
        id: "org/set".into(),
        kind: RepoKind::Dataset,
        revision: "main".into(),
        files: FileFilter::Parquet {
            config: None,
            split: None,
        },
    };
    let error = quietly(&request, &server.options(&cache)).unwrap_err();
    assert!(matches!(error, HubError::UnsafeName { .. }), "{error}");
}
