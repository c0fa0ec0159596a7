//! What scripts ask of whoever answers: constraints of targets and limits of the answer, which only ever narrow.

use std::sync::Arc;

use rhai::{Array, Dynamic, Map};

use super::Names;
use super::bridge::{Findings, Handle};
use super::error::failure;
use super::hook;
use super::request::{Outcome, Request, fault, kind, label};
use super::suggest::hint;
use crate::plan::{CacheWish, Censor, Constraint, Hook, Narrowing, Rule, TakenOut};
use crate::settings::Period;

impl Request {
    pub(super) fn require(&self, what: Dynamic, names: &Names, by: &Rule) -> Outcome<()> {
        self.before("require", Hook::OnError)?;
        let constraints = constraints("require", what, names)?;
        let mut wishes = self.wishes();
        constraints.iter().for_each(|one| wishes.note(by, Narrowing::Require(one.clone())));
        wishes.require.extend(constraints);
        Ok(())
    }

    pub(super) fn avoid(&self, what: Dynamic, names: &Names, by: &Rule) -> Outcome<()> {
        self.before("avoid", Hook::OnError)?;
        let constraints = constraints("avoid", what, names)?;
        let mut wishes = self.wishes();
        constraints.iter().for_each(|one| wishes.note(by, Narrowing::Avoid(one.clone())));
        wishes.avoid.extend(constraints);
        Ok(())
    }

    /// `req.cap_output(512)`: the lowest of all counts.
    pub(super) fn cap_output(&self, most: &Dynamic, by: &Rule) -> Outcome<()> {
        self.before("cap_output", Hook::OnRequest)?;
        let most = tokens(most)?;
        let mut wishes = self.wishes();
        wishes.note(by, Narrowing::CapOutput(most));
        wishes.output.cap(most);
        Ok(())
    }

    /// `req.cache("1h")`: the shortest of all times.
    pub(super) fn cache(&self, life: &str) -> Outcome<()> {
        self.before("cache", Hook::OnRequest)?;
        let life = lasting(life)?;
        let mut wishes = self.wishes();
        wishes.cache = Some(match wishes.cache {
            None => CacheWish::For(life.0),
            Some(CacheWish::For(before)) => CacheWish::For(before.min(life.0)),
            Some(CacheWish::Never) => CacheWish::Never,
        });
        Ok(())
    }

    /// `req.no_cache()`: whoever else says otherwise.
    pub(super) fn no_cache(&self) -> Outcome<()> {
        self.before("no_cache", Hook::OnRequest)?;
        self.wishes().cache = Some(CacheWish::Never);
        Ok(())
    }

    /// `req.stop_on(["END"])`: the answer ends before the first of these texts.
    pub(super) fn stop_on(&self, texts: &Array, by: &Rule) -> Outcome<()> {
        self.before("stop_on", Hook::OnRequest)?;
        let mut wanted = Vec::with_capacity(texts.len());
        for text in texts {
            match text.as_immutable_string_ref() {
                Ok(text) if !text.is_empty() && text.len() <= MAX_STOP => {
                    wanted.push(Arc::from(text.as_str()))
                }
                Ok(text) => {
                    let length = text.len();
                    return Err(fault(format!("stop_on: a text has 1 to {MAX_STOP} bytes, not {length}")));
                }
                Err(given) => {
                    return Err(fault(format!("stop_on: expected a list of texts, found {given} in it")));
                }
            }
        }
        let mut wishes = self.wishes();
        let said = wanted.clone();
        wanted.retain(|text| !wishes.output.stop_on.contains(text));
        if wishes.output.stop_on.len() + wanted.len() > MAX_STOPS {
            return Err(fault(format!("stop_on: at most {MAX_STOPS} texts for one request")));
        }
        wishes.output.stop_on.extend(wanted);
        if !said.is_empty() {
            wishes.note(by, Narrowing::StopOn(said));
        }
        Ok(())
    }

    /// `req.redact(findings)`: what a guard found does not leave; placeholders stand in its place.
    pub(super) fn redact(&self, findings: &Findings, restore: bool, by: &Rule) -> Outcome<()> {
        self.before("redact", Hook::OnRequest)?;
        let found = findings.found.iter().filter_map(|finding| {
            let (kind, replacement) = (&*finding.kind, finding.replacement.as_deref());
            Some(TakenOut { text: finding.text.as_deref()?, kind, replacement })
        });
        let mut wishes = self.wishes();
        let texts = findings.found.iter().filter(|finding| finding.text.is_some()).count();
        if texts > 0 {
            wishes.note(by, Narrowing::Redact(texts));
        }
        wishes.output.take_out(found, restore);
        Ok(())
    }

