//! Several targets answer, and one answer is made of theirs: by vote, by a judge who chooses, or by one who merges.
//!
//! Every answer is noted in the journal with its own usage, so that each is paid for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::course::{Course, Onward, Step};
use super::race::{Running, wait};
use super::said::{normal, said};
use super::{Answered, Carry, Executor, Job};
use crate::chat::{Message, Request, Role as Speaker};
use crate::fault::{Fault, FaultKind};
use crate::ledger::Size;
use crate::plan::{By, Manner, Role, Together};
use crate::providers::{Outgoing, Relayed, StreamRelay, Target};

/// Bytes of the question, and of each answer, that a judge is shown.
const MOST_SHOWN: usize = 60 << 10;

/// What templates add to the two messages of a case, in tokens at most.
const TEMPLATE: u64 = 96;

/// Who judges the answers of several.
pub struct Judge {
    /// Where it is asked.
    pub target: Target,
    /// What the client asked.
    pub question: Arc<str>,
}

/// One answer.
struct Member {
    relayed: Relayed,
    target: Target,
    said: Option<String>,
}

impl Executor {
    /// The ensemble that a job wants. A stream has none: its first target that answers is heard at once.
    pub(super) fn ensemble_of<'j>(&self, job: &Job, manner: &'j Manner) -> Option<&'j Together> {
        let together = manner.together.as_ref().filter(|together| together.by != By::Race)?;
        if job.carry.wants_stream() || !job.is_repeatable() {
            return None;
        }
        (job.targets.len() > 1).then_some(together)
    }

    /// Asks several targets at once, and makes one answer of theirs. Those that fail are left out; if all do, the others
    /// of the plan follow one by one.
    pub(super) async fn ensemble(&self, job: &Job, together: &Together) -> Result<Answered, Fault> {
        let mut course = Course::new(job, self);
        let mut running = Running::default();
        for turn in (0..together.of).map_while(|_| course.another()).collect::<Vec<_>>() {
            running.begin(self, job, turn, Role::Ensemble, None);
        }
        let (mut members, mut end, mut pause) = (Vec::<Member>::new(), None, Duration::ZERO);
        loop {
            while !running.is_empty() {
                let (turn, result) = running.next().await;
                match result {
                    Ok(Answered::Whole(relayed, target)) => {
                        let said = said(&relayed.body);
                        members.push(Member { relayed, target, said });
                    }
                    Ok(other) => return Ok(other),
                    Err(fault) => match course.failed(turn, fault).await {
                        Onward::End(fault) => drop(end.get_or_insert(fault)),
                        Onward::Step(wanted) => pause = wanted,
                    },
                }
                if together.by == By::Vote
                    && let Some(elected) = elected(&mut members, together.of / 2 + 1)
                {
                    return Ok(elected);
                }
            }
            if !members.is_empty() {
                break;
            }
            if let Some(end) = end.take() {
                return Err(course.ended(end));
            }
            wait(job, std::mem::take(&mut pause)).await;
            match course.step() {
                Step::Turn(turn) => running.begin(self, job, turn, Role::Retry, None),
                Step::Wait(place) => {
                    if let Some(turn) = Box::pin(course.wait(place)).await {
                        running.begin(self, job, turn, Role::Retry, None);
                    }
                }
                Step::Over => return Err(course.verdict()),
            }
        }
        // In the order of the plan, so that the first named wins a tie.
        let place = |member: &Member| job.targets.iter().position(|target| target.name == member.target.name);
        members.sort_by_key(place);
        match together.by {
            By::Best if members.len() > 1 => self.best(job, members).await,
            By::Merge if members.len() > 1 => self.merged(job, members).await,
            _ => {
                elected(&mut members, 0).ok_or_else(|| Fault::new(FaultKind::Internal, "nobody was elected"))
            }
        }
    }

    /// The answer that the judge chooses; the first one where it chooses none.
    async fn best(&self, job: &Job, mut members: Vec<Member>) -> Result<Answered, Fault> {
        let task = "Several assistants answered the question below. Choose the best answer: correct first, then complete, \
                    then clear. Reply with the number of the best answer and nothing else.";
        let chosen = match self.ask_judge(job, &members, task, None).await {
            Some(Answered::Whole(relayed, _)) => {
                let digits: String = String::from_utf8_lossy(&relayed.body)
                    .chars()
                    .skip_while(|c| !c.is_ascii_digit())
                    .take_while(char::is_ascii_digit)
                    .collect();
                digits.parse::<usize>().ok().and_then(|number| number.checked_sub(1))
            }
            _ => None,
        };
        let chosen = chosen.filter(|place| *place < members.len()).unwrap_or(0);
        let Member { relayed, target, .. } = members.swap_remove(chosen);
        Ok(Answered::Whole(relayed, target))
    }

    /// The answer that the judge makes of all; the first one where it makes none.
    async fn merged(&self, job: &Job, mut members: Vec<Member>) -> Result<Answered, Fault> {
        let task = "Several assistants answered the question below. Write the one best answer to the question: keep what \
                    is right, leave out what is wrong or said twice. Do not mention the assistants. Reply with the answer only.";
        match self.ask_judge(job, &members, task, Some(job.carry.clone())).await {
            Some(answered) => Ok(answered),
            None => {
                let Member { relayed, target, .. } = members.swap_remove(0);
                Ok(Answered::Whole(relayed, target))
            }
        }
    }

    async fn ask_judge(
        &self,
        job: &Job,
        members: &[Member],
        task: &str,
        aloud: Option<Arc<dyn Carry>>,
    ) -> Option<Answered> {
        let judge = job.judge.as_ref()?;
        let mut text = format!("Question:\n{}\n", shown(&judge.question));
        for (place, member) in members.iter().enumerate() {
            let said = member.said.as_deref().unwrap_or("(no text)");
            text.push_str(&format!("\nAnswer {}:\n{}\n", place + 1, shown(said)));
        }
        let bytes = (task.len() + text.len()) as u64;
        let messages = vec![Message::plain(Speaker::System, task), Message::plain(Speaker::User, text)];
        let request = Request { model: judge.target.name.model.to_string(), messages, ..Request::default() };
        let case = Job {
            targets: vec![judge.target.clone()],
            retries: Some(0),
            first_token: job.first_token,
            manner: None,
            judge: None,
            carry: Arc::new(Case { request, size: case_of(bytes), aloud }),
            journal: job.journal.clone(),
            advice: None,
            exposed: job.exposed.clone(),
            strict: false,
            limits: job.limits,
            deadline: job.deadline,
            tab: job.tab.clone(),
            tiered: job.tiered,
            tokens: job.tokens,
            tenant: job.tenant,
            bond: job.bond,
            market: None,
        };
        let answered = match Course::new(&case, self).step() {
            Step::Turn(mut turn) => self.attempt(&case, &mut turn, Role::Ensemble, None).await,
            Step::Wait(_) | Step::Over => {
                Err(Fault::new(FaultKind::Unavailable, "the judge is out of service"))
            }
        };
        match answered {
            Ok(answered) => Some(answered),
            Err(fault) => {
                tracing::warn!(judge = %judge.target.name, %fault, "no judgement: the first answer counts");
                None
            }
        }
    }
}

