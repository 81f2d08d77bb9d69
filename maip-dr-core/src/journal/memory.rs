//! Journals that live as long as the process: for tests and for a sandbox of one's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::id::RunId;
use crate::journal::{Journal, Journals, Record};

/// Sealed lines, so that what is read back has been through the same bytes as in a file.
type Shared = Arc<Mutex<BTreeMap<RunId, Vec<String>>>>;

/// Journals in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournals(Shared);

#[derive(Debug)]
struct MemoryJournal(Shared);

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&mut self, record: &Record, line: &str) -> Result<()> {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let records = runs.entry(record.run.clone()).or_default();
        let epoch = match records.last() {
            Some(last) => Record::open(last)?.epoch,
            None => 0,
        };
        if records.len() as u64 != record.seq || epoch > record.epoch {
            return Err(Error::fenced(format!("another driver has taken run {} over", record.run)));
        }
        records.push(line.trim_end().to_owned());
        Ok(())
    }
}

#[async_trait]
impl Journals for MemoryJournals {
    async fn create(&self, _run: &RunId) -> Result<Box<dyn Journal>> {
        Ok(Box::new(MemoryJournal(self.0.clone())))
    }

    async fn open(&self, run: &RunId) -> Result<(Box<dyn Journal>, Vec<Record>)> {
        Ok((Box::new(MemoryJournal(self.0.clone())), self.read(run).await?))
    }

    async fn read(&self, run: &RunId) -> Result<Vec<Record>> {
        let runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = runs.get(run).ok_or_else(|| Error::not_found(format!("there is no run {run}")))?;
        lines.iter().map(|line| Record::open(line)).collect()
    }

    async fn runs(&self) -> Result<Vec<RunId>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect())
    }

    fn describe(&self) -> String {
        "in this process's memory; it ends with it".to_owned()
    }
}
