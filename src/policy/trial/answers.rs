//! What plugins say in tests: what the request's facts tell of them, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::facts::Facts;
use crate::policy::plugins::{Ability, About, Asking, Finding, Plan, Plugins, Question, Reply};

/// Answers by plugin, and by what it is asked for.
type Told = BTreeMap<String, BTreeMap<String, Value>>;

/// The plugins of a test: those of the configuration by name, with told answers.
pub(super) struct Answers {
    configured: Arc<dyn Plugins>,
    told: Mutex<Vec<(Arc<Facts>, Told)>>,
}

impl Answers {
    /// The plugins of `configured`, none of which is ever called.
    pub(super) fn for_those_of(configured: Arc<dyn Plugins>) -> Self {
        Self { configured, told: Mutex::default() }
    }

    /// What plugins say of this request.
    pub(super) fn tell(&self, facts: &Arc<Facts>, told: &Told) {
        if !told.is_empty() {
            self.told().push((Arc::clone(facts), told.clone()));
        }
    }

    /// The test is over.
    pub(super) fn forget(&self) {
        self.told().clear();
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Vec<(Arc<Facts>, Told)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, plugin: &str, question: &Question, facts: &Arc<Facts>) -> Result<Reply, String> {
        let asked = match question {
            Question::Call { function, .. } => function.as_str(),
            other => other.ability().as_str(),
        };
        let told = self.told();
        let of_request = told.iter().find(|(known, _)| Arc::ptr_eq(known, facts)).map(|(_, told)| told);
        let Some(answer) = of_request.and_then(|told| told.get(plugin)?.get(asked)) else {
            let example = match question.ability() {
                Ability::Classify => "#{ top: \"code\", score: 0.9 }",
                Ability::Inspect => "[\"email\"]",
                Ability::Route => "\"openai/gpt-4o\"",
                Ability::Call => "…",
            };
            return Err(format!(
                "the test does not say what it answers: add `plugins: #{{ {plugin}: #{{ {asked}: {example} }} }}` to the request"
            ));
        };
        reply(question, answer)
            .ok_or_else(|| format!("the test's answer to `{asked}` makes no sense: {answer}"))?
    }
}

impl Plugins for Answers {
    fn names(&self) -> Vec<String> {
        self.configured.names()
    }

    fn lacks(&self, plugin: &str, ability: Ability) -> Option<String> {
        self.configured.lacks(plugin, ability)
    }

    fn lacks_function(&self, plugin: &str, function: &str) -> Option<String> {
        self.configured.lacks_function(plugin, function)
    }

    fn ask(&self, plugin: &str, question: &Question, about: &About) -> Asking {
        Box::pin(std::future::ready(self.answer(plugin, question, &about.facts)))
    }
}

/// A told answer as the plugin would give it; `{ fail: "…" }` is a plugin that fails.
fn reply(question: &Question, answer: &Value) -> Option<Result<Reply, String>> {
    if let Some(problem) = answer.get("fail") {
        return Some(Err(problem.as_str().map_or_else(|| problem.to_string(), str::to_owned)));
    }
    let reply = match question {
        Question::Classify => classes(answer)?,
        Question::Inspect => findings(answer)?,
        Question::Route => route(answer)?,
        Question::Call { .. } => Reply::Json(answer.to_string()),
    };
    Some(Ok(reply))
}

/// `code`, `{ top: code, score: 0.9 }`, or `{ labels: { code: 0.9, chat: 0.1 } }`.
fn classes(answer: &Value) -> Option<Reply> {
    let mut labels: Vec<(String, f64)> = match (answer, answer.get("top"), answer.get("labels")) {
        (Value::String(top), ..) => vec![(top.clone(), 1.0)],
        (_, Some(top), _) => {
            let score = answer.get("score").map_or(Some(1.0), Value::as_f64)?;
            vec![(top.as_str()?.to_owned(), score)]
        }
        (.., Some(labels)) => {
            let one = |(label, score): (&String, &Value)| Some((label.clone(), score.as_f64()?));
            labels.as_object()?.iter().map(one).collect::<Option<_>>()?
        }
        _ => return None,
    };
    labels.sort_by(|a, b| b.1.total_cmp(&a.1));
    let attributes = match answer.get("attributes") {
        Some(attributes) => pairs(attributes)?,
        None => Vec::new(),
    };
    Some(Reply::Classes { labels, attributes })
}

