//! Pulls from Debian's docker-registry on loopback, with an image that skopeo pushed.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use dhow_content::Content;
use dhow_error::Kind;
use dhow_image::{Credentials, ImageConfiguration, ImageUser, Images, Import, Progress, Pull};
use dhow_kv::Embedded;
use dhow_snapshot::Snapshots;
use dhow_spec::Digest;

/// A registry of one's own, ended when dropped.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a registry, perhaps one that wants `user` and `secret`; waits until it listens.
    fn start(htpasswd: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The port is free now; should another take it, the registry ends and we try again.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = folder.path().join("config.yml");
            std::fs::write(&config, configuration(folder.path(), port, htpasswd)).unwrap();
            let mut child = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("docker-registry is installed");
            let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
            let listens =
                log.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
            // The log goes on being read, or the registry would stand still.
            std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
            if listens {
                return Self { child, port, folder };
            }
            let _ = child.wait();
        }
        panic!("docker-registry does not start");
    }

    fn name(&self, path: &str) -> String {
        format!("127.0.0.1:{}/{path}", self.port)
    }

    fn skopeo(&self, from: &str, to: &str, more: &[&str]) {
        let done = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
            .args(more)
            .arg(from)
            .arg(format!("docker://{}", self.name(to)))
            .output()
            .expect("skopeo is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

fn configuration(folder: &Path, port: u16, htpasswd: Option<&str>) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
         http:\n  addr: 127.0.0.1:{port}\n",
        folder.join("registry").display()
    );
    if let Some(line) = htpasswd {
        let path = folder.join("htpasswd");
        std::fs::write(&path, line).unwrap();
        let _ = writeln!(text, "auth:\n  htpasswd:\n    realm: test\n    path: {}", path.display());
    }
    text
}

async fn images(folder: &Path) -> Images {
    let kv = Arc::new(Embedded::open(folder.join("kv")).unwrap());
    let content = Content::open(folder.join("content")).unwrap();
    Images::open(kv, content, Snapshots::open(folder.join("snapshots")).unwrap()).await.unwrap()
}

fn pull(name: &str) -> Pull {
    Pull {
        reference: name.parse().unwrap(),
        platform: None,
        credentials: None,
        progress: Progress::silent(),
    }
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A `docker save` archive of one image with two layers.
fn archive(path: &Path) {
    let layers = [tar(&[("low", b"1")]), tar(&[("high", &vec![7; 3 << 20])])];
    let mut config = ImageConfiguration::scratch();
    config.rootfs.diff_ids = layers.iter().map(|layer| Digest::of(layer)).collect();
    config.config.cmd = Some(vec!["/hello".to_owned()]);
    let config = config.to_bytes().unwrap();
    let name = format!("{}.json", Digest::of(&config).hex());
    let manifest =
        format!(r#"[{{"Config":"{name}","RepoTags":["x:1"],"Layers":["0.tar","1.tar"]}}]"#);
    let files: [(&str, &[u8]); 4] = [
        ("0.tar", &layers[0]),
        ("1.tar", &layers[1]),
        (&name, &config),
        ("manifest.json", manifest.as_bytes()),
    ];
    std::fs::File::create(path).unwrap().write_all(&tar(&files)).unwrap();
}

fn nobody(_: &Digest) -> Vec<ImageUser> {
    Vec::new()
}

#[tokio::test]
async fn pulls_by_tag_and_by_digest_and_fetches_nothing_twice() {
    let server = Server::start(None);
    let saved = server.folder.path().join("saved.tar");
    archive(&saved);
    let source = format!("docker-archive:{}", saved.display());
    server.skopeo(&source, "team/x:docker", &["--format=v2s2"]);
    server.skopeo(&source, "team/x:oci", &["--format=oci", "--dest-compress-format=zstd"]);

    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path()).await;
    let name = server.name("team/x:docker");
    let (progress, mut events) = Progress::channel(1000);
    let pulled = images.pull(Pull { progress, ..pull(&name) }).await.unwrap();
    assert!(!pulled.up_to_date);
    assert_eq!(pulled.image.references[0].to_string(), name);
    let by_digest = server.name(&format!("team/x@{}", pulled.digest));
    assert_eq!(pulled.image.repo_digests, std::slice::from_ref(&by_digest));
    assert_eq!(pulled.image.size_bytes, (3 << 20) + 1);
    let folders = images.folders(&pulled.image.chain()).unwrap();
    assert_eq!(std::fs::read(folders[1].join("low")).unwrap(), b"1");
    let mut said = Vec::new();
    while let Ok(event) = events.try_recv() {
        said.push(event.status);
    }
    for line in ["Pulling fs layer", "Download complete", "Pull complete"] {
        assert_eq!(said.iter().filter(|status| *status == line).count(), 2, "{said:?}");
    }

    assert!(images.pull(pull(&name)).await.unwrap().up_to_date);
    let again = images.pull(pull(&by_digest)).await.unwrap();
    assert_eq!(again.image.id, pulled.image.id);

    // The same layers, compressed otherwise: they are here.
    let (progress, mut events) = Progress::channel(1000);
    let name = server.name("team/x:oci");
    images.pull(Pull { progress, ..pull(&name) }).await.unwrap();
    let mut already = 0;
    while let Ok(event) = events.try_recv() {
        already += usize::from(event.status == "Already exists");
    }
    assert_eq!(already, 2);

    for image in images.list().await.unwrap() {
        images.remove(&image.id.to_string(), true, &nobody).await.unwrap();
    }
    for left in ["content/blobs/sha256", "content/ingest", "snapshots/layers", "snapshots/tmp"] {
        assert_eq!(std::fs::read_dir(folder.path().join(left)).unwrap().count(), 0, "{left}");
    }
    // From nothing, by the zstd manifest.
    let pulled = images.pull(pull(&name)).await.unwrap();
    assert_eq!(pulled.image.layers.len(), 2);
}

#[tokio::test]
async fn an_unknown_image_names_the_registry_that_was_asked() {
    let server = Server::start(None);
    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path()).await;
    let error = images.pull(pull(&server.name("nosuch:1"))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let url = format!("http://127.0.0.1:{}/v2/nosuch/manifests/1", server.port);
    assert!(error.chain().contains(&format!("{url} said 404 Not Found")), "{}", error.chain());
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn an_unreachable_registry_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path()).await;
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = images.pull(pull(&format!("localhost:{port}/x"))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let chain = error.chain();
    assert!(chain.contains(&format!("http://localhost:{port}/v2/x/manifests/latest")), "{chain}");
    assert!(chain.contains("onnection refused"), "{chain}");
}

#[tokio::test]
async fn credentials_are_shown_when_asked_for() {
    // htpasswd -nbB -C 4 user secret
    let line = "user:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
    let server = Server::start(Some(line));
    let saved = server.folder.path().join("saved.tar");
    archive(&saved);
    let source = format!("docker-archive:{}", saved.display());
    server.skopeo(&source, "x:latest", &["--dest-creds=user:secret"]);
    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path()).await;
    let name = server.name("x");
    let error = images.pull(pull(&name)).await.unwrap_err();
    assert!(error.chain().contains("said 401 Unauthorized"), "{}", error.chain());
    let wrong = Credentials::Password { username: "user".to_owned(), password: "wrong".to_owned() };
    let error = images.pull(Pull { credentials: Some(wrong), ..pull(&name) }).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    let right =
        Credentials::Password { username: "user".to_owned(), password: "secret".to_owned() };
    assert!(images.pull(Pull { credentials: Some(right), ..pull(&name) }).await.is_ok());
}

