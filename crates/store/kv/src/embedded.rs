//! The backend of one machine: one redb file, opened by one daemon.
//!
//! ```text
//!                  ┌────────────── writer thread ──────────────┐
//!   commit ─queue─►│ take all that wait (at most 256)          │
//!   commit ─queue─►│ begin; check and apply each; commit+fsync │─► answers, watchers
//!                  └───────────────────────────────────────────┘
//! ```
//!
//! One fsync serves all transactions that came while the last one ran (group commit). A transaction
//! whose expectation fails leaves no trace in its group. The file appears under its name only once it
//! is complete (created beside it, then linked), and every commit is fsynced before it is answered, so
//! that after SIGKILL or power loss at any instant the next open finds all acknowledged commits.
//! A commit is one fsync: if it is torn, checksums tell the next open, which then takes the commit before
//! it. redb's `quick_repair` would spare that open a walk through the file, which takes milliseconds, and
//! cost every commit a second fsync and a third of its pages. After a failed write (disk full) the file is opened anew before
//! the next commit, since redb refuses further work on a handle that has failed.
//!
//! Reads run on the caller's thread: they are memory-mapped-fast lookups of small values and never wait
//! for the writer.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use crate::header;
use crate::watch::Watchers;
use crate::{Answer, Change, Kv, KvError, Result, Revision, Transaction, Watch};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const META_REVISION: &str = "revision";
const META_FORMAT: &str = "format";
/// The format of the tables above. A change of meaning raises it.
const FORMAT: u64 = 1;
const CACHE_BYTES: usize = 4 << 20;
/// How many transactions share one fsync at most.
const GROUP_MAX: usize = 256;
/// How many transactions may wait before `commit` waits too.
const QUEUE: usize = 1024;

/// A store in one file. Dropping it finishes what was queued and releases the file.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// `None` only between a failed write and the next attempt to open the file again.
    database: RwLock<Option<Database>>,
    watchers: Watchers,
}

#[derive(Debug)]
struct Request {
    transaction: Transaction,
    answer: oneshot::Sender<Result<Revision>>,
}

impl Embedded {
    /// Opens the store at `path`, creating it (mode 0600) if it is not there. The folder must exist.
    ///
    /// [`KvError::Locked`] if another daemon has it open, [`KvError::Corrupt`] if the file is damaged or
    /// something else, [`KvError::Newer`] if a newer version wrote it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let database = open_or_create(&path)?;
        let shared = Arc::new(Shared {
            path,
            database: RwLock::new(Some(database)),
            watchers: Watchers::default(),
        });
        let (queue, requests) = mpsc::channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("kv-writer".to_owned())
            .spawn({
                let shared = shared.clone();
                move || shared.write_all(requests)
            })
            .map_err(|source| io_error("start the writer of", &shared.path, source))?;
        Ok(Self { shared, queue: Some(queue), writer: Some(writer) })
    }

    /// The store's file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(path = %self.shared.path.display(), "the store's writer has panicked");
        }
    }
}

impl Kv for Embedded {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            self.shared.read(|table| Ok(table.get(key)?.map(|value| value.value().to_vec())))
        })
    }

    fn range<'a>(&'a self, prefix: &'a str) -> Answer<'a, Vec<(String, Vec<u8>)>> {
        Box::pin(async move {
            self.shared.read(|table| {
                let mut found = Vec::new();
                for item in table.range(prefix..)? {
                    let (key, value) = item?;
                    if !key.value().starts_with(prefix) {
                        break;
                    }
                    found.push((key.value().to_owned(), value.value().to_vec()));
                }
                Ok(found)
            })
        })
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Revision> {
        Box::pin(async move {
            transaction.check_size()?;
            let (answer, answered) = oneshot::channel();
            let queue = self.queue.as_ref().ok_or(KvError::Closed)?;
            queue.send(Request { transaction, answer }).await.map_err(|_| KvError::Closed)?;
            answered.await.map_err(|_| KvError::Closed)?
        })
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.shared.watchers.add(prefix)
    }
}

impl Shared {
    /// Runs `look` on the last committed state.
    fn read<T>(
        &self,
        look: impl FnOnce(&redb::ReadOnlyTable<&'static str, &'static [u8]>) -> Result<T, redb::Error>,
    ) -> Result<T> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(KvError::Closed)?;
        let attempt = || look(&database.begin_read()?.open_table(OBJECTS)?);
        attempt().map_err(|source| self.error("read", source))
    }

    /// The writer thread: groups of transactions until all senders are gone.
    fn write_all(&self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::new();
        while requests.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            let written = self.reopen_if_failed().and_then(|()| self.write(&group));
            match written {
                Ok(answers) => self.publish(group.drain(..), answers),
                Err(error) => {
                    for request in group.drain(..) {
                        // Whoever gave up waiting needs no answer.
                        let _ = request.answer.send(Err(error.clone()));
                    }
                    self.close_failed();
                }
            }
        }
    }

    /// Answers a durable group and tells the watchers, in the order of the commits.
    fn publish(&self, group: impl Iterator<Item = Request>, answers: Vec<Result<Revision>>) {
        for (request, answer) in group.zip(answers) {
            if let Ok(revision) = answer {
                self.watchers.notify(revision, &request.transaction.operations);
            }
            // Whoever gave up waiting needs no answer.
            let _ = request.answer.send(answer);
        }
    }

    /// Applies a group in one durable redb transaction. The outer result is that of the whole group.
    fn write(&self, group: &[Request]) -> Result<Vec<Result<Revision>>> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(KvError::Closed)?;
        apply(database, group).map_err(|source| self.error("write", source))
    }

    /// Lets go of a database whose write has failed.
    fn close_failed(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        // Readers go on with the last committed state where the file still opens.
        if let Err(error) = self.reopen_if_failed() {
            tracing::warn!(%error, "cannot open the store again after a failed write");
        }
    }

    fn reopen_if_failed(&self) -> Result<()> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            *database = Some(open_existing(&self.path)?);
        }
        Ok(())
    }

    fn error(&self, operation: &'static str, source: redb::Error) -> KvError {
        io_error(operation, &self.path, source)
    }
}

