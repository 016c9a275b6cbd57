//! Stages: which there are, which the target needs, and whether all they say can be done.
//!
//! Pure. What can be refused is refused here, by line, before anything is fetched or made.

use std::collections::{BTreeMap, BTreeSet};

use dhow_error::{Error, Kind, Result};
use dhow_image::words::Expander;

use crate::dockerfile::{Dockerfile, Line};

/// A Dockerfile's stages, those before and with the target that it needs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) escape: char,
    /// `ARG`s before the first `FROM`, with their values.
    pub(crate) globals: BTreeMap<String, String>,
    /// How many steps there are in all.
    pub(crate) steps: usize,
    pub(crate) stages: Vec<Stage>,
    /// The place of the target.
    pub(crate) target: usize,
}

/// One stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) from: Line,
    pub(crate) base: Base,
    pub(crate) name: Option<String>,
    pub(crate) platform: Option<String>,
    pub(crate) lines: Vec<Line>,
    pub(crate) is_needed: bool,
}

/// What something is built upon or copied from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    Scratch,
    /// The stage in this place.
    Stage(usize),
    Image(String),
}

/// Splits a Dockerfile into stages. `args` are the build arguments that were given.
pub(crate) fn plan(
    file: Dockerfile,
    args: &BTreeMap<String, Option<String>>,
    target: Option<&str>,
) -> Result<Plan> {
    let mut globals = platform_args();
    let mut stages: Vec<Stage> = Vec::new();
    let mut global_steps = 0;
    for line in file.lines {
        let number = line.number;
        check(&line)?;
        if line.keyword == "FROM" {
            let stage = stage(line, file.escape, &globals, &stages);
            stages.push(stage.map_err(|error| at(number, error))?);
        } else if let Some(stage) = stages.last_mut() {
            stage.lines.push(line);
        } else if line.keyword == "ARG" {
            global_steps += 1;
            let lookup = |name: &str| globals.get(name).cloned();
            let found =
                arguments(&line, file.escape, &lookup).map_err(|error| at(number, error))?;
            for (name, default) in found {
                if let Some(value) = args.get(&name).cloned().flatten().or(default) {
                    globals.insert(name, value);
                }
            }
        } else {
            let message = format!("{} stands before the first FROM", line.keyword);
            return Err(at(number, Error::invalid(message)));
        }
    }
    let Some(last) = stages.len().checked_sub(1) else {
        return Err(Error::invalid("the Dockerfile has no FROM"));
    };
    let target = match target.filter(|name| !name.is_empty()) {
        None => last,
        Some(name) => find(&stages, name)
            .ok_or_else(|| Error::invalid(format!("target stage {name:?} could not be found")))?,
    };
    mark(&mut stages, target);
    let steps = stages.iter().filter(|stage| stage.is_needed).map(|stage| stage.lines.len() + 1);
    let steps = steps.sum::<usize>() + global_steps;
    Ok(Plan { escape: file.escape, globals, steps, stages, target })
}

/// The names and default values that an `ARG` declares.
pub(crate) fn arguments(
    line: &Line,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(String, Option<String>)>> {
    let expander = Expander { lookup, escape };
    let words = dhow_image::words::split(&line.rest, escape);
    if words.is_empty() {
        return Err(Error::invalid("ARG needs a name"));
    }
    let pair = |word: &String| {
        let expand =
            |text| expander.expand(text).map_err(|error| Error::invalid(error.to_string()));
        let (name, default) = match word.split_once('=') {
            Some((name, value)) => (expand(name)?, Some(expand(value)?)),
            None => (expand(word)?, None),
        };
        if name.is_empty() { Err(Error::invalid("ARG needs a name")) } else { Ok((name, default)) }
    };
    words.iter().map(pair).collect()
}

/// Where `--from` of an instruction in the stage at `place` leads.
pub(crate) fn source(stages: &[Stage], place: usize, name: &str) -> Result<Base> {
    if let Ok(number) = name.parse::<usize>() {
        if number < place {
            return Ok(Base::Stage(number));
        }
        return Err(Error::invalid(format!("there is no stage {number} before this one")));
    }
    let before = stages.get(..place).unwrap_or_default();
    Ok(find(before, name).map_or_else(|| Base::Image(name.to_owned()), Base::Stage))
}

/// Says in which line something is wrong.
pub(crate) fn at(line: usize, error: Error) -> Error {
    error.context(format!("Dockerfile line {line}"))
}

fn stage(
    line: Line,
    escape: char,
    globals: &BTreeMap<String, String>,
    before: &[Stage],
) -> Result<Stage> {
    let lookup = |name: &str| globals.get(name).cloned();
    let expander = Expander { lookup: &lookup, escape };
    let expand =
        |text: &str| expander.expand(text).map_err(|error| Error::invalid(error.to_string()));
    let mut platform = None;
    for (name, value) in &line.flags {
        match name.as_str() {
            "platform" => platform = Some(expand(value)?).filter(|text| !text.is_empty()),
            _ => return Err(Error::invalid(format!("FROM has no flag --{name}"))),
        }
    }
    let words: Vec<&str> = line.rest.split_whitespace().collect();
    let (base, name) = match words.as_slice() {
        [base] => (*base, None),
        [base, middle, name] if middle.eq_ignore_ascii_case("as") => {
            (*base, Some(name.to_ascii_lowercase()))
        }
        _ => return Err(Error::invalid("FROM wants an image, and perhaps AS and a name")),
    };
    let base = expand(base)?;
    let base = match find_named(before, &base) {
        Some(place) => Base::Stage(place),
        None if base == "scratch" => Base::Scratch,
        None if base.is_empty() => {
            return Err(Error::invalid("the base image's name is empty after substitution"));
        }
        None => Base::Image(base),
    };
    Ok(Stage { from: line, base, name, platform, lines: Vec::new(), is_needed: false })
}

/// Marks what the stage at `target` needs.
fn mark(stages: &mut [Stage], target: usize) {
    let mut due = BTreeSet::from([target]);
    while let Some(place) = due.pop_last() {
        let mut wanted = Vec::new();
        if let Some(stage) = stages.get(place) {
            if let Base::Stage(base) = stage.base {
                wanted.push(base);
            }
            let flags = stage.lines.iter().flat_map(|line| &line.flags);
            for (_, name) in flags.filter(|(flag, _)| flag == "from") {
                if let Ok(Base::Stage(from)) = source(stages, place, name) {
                    wanted.push(from);
                }
            }
        }
        due.extend(wanted);
        if let Some(stage) = stages.get_mut(place) {
            stage.is_needed = true;
        }
    }
}

/// A stage by name or by number.
fn find(stages: &[Stage], name: &str) -> Option<usize> {
    find_named(stages, name)
        .or_else(|| name.parse::<usize>().ok().filter(|place| *place < stages.len()))
}

fn find_named(stages: &[Stage], name: &str) -> Option<usize> {
    let is_it = |stage: &Stage| stage.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name));
    stages.iter().rposition(is_it)
}

