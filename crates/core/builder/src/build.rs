//! A build at work: stage by stage, instruction by instruction.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use dhow_error::{Error, Kind, Result};
use dhow_image::change::{Change, join};
use dhow_image::words::{Expander, split};
use dhow_image::{
    History, Hold, Image, ImageConfiguration, Images, Layer, Platform, Progress, Pull, Work,
};
use dhow_spec::{Digest, Reference};

use crate::context::{Context, unnamed};
use crate::copy::{self, Copy, Plan as CopyPlan};
use crate::dockerfile::Line;
use crate::layered::Layered;
use crate::plan::{self, Base, Plan, Stage, at};
use crate::tree::Tree;
use crate::{Build, Output, owner, path};

/// Arguments that need no `ARG` (Docker's list).
const PREDEFINED: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Everything one build has at hand.
pub(crate) struct Job {
    pub(crate) images: Images,
    pub(crate) scratch: PathBuf,
    pub(crate) build: Build,
    pub(crate) output: Output,
    pub(crate) context: Arc<Context>,
    pub(crate) plan: Plan,
}

/// A build that is going on.
struct Run<'a> {
    job: &'a Job,
    work: Work,
    step: usize,
    /// When the image is said to be made, RFC 3339.
    created: String,
    done: Vec<Option<State>>,
    /// Base images stay until the build has ended.
    holds: Vec<Hold>,
    /// Build arguments that somebody declared.
    consumed: BTreeSet<String>,
}

/// What a stage has come to.
#[derive(Debug, Clone)]
struct State {
    config: ImageConfiguration,
    layers: Vec<Layer>,
    args: BTreeMap<String, String>,
    cmd_is_own: bool,
    /// Instructions that the base image wants to be done first.
    triggers: Vec<String>,
}

/// Builds the target; tells the image's id.
pub(crate) async fn run(job: &Job) -> Result<Digest> {
    let mut run = Run {
        job,
        work: job.images.begin(),
        step: 0,
        created: created(&job.build)?,
        done: Vec::new(),
        holds: Vec::new(),
        consumed: BTreeSet::new(),
    };
    match run.stages().await {
        Ok(state) => run.finish(state).await,
        Err(error) => {
            run.work.abandon().await;
            Err(error)
        }
    }
}

