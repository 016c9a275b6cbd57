//! By what is sent: requests, archives, build contexts, a registry's answers.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use dhow_tests::{Daemon, images};

use super::{busybox_but, files_below, import_with_link};

/// Sends bytes to the API's socket as they are; the answer's first line.
fn raw(daemon: &Daemon, request: &[u8]) -> Result<String> {
    let mut stream = UnixStream::connect(daemon.folder().join("run/dhow.sock"))?;
    // It may refuse before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[test]
fn paths_in_names_are_only_names() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    daemon.ok(&["create", "--name", "it", "busybox", "true"])?;
    let before = files_below(daemon.folder())?.len();
    for name in ["../../x", "..", ".", "a/b", "%2e%2e%2fx", "x%00y", "x%0Ay", "%2F", "%ff", "a%2Fb"]
    {
        let body = r#"{"Image":"busybox","Cmd":["true"]}"#;
        for request in [
            format!("POST /containers/create?name={name}"),
            format!("POST /containers/it/rename?name={name}"),
            format!("GET /containers/{name}/json"),
            format!("GET /containers/{name}/logs?stdout=1"),
            format!("DELETE /containers/{name}"),
            format!("GET /images/{name}/json"),
            format!("DELETE /images/{name}"),
            format!("POST /exec/{name}/start"),
        ] {
            let text = format!(
                "{request} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = raw(&daemon, text.as_bytes())?;
            assert!(answer.starts_with("HTTP/1.1 4"), "{request}: {answer}");
        }
    }
    assert_eq!(files_below(daemon.folder())?.len(), before);
    assert_eq!(daemon.ok(&["ps", "-a", "--format", "{{.Names}}"])?, "it");
    daemon.leave_nothing()
}

#[test]
fn giant_requests_are_refused() -> Result<()> {
    let daemon = Daemon::start()?;
    let head = "POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let nested = ["[".repeat(100_000), "]".repeat(100_000)].concat();
    let bodies = [nested, "{".repeat(100_000), format!("\"{}\"", "x".repeat(8 << 20))];
    for body in bodies {
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let answer = raw(&daemon, request.as_bytes())?;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let lies = format!("{head}Content-Length: 18446744073709551616\r\n\r\n{{}}");
    assert!(!raw(&daemon, lies.as_bytes())?.starts_with("HTTP/1.1 2"));
    let wide = format!("GET /_ping HTTP/1.1\r\nHost: d\r\nX: {}\r\n\r\n", "x".repeat(4 << 20));
    assert!(!raw(&daemon, wide.as_bytes())?.starts_with("HTTP/1.1 2"));
    assert_eq!(daemon.ok(&["ps", "-aq"])?, "");
    daemon.leave_nothing()
}

/// A tar header that says what no honest one does.
fn header(kind: u8, size: [u8; 12]) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_path("file")?;
    header.set_entry_type(tar::EntryType::new(kind));
    header.as_mut_bytes().get_mut(124..136).context("too short")?.copy_from_slice(&size);
    header.set_cksum();
    Ok([header.as_bytes().as_slice(), &[b'A'; 2048]].concat())
}

/// An archive of `dhow load` with these files.
fn archive(files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        images::entry(&mut tar, tar::EntryType::Regular, name, 0o644, content.as_bytes())?;
    }
    Ok(tar.into_inner()?)
}

#[test]
fn archives_that_lie_are_refused() -> Result<()> {
    let daemon = Daemon::start()?;
    let mut archives = Vec::new();
    let sizes =
        [*b"77777777777\0", [0xff; 12], *b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"];
    for kind in [b'0', b'x', b'g', b'L', b'K', b'S'] {
        for size in sizes {
            archives.push(header(kind, size)?);
        }
    }
    for (number, tar) in archives.iter().enumerate() {
        for verb in [&["load"][..], &["import", "-", "x"]] {
            let said = daemon.dhow_fed(verb, tar)?;
            assert_eq!(said.code, 1, "{number} {verb:?}: {said:?}");
        }
    }
    let layout = ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    let saved = |config: &str, layer: &str| {
        format!(r#"[{{"Config":"{config}","RepoTags":["x:y"],"Layers":["{layer}"]}}]"#)
    };
    let index = |digest: &str, size: &str| {
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{digest}","size":{size}}}]}}"#
        )
    };
    let nested = "[".repeat(200_000);
    let files = [
        ("manifest.json", saved("../../../../etc/passwd", "/etc/shadow")),
        ("manifest.json", saved("manifest.json", "manifest.json")),
        ("manifest.json", nested.clone()),
        ("manifest.json", " ".repeat(20 << 20)),
        ("index.json", index("sha256:../../../../../../../etc/passwd", "10")),
        ("index.json", index(&format!("sha256:{}", "0".repeat(64)), "18446744073709551615")),
        ("index.json", index(&format!("sha256:{}", "0".repeat(64)), "-1")),
        ("index.json", nested),
    ];
    for (name, content) in &files {
        let said = daemon.dhow_fed(&["load"], &archive(&[layout, (name, content)])?)?;
        assert_eq!(said.code, 1, "{name}: {}", content.get(..200).unwrap_or(content));
        assert!(!said.stderr.contains("root:"), "{}", said.stderr);
    }
    assert_eq!(daemon.ok(&["images", "-aq"])?, "");
    daemon.leave_nothing()
}

#[test]
fn devices_in_layers_open_nothing() -> Result<()> {
    let daemon = Daemon::start()?;
    let image = busybox_but("mem", |tar| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Char);
        header.set_mode(0o666);
        header.set_size(0);
        header.set_device_major(1)?;
        header.set_device_minor(1)?;
        Ok(tar.append_data(&mut header, "mem", std::io::empty())?)
    })?;
    daemon.dhow_fed(&["import", "-", "devices"], &image)?.ok()?;
    let said = daemon.dhow(&["run", "--rm", "devices", "head", "-c", "1", "/mem"])?;
    assert!(said.code != 0 && said.stderr.contains("not permitted"), "{said:?}");
    daemon.leave_nothing()
}