/// Checks and applies each transaction of `group` to `database`, and makes them durable.
fn apply(database: &Database, group: &[Request]) -> Result<Vec<Result<Revision>>, redb::Error> {
    let write = database.begin_write()?;
    let mut answers = Vec::with_capacity(group.len());
    {
        let mut meta = write.open_table(META)?;
        let mut objects = write.open_table(OBJECTS)?;
        let mut revision = meta.get(META_REVISION)?.map_or(0, |revision| revision.value());
        for Request { transaction, .. } in group {
            if let Some(key) = first_unexpected(&objects, transaction)? {
                answers.push(Err(KvError::Expectation { key }));
                continue;
            }
            for (key, change) in &transaction.operations {
                match change {
                    Change::Put(value) => objects.insert(key.as_str(), value.as_slice())?,
                    Change::Delete => objects.remove(key.as_str())?,
                };
            }
            revision += 1;
            answers.push(Ok(Revision(revision)));
        }
        meta.insert(META_REVISION, revision)?;
    }
    if answers.iter().any(Result::is_ok) {
        write.commit()?;
    } else {
        write.abort()?;
    }
    Ok(answers)
}

/// The first key that is not as `transaction` expects.
fn first_unexpected(
    objects: &impl ReadableTable<&'static str, &'static [u8]>,
    transaction: &Transaction,
) -> Result<Option<String>, redb::Error> {
    for (key, expectation) in &transaction.expectations {
        let value = objects.get(key.as_str())?;
        if !expectation.holds(value.as_ref().map(redb::AccessGuard::value)) {
            return Ok(Some(key.clone()));
        }
    }
    Ok(None)
}

fn open_or_create(path: &Path) -> Result<Database> {
    if !path.try_exists().map_err(|source| io_error("open", path, source))? {
        create(path)?;
    }
    open_existing(path)
}

/// Makes a complete, empty store appear at `path`; that somebody else was faster is fine.
fn create(path: &Path) -> Result<()> {
    let unfinished = path.with_extension(format!("{}.new", std::process::id()));
    let failed = |source: redb::Error| io_error("create", &unfinished, source);
    let io_failed = |source: std::io::Error| io_error("create", &unfinished, source);
    // What a process with this id left behind when it was killed here.
    let _ = fs::remove_file(&unfinished);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(io_failed)?;
    let initialised = initialise(file).map_err(failed);
    let linked = initialised.and_then(|()| match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(io_failed(error)),
        _ => Ok(()),
    });
    let removed = fs::remove_file(&unfinished);
    linked?;
    removed.map_err(io_failed)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| io_error("create", path, source))
}

/// Writes empty tables into a new file.
fn initialise(file: File) -> Result<(), redb::Error> {
    let database = builder().create_file(file)?;
    let write = database.begin_write()?;
    write.open_table(OBJECTS)?;
    write.open_table(META)?.insert(META_FORMAT, FORMAT)?;
    write.commit()?;
    Ok(())
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Opens the complete store at `path` and checks that it is one of ours.
fn open_existing(path: &Path) -> Result<Database> {
    let corrupt = |reason: String| KvError::Corrupt { path: path.to_owned(), reason };
    let classify = |error: redb::Error| match error {
        redb::Error::DatabaseAlreadyOpen => KvError::Locked { path: path.to_owned() },
        redb::Error::Corrupted(reason) => corrupt(reason),
        redb::Error::RepairAborted => corrupt("it cannot be repaired".to_owned()),
        redb::Error::UpgradeRequired(version) => corrupt(format!("it has redb format {version}")),
        redb::Error::TableDoesNotExist(table) => corrupt(format!("table {table:?} is missing")),
        error @ (redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }) => corrupt(error.to_string()),
        redb::Error::Io(error) if is_damage(&error) => corrupt(error.to_string()),
        error => io_error("open", path, error),
    };
    let first_look = look_at_header(path).map_err(|source| io_error("open", path, source))?;
    first_look.map_err(corrupt)?;
    let database = builder().open(path).map_err(|error| classify(error.into()))?;
    let format = read_format(&database).map_err(classify)?;
    match format {
        Some(FORMAT) => Ok(database),
        Some(found) if found > FORMAT => {
            Err(KvError::Newer { path: path.to_owned(), found, known: FORMAT })
        }
        _ => Err(corrupt("it does not say its format".to_owned())),
    }
}

/// What is wrong with the file's first bytes; the outer result is that of reading them.
fn look_at_header(path: &Path) -> std::io::Result<Result<(), String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = [0; header::LENGTH];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(header::check(&bytes, length)),
        Err(error) if is_damage(&error) => Ok(Err("it is empty or nearly so".to_owned())),
        Err(error) => Err(error),
    }
}

fn read_format(database: &Database) -> Result<Option<u64>, redb::Error> {
    let read = database.begin_read()?;
    read.open_table(OBJECTS)?;
    Ok(read.open_table(META)?.get(META_FORMAT)?.map(|format| format.value()))
}

/// Whether redb says by this error that the file's content is wrong, rather than the disk.
fn is_damage(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}

fn io_error(
    operation: &'static str,
    path: &Path,
    source: impl std::error::Error + Send + Sync + 'static,
) -> KvError {
    KvError::Io { operation, path: path.to_owned(), source: Arc::new(source) }
}