impl Run<'_> {
    async fn stages(&mut self) -> Result<State> {
        for name in self.job.plan.globals.keys() {
            self.consumed.insert(name.clone());
        }
        for place in 0..=self.job.plan.target {
            let state = match self.job.plan.stages.get(place).filter(|stage| stage.is_needed) {
                Some(stage) => Some(self.stage(place, stage).await?),
                None => None,
            };
            self.done.push(state);
        }
        let target = self.done.pop().flatten();
        target.ok_or_else(|| Error::internal("the target stage was not built"))
    }

    async fn finish(self, mut state: State) -> Result<Digest> {
        let unused: Vec<_> =
            self.job.build.build_args.keys().filter(|name| !self.is_consumed(name)).collect();
        if !unused.is_empty() {
            let warning = "[Warning] One or more build-args were not consumed:";
            self.job.output.line(format_args!("{warning} {unused:?}"));
        }
        let labels = self.job.build.labels.clone();
        state.config.config.labels.extend(labels);
        let image = self.work.create(state.config, state.layers, &self.job.build.tags).await?;
        Ok(image.id)
    }

    fn is_consumed(&self, name: &str) -> bool {
        self.consumed.contains(name)
            || PREDEFINED.iter().any(|known| known.eq_ignore_ascii_case(name))
            || name == "SOURCE_DATE_EPOCH"
    }

    async fn stage(&mut self, place: usize, stage: &Stage) -> Result<State> {
        self.say_step(&stage.from);
        let number = stage.from.number;
        let mut state = self.base(stage).await.map_err(|error| at(number, error))?;
        self.say_state(&state);
        let triggers = std::mem::take(&mut state.triggers);
        if !triggers.is_empty() {
            self.job.output.line(format_args!("# Executing {} build triggers", triggers.len()));
        }
        for text in triggers {
            let line = Line::parse(number, &text)?;
            self.instruction(place, &line, &mut state).await.map_err(|error| at(number, error))?;
        }
        for line in &stage.lines {
            self.say_step(line);
            let done = self.instruction(place, line, &mut state).await;
            done.map_err(|error| at(line.number, error))?;
            self.say_state(&state);
        }
        Ok(state)
    }

    /// The state that a stage begins with.
    async fn base(&mut self, stage: &Stage) -> Result<State> {
        let fresh = |config, layers| State {
            config,
            layers,
            args: BTreeMap::new(),
            cmd_is_own: false,
            triggers: Vec::new(),
        };
        let mut state = match &stage.base {
            Base::Scratch => fresh(ImageConfiguration::scratch(), Vec::new()),
            Base::Stage(place) => {
                let before = self.done.get(*place).cloned().flatten();
                let before = before.ok_or_else(|| Error::internal("a stage was not built"))?;
                fresh(before.config, before.layers)
            }
            Base::Image(name) => {
                let platform = match &stage.platform {
                    Some(text) => Some(text.parse::<Platform>()?),
                    None => self.job.build.platform.clone(),
                };
                let image = self.image(name, platform).await?;
                fresh((*image.config).clone(), image.layers.to_vec())
            }
        };
        state.triggers = std::mem::take(&mut state.config.config.on_build);
        state.config.created = Some(self.created.clone());
        Ok(state)
    }

    /// An image by name: from here, or from its registry.
    async fn image(&mut self, name: &str, platform: Option<Platform>) -> Result<Image> {
        if !self.job.build.pull {
            match self.job.images.hold(name).await {
                Ok((image, hold)) => {
                    self.holds.push(hold);
                    return Ok(image);
                }
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let reference: Reference = name.parse()?;
        let (progress, mut events) = Progress::channel(256);
        let pull = Pull { reference, platform, credentials: None, progress };
        let output = self.job.output.clone();
        let show = async move {
            while let Some(event) = events.recv().await {
                if event.id.is_none() {
                    output.line(event.status);
                }
            }
        };
        let (pulled, ()) = tokio::join!(self.job.images.pull(pull), show);
        let id = pulled?.image.id.to_string();
        let (image, hold) = self.job.images.hold(&id).await?;
        self.holds.push(hold);
        Ok(image)
    }

    async fn instruction(&mut self, place: usize, line: &Line, state: &mut State) -> Result<()> {
        let is_empty = match line.keyword.as_str() {
            "ARG" => {
                self.arg(line, state)?;
                true
            }
            "COPY" | "ADD" => !self.copy(place, line, state).await?,
            "RUN" | "FROM" | "HEALTHCHECK" => {
                let message = format!("{} is not built yet", line.keyword);
                return Err(Error::new(Kind::Unsupported, message));
            }
            keyword => {
                let change = {
                    let lookup = |name: &str| value_of(state, name);
                    let words = Expander { lookup: &lookup, escape: self.job.plan.escape };
                    Change::parse(keyword, &line.rest, &words)?
                };
                if let Change::Maintainer(name) = &change {
                    state.config.author = Some(name.clone());
                }
                let is_folder = matches!(change, Change::WorkDir(_));
                change.apply(&mut state.config.config, &mut state.cmd_is_own);
                !(is_folder && self.work_dir(state).await?)
            }
        };
        state.config.history.push(History {
            created: Some(self.created.clone()),
            created_by: Some(line.text.clone()),
            empty_layer: is_empty,
            ..History::default()
        });
        Ok(())
    }

    fn arg(&mut self, line: &Line, state: &mut State) -> Result<()> {
        let declared = {
            let lookup = |name: &str| value_of(state, name);
            plan::arguments(line, self.job.plan.escape, &lookup)?
        };
        for (name, default) in declared {
            let given = self.job.build.build_args.get(&name).cloned().flatten();
            let global = || self.job.plan.globals.get(&name).cloned();
            if let Some(value) = given.or(default).or_else(global) {
                state.args.insert(name.clone(), value);
            }
            self.consumed.insert(name);
        }
        Ok(())
    }

    /// Makes the working folder if it is missing; tells whether that made a layer.
    async fn work_dir(&self, state: &mut State) -> Result<bool> {
        let target = self.tree(&state.layers)?;
        let folder = path::clean(state.config.config.working_dir.as_bytes());
        let plan = blocking(move || CopyPlan::folder(&target, &folder)).await?;
        self.add(plan, Arc::clone(&self.job.context) as Arc<dyn Tree>, state).await
    }

    /// Copies; tells whether that made a layer.
    async fn copy(&mut self, place: usize, line: &Line, state: &mut State) -> Result<bool> {
        let flags = flags(line, state, self.job.plan.escape)?;
        let (mut copy, chown) = request(line, state, self.job.plan.escape, &flags)?;
        let source: Arc<dyn Tree> = match flags.get("from") {
            None => Arc::clone(&self.job.context) as Arc<dyn Tree>,
            Some(name) => {
                copy.keep_owner = true;
                let layers = self.layers_of(place, name).await?;
                Arc::new(self.tree(&layers)?)
            }
        };
        let target = self.tree(&state.layers)?;
        let reading = Arc::clone(&source);
        let plan = blocking(move || {
            if let Some(text) = chown {
                copy.owner = Some(owner::parse(&text, &target)?);
            }
            copy::plan(reading.as_ref(), &target, &copy)
        });
        let plan = plan.await?;
        self.add(plan, source, state).await
    }

    async fn layers_of(&mut self, place: usize, name: &str) -> Result<Vec<Layer>> {
        match plan::source(&self.job.plan.stages, place, name)? {
            Base::Stage(from) => {
                let state = self.done.get(from).and_then(Option::as_ref);
                Ok(state.map(|state| state.layers.clone()).unwrap_or_default())
            }
            Base::Scratch => Ok(Vec::new()),
            Base::Image(name) => {
                let platform = self.job.build.platform.clone();
                Ok(self.image(&name, platform).await?.layers.to_vec())
            }
        }
    }

    fn tree(&self, layers: &[Layer]) -> Result<Layered> {
        let chain: Vec<Digest> = layers.iter().map(|layer| layer.chain_id).collect();
        Layered::open(&self.job.images.folders(&chain)?)
    }

    /// Makes a layer of a plan, unless it is empty.
    async fn add(&self, plan: CopyPlan, source: Arc<dyn Tree>, state: &mut State) -> Result<bool> {
        if plan.is_empty() {
            return Ok(false);
        }
        let scratch = self.job.scratch.clone();
        let archive = blocking(move || {
            let unwritable = |source| {
                let text = format!("cannot write a temporary file in {}", scratch.display());
                Error::caused(Kind::Internal, text, source)
            };
            let file = unnamed(&scratch).map_err(unwritable)?;
            let out = BufWriter::with_capacity(256 << 10, file);
            let mut out = copy::write(&plan, source.as_ref(), out)?;
            out.flush().map_err(unwritable)?;
            let mut file: File =
                out.into_inner().map_err(|error| unwritable(error.into_error()))?;
            file.rewind().map_err(unwritable)?;
            Ok(file)
        })
        .await?;
        let layer = self.work.add_layer(&state.layers, archive).await?;
        state.layers.push(layer);
        Ok(true)
    }

    fn say_step(&mut self, line: &Line) {
        self.step += 1;
        let (step, steps) = (self.step, self.job.plan.steps.max(self.step));
        let one_line = line.text.replace(['\n', '\r'], " ");
        self.job.output.line(format_args!("Step {step}/{steps} : {one_line}"));
    }

    /// The short id that the image would have if the build ended here.
    fn say_state(&self, state: &State) {
        let mut config = state.config.clone();
        config.rootfs.diff_ids = state.layers.iter().map(|layer| layer.diff_id).collect();
        let id = config.to_bytes().map(|bytes| Digest::of(&bytes).short()).unwrap_or_default();
        let is_scratch = state.layers.is_empty() && state.config.history.is_empty();
        self.job.output.line(format_args!(" ---> {}", if is_scratch { "" } else { &id }));
    }
}

/// A variable's value in a stage: the environment wins over arguments.
fn value_of(state: &State, name: &str) -> Option<String> {
    let env = state.config.config.env.iter();
    let value = env.rev().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.map(str::to_owned).or_else(|| state.args.get(name).cloned())
}

/// The flags of a `COPY` or `ADD`, with variables put in.
fn flags(line: &Line, state: &State, escape: char) -> Result<BTreeMap<String, String>> {
    let lookup = |name: &str| value_of(state, name);
    let expander = Expander { lookup: &lookup, escape };
    let mut flags = BTreeMap::new();
    for (name, value) in &line.flags {
        let is_known = matches!(name.as_str(), "chown" | "chmod" | "link")
            || (name == "from" && line.keyword == "COPY");
        if !is_known {
            let message = format!("{} --{name} is not built yet", line.keyword);
            return Err(Error::new(Kind::Unsupported, message));
        }
        let value = expander.expand(value).map_err(|error| Error::invalid(error.to_string()))?;
        flags.insert(name.clone(), value);
    }
    Ok(flags)
}

/// What a `COPY` or `ADD` asks for, and its `--chown`.
fn request(
    line: &Line,
    state: &State,
    escape: char,
    flags: &BTreeMap<String, String>,
) -> Result<(Copy, Option<String>)> {
    let lookup = |name: &str| value_of(state, name);
    let expander = Expander { lookup: &lookup, escape };
    let words = match serde_json::from_str::<Vec<String>>(&line.rest) {
        Ok(words) => words,
        Err(_) => split(&line.rest, escape),
    };
    let words = words.iter().map(|word| expander.expand(word));
    let mut words: Vec<String> =
        words.collect::<Result<_, _>>().map_err(|error| Error::invalid(error.to_string()))?;
    let to = words.pop().filter(|to| !to.is_empty() && !words.is_empty()).ok_or_else(|| {
        let message = format!("{} needs at least two arguments", line.keyword);
        Error::invalid(message)
    })?;
    let is_url =
        |word: &String| ["http://", "https://", "git@"].iter().any(|p| word.starts_with(p));
    if let Some(url) = words.iter().find(|word| line.keyword == "ADD" && is_url(word)) {
        let message = format!("ADD of an address ({url}) is not built yet");
        return Err(Error::new(Kind::Unsupported, message));
    }
    let copy = Copy {
        sources: words,
        into: to.ends_with('/') || to == "." || to.ends_with("/."),
        to: path::clean(join(&state.config.config.working_dir, &to).as_bytes()),
        mode: flags.get("chmod").map(|text| owner::mode(text)).transpose()?,
        extract: line.keyword == "ADD",
        ..Copy::default()
    };
    Ok((copy, flags.get("chown").cloned()))
}

/// The moment of the build, or what `SOURCE_DATE_EPOCH` (reproducible-builds.org) says.
fn created(build: &Build) -> Result<String> {
    let Some(text) = build.build_args.get("SOURCE_DATE_EPOCH").cloned().flatten() else {
        return Ok(jiff::Timestamp::now().to_string());
    };
    let seconds = text.parse().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let time = seconds.ok_or_else(|| {
        Error::invalid(format!("SOURCE_DATE_EPOCH={text} is not a number of seconds"))
    })?;
    Ok(time.to_string())
}

/// Runs what blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let interrupted = |_| Error::new(Kind::Cancelled, "the build was interrupted");
    tokio::task::spawn_blocking(work).await.map_err(interrupted)?
}