#[tokio::test]
async fn a_blob_changed_on_the_registry_is_refused() {
    let server = Server::start(None);
    let saved = server.folder.path().join("saved.tar");
    archive(&saved);
    server.skopeo(&format!("docker-archive:{}", saved.display()), "x:1", &["--format=v2s2"]);
    let blobs = server.folder.path().join("registry/docker/registry/v2/blobs/sha256");
    let mut files = Vec::new();
    for prefix in std::fs::read_dir(blobs).unwrap() {
        for blob in std::fs::read_dir(prefix.unwrap().path()).unwrap() {
            files.push(blob.unwrap().path().join("data"));
        }
    }
    // A gzip stream, not the JSON.
    let layer = files.iter().find(|path| std::fs::read(path).unwrap().starts_with(&[0x1f, 0x8b]));
    let mut content = std::fs::read(layer.unwrap()).unwrap();
    let expected = Digest::of(&content);
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(layer.unwrap(), &content).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path()).await;
    let error = images.pull(pull(&server.name("x:1"))).await.unwrap_err().chain();
    assert!(error.contains(&format!("expected {expected}")), "{error}");
    assert!(error.contains(&Digest::of(&content).to_string()), "{error}");
    assert!(images.list().await.unwrap().is_empty());
    let import = images.import(std::io::Cursor::new(tar(&[("a", b"b")])), Import::default()).await;
    assert!(import.is_ok());
}

#[tokio::test]
async fn loads_what_skopeo_archives() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved.tar");
    archive(&saved);
    let images = images(folder.path()).await;
    for (kind, name) in
        [("oci-archive", "example.org/oci:1"), ("docker-archive", "example.org/d:1")]
    {
        let to = folder.path().join(kind);
        let done = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet"])
            .arg(format!("docker-archive:{}", saved.display()))
            .arg(format!("{kind}:{}:{name}", to.display()))
            .output()
            .expect("skopeo is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let file = std::fs::File::open(&to).unwrap();
        let loaded = images.load(file, Progress::silent()).await.unwrap();
        assert_eq!(loaded[0].references[0].to_string(), name);
        assert_eq!(images.get(name).await.unwrap().layers.len(), 2);
    }
    // The same layers under two configurations are kept once.
    assert_eq!(std::fs::read_dir(folder.path().join("snapshots/layers")).unwrap().count(), 2);
}
