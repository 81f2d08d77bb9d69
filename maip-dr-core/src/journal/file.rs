//! Journals as files: one folder a run, one line a record, each line durable before the call returns.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::id::RunId;
use crate::journal::{Journal, Journals, Record, verify_chain};

const NAME: &str = "journal.jsonl";

/// Journals in a folder that only its user can read.
#[derive(Debug, Clone)]
pub struct FileJournals {
    folder: PathBuf,
}

#[derive(Debug)]
struct FileJournal {
    file: File,
    path: PathBuf,
    /// The length of what is known to be whole.
    good: u64,
    broken: bool,
}

impl FileJournals {
    /// Journals under `folder`, which is made when the first run needs it.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path(&self, run: &RunId) -> PathBuf {
        self.folder.join(run.as_str()).join(NAME)
    }
}

/// An I/O failure as one of ours, with the path and what to do.
pub(crate) fn io_error(what: &str, path: &Path, error: &std::io::Error) -> Error {
    use std::io::ErrorKind as Io;
    let shown = path.display();
    let base = match error.kind() {
        Io::NotFound => Error::not_found(format!("cannot {what} {shown}: it does not exist")),
        Io::PermissionDenied => Error::denied(format!("cannot {what} {shown}: permission denied"))
            .hint("set MAIP_DR_STATE_DIR to a folder that you can write"),
        Io::ReadOnlyFilesystem => {
            Error::denied(format!("cannot {what} {shown}: the file system is read-only"))
                .hint("set MAIP_DR_STATE_DIR to a folder that you can write")
        }
        Io::StorageFull | Io::QuotaExceeded => {
            Error::unavailable(format!("cannot {what} {shown}: the disk is full"))
                .hint("make room, or set MAIP_DR_STATE_DIR to a folder on another disk")
        }
        _ => Error::unavailable(format!("cannot {what} {shown}: {error}")),
    };
    base.with("path", shown)
}

/// Makes `folder` and its parents, readable by this user only.
pub(crate) fn private_folder(folder: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|e| io_error("make", folder, &e))
}

/// Options for a file that only this user can read.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[async_trait]
impl Journal for FileJournal {
    async fn append(&mut self, record: &Record, line: &str) -> Result<()> {
        if self.broken {
            return Err(Error::unavailable(format!("{} could not be written before", self.path.display())));
        }
        let length = self.file.metadata().map_err(|e| io_error("read", &self.path, &e))?.len();
        if length != self.good {
            self.broken = true;
            return Err(Error::fenced(format!(
                "something else has written to the journal of run {}",
                record.run
            )));
        }
        if let Err(e) = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()) {
            // Whatever part of the line is there is taken away again; failing that, it is a torn last line.
            self.broken = true;
            let _ = self.file.set_len(self.good);
            return Err(io_error("write", &self.path, &e)
                .context(format!("the journal of run {} cannot be written", record.run)));
        }
        self.good += line.len() as u64;
        Ok(())
    }
}

#[async_trait]
impl Journals for FileJournals {
    async fn create(&self, run: &RunId) -> Result<Box<dyn Journal>> {
        let path = self.path(run);
        if let Some(folder) = path.parent() {
            private_folder(folder)?;
        }
        let file = private_file().create_new(true).open(&path).map_err(|e| io_error("create", &path, &e))?;
        lock(&file, run)?;
        // The new names are durable too, or a power cut could take the whole journal.
        for folder in path.ancestors().skip(1).take(2) {
            File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io_error("sync", folder, &e))?;
        }
        Ok(Box::new(FileJournal { file, path, good: 0, broken: false }))
    }

    async fn open(&self, run: &RunId) -> Result<(Box<dyn Journal>, Vec<Record>)> {
        let path = self.path(run);
        let mut file = private_file().open(&path).map_err(|e| missing(run, &path, &e))?;
        lock(&file, run)?;
        let (records, good) = read_all(&mut file, run, &path)?;
        // A torn last line was never answered for: the call it announced was not made.
        file.set_len(good).map_err(|e| io_error("write", &path, &e))?;
        file.seek(SeekFrom::Start(good)).map_err(|e| io_error("read", &path, &e))?;
        Ok((Box::new(FileJournal { file, path, good, broken: false }), records))
    }

    async fn read(&self, run: &RunId) -> Result<Vec<Record>> {
        let path = self.path(run);
        let mut file = File::open(&path).map_err(|e| missing(run, &path, &e))?;
        Ok(read_all(&mut file, run, &path)?.0)
    }

    async fn runs(&self) -> Result<Vec<RunId>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io_error("read", &self.folder, &e)),
        };
        let mut runs: Vec<RunId> = entries
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.path().join(NAME).exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .map(RunId::new)
            .collect();
        runs.sort();
        Ok(runs)
    }

    fn describe(&self) -> String {
        format!("in {}; other machines do not see it", self.folder.display())
    }
}

fn missing(run: &RunId, path: &Path, error: &std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        Error::not_found(format!("there is no run {run}"))
            .hint("`maip-dr runs` lists them")
            .with("path", path.display())
    } else {
        io_error("open", path, error)
    }
}

fn lock(file: &File, run: &RunId) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(Error::conflict(format!("another process is driving run {run}"))
                .hint(format!("watch it with `maip-dr status {run}`")))
        }
        Err(TryLockError::Error(e)) => {
            Err(Error::unavailable(format!("cannot lock the journal of run {run}: {e}")))
        }
    }
}

/// The records and the length of the whole lines.
fn read_all(file: &mut File, run: &RunId, path: &Path) -> Result<(Vec<Record>, u64)> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| io_error("read", path, &e))?;
    let good = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    let broken = |line: usize, why: String| {
        Error::corrupt(format!("the journal of run {run} is damaged at line {line}: {why}"))
            .hint("nothing was changed; look at the resources by hand (`maip-dr check`), keep the file as evidence, and start a new run")
            .with("path", path.display())
            .with("line", line)
    };
    let mut records: Vec<Record> = Vec::new();
    for (i, line) in bytes[..good].split_inclusive(|&b| b == b'\n').enumerate() {
        let text = std::str::from_utf8(&line[..line.len() - 1]).map_err(|e| broken(i + 1, e.to_string()))?;
        let record = Record::open(text).map_err(|e| broken(i + 1, e.message))?;
        if record.run != *run {
            return Err(broken(i + 1, format!("it belongs to run {}", record.run)));
        }
        records.push(record);
    }
    verify_chain(&records).map_err(|e| broken(records.len(), e.message))?;
    if records.is_empty() {
        return Err(Error::corrupt(format!("the journal of run {run} is empty: it was never started"))
            .hint("nothing was done; start a new run")
            .with("path", path.display()));
    }
    Ok((records, good as u64))
}
