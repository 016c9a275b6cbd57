//! `POST /build`: an image from a context and its Dockerfile.

use std::collections::BTreeMap;
use std::sync::Arc;

use dhow_builder::{Build, Output};
use dhow_docker_wire::image::BuildResult;
use dhow_docker_wire::progress::Progress;
use dhow_error::{Error, Kind, Result};
use dhow_spec::{Digest, Reference};

use crate::answer::Answer;
use crate::progress::{self, Text};
use crate::query::Query;
use crate::request::Request;
use crate::{Services, translate};

/// Builds an image, showing the builder's lines.
pub(crate) async fn build(services: &Arc<Services>, request: Request) -> Result<Answer> {
    let build = plan(&request.query)?;
    let quiet = request.query.flag("q", false);
    let (output, lines) =
        if quiet { (Output::silent(), Output::channel().1) } else { Output::channel() };
    let builder = services.builder.clone();
    let context = request.archive();
    let work = async move {
        let tags = build.tags.clone();
        let id = builder.build(context, build, output).await?;
        Ok(last_lines(&id, &tags, quiet))
    };
    progress::show(work, Text(lines)).await
}

/// What is asked for, in the builder's words. What would be built differently than asked is refused.
fn plan(query: &Query) -> Result<Build> {
    if query.text("version") == "2" {
        return Err(Error::new(Kind::Unsupported, "BuildKit is not offered yet")
            .with_hint("set DOCKER_BUILDKIT=0"));
    }
    if query.get("remote").is_some() {
        return Err(Error::new(
            Kind::Unsupported,
            "building from a remote context is not offered yet",
        )
        .with_hint("fetch it and build from a folder"));
    }
    for name in ["squash", "outputs", "session"] {
        if query.flag(name, false) {
            let message = format!("the build option {name} is not offered");
            return Err(Error::new(Kind::Unsupported, message));
        }
    }
    let tags = query.all("t").filter(|tag| !tag.is_empty()).map(tag).collect::<Result<Vec<_>>>()?;
    Ok(Build {
        dockerfile: query.text("dockerfile").to_owned(),
        tags,
        build_args: query.json::<BTreeMap<String, Option<String>>>("buildargs")?,
        labels: query.json("labels")?,
        target: query.get("target").map(str::to_owned),
        platform: query.get("platform").map(translate::platform).transpose()?,
        pull: query.flag("pull", false),
    })
}

fn tag(text: &str) -> Result<Reference> {
    let reference: Reference = text.parse()?;
    if reference.digest().is_some() {
        return Err(Error::invalid("build tag cannot contain a digest"));
    }
    Ok(reference.with_default_tag())
}

fn last_lines(id: &Digest, tags: &[Reference], quiet: bool) -> Vec<Progress> {
    let result = BuildResult { id: id.to_string() };
    let aux = Progress { aux: serde_json::to_value(result).ok(), ..Progress::default() };
    if quiet {
        return vec![aux, progress::text(format!("{id}\n"))];
    }
    let built = progress::text(format!("Successfully built {}\n", id.short()));
    let tagged =
        tags.iter().map(|tag| progress::text(format!("Successfully tagged {}\n", tag.familiar())));
    [aux, built].into_iter().chain(tagged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_read() {
        let query =
            "t=a&t=b:1&dockerfile=D&buildargs=%7B%22A%22%3A%221%22%2C%22B%22%3Anull%7D&labels=null";
        let build = plan(&Query::parse(query).unwrap()).unwrap();
        assert_eq!(
            build.tags.iter().map(Reference::familiar).collect::<Vec<_>>(),
            ["a:latest", "b:1"]
        );
        assert_eq!(build.build_args["A"].as_deref(), Some("1"));
        assert_eq!(build.build_args["B"], None);
        assert!(build.labels.is_empty());
        for bad in ["version=2", "remote=https://x", "t=A", "buildargs=%5B", "squash=1"] {
            assert!(plan(&Query::parse(bad).unwrap()).is_err(), "{bad}");
        }
    }
}