#[test]
fn builds_stay_in_context_and_image() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let (victim, context) = (daemon.folder().join("victim"), daemon.folder().join("context"));
    fs::create_dir(&victim)?;
    fs::create_dir(&context)?;
    fs::write(victim.join("secret"), "the host's")?;
    fs::write(context.join("file"), "mine")?;
    std::os::unix::fs::symlink(victim.join("secret"), context.join("link"))?;
    std::os::unix::fs::symlink(&victim, context.join("folder"))?;
    std::os::unix::fs::symlink("../victim", context.join("up"))?;
    import_with_link(&daemon, "linked", "trap", &victim.display().to_string())?;
    import_with_link(&daemon, "upward", "trap", &format!("../../../../../..{}", victim.display()))?;
    let steps = [
        "COPY link /x",
        "COPY folder/secret /x",
        "COPY up/secret /x",
        "COPY up/ /x/",
        "COPY . /x/",
        "ADD link /x",
        "COPY file /trap",
        "COPY file /trap/",
        "COPY file /trap/a/b",
        "COPY . /trap/",
        "WORKDIR /trap/folder",
        "COPY file /../../../../../../trap/y",
        "COPY --from=linked /trap/ /x/",
        "COPY --from=linked /trap/secret /x",
        "COPY --from=linked /../../../../etc/shadow /x",
    ];
    for base in ["linked", "upward"] {
        for step in steps {
            fs::write(context.join("Dockerfile"), format!("FROM {base}\n{step}\n"))?;
            let built = daemon.dhow(&["build", "-q", "-t", "built", &context.to_string_lossy()])?;
            assert_eq!(fs::read_dir(&victim)?.count(), 1, "{step}: {built:?}");
            assert_eq!(fs::read_to_string(victim.join("secret"))?, "the host's", "{step}");
            if built.code == 0 {
                let find = ["run", "--rm", "built", "grep", "-rs", "the host's", "/x", "/trap"];
                assert_eq!(daemon.dhow(&find)?.stdout, "", "{step}");
            }
        }
    }
    daemon.leave_nothing()
}

#[test]
fn ignore_patterns_take_no_exponential_time() -> Result<()> {
    let daemon = Daemon::start()?;
    images::busybox(&daemon)?;
    let context = daemon.folder().join("context");
    fs::create_dir_all(context.join(vec!["a".repeat(50); 20].join("/")))?;
    fs::write(context.join("Dockerfile"), "FROM busybox\nCOPY . /x\n")?;
    let stars = ["**/".repeat(30), "*a".repeat(60), "b".to_owned()].concat();
    fs::write(context.join(".dockerignore"), format!("{stars}\n!{stars}\n"))?;
    let begin = std::time::Instant::now();
    daemon.ok(&["build", "-q", &context.to_string_lossy()])?;
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
    daemon.leave_nothing()
}

/// A registry that says `answer` to everything, `endless` bytes behind it.
fn liar(answer: String, endless: bool) -> Result<std::net::SocketAddr> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let answer = answer.replace("ADDRESS", &address.to_string());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|length| length > 0) {
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                    while endless && stream.write_all(&[b' '; 8192]).is_ok() {}
                }
            });
        }
    });
    Ok(address)
}

#[test]
fn registries_that_lie_get_nowhere() -> Result<()> {
    let daemon = Daemon::start()?;
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json";
    let digest = "sha256:4a084185075a8e27405f3b07b6e3512a93615f59c61e6e0aafe7aa98bafbb859";
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}},"layers":[]}}"#
    );
    let nothing = "Content-Length: 0";
    let cases = [
        (format!("HTTP/1.1 307 X\r\nLocation: file:///etc/passwd\r\n{nothing}\r\n\r\n"), false),
        (
            format!("HTTP/1.1 307 X\r\nLocation: unix:///run/dhow/dhow.sock\r\n{nothing}\r\n\r\n"),
            false,
        ),
        (
            format!("HTTP/1.1 307 X\r\nLocation: http://ADDRESS/v2/again\r\n{nothing}\r\n\r\n"),
            false,
        ),
        (
            format!(
                "HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer realm=\"file:///etc/passwd\"\r\n{nothing}\r\n\r\n"
            ),
            false,
        ),
        (
            format!(
                "HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer realm=\"http://ADDRESS/token\"\r\n{nothing}\r\n\r\n"
            ),
            false,
        ),
        (format!("HTTP/1.1 200 X\r\n{kind}\r\nContent-Length: 99999999999999\r\n\r\n"), true),
        (format!("HTTP/1.1 200 X\r\n{kind}\r\n\r\n"), true),
        (format!("HTTP/1.1 200 X\r\n{kind}\r\nX: "), true),
        // The configuration, too, is answered with this manifest: neither its size nor its digest.
        (
            format!(
                "HTTP/1.1 200 X\r\n{kind}\r\nContent-Length: {}\r\n\r\n{manifest}",
                manifest.len()
            ),
            false,
        ),
    ];
    for (answer, endless) in cases {
        let name = format!("{}/x/y:z", liar(answer.clone(), endless)?);
        let said = daemon.dhow(&["pull", &name])?;
        assert_eq!(said.code, 1, "{answer}: {said:?}");
        assert!(!said.stderr.contains("root:"), "{answer}: {}", said.stderr);
    }
    assert_eq!(daemon.ok(&["images", "-aq"])?, "");
    daemon.leave_nothing()
}
