//! Pushes to, and pulls from, a registry that answers as a script says: uploads that lead elsewhere, lost
//! connections, waits that it asks for, lies.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use dhow_content::Content;
use dhow_image::{Credentials, Images, Import, Progress, Pull, Push};
use dhow_kv::Embedded;
use dhow_snapshot::Snapshots;
use dhow_spec::Digest;

/// A request, with what it carried.
#[derive(Debug, Clone, Default)]
struct Asked {
    method: String,
    path: String,
    authorization: Option<String>,
    range: Option<String>,
    content_range: Option<String>,
    body: Vec<u8>,
}

/// What to answer, knowing what was asked before.
type Script = dyn Fn(&Asked, &[Asked]) -> Vec<u8> + Send + Sync;

/// Serves one request a connection until the process ends; remembers what was asked.
fn serve(script: impl FnOnce(u16) -> Box<Script>) -> (u16, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = Arc::new(script(port));
    let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let asked = Arc::clone(&log);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (script, log) = (Arc::clone(&script), Arc::clone(&log));
            std::thread::spawn(move || answer(stream, &**script, &log));
        }
    });
    (port, asked)
}

fn answer(mut stream: TcpStream, script: &Script, log: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split(' ').map(str::to_owned);
    let mut asked = Asked {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        ..Asked::default()
    };
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) < 3 {
            break;
        }
        let (name, value) = line.trim().split_once(": ").unwrap_or_default();
        match name.to_lowercase().as_str() {
            "authorization" => asked.authorization = Some(value.to_owned()),
            "range" => asked.range = Some(value.to_owned()),
            "content-range" => asked.content_range = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    asked.body = vec![0; length];
    if reader.read_exact(&mut asked.body).is_err() {
        return;
    }
    let before = log.lock().unwrap().clone();
    log.lock().unwrap().push(asked.clone());
    let _ = stream.write_all(&script(&asked, &before));
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn images(folder: &Path) -> Images {
    let kv = Arc::new(Embedded::open(folder.join("kv")).unwrap());
    let content = Content::open(folder.join("content")).unwrap();
    Images::open(kv, content, Snapshots::open(folder.join("snapshots")).unwrap()).await.unwrap()
}

/// A store with an image of one layer that does not compress, of some 3 MB.
async fn stocked(folder: &Path, name: &str) -> Images {
    let images = images(folder).await;
    let mut seed = 1_u32;
    let noise: Vec<u8> = (0..3_000_000)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .collect();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(noise.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "noise", &noise[..]).unwrap();
    let import = Import { reference: Some(name.parse().unwrap()), ..Import::default() };
    let tar = std::io::Cursor::new(builder.into_inner().unwrap());
    images.import(tar, import).await.unwrap();
    images
}

fn push(name: &str) -> Push {
    let credentials = Credentials::Password { username: "me".into(), password: "pw".into() };
    Push {
        reference: name.parse().unwrap(),
        all_tags: false,
        credentials: Some(credentials),
        progress: Progress::silent(),
    }
}

/// The plain course of a push behind basic authorization; the upload is at `uploads`.
fn accept(asked: &Asked, uploads: &str) -> Vec<u8> {
    if asked.path.starts_with("/v2/") && asked.authorization.is_none() {
        return reply("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b"");
    }
    let location = format!("Location: {uploads}\r\n");
    match asked.method.as_str() {
        "HEAD" => reply("404 Not Found", "", b""),
        "POST" | "PATCH" => reply("202 Accepted", &location, b""),
        _ => reply("201 Created", "", b""),
    }
}

#[tokio::test]
async fn uploads_that_lead_elsewhere_get_no_password() {
    let (port, asked) = serve(|port| {
        // Another origin: the same server under another name.
        let uploads = format!("http://localhost:{port}/elsewhere?state=1");
        Box::new(move |asked, _| accept(asked, &uploads))
    });
    let folder = tempfile::tempdir().unwrap();
    let name = format!("127.0.0.1:{port}/team/x:1");
    let images = stocked(folder.path(), &name).await;
    images.push(push(&name)).await.unwrap();
    let asked = asked.lock().unwrap();
    let elsewhere: Vec<_> = asked.iter().filter(|it| it.path.starts_with("/elsewhere")).collect();
    // The layer by PATCH and PUT, the configuration by PUT.
    assert_eq!(elsewhere.len(), 3);
    assert!(elsewhere.iter().all(|it| it.authorization.is_none()), "{elsewhere:?}");
    let last = asked.last().unwrap();
    assert_eq!((last.method.as_str(), last.path.as_str()), ("PUT", "/v2/team/x/manifests/1"));
    assert_eq!(last.authorization.as_deref(), Some("Basic bWU6cHc="));
}

#[tokio::test]
async fn uploads_go_on_where_they_were_lost() {
    const GOT: u64 = 1_000_000;
    let (port, asked) = serve(|_| {
        Box::new(move |asked, before| {
            let is_upload = asked.path.starts_with("/uploads");
            let patches = before.iter().filter(|it| it.method == "PATCH").count();
            match asked.method.as_str() {
                // The connection is lost, and a part has arrived.
                "PATCH" if patches == 0 => Vec::new(),
                "GET" if is_upload => {
                    let headers = format!("Location: /uploads?more\r\nRange: 0-{}\r\n", GOT - 1);
                    reply("204 No Content", &headers, b"")
                }
                _ => accept(asked, "/uploads"),
            }
        })
    });
    let folder = tempfile::tempdir().unwrap();
    let name = format!("127.0.0.1:{port}/x:1");
    let images = stocked(folder.path(), &name).await;
    images.push(push(&name)).await.unwrap();
    let asked = asked.lock().unwrap();
    let patches: Vec<_> = asked.iter().filter(|it| it.method == "PATCH").collect();
    assert_eq!(patches.len(), 2);
    let whole = &patches[0].body;
    assert_eq!(patches[1].path, "/uploads?more");
    assert!(patches[1].body == whole[GOT as usize..]);
    let range = format!("{GOT}-{}", whole.len() - 1);
    assert_eq!(patches[1].content_range.as_deref(), Some(range.as_str()));
    let digest = Digest::of(whole).hex();
    assert!(asked.iter().any(|it| it.method == "PUT" && it.path.ends_with(&digest)));
}

#[tokio::test]
async fn a_registry_that_keeps_something_else_is_found_out() {
    let (port, _) = serve(|_| {
        Box::new(|asked, _| {
            if asked.path.contains("/manifests/") && asked.method == "PUT" {
                let other = Digest::of(b"something else");
                let headers = format!("Docker-Content-Digest: {other}\r\n");
                return reply("201 Created", &headers, b"");
            }
            accept(asked, "/uploads")
        })
    });
    let folder = tempfile::tempdir().unwrap();
    let name = format!("127.0.0.1:{port}/x:1");
    let images = stocked(folder.path(), &name).await;
    let error = images.push(push(&name)).await.unwrap_err().chain();
    assert!(error.contains("for the manifest sha256:"), "{error}");
}

#[tokio::test]
async fn pulls_go_on_where_they_were_lost_and_wait_when_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    // What a push gives is what the pull gets.
    let (port, pushed) = serve(|_| Box::new(|asked, _| accept(asked, "/uploads")));
    let name = format!("127.0.0.1:{port}/x:1");
    stocked(folder.path(), &name).await.push(push(&name)).await.unwrap();
    let bodies: Vec<Vec<u8>> = pushed.lock().unwrap().iter().map(|it| it.body.clone()).collect();
    let (port, asked) = serve(move |_| {
        Box::new(move |asked, before| {
            let times = before.iter().filter(|it| it.path == asked.path).count();
            let blob = |body: &&Vec<u8>| asked.path.ends_with(&Digest::of(body).to_string());
            let Some(body) = bodies.iter().find(blob) else {
                if times == 0 {
                    return reply("429 Too Many Requests", "Retry-After: 1\r\n", b"");
                }
                return reply("200 OK", "", bodies.last().unwrap());
            };
            let from = asked.range.as_ref().map_or(0, |range| {
                range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
            });
            let headers =
                format!("Content-Range: bytes {from}-{0}/{1}\r\n", body.len() - 1, body.len());
            let mut answer = match from {
                0 => reply("200 OK", "", body),
                _ => reply("206 Partial Content", &headers, &body[from..]),
            };
            if times < 2 && body.len() > 1_000_000 {
                answer.truncate(answer.len() - (body.len() - from) / 2);
            }
            answer
        })
    });
    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path()).await;
    let pull = Pull {
        reference: format!("127.0.0.1:{port}/x:1").parse().unwrap(),
        platform: None,
        credentials: None,
        progress: Progress::silent(),
    };
    let begin = Instant::now();
    images.pull(pull).await.unwrap();
    assert!(begin.elapsed().as_secs() >= 1, "it waited for a second");
    let asked = asked.lock().unwrap();
    let ranges: Vec<_> = asked.iter().filter_map(|it| it.range.as_deref()).collect();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(ranges[0] != ranges[1]);
}
