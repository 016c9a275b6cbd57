//! Manifests and indexes: OCI image-spec (`manifest.md`, `image-index.md`) and Docker's schema 2, bounded.
//!
//! Pure. A document's media type decides what it is; where it says none (OCI allows that), its fields do.
//! Docker's schema 1 is told apart and refused by name.

use std::collections::BTreeMap;

use dhow_error::{Classify, Kind};
use dhow_spec::Digest;
use serde::Deserialize;

use crate::Platform;

/// The largest manifest or index: what registries accept.
pub(crate) const MANIFEST_MAX: u64 = 4 << 20;
/// The largest configuration.
pub(crate) const CONFIG_MAX: u64 = 8 << 20;
/// The most layers: what one overlay mount with a page of options is known to take, and more than
/// Docker's 127.
pub(crate) const LAYERS_MAX: usize = 128;
/// The most manifests in one index.
pub(crate) const INDEX_MAX: usize = 1024;
/// How deep indexes may nest.
pub(crate) const NESTING_MAX: usize = 4;

/// What a client accepts from a registry.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// The media type of an index.
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of a manifest that we made.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The media type of a configuration that we made.
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// The media type of a layer that we made.
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

/// The parts of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<DescribedPlatform>,
    #[serde(default)]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

/// The platform of a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct DescribedPlatform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
}

/// Why a document is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("cannot read the manifest")]
    Json(#[source] serde_json::Error),
    #[error("the image is in Docker's schema 1 format, which was given up in 2017")]
    Schema1,
    #[error("the manifest is of the unknown type {0:?}")]
    UnknownType(String),
    #[error("it is not a container image but {0:?}")]
    NotAnImage(String),
    #[error("layers of type {0:?} are not supported")]
    LayerType(String),
    #[error("the manifest lists {count} {what}, more than the {limit} that are allowed")]
    TooMany { what: &'static str, count: usize, limit: usize },
    #[error("there is no image for {wanted}; there are {found}")]
    NoPlatform { wanted: Platform, found: String },
    #[error("indexes are nested deeper than {NESTING_MAX}")]
    TooDeep,
}

impl Classify for ManifestError {
    fn kind(&self) -> Kind {
        match self {
            Self::Schema1 | Self::LayerType(_) => Kind::Unsupported,
            Self::NoPlatform { .. } => Kind::NotFound,
            _ => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Schema1 => {
                Some("push it again with a current tool, which writes schema 2 or OCI".to_owned())
            }
            Self::NoPlatform { .. } => Some("choose one of them with --platform".to_owned()),
            _ => None,
        }
    }
}

/// Everything that any of the formats has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default, rename = "fsLayers")]
    fs_layers: Option<serde_json::Value>,
}

impl Document {
    /// Reads a document. `media_type` is what the transport said; the document's own word wins.
    pub(crate) fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self, ManifestError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if raw.schema_version == 1 || raw.fs_layers.is_some() {
            return Err(ManifestError::Schema1);
        }
        let plain = |text: &str| text.split(';').next().unwrap_or_default().trim().to_owned();
        let media_type = raw.media_type.as_deref().or(media_type).map(plain).unwrap_or_default();
        let is_index = match media_type.as_str() {
            OCI_INDEX | DOCKER_LIST => true,
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            // `application/json` and nothing at all happen; the fields decide.
            _ if raw.manifests.is_some() => true,
            _ if raw.config.is_some() => false,
            _ => return Err(ManifestError::UnknownType(media_type)),
        };
        if is_index {
            let manifests = raw.manifests.unwrap_or_default();
            within("manifests", manifests.len(), INDEX_MAX)?;
            return Ok(Self::Index(manifests));
        }
        let config = raw.config.ok_or(ManifestError::UnknownType(media_type))?;
        let layers = raw.layers.unwrap_or_default();
        within("layers", layers.len(), LAYERS_MAX)?;
        let manifest = Manifest { config, layers };
        manifest.check()?;
        Ok(Self::Manifest(manifest))
    }
}

impl Manifest {
    fn check(&self) -> Result<(), ManifestError> {
        let config = self.config.media_type.as_str();
        if ![OCI_CONFIG, DOCKER_CONFIG, "application/octet-stream", ""].contains(&config) {
            return Err(ManifestError::NotAnImage(config.to_owned()));
        }
        for layer in &self.layers {
            if !is_layer(&layer.media_type) {
                return Err(ManifestError::LayerType(layer.media_type.clone()));
            }
        }
        Ok(())
    }
}

