//! What policies ask for beside a verdict, and where: each constraint and limit of the answer with the rule that set it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Censor, Constraint, Decision, Rule};

/// A constraint or a limit of the answer, and the rule that set it. They stand in the order in which they were set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetBy {
    /// What was set.
    pub what: Narrowing,
    /// Who set it, and where.
    pub by: Rule,
}

/// What a policy asks for of whoever answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Narrowing {
    /// `req.require(…)`.
    Require(Constraint),
    /// `req.avoid(…)`.
    Avoid(Constraint),
    /// `req.cap_output(…)`.
    CapOutput(u64),
    /// `req.stop_on(…)`.
    StopOn(Vec<Arc<str>>),
    /// `req.redact(…)`: how many texts, never which.
    Redact(usize),
    /// `req.redact_output(…)`.
    RedactOutput(Censor),
}

/// A constraint that leaves a target out.
#[derive(Debug, Clone, Copy)]
pub struct Excluded<'a> {
    constraint: &'a Constraint,
    is_required: bool,
    set_by: &'a [SetBy],
}

impl Narrowing {
    /// As it would stand in a policy.
    pub fn shown(&self) -> String {
        match self {
            Self::Require(constraint) => format!("require({})", constraint.shown()),
            Self::Avoid(constraint) => format!("avoid({})", constraint.shown()),
            Self::CapOutput(most) => format!("cap_output({most})"),
            Self::StopOn(texts) => format!("stop_on({texts:?})"),
            Self::Redact(texts) => format!("redact({texts} texts)"),
            Self::RedactOutput(Censor { plugin: Some(plugin), kinds }) => {
                format!("redact_output(plugin({plugin:?}), {kinds:?})")
            }
            Self::RedactOutput(Censor { plugin: None, kinds }) => format!("redact_output({kinds:?})"),
        }
    }
}

impl Rule {
    /// Which rule, and where it stands: `10-route/long (10-route.rhai:7)`.
    pub fn located(&self) -> String {
        format!("{} ({})", self.shown(), self.place())
    }
}

impl Decision {
    /// The constraint that leaves a target out, if one does; `meets` says which ones apply to it.
    pub fn excludes(&self, meets: impl Fn(&Constraint) -> bool) -> Option<Excluded<'_>> {
        Excluded::among(&self.require, &self.avoid, &self.set_by, meets)
    }
}

impl<'a> Excluded<'a> {
    /// The first of these constraints that leaves a target out.
    pub fn among(
        require: &'a [Constraint],
        avoid: &'a [Constraint],
        set_by: &'a [SetBy],
        meets: impl Fn(&Constraint) -> bool,
    ) -> Option<Self> {
        let required = require.iter().find(|constraint| !meets(constraint)).map(|lacks| (lacks, true));
        let excluded = required.or_else(|| avoid.iter().find(|c| meets(c)).map(|has| (has, false)));
        excluded.map(|(constraint, is_required)| Self { constraint, is_required, set_by })
    }

    /// What is wrong with the target, without what its policies ask for: that is not the client's business.
    pub fn brief(&self) -> &'static str {
        if self.is_required { "does not meet a required constraint" } else { "has what a policy avoids" }
    }

    /// The whole reason: `has what a policy avoids: avoid("openai"), set by 10-a (10-a.rhai:3)`.
    pub fn reason(&self) -> String {
        let constraint = self.constraint.clone();
        let what = match self.is_required {
            true => Narrowing::Require(constraint),
            false => Narrowing::Avoid(constraint),
        };
        let setters = self.set_by.iter().filter(|set| set.what == what).map(|set| set.by.located());
        let setters: Vec<_> = setters.collect();
        let by = if setters.is_empty() { String::new() } else { format!(", set by {}", setters.join(", ")) };
        format!("{}: {}{by}", self.brief(), what.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Hook;

    #[test]
    fn what_leaves_a_target_out_is_told_with_everybody_who_set_it() {
        let (eu, openai) =
            (Constraint::Label("region".into(), "eu".into()), Constraint::Name("openai".into()));
        let by = |policy: &str, line| Rule {
            policy: policy.into(),
            hook: Hook::OnRequest,
            line: Some(line),
            file: None,
            name: None,
        };
        let set = |what, by| SetBy { what, by };
        let decision = Decision {
            require: vec![eu.clone(), eu.clone()],
            avoid: vec![openai.clone()],
            set_by: vec![
                set(Narrowing::Require(eu.clone()), by("10-a", 3)),
                set(Narrowing::Avoid(openai.clone()), by("10-a", 4)),
                set(Narrowing::Require(eu.clone()), by("20-b", 9)),
            ],
            ..Decision::default()
        };
        let reason = |meets: &dyn Fn(&Constraint) -> bool| decision.excludes(meets).map(|it| it.reason());
        assert_eq!(
            reason(&|constraint| *constraint != eu).as_deref(),
            Some(
                "does not meet a required constraint: require(#{ region: \"eu\" }), set by 10-a (10-a.rhai:3), 20-b (20-b.rhai:9)"
            )
        );
        assert_eq!(
            reason(&|_| true).as_deref(),
            Some("has what a policy avoids: avoid(\"openai\"), set by 10-a (10-a.rhai:4)")
        );
        assert_eq!(reason(&|constraint| *constraint == eu), None);
    }
}
