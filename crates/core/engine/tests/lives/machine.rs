//! A daemon's worth of stores in a temporary folder, and engines on top of it, one after the other.

use std::fs::File;
use std::io::Cursor;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dhow_content::Content;
use dhow_engine::{
    AttachRequest, Attachment, BoxFuture, Config, ContainerSpec, Deps, Engine, Networks, Survivor,
};
use dhow_error::Result;
use dhow_image::{Images, Import};
use dhow_kv::Embedded;
use dhow_shim::client::Launcher;
use dhow_snapshot::Snapshots;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The folders; gone when dropped.
pub(crate) struct Machine {
    folder: TempDir,
    pub(crate) networks: Arc<FakeNetworks>,
    cgroup_parent: String,
}

/// A daemon on a machine.
pub(crate) struct Daemon {
    pub(crate) runtime: Runtime,
    pub(crate) engine: Engine,
}

/// Connects every container to the host's own network, and counts.
#[derive(Debug, Default)]
pub(crate) struct FakeNetworks {
    pub(crate) attached: AtomicUsize,
    pub(crate) detached: AtomicUsize,
    pub(crate) survivors: AtomicUsize,
}

impl Networks for FakeNetworks {
    fn attach(&self, _request: AttachRequest) -> BoxFuture<'_, Result<Attachment>> {
        Box::pin(async move {
            self.attached.fetch_add(1, Ordering::SeqCst);
            let netns = OwnedFd::from(File::open("/proc/self/ns/net").unwrap());
            Ok(Attachment { netns, endpoint: None, ports: Vec::new() })
        })
    }

    fn detach<'a>(&'a self, _id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.detached.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }

    fn restore(&self, survivors: Vec<Survivor>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.survivors.store(survivors.len(), Ordering::SeqCst);
            Ok(())
        })
    }
}

impl Machine {
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("dhow-engine-").unwrap();
        let name = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        let cgroup_parent = format!("/{}", name.replace('.', ""));
        Self { folder, networks: Arc::default(), cgroup_parent }
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a daemon; the first one imports the image `box`.
    pub(crate) fn daemon(&self) -> Daemon {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let engine = runtime.block_on(self.open());
        Daemon { runtime, engine }
    }

    async fn open(&self) -> Engine {
        let root = self.root().join("root");
        std::fs::create_dir_all(&root).unwrap();
        let kv = Arc::new(Embedded::open(root.join("objects.redb")).unwrap());
        let content = Content::open(root.join("content")).unwrap();
        let snapshots = Snapshots::open(root.join("snapshots")).unwrap();
        let images = Images::open(kv.clone(), content, snapshots.clone()).await.unwrap();
        if images.get("box").await.is_err() {
            let changes = ["CMD [\"true\"]", "ENV PATH=/bin", "VOLUME /data"];
            let import = Import {
                reference: Some("box".parse().unwrap()),
                changes: changes.map(str::to_owned).to_vec(),
                ..Import::default()
            };
            images.import(Cursor::new(root_tar()), import).await.unwrap();
        }
        let mut config = Config::new(&root, self.root().join("run"));
        config.cgroup_parent.clone_from(&self.cgroup_parent);
        let launcher = Launcher::spawn(self.root()).unwrap();
        let networks = self.networks.clone();
        Engine::open(config, Deps { kv, images, snapshots, networks, launcher }).await.unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The tests take their containers away; their cgroup's parent is ours.
        if let Ok(layout) = dhow_cgroup::Layout::detect() {
            let _ = layout.remove_parent(&self.cgroup_parent);
        }
    }
}

impl Daemon {
    /// Ends it as SIGKILL would: nothing more is done, no store is closed in order.
    pub(crate) fn kill(self) {
        drop(self.engine);
        self.runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    }
}

/// A container of the image `box` that runs this script.
pub(crate) fn script(text: &str) -> ContainerSpec {
    let words = ["sh", "-c", text];
    ContainerSpec {
        image: "box".into(),
        cmd: Some(words.map(str::to_owned).to_vec()),
        ..ContainerSpec::default()
    }
}

/// A root filesystem with busybox under its commands' names.
fn root_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    for folder in ["bin/", "etc/", "tmp/", "data/", "proc/", "dev/", "sys/"] {
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, folder, std::io::empty()).unwrap();
    }
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let files: [(&str, &[u8], u32); 4] = [
        ("bin/busybox", &busybox, 0o755),
        ("etc/passwd", b"root:x:0:0::/root:/bin/sh\nwww:x:33:33::/data:/bin/sh\n", 0o644),
        ("etc/group", b"root:x:0:\nwww:x:33:\nextra:x:77:\n", 0o644),
        ("data/seed", b"from the image\n", 0o640),
    ];
    for (name, content, mode) in files {
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content).unwrap();
    }
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    for name in [
        "sh", "cat", "echo", "true", "sleep", "id", "ls", "stty", "seq", "env", "ulimit", "trap",
        "hostname", "kill",
    ] {
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap()
}
