//! The questions that only a person can answer.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use async_trait::async_trait;
use maip_dr_core::engine::{Answer, Decider, Question};
use maip_dr_core::render;
use tokio::sync::Mutex;

use crate::output::{paint_err, say};
use crate::progress::Progress;

/// Whether somebody can be asked.
pub(crate) fn somebody() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on the terminal, one question after the other: an answer belongs to the question above it.
pub(crate) struct Terminal {
    progress: Arc<Progress>,
    turn: Mutex<()>,
}

impl Terminal {
    /// `progress` makes room for the questions.
    pub(crate) fn new(progress: Arc<Progress>) -> Self {
        Self { progress, turn: Mutex::default() }
    }
}

#[async_trait]
impl Decider for Terminal {
    async fn ask(&self, question: Question) -> Answer {
        let _turn = self.turn.lock().await;
        self.progress.hide();
        say(&words(&question));
        // A thread of its own, so that Ctrl-C and what else is going on are not kept waiting.
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            io::stdin().read_line(&mut line).map(|read| (read, line))
        })
        .await;
        self.progress.show();
        match line {
            Ok(Ok((read, line))) if read > 0 => answer(&question, line.trim()),
            _ => Answer::Nobody,
        }
    }
}

fn words(question: &Question) -> String {
    match question {
        Question::Approve { state, .. } => format!(
            "\n{}Go on with what cannot be undone? Type yes to go on; anything else takes the run back: ",
            render::question(state)
        ),
        Question::Accept { step, risk, error } => format!(
            "\n{step}: {}{}Take this risk ({})? Type yes to take it; anything else holds the run: ",
            render::error(error, paint_err()).trim_start_matches("error: "),
            render::risk(risk) + "\n",
            risk.option(),
        ),
    }
}

fn answer(question: &Question, line: &str) -> Answer {
    match (line.eq_ignore_ascii_case("yes"), question) {
        (true, _) => Answer::Yes { why: None },
        (false, Question::Approve { .. }) => Answer::No { why: None },
        (false, Question::Accept { .. }) => Answer::Nobody,
    }
}