/// Refuses what cannot be done.
fn check(line: &Line) -> Result<()> {
    let refuse = |kind, message| Err(at(line.number, Error::new(kind, message)));
    match line.keyword.as_str() {
        "FROM" | "ARG" | "COPY" | "ADD" | "CMD" | "ENTRYPOINT" | "ENV" | "LABEL" | "EXPOSE"
        | "VOLUME" | "USER" | "WORKDIR" | "STOPSIGNAL" | "SHELL" | "ONBUILD" | "MAINTAINER" => {
            Ok(())
        }
        keyword @ ("RUN" | "HEALTHCHECK") => {
            refuse(Kind::Unsupported, format!("{keyword} is not built yet"))
        }
        other => {
            let shown: String = other.chars().take(40).collect();
            refuse(Kind::Invalid, format!("unknown instruction: {shown}"))
        }
    }
}

/// What BuildKit declares for everybody, as far as there is one platform.
fn platform_args() -> BTreeMap<String, String> {
    let platform = dhow_image::Platform::default();
    let mut args = BTreeMap::new();
    for side in ["TARGET", "BUILD"] {
        args.insert(format!("{side}PLATFORM"), platform.to_string());
        args.insert(format!("{side}OS"), platform.os.clone());
        args.insert(format!("{side}ARCH"), platform.architecture.clone());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str, target: Option<&str>) -> Result<Plan> {
        let args = BTreeMap::from([("V".to_owned(), Some("2".to_owned()))]);
        plan(Dockerfile::parse(text.as_bytes()).unwrap(), &args, target)
    }

    #[test]
    fn only_needed_stages_are_built() {
        let text = "ARG V=1\nFROM x:$V AS one\nFROM scratch AS two\nCOPY --from=One a b\n\
                    FROM two\nCOPY --from=1 a b\nFROM y AS last\nCOPY a b";
        let plan = planned(text, Some("2")).unwrap();
        let needed: Vec<_> = plan.stages.iter().map(|stage| stage.is_needed).collect();
        assert_eq!(needed, [true, true, true, false]);
        assert_eq!(plan.stages[0].base, Base::Image("x:2".to_owned()));
        assert_eq!(plan.stages[2].base, Base::Stage(1));
        assert_eq!(plan.steps, 6);
        let last = planned(text, None).unwrap();
        assert_eq!(last.stages.iter().filter(|stage| stage.is_needed).count(), 1);
        assert!(planned(text, Some("nosuch")).is_err());
    }

    #[test]
    fn refusals_name_the_line() {
        for (text, said) in [
            ("FROM x\n\nRUN make", "Dockerfile line 3: RUN is not built yet"),
            ("FROM x\nFOO y", "Dockerfile line 2: unknown instruction: FOO"),
            ("COPY a b\nFROM x", "Dockerfile line 1: COPY stands before the first FROM"),
            ("FROM a b c", "Dockerfile line 1: FROM wants an image, and perhaps AS and a name"),
            ("ARG A", "the Dockerfile has no FROM"),
        ] {
            assert_eq!(planned(text, None).unwrap_err().chain(), said);
        }
    }
}