/// The answer with the most votes, if it has so many; of several, the one whose first vote came first. What says nothing
/// in words (a call of a tool) agrees with nobody.
fn elected(members: &mut Vec<Member>, votes: usize) -> Option<Answered> {
    let ballots: Vec<Option<String>> =
        members.iter().map(|member| member.said.as_deref().map(normal)).collect();
    let count = |place: usize| match ballots.get(place) {
        Some(Some(ballot)) => ballots.iter().filter(|other| other.as_ref() == Some(ballot)).count(),
        _ => 1,
    };
    let most = (0..members.len()).rev().max_by_key(|place| count(*place))?;
    if count(most) < votes {
        return None;
    }
    let Member { relayed, target, .. } = members.swap_remove(most);
    Some(Answered::Whole(relayed, target))
}

fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MOST_SHOWN)).unwrap_or(text)
}

/// How large the case of a judge is, whose words have so many bytes: it has the answers in it, and no limit of the client's.
fn case_of(bytes: u64) -> Size {
    Size {
        prompt: bytes.div_ceil(4),
        prompt_most: bytes.saturating_add(TEMPLATE),
        choices: 1,
        ..Size::default()
    }
}

/// A judge's case: a request of our own. The verdict is its text, or an answer for the client.
struct Case {
    request: Request,
    size: Size,
    /// Says the judge's answer to the client.
    aloud: Option<Arc<dyn Carry>>,
}

impl Carry for Case {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        target.wire().encode(&self.request, &target.name)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        if let Some(aloud) = &self.aloud {
            return aloud.whole(target, body);
        }
        let answer = target.wire().decode(&body)?;
        let usage = answer.usage;
        let parts = answer.choices.into_iter().next().map(|choice| choice.content).unwrap_or_default();
        let texts = parts.into_iter().filter_map(|part| match part {
            crate::chat::Part::Text { text, .. } => Some(text.into_string()),
            _ => None,
        });
        let body = texts.collect::<String>().into();
        Ok(Relayed { body, usage, finish: None, lost: Vec::new() })
    }

    fn counted(&self) -> Option<Request> {
        Some(self.request.clone())
    }

    fn size(&self) -> Option<Size> {
        Some(self.size)
    }

    fn wants_stream(&self) -> bool {
        false
    }

    fn stream(&self, _: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Err(Fault::new(FaultKind::Internal, "a judge does not stream"))
    }
}
