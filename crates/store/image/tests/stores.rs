//! Loading, importing, making and removing images in stores of their own: what a user would notice, and
//! what must not be left behind.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dhow_content::Content;
use dhow_image::{ImageConfiguration, ImageUser, Images, Import, Progress, Removed};
use dhow_kv::Embedded;
use dhow_snapshot::Snapshots;
use dhow_spec::Digest;

/// Stores in a folder of their own.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn open(&self) -> Images {
        let kv = Arc::new(Embedded::open(self.path("kv")).unwrap());
        let content = Content::open(self.path("content")).unwrap();
        Images::open(kv, content, Snapshots::open(self.path("snapshots")).unwrap()).await.unwrap()
    }

    fn count(&self, name: &str) -> usize {
        std::fs::read_dir(self.path(name)).unwrap().count()
    }

    /// Blobs, unfinished blobs, layers and temporary folders.
    fn census(&self) -> [usize; 4] {
        ["content/blobs/sha256", "content/ingest", "snapshots/layers", "snapshots/tmp"]
            .map(|name| self.count(name))
    }
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let mut config = ImageConfiguration::scratch();
    config.rootfs.diff_ids = layers.iter().map(|layer| Digest::of(layer)).collect();
    config.created = Some("2024-01-02T03:04:05Z".to_owned());
    config.config.cmd = Some(vec!["/hello".to_owned()]);
    config.to_bytes().unwrap()
}

/// `docker save`'s old format: the list comes last, the second layer is a link to the first.
fn docker_archive(tags: &str) -> (Vec<u8>, Digest) {
    let layer = tar(&[("hello", b"hello\n")]);
    let config = config(&[&layer, &layer]);
    let name = format!("{}.json", Digest::of(&config).hex());
    let manifest = format!(
        r#"[{{"Config":"{name}","RepoTags":{tags},"Layers":["a/layer.tar","b/layer.tar"]}}]"#
    );
    let mut builder = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "b/layer.tar", "../a/layer.tar").unwrap();
    for (path, content) in [
        ("a/VERSION", &b"1.0"[..]),
        ("a/layer.tar", &layer),
        (name.as_str(), &config),
        ("manifest.json", manifest.as_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content).unwrap();
    }
    (builder.into_inner().unwrap(), Digest::of(&config))
}

/// An OCI layout with an index within the index, for two platforms.
fn oci_archive(layer: &[u8], plain: &[u8]) -> (Vec<u8>, Digest) {
    let config = config(&[plain]);
    let descriptor = |kind: &str, content: &[u8], more: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{}","size":{}{more}}}"#,
            Digest::of(content),
            content.len()
        )
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        descriptor("config.v1+json", &config, ""),
        descriptor("layer.v1.tar+gzip", layer, "")
    );
    let ours = r#","platform":{"os":"linux","architecture":"amd64"}"#;
    let other = r#","platform":{"os":"linux","architecture":"s390x"}"#;
    let inner = format!(
        r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#,
        descriptor("manifest.v1+json", b"not here", other),
        descriptor("manifest.v1+json", manifest.as_bytes(), ours)
    );
    let name = r#","annotations":{"org.opencontainers.image.ref.name":"example.org/x:1"}"#;
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        descriptor("index.v1+json", inner.as_bytes(), name)
    );
    let blob = |content: &[u8]| format!("blobs/sha256/{}", Digest::of(content).hex());
    let mut files = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    for content in [config.as_slice(), layer, manifest.as_bytes(), inner.as_bytes()] {
        files.push((blob(content), content.to_vec()));
    }
    files.push(("index.json".to_owned(), index.into_bytes()));
    let files: Vec<_> = files.iter().map(|(n, c)| (n.as_str(), c.as_slice())).collect();
    (tar(&files), Digest::of(&config))
}

async fn load(images: &Images, archive: Vec<u8>) -> dhow_error::Result<Vec<dhow_image::Loaded>> {
    images.load(std::io::Cursor::new(archive), Progress::silent()).await
}

fn nobody(_: &Digest) -> Vec<ImageUser> {
    Vec::new()
}