    /// `req.redact_output(plugin("pii"), ["email"])`: what a guard finds in the answer does not go out. Without a
    /// plugin, every guard of the configuration is asked; without kinds, every finding counts.
    pub(super) fn redact_output(
        &self,
        plugin: Option<&Handle>,
        kinds: Option<&Array>,
        by: &Rule,
    ) -> Outcome<()> {
        self.before("redact_output", Hook::OnRequest)?;
        let kind = |given: &Dynamic| match given.as_immutable_string_ref() {
            Ok(kind) if !kind.is_empty() => Ok(Arc::from(kind.as_str())),
            _ => Err(fault("redact_output: expected a list of kinds such as [\"email\"]")),
        };
        let named =
            kinds.map(|kinds| kinds.iter().map(kind).collect::<Outcome<Vec<Arc<str>>>>()).transpose()?;
        if named.as_ref().is_some_and(Vec::is_empty) {
            return Err(fault("redact_output: the list of kinds is empty"));
        }
        let censor = Censor { plugin: plugin.map(Handle::name), kinds: named.unwrap_or_default() };
        let mut wishes = self.wishes();
        if wishes.output.censors.len() >= MAX_CENSORS {
            return Err(fault(format!("redact_output: at most {MAX_CENSORS} times for one request")));
        }
        wishes.note(by, Narrowing::RedactOutput(censor.clone()));
        if !wishes.output.censors.contains(&censor) {
            wishes.output.censors.push(censor);
        }
        Ok(())
    }

    /// Constraints that come after what they constrain would do nothing, so they are errors.
    fn before(&self, function: &str, last: Hook) -> Outcome<()> {
        let now = self.wishes().hook;
        if now <= last {
            return Ok(());
        }
        let so_late = hook::Form::of(now).name;
        Err(fault(format!("{function}: `{so_late}` is too late for it")))
    }
}

/// What is wrong with a constraint that stands in a policy in so many words: that no target is ever so.
pub(super) fn problem(function: &str, what: &Dynamic, names: &Names) -> Option<String> {
    match constraints(function, what.clone(), names) {
        Ok(all) => all.iter().find_map(|one| names.never(one)).map(|why| format!("{function}: {why}")),
        Err(error) => Some(failure(&error).message),
    }
}

impl Names {
    /// Why a constraint never holds, as far as that is known.
    fn never(&self, constraint: &Constraint) -> Option<String> {
        let marks = self.marks.as_ref()?;
        match constraint {
            Constraint::Name(name) => {
                let provider = name.split_once('/').map_or(&**name, |(provider, _)| provider);
                (!self.providers.contains(provider)).then(|| self.unknown(name))
            }
            Constraint::Tag(tag) if marks.tags.contains(&**tag) => None,
            Constraint::Tag(alias) if self.aliases.contains(&**alias) => Some(format!(
                "`{alias}` is an alias: name its targets, their providers, or a tag that they have"
            )),
            Constraint::Tag(tag) => {
                let hint = hint(tag, marks.tags.iter().chain(&self.providers).map(String::as_str));
                Some(format!("no target has the tag `{tag}`, and no provider is called so{hint}"))
            }
            Constraint::Label(key, value) => match marks.labels.get(&**key) {
                Some(values) if values.contains(&**value) => None,
                Some(values) => {
                    let hint = hint(value, values.iter().map(String::as_str));
                    Some(format!("no target has the label `{key}: {value}`{hint}"))
                }
                None => {
                    let hint = hint(key, marks.labels.keys().map(String::as_str));
                    Some(format!("no target has a label `{key}`{hint}"))
                }
            },
        }
    }
}

fn constraints(function: &str, what: Dynamic, names: &Names) -> Outcome<Vec<Constraint>> {
    if let Some(labels) = what.read_lock::<Map>() {
        let one = |(key, value): (&rhai::Identifier, &Dynamic)| {
            Ok(Constraint::Label(key.as_str().into(), label(function, value)?))
        };
        return labels.iter().map(one).collect();
    }
    if let Some(many) = what.read_lock::<Array>() {
        let mut all = Vec::with_capacity(many.len());
        for one in many.iter() {
            all.extend(constraints(function, one.clone(), names)?);
        }
        return Ok(all);
    }
    match what.as_immutable_string_ref() {
        Ok(word) if word.contains('/') || names.providers.contains(word.as_str()) => {
            Ok(vec![Constraint::Name(word.as_str().into())])
        }
        Ok(word) => Ok(vec![Constraint::Tag(word.as_str().into())]),
        Err(_) => Err(fault(format!(
            "{function}: expected a tag, a provider, a target or #{{ label: value }}, not {}",
            kind(&what)
        ))),
    }
}

/// Demands of `redact_output` on one request.
const MAX_CENSORS: usize = 32;
/// Texts of `stop_on` for one request, and the bytes of each.
const MAX_STOPS: usize = 64;
const MAX_STOP: usize = 256;

/// How long an answer may be given again.
pub(super) fn lasting(text: &str) -> Outcome<Period> {
    text.parse().map_err(|problem| fault(format!("cache: {problem}")))
}

/// A limit of an answer.
pub(super) fn tokens(given: &Dynamic) -> Outcome<u64> {
    let number = given.as_int().ok().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    number.ok_or_else(|| fault(format!("cap_output: expected a number of tokens above 0, not '{given}'")))
}
