//! What plugins have said of one request: each question is asked once, and a replay needs nothing else.

use std::sync::Arc;

use super::plugins::{Asking, Question, Reply};

/// Questions about one request; scripts that ask more fail.
pub(super) const MAX_QUESTIONS: usize = 64;

/// One question that was answered.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Answered {
    /// The plugin.
    pub plugin: Arc<str>,
    /// What it was asked.
    pub question: Question,
    /// What it said; a failure in words.
    pub reply: Result<Reply, String>,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// Questions and answers so far.
#[derive(Default)]
pub(super) struct Memo {
    answers: Vec<Answered>,
    /// The answer for which an evaluation was abandoned.
    waiting: Option<Waiting>,
    /// The plugin without whose answer the request is refused.
    closed: Option<Arc<str>>,
}

/// A question whose answer is awaited.
pub(super) struct Waiting {
    pub(super) plugin: Arc<str>,
    pub(super) question: Question,
    pub(super) asking: Asking,
    pub(super) began: std::time::Instant,
}

impl Memo {
    /// Answers that are known before anybody asks.
    pub(super) fn of(answers: Vec<Answered>) -> Self {
        let closed = answers.iter().find_map(Answered::closed);
        Self { answers, waiting: None, closed }
    }

    /// The plugin without whose answer the request is refused, if one gave none.
    pub(super) fn closed(&self) -> Option<Arc<str>> {
        self.closed.clone()
    }

    pub(super) fn find(&self, plugin: &str, question: &Question) -> Option<&Result<Reply, String>> {
        let is = |known: &&Answered| *known.plugin == *plugin && known.question == *question;
        self.answers.iter().find(is).map(|known| &known.reply)
    }

    pub(super) fn keep(&mut self, answered: Answered) {
        self.closed = self.closed.take().or_else(|| answered.closed());
        self.answers.push(answered);
    }

    pub(super) fn answers(&self) -> &[Answered] {
        &self.answers
    }

    pub(super) fn is_full(&self) -> bool {
        self.answers.len() >= MAX_QUESTIONS
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.waiting.get_or_insert(waiting);
    }

    pub(super) fn take_waiting(&mut self) -> Option<Waiting> {
        self.waiting.take()
    }
}

impl Answered {
    fn closed(&self) -> Option<Arc<str>> {
        matches!(self.reply, Ok(Reply::Closed(_))).then(|| self.plugin.clone())
    }
}

impl Waiting {
    /// Awaits the answer.
    pub(super) async fn answer(self) -> Answered {
        let Self { plugin, question, asking, began } = self;
        let reply = asking.await;
        answered(plugin, question, reply, began)
    }
}

/// An answer that has come.
pub(super) fn answered(
    plugin: Arc<str>,
    question: Question,
    reply: Result<Reply, String>,
    began: std::time::Instant,
) -> Answered {
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    Answered { plugin, question, reply, micros }
}
