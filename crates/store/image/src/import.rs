//! Images from bare tars: `import`, and the layers that builders make.

use std::io::Read;
use std::sync::Arc;

use dhow_error::Result;
use dhow_spec::Digest;

use crate::change::Change;
use crate::inflate::inflate;
use crate::manifest::OCI_LAYER;
use crate::store::{Blob, NewImage, Session, blocking, spool};
use crate::words::Expander;
use crate::{History, ImageConfiguration, Import, Layer};

/// Makes a one-layer image; tells its id.
pub(crate) async fn import(
    session: &Arc<Session>,
    reader: Box<dyn Read + Send>,
    import: Import,
) -> Result<Digest> {
    // A bad change is told before gigabytes are read.
    let mut config = configuration(&import)?;
    let layer = add_layer(session, &[], reader).await?;
    config.rootfs.diff_ids = vec![layer.diff_id];
    let bytes = config.to_bytes().map_err(|source| crate::error::ImageError::Json {
        what: "the new configuration".to_owned(),
        source,
    })?;
    let references = import.reference.map(dhow_spec::Reference::with_default_tag);
    let new = NewImage {
        config: bytes,
        layers: vec![layer],
        manifest: None,
        index: None,
        references: references.into_iter().collect(),
    };
    session.commit(new).await
}

/// Takes in a tar, uncompressed, and unpacks it. As it is plain, its digest is its diff id.
pub(crate) async fn add_layer(
    session: &Arc<Session>,
    parents: &[Layer],
    reader: Box<dyn Read + Send>,
) -> Result<Layer> {
    let taking = Arc::clone(session);
    let (digest, size) = blocking(move || {
        let mut reader = inflate(reader).map_err(|source| {
            dhow_error::Error::caused(
                dhow_error::Kind::Invalid,
                "cannot read what was sent",
                source,
            )
        })?;
        let mut ingest = taking.store.content.ingest()?;
        let size = spool(&mut reader, &mut ingest)?;
        Ok((taking.finish(ingest, None, None)?, size))
    })
    .await?;
    let parents: Vec<Digest> = parents.iter().map(|layer| layer.chain_id).collect();
    let blob = Blob { digest, size, media_type: OCI_LAYER.to_owned() };
    session.unpack(&parents, digest, blob).await
}

fn configuration(import: &Import) -> Result<ImageConfiguration> {
    let mut config = ImageConfiguration::scratch();
    if let Some(platform) = &import.platform {
        config.os.clone_from(&platform.os);
        config.architecture.clone_from(&platform.architecture);
        config.variant.clone_from(&platform.variant);
    }
    let created = import.created.unwrap_or_else(jiff::Timestamp::now).to_string();
    let mut cmd_is_own = false;
    for line in &import.changes {
        let env = config.config.env.clone();
        let lookup = |name: &str| {
            env.iter()
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
                .map(str::to_owned)
        };
        let expander = Expander { lookup: &lookup, escape: '\\' };
        let line = line.trim();
        let (keyword, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        Change::parse(keyword, rest, &expander)
            .map_err(|error| {
                dhow_error::Error::from(error).context(format!("cannot apply the change {line:?}"))
            })?
            .apply(&mut config.config, &mut cmd_is_own);
    }
    config.created = Some(created.clone());
    config.history = vec![History {
        created: Some(created),
        comment: Some(import.message.clone().unwrap_or_else(|| "Imported from -".to_owned())),
        ..History::default()
    }];
    Ok(config)
}