/// `[email, card]`, or `{ kinds: [email], reject: { code: pii, message: … } }`.
fn findings(answer: &Value) -> Option<Reply> {
    let kinds = answer.get("kinds").unwrap_or(answer).as_array();
    let kinds = kinds.map(Vec::as_slice).unwrap_or_default();
    let finding = |kind: &Value| {
        Some(Finding {
            kind: kind.as_str()?.to_owned(),
            score: 1.0,
            segment: 0,
            start: 0,
            end: 0,
            replacement: None,
            text: None,
        })
    };
    let reject = match answer.get("reject") {
        Some(reject) => {
            let message = reject.get("message").and_then(Value::as_str).unwrap_or_default();
            Some((reject.get("code")?.as_str()?.to_owned(), message.to_owned()))
        }
        None => None,
    };
    if answer.as_array().is_none() && answer.get("kinds").is_none() && reject.is_none() {
        return None;
    }
    Some(Reply::Findings { findings: kinds.iter().map(finding).collect::<Option<_>>()?, reject })
}

/// Nothing, a target, `[first, second]`, or `{ reject: { status: 403, code: … } }`.
fn route(answer: &Value) -> Option<Reply> {
    let step = |target: &Value| Some(vec![(target.as_str()?.to_owned(), 1.0)]);
    let steps = match answer {
        Value::Null => return Some(Reply::Pass),
        Value::String(_) => vec![step(answer)?],
        Value::Array(targets) => targets.iter().map(step).collect::<Option<_>>()?,
        _ => {
            let reject = answer.get("reject")?;
            let status = u16::try_from(reject.get("status").map_or(Some(403), Value::as_u64)?).ok()?;
            let message = reject.get("message").and_then(Value::as_str).unwrap_or_default();
            return Some(Reply::Reject(status, reject.get("code")?.as_str()?.to_owned(), message.to_owned()));
        }
    };
    Some(Reply::Plan(Plan { steps, reason: "told by the test".into(), ..Plan::default() }))
}

fn pairs(map: &Value) -> Option<Vec<(String, String)>> {
    map.as_object()?.iter().map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_written_short_or_in_full() {
        let labels = |labels: &[(&str, f64)]| Reply::Classes {
            labels: labels.iter().map(|(label, score)| ((*label).into(), *score)).collect(),
            attributes: Vec::new(),
        };
        for (question, answer, expected) in [
            (Question::Classify, json!("code"), Some(Ok(labels(&[("code", 1.0)])))),
            (Question::Classify, json!({ "top": "code", "score": 0.9 }), Some(Ok(labels(&[("code", 0.9)])))),
            (
                Question::Classify,
                json!({ "labels": { "a": 0.1, "b": 0.9 } }),
                Some(Ok(labels(&[("b", 0.9), ("a", 0.1)]))),
            ),
            (Question::Classify, json!({ "fail": "down" }), Some(Err("down".to_owned()))),
            (Question::Classify, json!(3), None),
            (Question::Route, json!(null), Some(Ok(Reply::Pass))),
            (
                Question::Route,
                json!({ "reject": { "code": "no" } }),
                Some(Ok(Reply::Reject(403, "no".into(), String::new()))),
            ),
            (Question::Inspect, json!({ "kind": ["email"] }), None),
        ] {
            assert_eq!(reply(&question, &answer), expected, "{question:?} {answer}");
        }
        let Some(Ok(Reply::Findings { findings, .. })) = reply(&Question::Inspect, &json!(["email"])) else {
            panic!("no findings");
        };
        assert_eq!(findings[0].kind, "email");
    }
}
