//! Builds in stores of their own: what the image has in the end, and what a user is told.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use dhow_builder::{Build, Builder, Output};
use dhow_content::Content;
use dhow_error::{Kind, Result};
use dhow_image::{Image, Images, Import};
use dhow_kv::Embedded;
use dhow_snapshot::Snapshots;

struct Place {
    folder: tempfile::TempDir,
    images: Images,
    builder: Builder,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let kv = Arc::new(Embedded::open(path("kv")).unwrap());
        let content = Content::open(path("content")).unwrap();
        let snapshots = Snapshots::open(path("snapshots")).unwrap();
        let images = Images::open(kv, content, snapshots).await.unwrap();
        std::fs::create_dir(path("scratch")).unwrap();
        let builder = Builder::new(images.clone(), path("scratch"));
        Self { folder, images, builder }
    }

    /// Builds the Dockerfile with the files; gives the image and the lines.
    async fn build(
        &self,
        dockerfile: &str,
        files: &[(&str, &str)],
    ) -> Result<(Image, Vec<String>)> {
        self.build_with(dockerfile, files, Build::default()).await
    }

    async fn build_with(
        &self,
        dockerfile: &str,
        files: &[(&str, &str)],
        build: Build,
    ) -> Result<(Image, Vec<String>)> {
        let mut all = vec![("Dockerfile", dockerfile)];
        all.extend(files);
        let (output, mut lines) = Output::channel();
        let tags = vec!["built".parse().unwrap()];
        let mut build_args = build.build_args.clone();
        build_args.insert("SOURCE_DATE_EPOCH".to_owned(), Some("86400".to_owned()));
        let build = Build { tags, build_args, ..build };
        let context = std::io::Cursor::new(tar(&all));
        let id = self.builder.build(context, build, output).await?;
        let mut said = Vec::new();
        while let Some(line) = lines.recv().await {
            said.push(line.trim_end().to_owned());
        }
        assert_eq!(self.images.get("built:latest").await.unwrap().id, id);
        Ok((self.images.get("built").await.unwrap(), said))
    }

    /// Where the topmost layer that has `name` keeps it.
    fn find(&self, image: &Image, name: &str) -> Option<PathBuf> {
        let folders = self.images.folders(&image.chain()).unwrap();
        folders.iter().map(|folder| folder.join(name)).find(|path| path.symlink_metadata().is_ok())
    }

    fn read(&self, image: &Image, name: &str) -> String {
        std::fs::read_to_string(self.find(image, name).unwrap()).unwrap()
    }

    fn layers(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("snapshots/layers")).unwrap().count()
    }
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_mtime(1000);
        if let Some(target) = content.strip_prefix("-> ") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        } else {
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn builds_from_scratch_as_the_first_example_does() {
    let place = Place::new().await;
    let dockerfile = "FROM scratch\nCOPY hello /\nEXPOSE 8080\nENV A=b\nCMD [\"/hello\"]\n";
    let (image, lines) = place.build(dockerfile, &[("hello", "#!")]).await.unwrap();
    assert_eq!(image.config.config.cmd.as_deref().unwrap(), ["/hello"]);
    assert_eq!(image.config.config.env, ["A=b"]);
    assert_eq!(image.layers.len(), 1);
    assert_eq!(image.created_seconds, 86400);
    let hello = place.find(&image, "hello").unwrap().metadata().unwrap();
    assert_eq!((hello.mode() & 0o777, hello.uid(), hello.mtime()), (0o755, 0, 1000));
    assert_eq!(lines[..3], ["Step 1/5 : FROM scratch", " --->", "Step 2/5 : COPY hello /"]);
    assert_eq!(lines.last().unwrap(), &format!(" ---> {}", image.id.short()));
    let steps: Vec<_> = image.config.history.iter().map(|step| step.empty_layer).collect();
    assert_eq!(steps, [false, true, true, true]);

    let (again, _) = place.build(dockerfile, &[("hello", "#!")]).await.unwrap();
    assert_eq!(again.id, image.id);
    assert_eq!(place.layers(), 1);
}

#[tokio::test]
async fn copies_between_stages_and_builds_upon_them() {
    let place = Place::new().await;
    let dockerfile = "ARG V=1\n\
        FROM scratch AS base\nARG V\nENV VERSION=$V\nWORKDIR /usr/lib\nCOPY lib .\n\
        FROM scratch AS unused\nCOPY nosuch /\n\
        FROM base\nCOPY --from=base /usr/lib/*.so /out/\nCOPY --chown=5:6 --chmod=600 one ${VERSION}/\n\
        LABEL v=${VERSION:-none}\n";
    let files = [("lib/a.so", "A"), ("lib/b.txt", "B"), ("one", "1")];
    let build = Build {
        build_args: BTreeMap::from([("V".to_owned(), Some("7".to_owned()))]),
        labels: BTreeMap::from([("from".to_owned(), "outside".to_owned())]),
        ..Build::default()
    };
    let (image, _) = place.build_with(dockerfile, &files, build).await.unwrap();
    assert_eq!(place.read(&image, "out/a.so"), "A");
    assert!(place.find(&image, "out/b.txt").is_none());
    let one = place.find(&image, "usr/lib/7/one").unwrap().metadata().unwrap();
    assert_eq!((one.mode() & 0o777, one.uid(), one.gid()), (0o600, 5, 6));
    assert_eq!(image.config.config.labels["v"], "7");
    assert_eq!(image.config.config.labels["from"], "outside");
    assert_eq!(image.config.config.working_dir, "/usr/lib");
    // WORKDIR's layer, and three of COPY.
    assert_eq!(image.layers.len(), 4);
}

#[tokio::test]
async fn looks_through_an_images_layers_and_links() {
    let place = Place::new().await;
    let root = tar(&[
        ("usr/bin/tool", "old"),
        ("bin", "-> usr/bin"),
        ("gone/x", "x"),
        ("etc/passwd", "web:x:33:33::/:/bin/sh\n"),
    ]);
    let import = Import { reference: Some("low".parse().unwrap()), ..Import::default() };
    let low = place.images.import(std::io::Cursor::new(root), import).await.unwrap();
    let work = place.images.begin();
    let above = std::io::Cursor::new(tar(&[(".wh.gone", ""), ("usr/bin/new", "N")]));
    let layer = work.add_layer(&low.layers, above).await.unwrap();
    let mut layers = low.layers.to_vec();
    layers.push(layer);
    let config = (*low.config).clone();
    work.create(config, layers, &["base".parse().unwrap()]).await.unwrap();

    let dockerfile = "FROM base\nCOPY --chown=web tool /bin/\nCOPY --from=base /bin /copied\n";
    let (image, _) = place.build(dockerfile, &[("tool", "new")]).await.unwrap();
    let tool = place.find(&image, "usr/bin/tool").unwrap();
    assert_eq!(std::fs::read_to_string(&tool).unwrap(), "new");
    assert_eq!(tool.metadata().unwrap().uid(), 33);
    assert_eq!(place.read(&image, "copied/tool"), "old");
    assert_eq!(place.read(&image, "copied/new"), "N");

    let error = place.build("FROM base\nCOPY --from=base /gone/x /", &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn refusals_name_the_line_and_leave_nothing() {
    let place = Place::new().await;
    for (dockerfile, said) in [
        ("FROM scratch\nCOPY a /\nRUN make", "Dockerfile line 3: RUN is not built yet"),
        (
            "FROM scratch\nCOPY a /\nCOPY nosuch /",
            "Dockerfile line 3: file not found in build context",
        ),
        ("FROM scratch\nCOPY a /\nEXPOSE x", "Dockerfile line 3: invalid port \"x\""),
        ("FROM scratch\nCOPY <<EOF /a\nEOF", "line 2: here-documents (<<EOF) are not built yet"),
        ("FROM scratch\nADD https://a.org/x /", "Dockerfile line 2: ADD of an address"),
        ("FROM localhost:1/nosuch", "http://localhost:1/v2/nosuch/manifests/latest"),
    ] {
        let error = place.build(dockerfile, &[("a", "b")]).await.unwrap_err();
        assert!(error.chain().contains(said), "{}", error.chain());
        assert_eq!(place.layers(), 0);
    }
    assert_eq!(std::fs::read_dir(place.folder.path().join("scratch")).unwrap().count(), 0);
    let ignored =
        place.build("FROM scratch\nCOPY a /", &[("a", "b"), (".dockerignore", "a")]).await;
    assert!(ignored.unwrap_err().chain().contains("excluded by .dockerignore"));
}

#[tokio::test]
async fn triggers_of_the_base_are_executed() {
    let place = Place::new().await;
    let (_, _) =
        place.build("FROM scratch\nONBUILD COPY a /a\nONBUILD ENV X=y", &[]).await.unwrap();
    place.images.tag("built", &"base".parse().unwrap()).await.unwrap();
    let (image, lines) = place.build("FROM base\nCMD x", &[("a", "1")]).await.unwrap();
    assert_eq!(place.read(&image, "a"), "1");
    assert_eq!(image.config.config.env, ["X=y"]);
    assert!(image.config.config.on_build.is_empty());
    assert!(lines.contains(&"# Executing 2 build triggers".to_owned()));
}
