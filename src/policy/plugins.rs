//! What policies need of plugins: names to check at load, and answers to questions about a request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::facts::Facts;

/// The plugins of a snapshot, as policies may ask them.
pub trait Plugins: Send + Sync {
    /// Names of the configured plugins.
    fn names(&self) -> Vec<String>;
    /// What a plugin cannot do, in words; `None` when it can.
    fn lacks(&self, _plugin: &str, _ability: Ability) -> Option<String> {
        None
    }
    /// That a plugin has no function of this name, in words; `None` when it has, or does not tell which it has.
    fn lacks_function(&self, _plugin: &str, _function: &str) -> Option<String> {
        None
    }
    /// Classifiers that are asked before the policies run.
    fn ahead(&self) -> &[Arc<str>] {
        &[]
    }
    /// Asks a plugin. `Err` is a failure, in words for the log: what was declared for it has been applied already.
    fn ask(&self, plugin: &str, question: &Question, about: &About) -> Asking;
}

/// An answer under way.
pub type Asking = Pin<Box<dyn Future<Output = Result<Reply, String>> + Send>>;

/// What a plugin can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ability {
    /// Classes of the request.
    Classify,
    /// Findings in its text.
    Inspect,
    /// Where it should go.
    Route,
    /// Any function of its own.
    Call,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Classes of the request.
    Classify,
    /// Findings in its text.
    Inspect,
    /// Where it should go.
    Route,
    /// A function of the plugin's own, with its arguments as JSON text.
    Call {
        /// The function.
        function: String,
        /// A JSON value.
        arguments: String,
    },
}

impl Question {
    /// As policies write it.
    pub fn word(&self) -> String {
        match self {
            Self::Classify => "classify".to_owned(),
            Self::Inspect => "inspect".to_owned(),
            Self::Route => "route".to_owned(),
            Self::Call { function, arguments } => format!("call({function:?}, {arguments})"),
        }
    }
}

/// The request that is asked about.
#[derive(Clone)]
pub struct About {
    /// What is known of it.
    pub facts: Arc<Facts>,
    /// Tags that policies have put on it so far.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
}

/// What a plugin said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To `classify`: labels with scores, best first, and what else it wants to say.
    Classes {
        /// Label and score, best first.
        labels: Vec<(String, f64)>,
        /// Other findings by name.
        attributes: Vec<(String, String)>,
    },
    /// To `inspect`.
    Findings {
        /// What was found.
        findings: Vec<Finding>,
        /// Code and message, when it wants the request refused.
        reject: Option<(String, String)>,
    },
    /// To `route`: it has no opinion.
    Pass,
    /// To `route`.
    Plan(Plan),
    /// To `route`: refuse with this status, code and message.
    Reject(u16, String, String),
    /// To `call`: a JSON value.
    Json(String),
    /// It gave no answer, for this reason, and is declared as one without which the request is refused.
    Closed(String),
}

/// One thing that a guard found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Its kind: `email`, `card`.
    pub kind: String,
    /// How sure the guard is, 0 to 1.
    pub score: f64,
    /// Which piece of text, by its place among the request's pieces.
    pub segment: u32,
    /// First byte in the piece.
    pub start: u32,
    /// Byte behind the last one.
    pub end: u32,
    /// What is to stand there instead; by default a placeholder of the kind.
    pub replacement: Option<String>,
    /// What was found. Never written down.
    #[serde(skip)]
    pub text: Option<String>,
}

/// Where a router wants a request to go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Targets with their weights, grouped by rank, first rank first.
    pub steps: Vec<Vec<(String, f64)>>,
    /// Deadline of each attempt in milliseconds.
    pub timeout_ms: Option<u32>,
    /// Further tries at the same target.
    pub retries: Option<u32>,
    /// The next step is asked too when the first has not answered after so many milliseconds.
    #[serde(default)]
    pub hedge_after_ms: Option<u32>,
    /// Parameters to set, values as JSON text.
    #[serde(default)]
    pub set: Vec<(String, String)>,
    /// Tags for the request.
    pub tags: Vec<(String, String)>,
    /// Why.
    pub reason: String,
}

impl Question {
    /// What a plugin must be able to do to answer.
    pub fn ability(&self) -> Ability {
        match self {
            Self::Classify => Ability::Classify,
            Self::Inspect => Ability::Inspect,
            Self::Route => Ability::Route,
            Self::Call { .. } => Ability::Call,
        }
    }
}

impl Ability {
    /// Its name in scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::Inspect => "inspect",
            Self::Route => "route",
            Self::Call => "call",
        }
    }
}

/// Where there are no plugins.
pub struct NoPlugins;

impl Plugins for NoPlugins {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn ask(&self, plugin: &str, _: &Question, _: &About) -> Asking {
        let text = format!("there is no plugin `{plugin}`");
        Box::pin(std::future::ready(Err(text)))
    }
}
