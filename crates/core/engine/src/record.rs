//! How containers lie in the object store.
//!
//! ```text
//!   containers/<id>         Record: what was asked for        written by create and rename
//!   container-states/<id>   State: how its runs went          written by start and at its end
//!   container-names/<name>  <id>                              keeps names unique
//! ```
//!
//! Create, rename and remove are one transaction each, so that a name and its container come and go
//! together. The state is apart, so that a start writes 200 bytes and not the whole specification.

use dhow_error::{Error, Kind, Result};
use dhow_kv::{Expectation, Kv, KvError, Transaction};
use dhow_spec::{ContainerId, Digest};
use serde::{Deserialize, Serialize};

use crate::spec::ContainerSpec;
use crate::state::State;

/// The format of [`Record`]. A newer one is not read.
const VERSION: u32 = 1;
const CONTAINERS: &str = "containers/";
const STATES: &str = "container-states/";
const NAMES: &str = "container-names/";

/// What a container is, apart from its runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) created_ns: u64,
    pub(crate) image: Digest,
    /// Chain ids of the image's layers, bottom first.
    pub(crate) chain: Vec<Digest>,
    pub(crate) spec: ContainerSpec,
}

impl Record {
    /// A new one.
    pub(crate) fn new(
        id: ContainerId,
        name: String,
        created_ns: u64,
        image: Digest,
        chain: Vec<Digest>,
        spec: ContainerSpec,
    ) -> Self {
        Self { version: VERSION, id, name, created_ns, image, chain, spec }
    }
}

/// Writes a new container. Conflict if its name is taken.
pub(crate) async fn create(kv: &dyn Kv, record: &Record) -> Result<()> {
    let name = format!("{NAMES}{}", record.name);
    let transaction = Transaction::new()
        .expect(&name, Expectation::Absent)
        .put(name, record.id.as_str())
        .put(format!("{CONTAINERS}{}", record.id), encode(record)?);
    commit(kv, transaction, "write container", &record.id).await
}

/// Writes how a container is.
pub(crate) async fn write_state(kv: &dyn Kv, id: &ContainerId, state: &State) -> Result<()> {
    let transaction = Transaction::new().put(format!("{STATES}{id}"), encode(state)?);
    commit(kv, transaction, "write the state of container", id).await
}

/// Gives a container the name in `record` instead of `old`. Conflict if it is taken.
pub(crate) async fn rename(kv: &dyn Kv, record: &Record, old: &str) -> Result<()> {
    let name = format!("{NAMES}{}", record.name);
    let transaction = Transaction::new()
        .expect(&name, Expectation::Absent)
        .put(name, record.id.as_str())
        .delete(format!("{NAMES}{old}"))
        .put(format!("{CONTAINERS}{}", record.id), encode(record)?);
    commit(kv, transaction, "rename container", &record.id).await
}

/// Forgets a container.
pub(crate) async fn remove(kv: &dyn Kv, id: &ContainerId, name: &str) -> Result<()> {
    let transaction = Transaction::new()
        .delete(format!("{CONTAINERS}{id}"))
        .delete(format!("{STATES}{id}"))
        .delete(format!("{NAMES}{name}"));
    commit(kv, transaction, "remove container", id).await
}

/// All containers with their states. One that cannot be read is an error: it may be of a newer version,
/// and taking its files for leftovers would lose it.
pub(crate) async fn load(kv: &dyn Kv) -> Result<Vec<(Record, State)>> {
    let mut all = Vec::new();
    for (key, value) in kv.range(CONTAINERS).await? {
        let record: Record = decode(&key, &value)?;
        if record.version != VERSION {
            let message = format!("cannot read {key}: its format is {}", record.version);
            return Err(Error::new(Kind::Unsupported, message)
                .with_hint("a newer version wrote it: run that one"));
        }
        let key = format!("{STATES}{}", record.id);
        let state = match kv.get(&key).await? {
            Some(value) => decode(&key, &value)?,
            None => State::default(),
        };
        all.push((record, state));
    }
    Ok(all)
}

async fn commit(kv: &dyn Kv, work: Transaction, doing: &str, id: &ContainerId) -> Result<()> {
    match kv.commit(work).await {
        Ok(_) => Ok(()),
        Err(error @ KvError::Expectation { .. }) => {
            Err(Error::caused(Kind::Conflict, "container name is already in use", error))
        }
        Err(error) => Err(Error::from(error).context(format!("cannot {doing} {}", id.short()))),
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::caused(Kind::Internal, "cannot encode a container", error))
}

fn decode<T: for<'de> Deserialize<'de>>(key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value)
        .map_err(|error| Error::caused(Kind::Internal, format!("cannot read {key}"), error))
}
