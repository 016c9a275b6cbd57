//! The context of a build: a folder, sent as a tar while it is read.
//!
//! What `.dockerignore` names is left out by the daemon, which reads the same file; a client of another
//! make sends less, and the outcome is the same.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The name under which a Dockerfile from outside the folder travels.
const OUTSIDE: &str = ".dockerfile.of.the.build";

/// A folder and its Dockerfile.
#[derive(Debug)]
pub(super) struct Context {
    folder: PathBuf,
    dockerfile: String,
    outside: Option<PathBuf>,
}

impl Context {
    /// Opens the folder; the Dockerfile may lie elsewhere.
    pub(super) fn open(folder: &Path, dockerfile: Option<&Path>) -> Result<Self, Failure> {
        let cannot = |path: &Path, error: &std::io::Error| {
            Failure::new(format!("cannot build from {}: {error}", path.display()))
        };
        let folder = folder.canonicalize().map_err(|error| cannot(folder, &error))?;
        if !folder.is_dir() {
            return Err(Failure::new(format!("{} is not a folder", folder.display())));
        }
        let path = dockerfile.map_or_else(|| folder.join("Dockerfile"), Path::to_owned);
        let path = path.canonicalize().map_err(|error| {
            Failure::new(format!("cannot read the Dockerfile {}: {error}", path.display()))
                .with_hint("name it with -f, or the folder that has it")
        })?;
        match path.strip_prefix(&folder) {
            Ok(inside) => {
                let dockerfile = inside.to_string_lossy().into_owned();
                Ok(Self { folder, dockerfile, outside: None })
            }
            Err(_) => Ok(Self { folder, dockerfile: OUTSIDE.to_owned(), outside: Some(path) }),
        }
    }

    /// The path of the Dockerfile in the tar.
    pub(super) fn dockerfile(&self) -> &str {
        &self.dockerfile
    }

    /// The tar, made by a thread while it is read.
    pub(super) fn into_reader(self) -> Result<impl Read + Send + 'static, Failure> {
        let (reader, writer) = std::io::pipe()?;
        std::thread::spawn(move || {
            if let Err(error) = self.write(writer) {
                // The archive has no end now, and the daemon will say so, too.
                eprintln!("dhow: cannot read the build context: {error}");
            }
        });
        Ok(reader)
    }

    fn write(&self, writer: std::io::PipeWriter) -> std::io::Result<()> {
        let mut tar = tar::Builder::new(std::io::BufWriter::with_capacity(256 << 10, writer));
        tar.follow_symlinks(false);
        tar.append_dir_all(".", &self.folder)?;
        if let Some(path) = &self.outside {
            tar.append_path_with_name(path, OUTSIDE)?;
        }
        tar.into_inner()?.into_inner()?;
        Ok(())
    }
}
