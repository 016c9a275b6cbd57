//! Builds images from Dockerfiles.
//!
//! ```text
//!   context tar ──► Context (a spool file and an index; nothing of it is ever unpacked by name)
//!   Dockerfile  ──► parser ──► instructions with line numbers ──► stages
//!   per stage:  base image or scratch ─► COPY/ADD: a layer each ─► configuration ─► image
//! ```
//!
//! Layers are deterministic tars: equal inputs give equal digests. `RUN` is refused by name and line.
//! Nothing of the context, and no path of an image, is ever opened but beneath its root.

mod build;
mod context;
mod copy;
mod dockerfile;
mod ignore;
mod layer;
mod layered;
mod owner;
mod path;
mod pattern;
mod plan;
mod tree;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use dhow_error::{Error, Result};
use dhow_image::{Images, Platform};
use dhow_spec::{Digest, Reference};
use tokio::sync::mpsc;

use crate::build::Job;
use crate::context::Context;
use crate::dockerfile::{Dockerfile, SIZE_MAX};
use crate::ignore::Ignore;
use crate::plan::Plan;

/// Builds images. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Builder {
    images: Images,
    scratch: PathBuf,
}

/// What to build.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// The Dockerfile's path in the context; `Dockerfile` when empty.
    pub dockerfile: String,
    /// The tags to give to the image.
    pub tags: Vec<Reference>,
    /// `--build-arg`; without a value the argument is unset.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// The stage to build; the last when none.
    pub target: Option<String>,
    /// The platform of base images; this machine's when none.
    pub platform: Option<Platform>,
    /// Whether to ask the registry for base images even when they are here.
    pub pull: bool,
}

/// Where the build's lines go: whole lines with their newline, as Docker's
/// classic builder prints its steps. What comes last (`Successfully built`) is the caller's to say.
#[derive(Debug, Clone, Default)]
pub struct Output(Option<mpsc::UnboundedSender<String>>);

impl Output {
    /// To nobody.
    pub fn silent() -> Self {
        Self(None)
    }

    /// To a listener. The number of lines is bounded by the Dockerfile's length.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    pub(crate) fn line(&self, text: impl std::fmt::Display) {
        if let Some(sender) = &self.0 {
            let _ = sender.send(format!("{text}\n"));
        }
    }
}

impl Builder {
    /// A builder that keeps its temporary files in `scratch` (an existing folder).
    pub fn new(images: Images, scratch: PathBuf) -> Self {
        Self { images, scratch }
    }

    /// Builds an image of `context` (a tar, plain, gzip or zstd) and tells its id.
    ///
    /// Errors: what the Dockerfile says wrongly, with its line number (invalid); `RUN` (unsupported);
    /// files that are not in the context (not found); whatever pulling the base image says.
    pub async fn build(
        &self,
        context: impl Read + Send + 'static,
        build: Build,
        output: Output,
    ) -> Result<Digest> {
        let scratch = self.scratch.clone();
        let reading = build.clone();
        let prepare = move || prepare(context, &reading, &scratch);
        let (context, plan) = build::blocking(prepare).await?;
        let job = Job {
            images: self.images.clone(),
            scratch: self.scratch.clone(),
            build,
            output,
            context: Arc::new(context),
            plan,
        };
        build::run(&job).await
    }
}

/// Takes in the context, reads the Dockerfile and plans the build. Blocks.
fn prepare(
    context: impl Read + Send,
    build: &Build,
    scratch: &std::path::Path,
) -> Result<(Context, Plan)> {
    let mut context = Context::read(context, scratch)?;
    let name = if build.dockerfile.is_empty() { "Dockerfile" } else { &build.dockerfile };
    let path = path::clean(name.as_bytes());
    let content = context.small(&path, SIZE_MAX)?.ok_or_else(|| {
        let hint = "name another one with -f";
        Error::not_found(format!("the context has no {name}")).with_hint(hint)
    })?;
    let file = Dockerfile::parse(&content)
        .map_err(|error| Error::from(error).context(format!("cannot read {name}")))?;
    let plan = plan::plan(file, &build.build_args, build.target.as_deref())?;
    if let Some(content) = context.small(b".dockerignore", SIZE_MAX)? {
        let ignore = Ignore::parse(&content)
            .map_err(|error| Error::invalid(format!("cannot read .dockerignore: {error}")))?;
        context.apply(&ignore);
    }
    Ok((context, plan))
}