fn read(images: &Images, chain: &[Digest], name: &str) -> String {
    let folders = images.folders(chain).unwrap();
    let path = folders.iter().map(|f| f.join(Path::new(name))).find(|path| path.exists()).unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn loads_what_docker_saved_and_removes_it_without_a_trace() {
    let place = Place::new();
    let images = place.open().await;
    let (archive, id) = docker_archive(r#"["x:1","example.org/y:2"]"#);
    let loaded = load(&images, gzip(&archive)).await.unwrap();
    assert_eq!(loaded[0].id, id);
    let names: Vec<_> = loaded[0].references.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["x:1", "example.org/y:2"]);

    let image = images.get("x:1").await.unwrap();
    assert_eq!((image.id, image.layers.len(), image.created_seconds), (id, 2, 1_704_164_645));
    assert_eq!(image.config.config.cmd.as_deref().unwrap(), ["/hello"]);
    assert_eq!(read(&images, &image.chain(), "hello"), "hello\n");
    // One blob for both layers, one for the configuration; nothing else.
    assert_eq!(place.census(), [2, 0, 2, 0]);

    let removed = images.remove("x:1", false, &nobody).await.unwrap();
    assert_eq!(removed, [Removed::Untagged("x:1".to_owned())]);
    let removed = images.remove("example.org/y:2", false, &nobody).await.unwrap();
    assert_eq!(
        removed[..2],
        [Removed::Untagged("example.org/y:2".to_owned()), Removed::Deleted(id)]
    );
    assert_eq!(removed.len(), 4);
    assert_eq!(place.census(), [0; 4]);
}

#[tokio::test]
async fn loads_oci_layouts_through_nested_indexes() {
    let place = Place::new();
    let images = place.open().await;
    let plain = tar(&[("etc/hello", b"oci\n")]);
    let (archive, id) = oci_archive(&gzip(&plain), &plain);
    let loaded = load(&images, zstd::encode_all(archive.as_slice(), 1).unwrap()).await.unwrap();
    assert_eq!(loaded.len(), 1);
    let image = images.get("example.org/x:1").await.unwrap();
    assert_eq!(image.id, id);
    assert_eq!(read(&images, &image.chain(), "etc/hello"), "oci\n");
    assert_eq!(place.census(), [4, 0, 1, 0]);
}

/// More files than are made durable at once, of which the image needs two.
#[tokio::test]
async fn loads_archives_of_many_small_files() {
    let place = Place::new();
    let images = place.open().await;
    let layer = tar(&[("hello", b"hello\n")]);
    let (archive, id) = oci_archive(&layer, &layer);
    let spare: Vec<_> = (0..600).map(|number| number.to_string().into_bytes()).collect();
    let named: Vec<_> = spare
        .iter()
        .map(|content| (format!("blobs/sha256/{}", Digest::of(content).hex()), content.as_slice()))
        .collect();
    let files: Vec<_> = named.iter().map(|(name, content)| (name.as_str(), *content)).collect();
    // An archive ends with two empty blocks; what is put before another one ends without them.
    let mut many = tar(&files);
    many.truncate(many.len() - 1024);
    many.extend(archive);
    assert_eq!(load(&images, many.clone()).await.unwrap()[0].id, id);
    let kept = place.census();
    assert_eq!((kept[1], kept[2], kept[3]), (0, 1, 0));
    assert!(kept[0] < 10, "what no image needs is swept: {kept:?}");
    // One byte of the last of them: nothing of it stays.
    let last = many.windows(3).rposition(|bytes| bytes == b"599").unwrap();
    many[last] ^= 1;
    let error = load(&images, many).await.unwrap_err().chain();
    assert!(error.contains(&Digest::of(b"599").to_string()), "{error}");
    assert_eq!(place.census(), kept);
}

#[tokio::test]
async fn a_corrupt_layer_names_both_digests_and_leaves_nothing() {
    let place = Place::new();
    let images = place.open().await;
    let plain = tar(&[("hello", b"expected")]);
    let other = tar(&[("hello", b"tampered")]);
    // The blob is what its name says, but not what the configuration promises.
    let (archive, _) = oci_archive(&gzip(&other), &plain);
    let error = load(&images, archive).await.unwrap_err().chain();
    for digest in [Digest::of(&plain), Digest::of(&other)] {
        assert!(error.contains(&digest.to_string()), "{error}");
    }
    assert_eq!(place.census(), [0; 4]);

    // The blob is not what its name says.
    let layer = gzip(&plain);
    let (mut archive, _) = oci_archive(&layer, &plain);
    let at = archive.windows(layer.len()).position(|part| part == layer).unwrap();
    archive[at + layer.len() / 2] ^= 1;
    let error = load(&images, archive).await.unwrap_err().chain();
    assert!(error.contains(&format!("expected {}", Digest::of(&layer))), "{error}");
    assert_eq!(place.census(), [0; 4]);
    assert!(images.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn archives_that_are_none_say_so() {
    let place = Place::new();
    let images = place.open().await;
    for bad in
        [b"nonsense".repeat(100), tar(&[("a", b"b")]), tar(&[("manifest.json", b"{}")]), vec![]]
    {
        assert!(load(&images, bad).await.is_err());
    }
    let (archive, _) = docker_archive(r#"["x:1"]"#);
    let error = load(&images, archive[..1200].to_vec()).await.unwrap_err().chain();
    assert!(error.contains("cut off"), "{error}");
    assert_eq!(place.census(), [0; 4]);
}

#[tokio::test]
async fn imports_a_root_filesystem_with_changes() {
    let place = Place::new();
    let images = place.open().await;
    let import = || Import {
        reference: Some("made".parse().unwrap()),
        message: Some("by hand".to_owned()),
        changes: vec![
            "CMD [\"/bin/sh\"]".to_owned(),
            "ENV A=b C=$A".to_owned(),
            "EXPOSE 80".to_owned(),
        ],
        created: Some(jiff::Timestamp::UNIX_EPOCH),
        ..Import::default()
    };
    let root = tar(&[("bin/sh", b"#!")]);
    let first = images.import(std::io::Cursor::new(gzip(&root)), import()).await.unwrap();
    let second = images.import(std::io::Cursor::new(root), import()).await.unwrap();
    assert_eq!(first.id, second.id);
    assert_eq!(first.references[0].to_string(), "made:latest");
    assert_eq!(first.config.config.env, ["A=b", "C="]);
    assert_eq!(first.config.history[0].comment.as_deref(), Some("by hand"));
    let bad = Import { changes: vec!["RUN x".to_owned()], ..Import::default() };
    assert!(images.import(std::io::empty(), bad).await.is_err());
}

#[tokio::test]
async fn what_was_visible_is_visible_after_a_restart_and_the_rest_is_swept() {
    let place = Place::new();
    let (archive, id) = docker_archive("null");
    {
        let images = place.open().await;
        assert!(load(&images, archive).await.unwrap()[0].references.is_empty());
        images.tag(&id.short(), &"named:1".parse().unwrap()).await.unwrap();
    }
    // As if a pull had been killed.
    let content = Content::open(place.path("content")).unwrap();
    content.put(b"left behind").unwrap();
    let snapshots = Snapshots::open(place.path("snapshots")).unwrap();
    snapshots.import(&[], std::io::Cursor::new(tar(&[("left", b"behind")]))).unwrap();
    assert_eq!(place.census(), [3, 0, 3, 0]);

    let images = place.open().await;
    assert_eq!(images.get("named:1").await.unwrap().id, id);
    assert_eq!(place.census(), [2, 0, 2, 0]);
}

#[tokio::test]
async fn an_image_in_use_stays() {
    let place = Place::new();
    let images = place.open().await;
    let (archive, id) = docker_archive(r#"["x:1"]"#);
    load(&images, archive).await.unwrap();
    let used = |_: &Digest| vec![ImageUser { container: "0123456789ab".to_owned(), running: true }];
    let error = images.remove("x:1", false, &used).await.unwrap_err();
    assert_eq!(error.kind(), dhow_error::Kind::Conflict);
    assert!(error.to_string().contains("container 0123456789ab is using"), "{error}");

    let (image, hold) = images.hold("x:1").await.unwrap();
    let error = images.remove("x:1", true, &nobody).await.unwrap_err();
    assert!(error.to_string().contains("being created"), "{error}");
    drop(hold);
    // Forced away by name, the image stays for its container; then it can be removed by id.
    images.remove("x:1", true, &used).await.unwrap();
    assert_eq!(images.get(&id.short()).await.unwrap().chain(), image.chain());
    images.remove(&id.short(), false, &nobody).await.unwrap();
    assert_eq!(place.census(), [0; 4]);
    assert_eq!(images.get("x:1").await.unwrap_err().to_string(), "No such image: x:1");
}

#[tokio::test]
async fn an_image_is_made_of_layers_and_abandoned_work_is_swept() {
    let place = Place::new();
    let images = place.open().await;
    let work = images.begin();
    let low = work.add_layer(&[], std::io::Cursor::new(tar(&[("a", b"1")]))).await.unwrap();
    let layers = [low];
    let high = work.add_layer(&layers, std::io::Cursor::new(tar(&[("b", b"2")]))).await.unwrap();
    let layers = vec![layers[0].clone(), high];
    let image = work
        .create(ImageConfiguration::scratch(), layers, &["built".parse().unwrap()])
        .await
        .unwrap();
    assert_eq!(image.config.rootfs.diff_ids.len(), 2);
    assert_eq!(images.get("built").await.unwrap().id, image.id);
    let census = place.census();

    let work = images.begin();
    work.add_layer(&[], std::io::Cursor::new(tar(&[("c", b"3")]))).await.unwrap();
    assert_ne!(place.census(), census);
    work.abandon().await;
    assert_eq!(place.census(), census);
}
