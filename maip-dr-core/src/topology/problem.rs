//! What is wrong with a file, where, and what would be right.

use crate::error::Error;
use crate::topology::document::{Node, Position};

/// How many problems one error tells.
const TOLD: usize = 20;

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    /// The keys (and list indexes) that lead to it.
    path: Vec<String>,
    /// Whether the last key itself is wrong, not its value.
    key: bool,
    /// Its position, where it is known without the path.
    at: Option<Position>,
    message: String,
    hint: String,
}

impl Problem {
    /// The value at `path` is wrong.
    pub(super) fn new<S: ToString>(path: &[S], message: impl Into<String>) -> Self {
        Self {
            path: path.iter().map(S::to_string).collect(),
            key: false,
            at: None,
            message: message.into(),
            hint: String::new(),
        }
    }

    /// The last key of `path` is wrong.
    pub(super) fn key<S: ToString>(path: &[S], message: impl Into<String>) -> Self {
        Self { key: true, ..Self::new(path, message) }
    }

    /// The text at a position is wrong.
    pub(super) fn at(position: Position, message: impl Into<String>) -> Self {
        Self { at: Some(position), ..Self::new::<&str>(&[], message) }
    }

    /// What would be right.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Where it was written: the deepest part of its path that is there.
    fn position(&self, root: Option<&Node>) -> Option<Position> {
        let Some(mut node) = root.filter(|_| self.at.is_none()) else { return self.at };
        let mut at = node.at;
        for (i, step) in self.path.iter().enumerate() {
            if let Some(entry) = node.entry(step) {
                let itself = self.key && i + 1 == self.path.len();
                at = if itself || entry.node.is_null() { entry.at } else { entry.node.at };
                node = &entry.node;
            } else if let Some(item) = node.item(step) {
                at = item.at;
                node = item;
            } else {
                break;
            }
        }
        at
    }

    /// Its path as people write it: `failback.shift[2]`.
    fn path(&self, root: Option<&Node>) -> String {
        let mut node = root;
        let mut text = String::new();
        for step in &self.path {
            let item = node.and_then(|n| n.item(step));
            if item.is_some() {
                text.push_str(&format!("[{step}]"));
            } else {
                text.push_str(if text.is_empty() { "" } else { "." });
                text.push_str(step);
            }
            node = item.or_else(|| node.and_then(|n| n.entry(step)).map(|e| &e.node));
        }
        text
    }
}

/// One error that tells them all: the first as its message, each further one as a cause.
pub(super) fn error(file: &str, root: Option<&Node>, mut problems: Vec<Problem>) -> Error {
    problems.sort_by_key(|p| p.position(root));
    let more = problems.len().saturating_sub(1);
    let mut told = problems.iter().take(TOLD);
    let Some(first) = told.next() else { return Error::internal("no problem was found") };
    let mut error = first_error(file, root, first, more);
    for problem in told {
        let line = format!("{}: {}", place(file, root, problem), problem.message);
        error =
            error.caused_by(if problem.hint.is_empty() { line } else { format!("{line}; {}", problem.hint) });
    }
    if problems.len() > TOLD {
        error = error.caused_by(format!("and {} more", problems.len() - TOLD));
    }
    error
}

fn first_error(file: &str, root: Option<&Node>, first: &Problem, more: usize) -> Error {
    let more = match more {
        0 => String::new(),
        1 => " (1 more problem follows)".to_owned(),
        n => format!(" ({n} more problems follow)"),
    };
    let mut error = Error::invalid(format!("{}: {}{more}", place(file, root, first), first.message));
    if let Some(at) = first.position(root) {
        error = error.with("line", at.line).with("column", at.column);
    }
    if !first.path.is_empty() {
        error = error.with("path", first.path(root));
    }
    if first.hint.is_empty() { error } else { error.hint(&first.hint) }
}

/// `FILE:LINE:COLUMN`, or the path of data that was written nowhere.
fn place(file: &str, root: Option<&Node>, problem: &Problem) -> String {
    match problem.position(root) {
        Some(at) => format!("{file}:{}:{}", at.line, at.column),
        None if problem.path.is_empty() => file.to_owned(),
        None => format!("{file}.{}", problem.path(root)),
    }
}
