//! Pulls from a registry that answers as a script says: tokens, redirects, lost connections, refusals.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use dhow_content::Content;
use dhow_image::{Credentials, ImageConfiguration, Images, Progress, Pull};
use dhow_kv::Embedded;
use dhow_snapshot::Snapshots;
use dhow_spec::Digest;

/// A request: its path with query, and its authorization.
type Asked = (String, Option<String>);

/// What to answer to a request, knowing how often its path was asked before.
type Script = dyn Fn(&str, Option<&str>, usize) -> Vec<u8> + Send + Sync;

/// What a lying registry answers to a path.
type Lie = fn(&str) -> Vec<u8>;

/// Serves one request a connection until the process ends; remembers what was asked.
fn serve(script: Box<dyn Fn(u16) -> Box<Script>>) -> (u16, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = script(port);
    let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            answer(stream, &script, &log);
        }
    });
    (port, asked)
}

fn answer(mut stream: TcpStream, script: &Script, log: &Mutex<Vec<Asked>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut authorization = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(value) = line.to_lowercase().strip_prefix("authorization: ") {
            authorization = Some(line[line.len() - value.len()..].to_owned());
        }
    }
    let before = log.lock().unwrap().iter().filter(|(other, _)| *other == path).count();
    log.lock().unwrap().push((path.clone(), authorization.clone()));
    let _ = stream.write_all(&script(&path, authorization.as_deref(), before));
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// An image of one layer: manifest, configuration, layer.
fn image() -> [Vec<u8>; 3] {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o644);
    builder.append_data(&mut header, "hello", &b"hello"[..]).unwrap();
    let layer = builder.into_inner().unwrap();
    let mut config = ImageConfiguration::scratch();
    config.rootfs.diff_ids = vec![Digest::of(&layer)];
    let config = config.to_bytes().unwrap();
    let describe = |kind: &str, content: &[u8]| {
        let (digest, size) = (Digest::of(content), content.len());
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#
        )
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
        describe("config.v1+json", &config),
        describe("layer.v1.tar", &layer)
    );
    [manifest.into_bytes(), config, layer]
}

async fn images(folder: &Path) -> Images {
    let kv = Arc::new(Embedded::open(folder.join("kv")).unwrap());
    let content = Content::open(folder.join("content")).unwrap();
    Images::open(kv, content, Snapshots::open(folder.join("snapshots")).unwrap()).await.unwrap()
}

fn pull(port: u16, credentials: Option<Credentials>) -> Pull {
    let reference = format!("127.0.0.1:{port}/team/x:1").parse().unwrap();
    Pull { reference, platform: None, credentials, progress: Progress::silent() }
}

/// The parts of the image, by path.
fn part(path: &str) -> Option<Vec<u8>> {
    let [manifest, config, layer] = image();
    if path.ends_with("/manifests/1") {
        return Some(manifest);
    }
    [config, layer].into_iter().find(|blob| path.ends_with(&Digest::of(blob).to_string()))
}

#[tokio::test]
async fn tokens_are_fetched_and_shown_to_the_registry_only() {
    let (port, asked) = serve(Box::new(|port| {
        Box::new(move |path, authorization, _| {
            if path.starts_with("/token") {
                return reply("200 OK", "", br#"{"token":"t0ken"}"#);
            }
            if let Some(elsewhere) = path.strip_prefix("/elsewhere") {
                return reply("200 OK", "", &part(elsewhere).unwrap());
            }
            if authorization != Some("Bearer t0ken") {
                let realm = format!("http://127.0.0.1:{port}/token");
                let challenge = format!(
                    "WWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:team/x:pull\"\r\n"
                );
                return reply("401 Unauthorized", &challenge, b"");
            }
            if path.contains("/blobs/") {
                // Another origin: the same server under another name.
                let to = format!("Location: http://localhost:{port}/elsewhere{path}\r\n");
                return reply("307 Temporary Redirect", &to, b"");
            }
            reply(
                "200 OK",
                "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n",
                &part(path).unwrap(),
            )
        })
    }));
    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path()).await;
    let credentials =
        Credentials::Password { username: "me".to_owned(), password: "pw".to_owned() };
    images.pull(pull(port, Some(credentials))).await.unwrap();
    let asked = asked.lock().unwrap();
    let token: Vec<_> = asked.iter().filter(|(path, _)| path.starts_with("/token")).collect();
    assert_eq!(token.len(), 1);
    assert_eq!(token[0].0, "/token?service=s&scope=repository%3Ateam%2Fx%3Apull");
    assert_eq!(token[0].1.as_deref(), Some("Basic bWU6cHc="));
    for (path, authorization) in asked.iter().filter(|(path, _)| path.starts_with("/elsewhere")) {
        assert_eq!(authorization.as_deref(), None, "{path}");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let (port, asked) = serve(Box::new(|_| {
        Box::new(|path, _, before| {
            let content = part(path).unwrap();
            match before {
                0 if path.contains("/manifests/") => reply("503 Service Unavailable", "", b""),
                // A body that is cut off, and an answer that never comes.
                0 => {
                    let mut cut = reply("200 OK", "", &content);
                    cut.truncate(cut.len() - 3);
                    cut
                }
                1 if path.contains("/blobs/") => Vec::new(),
                _ => reply("200 OK", "", &content),
            }
        })
    }));
    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path()).await;
    let pulled = images.pull(pull(port, None)).await.unwrap();
    assert_eq!(pulled.image.layers.len(), 1);
    assert!(asked.lock().unwrap().len() >= 7);
    for left in ["content/ingest", "snapshots/tmp"] {
        assert_eq!(std::fs::read_dir(folder.path().join(left)).unwrap().count(), 0, "{left}");
    }
}

#[tokio::test]
async fn lies_are_refused_and_leave_nothing() {
    let too_much = |path: &str| {
        let mut content = part(path).unwrap();
        if path.contains("/blobs/") {
            content.extend(vec![0; 100_000]);
        }
        reply("200 OK", "", &content)
    };
    let schema1 = |_: &str| reply("200 OK", "", br#"{"schemaVersion":1,"fsLayers":[]}"#);
    let huge = |_: &str| reply("200 OK", "", &vec![b' '; 5 << 20]);
    let astray = |_: &str| reply("302 Found", "Location: file:///etc/passwd\r\n", b"");
    let cases: [(Lie, &str); 4] = [
        (too_much, "configuration"),
        (schema1, "schema 1"),
        (huge, "sent more than 4194304 bytes"),
        (astray, "redirects to an address that cannot be asked"),
    ];
    for (script, said) in cases {
        let (port, _) = serve(Box::new(move |_| Box::new(move |path, _, _| script(path))));
        let folder = tempfile::tempdir().unwrap();
        let images = images(folder.path()).await;
        let error = images.pull(pull(port, None)).await.unwrap_err().chain();
        assert!(error.contains(said), "{error}");
        for left in ["content/blobs/sha256", "content/ingest", "snapshots/layers"] {
            assert_eq!(std::fs::read_dir(folder.path().join(left)).unwrap().count(), 0, "{left}");
        }
    }
}