/// Whether we can unpack a layer of this type. How it is compressed is told by its first bytes.
fn is_layer(media_type: &str) -> bool {
    let known =
        ["application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"];
    known.iter().any(|prefix| {
        media_type
            .strip_prefix(prefix)
            .is_some_and(|rest| ["", ".gzip", "+gzip", "+zstd", ".zstd"].contains(&rest))
    }) || media_type.is_empty()
}

/// The entry of an index that suits `platform`: an exact one, else one that says no platform (a nested
/// index, or the only image of a layout).
pub(crate) fn choose<'a>(
    index: &'a [Descriptor],
    platform: &Platform,
) -> Result<&'a Descriptor, ManifestError> {
    let images = || index.iter().filter(|entry| !is_attestation(entry));
    let matches = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|p| p.suits(platform));
    let exact = images().find(|entry| {
        matches(entry) && entry.platform.as_ref().is_some_and(|p| p.variant == platform.variant)
    });
    let unsaid = || images().find(|entry| entry.platform.as_ref().is_none_or(|p| p.os.is_empty()));
    exact.or_else(|| images().find(matches)).or_else(unsaid).ok_or_else(|| {
        let names: Vec<_> =
            images().filter_map(|e| e.platform.as_ref()).map(DescribedPlatform::name).collect();
        let found = if names.is_empty() { "none at all".to_owned() } else { names.join(", ") };
        ManifestError::NoPlatform { wanted: platform.clone(), found }
    })
}

/// Whether it describes an image (provenance, SBOM) instead of being one.
pub(crate) fn is_attestation(entry: &Descriptor) -> bool {
    let annotated = entry.annotations.as_ref().is_some_and(|annotations| {
        annotations
            .get("vnd.docker.reference.type")
            .is_some_and(|kind| kind == "attestation-manifest")
    });
    annotated || entry.platform.as_ref().is_some_and(|p| p.os == "unknown")
}

impl DescribedPlatform {
    fn suits(&self, wanted: &Platform) -> bool {
        let variant = wanted
            .variant
            .as_ref()
            .is_none_or(|variant| self.variant.as_ref().is_none_or(|own| own == variant));
        self.os == wanted.os && self.architecture == wanted.architecture && variant
    }

    fn name(&self) -> String {
        let variant = self.variant.as_ref().map(|v| format!("/{v}")).unwrap_or_default();
        format!("{}/{}{variant}", self.os, self.architecture)
    }
}

fn within(what: &'static str, count: usize, limit: usize) -> Result<(), ManifestError> {
    if count > limit { Err(ManifestError::TooMany { what, count, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn descriptor(media_type: &str, platform: &str) -> String {
        let digest = Digest::of(platform.as_bytes());
        let platform = match platform.split_once('/') {
            Some((os, arch)) => format!(r#","platform":{{"os":"{os}","architecture":"{arch}"}}"#),
            None => String::new(),
        };
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":3{platform}}}"#)
    }

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let entries: Vec<_> = platforms.iter().map(|p| descriptor(OCI_MANIFEST, p)).collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        match Document::parse(text.as_bytes(), None).unwrap() {
            Document::Index(index) => index,
            Document::Manifest(_) => panic!("not an index"),
        }
    }

    #[test]
    fn chooses_this_machines_platform() {
        let platform = Platform::default();
        let all = index(&["linux/arm64", "unknown/unknown", "linux/amd64"]);
        assert_eq!(choose(&all, &platform).unwrap().digest, Digest::of(b"linux/amd64"));
        let nested = index(&["linux/arm64", ""]);
        assert_eq!(choose(&nested, &platform).unwrap().digest, Digest::of(b""));
        let error = choose(&index(&["linux/arm64", "unknown/unknown"]), &platform).unwrap_err();
        assert_eq!(error.to_string(), "there is no image for linux/amd64; there are linux/arm64");
    }

    #[test]
    fn refuses_what_is_no_image() {
        let schema1 = br#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(Document::parse(schema1, None), Err(ManifestError::Schema1)));
        let chart = descriptor("application/vnd.cncf.helm.config.v1+json", "");
        let text = format!(r#"{{"schemaVersion":2,"config":{chart},"layers":[]}}"#);
        let error = Document::parse(text.as_bytes(), None).unwrap_err();
        assert!(matches!(error, ManifestError::NotAnImage(_)));
    }

    #[test]
    fn bounds_the_number_of_layers() {
        let layers = vec![descriptor(OCI_LAYER, ""); LAYERS_MAX + 1].join(",");
        let config = descriptor(OCI_CONFIG, "");
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#);
        let error = Document::parse(text.as_bytes(), Some(OCI_MANIFEST)).unwrap_err();
        assert!(matches!(error, ManifestError::TooMany { .. }));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Document::parse(&bytes, Some(OCI_INDEX));
        }
    }
}
