//! Stories of the trial: who gets the candidate, and when it loses its share.

use std::time::Duration;

use super::*;
use crate::policy::settings::RollBackSettings;
use crate::settings::{Percent, Period};

const GOOD: End = End { failed: false, cost: Some(0.001) };
const BAD: End = End { failed: true, cost: Some(0.001) };
const DEAR: End = End { failed: false, cost: Some(0.0013) };

fn settings(share: f64) -> CandidateSettings {
    let roll_back = RollBackSettings { min_requests: 100, window: Period::secs(60), ..Default::default() };
    CandidateSettings { share: Percent(share), roll_back, ..CandidateSettings::default() }
}

fn rollout(share: f64) -> Rollout {
    let rollout = Rollout::default();
    rollout.configure(Some((&"c1".into(), &settings(share))), None, Instant::now());
    rollout
}

/// So many requests of both arms; the reason for which the candidate lost its share.
fn run(rollout: &Rollout, live: &[(usize, End)], candidate: &[(usize, End)]) -> Option<Halted> {
    let mut halted = None;
    for (arm, ends) in [(Arm::Live, live), (Arm::Candidate, candidate)] {
        for (count, end) in ends {
            for _ in 0..*count {
                halted = rollout.ended(arm, *end, Instant::now(), 7).or(halted);
            }
        }
    }
    halted
}

fn user(n: usize) -> Caller {
    Caller { user: Some(format!("user-{n}").into()), ..Caller::default() }
}

#[tokio::test(start_paused = true)]
async fn callers_stay_with_their_arm_while_the_share_grows() {
    let rollout = rollout(5.0);
    let chosen = |rollout: &Rollout| -> Vec<usize> {
        (0..10_000).filter(|n| rollout.arm_of(&user(*n), "r") == Some(Arm::Candidate)).collect()
    };
    let few = chosen(&rollout);
    assert!((400..600).contains(&few.len()), "{}", few.len());
    assert_eq!(few, chosen(&rollout), "the same every time");
    rollout.promote(50.0, None, Instant::now()).unwrap();
    let many = chosen(&rollout);
    assert!((4_700..5_300).contains(&many.len()) && few.iter().all(|n| many.contains(n)), "{}", many.len());
    assert!(rollout.promote(101.0, None, Instant::now()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_does_worse_loses_its_share_and_does_not_get_it_back_by_itself() {
    for (live, candidate, kind) in [
        (&[(1_000, GOOD)][..], &[(97, GOOD), (3, BAD)][..], Some("error_rate")),
        (&[(1_000, GOOD)], &[(98, GOOD), (2, BAD)], None),
        (&[(950, GOOD), (50, BAD)], &[(94, GOOD), (6, BAD)], None),
        (&[(1_000, GOOD)], &[(99, BAD)], None),
        (&[(1_000, GOOD)], &[(100, DEAR)], Some("cost")),
        (&[(3, GOOD)], &[(100, DEAR)], None),
        (&[], &[(90, GOOD), (10, BAD)], Some("error_rate")),
    ] {
        let rollout = rollout(10.0);
        let halted = run(&rollout, live, candidate);
        assert_eq!(halted.as_ref().map(|halted| &*halted.kind), kind, "{live:?} {candidate:?}");
        let share = rollout.standing(Instant::now()).unwrap().share_percent;
        assert_eq!(share, if kind.is_some() { 0.0 } else { 10.0 });
        if kind.is_some() {
            assert_eq!(rollout.arm_of(&user(1), "r"), None);
            assert_eq!(run(&rollout, &[], &[(500, BAD)]), None, "it is told once");
            rollout.configure(Some((&"c1".into(), &settings(10.0))), None, Instant::now());
            assert_eq!(rollout.arm_of(&user(1), "r"), None, "the same files again change nothing");
            rollout.configure(Some((&"c2".into(), &settings(10.0))), halted, Instant::now());
            assert!(rollout.arm_of(&user(1), "r").is_some(), "another candidate is tried");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_window_does_not_count() {
    let rollout = rollout(10.0);
    assert_eq!(run(&rollout, &[(1_000, GOOD)], &[(50, GOOD), (40, BAD)]), None);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(run(&rollout, &[(1_000, GOOD)], &[(200, GOOD)]), None);
    let standing = rollout.standing(Instant::now()).unwrap();
    assert_eq!((standing.candidate.requests, standing.candidate.failed), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn operators_give_and_take_a_share_and_a_restart_remembers() {
    let rollout = rollout(0.0);
    assert_eq!(rollout.arm_of(&user(1), "r"), None);
    rollout.promote(100.0, Some(Sticky::Request), Instant::now()).unwrap();
    assert_eq!(rollout.arm_of(&user(1), "r"), Some(Arm::Candidate));
    // The configuration is read again for some other reason.
    rollout.configure(Some((&"c1".into(), &settings(0.0))), None, Instant::now());
    let standing = rollout.standing(Instant::now()).unwrap();
    assert_eq!(
        (standing.share_percent, standing.set_by, standing.sticky),
        (100.0, "operator", Sticky::Request)
    );
    let halted = rollout.withdraw(9).expect("it had a share");
    assert_eq!((&*halted.kind, halted.share), ("admin", 100.0));
    assert!(rollout.withdraw(9).is_none());
    let later = Rollout::default();
    later.configure(Some((&"c1".into(), &settings(10.0))), Some(halted), Instant::now());
    assert_eq!(later.arm_of(&user(1), "r"), None, "what lost its share before the restart has none after it");
    later.configure(None, None, Instant::now());
    assert!(later.standing(Instant::now()).is_none() && later.promote(5.0, None, Instant::now()).is_err());
}
