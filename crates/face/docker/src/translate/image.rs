//! Images as Docker tells them, and platforms as it writes them.

use std::collections::BTreeMap;

use dhow_docker_wire::container::{Config, Healthcheck};
use dhow_docker_wire::image::{
    GraphDriver, HistoryItem, ImageInspect, ImageMetadata, ImageSummary, RootFs,
};
use dhow_docker_wire::null;
use dhow_error::{Error, Result};
use dhow_image::{ExecutionConfig, Image, Platform};
use dhow_spec::Reference;

use crate::query::quoted;
use crate::time;

/// What stands for the id of an image that is not here.
const MISSING: &str = "<missing>";

/// A line of a list, under these names.
pub(crate) fn summary(image: &Image, names: Vec<String>, containers: usize) -> ImageSummary {
    ImageSummary {
        containers: containers as i64,
        created: image.created_seconds,
        id: image.id.to_string(),
        labels: image.config.config.labels.clone(),
        parent_id: String::new(),
        repo_digests: image.repo_digests.clone(),
        repo_tags: names,
        shared_size: -1,
        size: image.size_bytes as i64,
    }
}

/// All there is to tell of an image.
pub(crate) fn inspect(image: &Image) -> ImageInspect {
    let config = &image.config;
    ImageInspect {
        id: image.id.to_string(),
        repo_tags: image.references.iter().map(Reference::familiar).collect(),
        repo_digests: image.repo_digests.clone(),
        comment: config.history.last().and_then(|step| step.comment.clone()).unwrap_or_default(),
        created: config.created.clone().unwrap_or_default(),
        author: config.author.clone().unwrap_or_default(),
        config: Some(execution(&config.config)),
        architecture: image.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: image.os.clone(),
        size: image.size_bytes as i64,
        virtual_size: image.size_bytes as i64,
        graph_driver: GraphDriver { data: BTreeMap::new(), name: "overlay2".to_owned() },
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: image.layers.iter().map(|layer| layer.diff_id.to_string()).collect(),
        },
        metadata: ImageMetadata { last_tag_time: time::NEVER.to_owned() },
        ..ImageInspect::default()
    }
}

/// An image's steps, newest first. Only the newest is an image that is here.
pub(crate) fn history(image: &Image) -> Vec<HistoryItem> {
    let mut layers = image.layers.iter();
    let steps = image.config.history.iter().map(|step| {
        let layer = if step.empty_layer { None } else { layers.next() };
        HistoryItem {
            id: MISSING.to_owned(),
            created: step.created.as_deref().map_or(0, time::seconds_of),
            created_by: step.created_by.clone().unwrap_or_default(),
            tags: Vec::new(),
            size: layer.map_or(0, |layer| layer.size_bytes as i64),
            comment: step.comment.clone().unwrap_or_default(),
        }
    });
    let mut items: Vec<_> = steps.collect();
    // An image may come without a history of all its layers.
    items.extend(layers.map(|layer| HistoryItem {
        id: MISSING.to_owned(),
        size: layer.size_bytes as i64,
        ..HistoryItem::default()
    }));
    items.reverse();
    if let Some(newest) = items.first_mut() {
        newest.id = image.id.to_string();
        newest.tags = image.references.iter().map(Reference::familiar).collect();
    }
    items
}

/// What containers of an image start with.
fn execution(config: &ExecutionConfig) -> Config {
    let health = config.healthcheck.clone().map(serde_json::from_value::<Healthcheck>);
    Config {
        user: config.user.clone(),
        exposed_ports: null::set(config.exposed_ports.iter().cloned()),
        env: config.env.clone(),
        cmd: config.cmd.clone().map(Into::into),
        healthcheck: health.and_then(Result::ok),
        volumes: null::set(config.volumes.iter().cloned()),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone().map(Into::into),
        on_build: config.on_build.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        shell: config.shell.clone().unwrap_or_default(),
        ..Config::default()
    }
}

/// Reads `linux/arm64/v8`, or only an architecture.
pub(crate) fn platform(text: &str) -> Result<Platform> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts.as_slice() {
        [architecture] if *architecture != "linux" => ("linux", *architecture, None),
        [os, architecture] => (*os, *architecture, None),
        [os, architecture, variant] => (*os, *architecture, Some(*variant)),
        _ => return Err(Error::invalid(format!("invalid platform {}", quoted(text)))),
    };
    let plain = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    if !plain(os) || !plain(architecture) || !variant.is_none_or(plain) {
        return Err(Error::invalid(format!("invalid platform {}", quoted(text))));
    }
    let architecture = match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Ok(Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.map(str::to_owned),
    })
}

/// Refuses an image that is not of the platform asked for.
pub(crate) fn check_platform(wanted: &str, image: &Image) -> Result<()> {
    let wanted = platform(wanted)?;
    if wanted.os == image.os && wanted.architecture == image.architecture {
        return Ok(());
    }
    // Docker's words: on these clients pull the image that fits.
    Err(Error::not_found(format!(
        "image with reference {} was found but its platform ({}/{}) does not match the specified \
         platform ({}/{})",
        image.references.first().map_or_else(|| image.id.to_string(), Reference::familiar),
        image.os,
        image.architecture,
        wanted.os,
        wanted.architecture
    )))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dhow_image::{History, ImageConfiguration, Layer};
    use dhow_spec::Digest;

    use super::*;

    fn image(layers: usize, history: Vec<History>) -> Image {
        let layer = |index: usize| Layer {
            diff_id: Digest::of(&[index as u8]),
            chain_id: Digest::of(&[index as u8]),
            blob: Digest::of(&[index as u8]),
            blob_bytes: 1,
            size_bytes: 100 + index as u64,
            media_type: String::new(),
        };
        Image {
            id: Digest::of(b"image"),
            references: vec!["busybox:1".parse().unwrap()],
            repo_digests: Vec::new(),
            config: Arc::new(ImageConfiguration { history, ..ImageConfiguration::scratch() }),
            layers: (0..layers).map(layer).collect(),
            size_bytes: 200,
            created_seconds: 1,
            architecture: "amd64".into(),
            os: "linux".into(),
            manifest: None,
        }
    }

    #[test]
    fn histories_begin_with_the_newest() {
        let step = |by: &str, empty_layer| History {
            created_by: Some(by.into()),
            empty_layer,
            ..History::default()
        };
        let items =
            history(&image(2, vec![step("ADD", false), step("CMD", true), step("COPY", false)]));
        let told: Vec<_> = items.iter().map(|item| (item.created_by.as_str(), item.size)).collect();
        assert_eq!(told, [("COPY", 101), ("CMD", 0), ("ADD", 100)]);
        assert_eq!(items[0].tags, ["busybox:1"]);
        assert_eq!(items[1].id, MISSING);
        assert_eq!(history(&image(2, Vec::new())).len(), 2);
    }

    #[test]
    fn platforms_read() {
        let read = |text| platform(text).unwrap();
        assert_eq!(read("linux/amd64").architecture, "amd64");
        assert_eq!(read("x86_64").architecture, "amd64");
        assert_eq!(read("linux/arm/v7").variant.as_deref(), Some("v7"));
        for bad in ["", "linux", "a/b/c/d", "linux/", "li nux/amd64"] {
            assert!(platform(bad).is_err(), "{bad}");
        }
        assert!(check_platform("linux/amd64", &image(0, Vec::new())).is_ok());
        assert!(check_platform("linux/arm64", &image(0, Vec::new())).is_err());
    }
}
