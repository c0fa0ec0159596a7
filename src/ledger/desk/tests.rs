//! The ledger over time: windows, clocks that jump, ends that are told twice or late, and rows for other ledgers.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use futures_util::FutureExt as _;
use rusqlite::Connection;

use super::*;
use crate::chat::{Billed, Tier, Usage};
use crate::fault::{Fault, FaultKind};
use crate::ledger::outbox;
use crate::ledger::row::SETTLE;
use crate::ledger::usage::{self, By, Question};
use crate::ledger::{AnyTier, BudgetSettings, Closing, Entry, Prices, Size, TABLES, When};
use crate::money::Nano;
use crate::plan::Role;
use crate::store::sqlite::Gathered as _;

/// A clock that the story sets.
struct Hands(AtomicU64);

/// Every target counts as estimated.
struct AsItIs;

impl crate::facts::market::Scale for AsItIs {
    fn likely(&self, _: &TargetName, rough: u64) -> u64 {
        rough
    }
    fn heard(&self, _: &TargetName, bytes: u64) -> u64 {
        bytes.div_ceil(4)
    }
}

impl Clock for Hands {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The end of a February, one second before midnight.
const EVE: u64 = 1_772_323_199_000;
const HOUR: u64 = 3_600_000;

struct Story {
    dir: tempfile::TempDir,
    hands: Arc<Hands>,
    desk: Arc<Desk>,
}

impl Story {
    /// So many tokens for each of these.
    fn spends(&self, rows: [Row; 3]) {
        let spent = self.desk.database().unwrap().write(move |db| {
            for (row, tokens) in rows.iter().zip([7, 20, 100]) {
                let usage = Usage { input: tokens, ..Usage::default() };
                settle(db, row, &End { usage, ..end(1) })?;
            }
            Ok(())
        });
        spent.wait().unwrap();
    }

    fn begin() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hands = Arc::new(Hands(AtomicU64::new(EVE)));
        let desk = open(dir.path(), &hands);
        Self { dir, hands, desk }
    }

    /// The process dies, and another one takes up its ledger.
    fn again(self) -> Self {
        let Self { dir, hands, desk } = self;
        desk.database().unwrap().close(Duration::from_secs(5));
        drop(desk);
        let desk = open(dir.path(), &hands);
        Self { dir, hands, desk }
    }

    fn at(&self, ms: u64) {
        self.hands.0.store(ms, Ordering::Relaxed);
    }

    fn attempt(&self) -> Entry {
        let opening = || Opening {
            request: "r".into(),
            payer: Payer { user: Some("anna".into()), model: "fast".into(), ..Payer::default() },
            size: Size { prompt: 10, prompt_most: 100, asked: Some(10), choices: 1, ..Size::default() },
            when: When { unix_ms: self.desk.now(), ..When::default() },
            any_tier: AnyTier::At(Vec::new()),
            book: Prices::new(self.hands.clone()).book(),
            snapshot: "s".into(),
            scale: Arc::new(AsItIs),
        };
        let tab = self.desk.tab(opening).unwrap();
        let target = TargetName { provider: "up".into(), model: "m".into() };
        // Nobody shares, so nobody is waited for.
        tab.open(&target, None, Role::Primary).now_or_never().unwrap().unwrap()
    }

    fn used(&self, budget: &str) -> u64 {
        let all = self.desk.budgets.standings(self.desk.now(), 10);
        all.iter().find(|standing| &*standing.name == budget).map_or(0, |standing| standing.used)
    }

    fn sums(&self, by: &str) -> Vec<(String, u64)> {
        let database = self.desk.database().unwrap();
        // What was handed over before is written before this.
        database.write(|_| Ok(())).wait().unwrap();
        let question = Question { until_ms: u64::MAX, by: By::list(by).unwrap(), ..Question::default() };
        let sums = database.read_now(|db| usage::sums(db, &question)).unwrap();
        sums.into_iter().map(|sum| (sum.of.join(","), sum.cost_nano.0)).collect()
    }
}

fn open(dir: &std::path::Path, hands: &Arc<Hands>) -> Arc<Desk> {
    let database = Sqlite::open(&dir.join("t.db"), &[TABLES], 1_000).unwrap();
    let clock: Arc<dyn Clock> = hands.clone();
    let desk = Desk::open(Some(database), None, &StateSettings::default(), clock).unwrap();
    let budgets = "[ { name: day, tokens: 100000, per: day }, { name: month, tokens: 100000, per: month } ]";
    let budgets: Vec<BudgetSettings> = serde_yaml::from_str(budgets).unwrap();
    let budgets = budgets.iter().map(|settings| settings.checked().unwrap()).collect();
    desk.configure(budgets, &Aliases::default(), HashMap::new);
    Arc::new(desk)
}

fn closing(tokens: u64, cost: u64) -> Closing {
    let usage = Usage { input: tokens, ..Usage::default() };
    Closing { usage: Some(usage), cost: Some(Nano(cost)), outcome: "ok", status: Some(200) }
}

#[test]
fn what_runs_over_midnight_counts_where_it_began_also_after_a_restart() {
    let story = Story::begin();
    let before = story.attempt();
    story.at(EVE + 2_000);
    let after = story.attempt();
    assert_eq!((story.used("day"), story.used("month")), (0, 0));
    before.settle(closing(40, 4));
    after.settle(closing(7, 1));
    assert_eq!((story.used("day"), story.used("month")), (7, 7), "a new day, and a new month");
    let days = [("2026-02-28".to_owned(), 4), ("2026-03-01".to_owned(), 1)];
    assert_eq!(story.sums("day"), days);
    assert_eq!(story.sums("month"), [("2026-02".to_owned(), 4), ("2026-03".to_owned(), 1)]);
    let story = story.again();
    assert_eq!((story.used("day"), story.used("month")), (7, 7));
    assert_eq!(story.sums("day"), days);
}

#[test]
fn a_clock_that_jumps_gives_nothing_twice_and_loses_nothing() {
    let story = Story::begin();
    story.attempt().settle(closing(30, 3));
    // Two days ahead, with an attempt under way.
    let open = story.attempt();
    story.at(EVE + 48 * HOUR);
    assert_eq!(story.used("day"), 0);
    story.attempt().settle(closing(5, 1));
    open.settle(closing(20, 2));
    assert_eq!(story.used("day"), 5);
    // And back again: the window that was left is not open anew.
    story.at(EVE);
    story.attempt().settle(closing(11, 1));
    assert_eq!(story.used("day"), 16, "it counts on in the later one");
    let all: u64 = story.sums("day").iter().map(|(_, cost)| cost).sum();
    assert_eq!(all, 7, "every attempt stands there once: {:?}", story.sums("day"));
}

#[test]
fn a_budget_that_comes_while_attempts_run_counts_all_that_they_cost_and_nothing_twice() {
    let story = Story::begin();
    let (running, held) = (story.attempt(), story.attempt());
    story.attempt().settle(closing(1_000, 1));
    story.at(EVE + 10);
    let budgets = |yaml: &str| {
        let budgets: Vec<BudgetSettings> = serde_yaml::from_str(yaml).unwrap();
        let budgets = budgets.iter().map(|settings| settings.checked().unwrap()).collect();
        story.desk.configure(budgets, &Aliases::default(), HashMap::new);
    };
    budgets("[ { name: day, tokens: 100000, per: day }, { name: new, tokens: 100000, per: day } ]");
    assert_eq!((story.used("day"), story.used("new")), (1_000, 1_000), "what had ended");
    story.at(EVE + 20);
    running.settle(closing(30, 3));
    let after = story.attempt();
    assert_eq!((story.used("day"), story.used("new")), (1_030, 1_030), "what ran when it came");
    // Another name, while one runs that neither knew and one that knows the first.
    budgets("[ { name: day, tokens: 100000, per: day }, { name: other, tokens: 100000, per: day } ]");
    held.settle(closing(5, 1));
    after.settle(closing(200, 2));
    story.attempt().settle(closing(10_000, 4));
    assert_eq!((story.used("day"), story.used("other")), (11_235, 11_235));
    // Of one that counts somebody else, nothing.
    let open = story.attempt();
    budgets(
        "[ { name: bob, tokens: 100000, per: day, for: { user: bob } }, { name: each, tokens: 9, per: total, hard: false, each: [user] } ]",
    );
    open.settle(closing(3, 1));
    assert_eq!((story.used("bob"), story.used("each")), (0, 11_238));
}

/// One row and its end, straight into the database, in any order.
fn row(id: &str) -> Row {
    let heading = crate::ledger::row::Heading {
        request: "r".into(),
        endpoint: "chat",
        key: None,
        user: None,
        team: None,
        app: Some("shop".into()),
        tier: Tier::Flex,
        tags: "{}".into(),
        model: "fast".into(),
        snapshot: "s".into(),
        price_rev: 1,
        // Of a process before.
        run: 0,
    };
    Row {
        id: id.into(),
        heading: Arc::new(heading),
        n: 1,
        role: Role::Primary,
        provider: "up".into(),
        target: "up/m".into(),
        opened_ms: EVE,
        reserved: 9,
        estimate: Some(8),
        likely: (30, 12),
        sheet: AtomicI64::new(0),
    }
}

fn settle(db: &Connection, row: &Row, end: &End) -> rusqlite::Result<bool> {
    row.settle(&mut db.prepare_cached(SETTLE)?, end)
}

fn end(cost: u64) -> End {
    End {
        state: crate::ledger::State::Settled,
        outcome: "ok",
        status: Some(200),
        closed_ms: EVE + 1,
        usage: Usage::default(),
        cost: Some(Nano(cost)),
        saved: Nano(0),
    }
}

#[test]
fn ends_come_late_twice_or_before_their_beginning_and_count_once() {
    /// Everything that may be written of one attempt.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Intend,
        Settle(u64),
        /// The process dies, and another one closes what it left.
        Reap,
    }
    use Step::{Intend, Reap, Settle};
    /// The steps that stand in one list are made together.
    fn check(steps: &[&[Step]], expected: (&str, Option<u64>), noted: i64) {
        let story = Story::begin();
        let steps: Vec<Vec<Step>> = steps.iter().map(|steps| steps.to_vec()).collect();
        let said = format!("{steps:?}");
        let written = story.desk.database().unwrap().write(move |db| {
            let (row, mut intents) = (Arc::new(row("a")), Intents::new(true));
            for steps in &steps {
                if let [Reap] = steps[..] {
                    intents::close_abandoned(db, 1, true, 2)?;
                    continue;
                }
                let records = steps.iter().map(|step| match step {
                    Settle(cost) => Record::Ended(row.clone(), Box::new(end(*cost))),
                    Intend | Reap => Record::Intent(row.clone()),
                });
                let records: Vec<Record> = records.collect();
                let records: Vec<&Record> = records.iter().collect();
                intents.make(db, &records)?;
                intents.made(&records);
            }
            let found = db.query_row("SELECT state, cost FROM booked", [], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?))
            })?;
            let rows: i64 = db.query_row("SELECT count(*) FROM booked", [], |row| row.get(0))?;
            let waiting = db.query_row("SELECT count(*) FROM outbox", [], |row| row.get::<_, i64>(0))?;
            // One more thing is written, and what has ended stands on no sheet.
            intents.make(db, &[])?;
            let sheets = db.query_row("SELECT count(*) FROM intent", [], |row| row.get::<_, i64>(0))?;
            Ok((found, rows, waiting, sheets))
        });
        let ((state, cost), rows, waiting, sheets) = written.wait().unwrap();
        let cost = cost.and_then(|cost| u64::try_from(cost).ok());
        let open = i64::from(state == "open");
        let expected = (expected, 1, noted, open);
        assert_eq!(((state.as_str(), cost), rows, waiting, sheets), expected, "{said}");
    }
    check(&[&[Intend]], ("open", None), 0);
    check(&[&[Intend], &[Settle(5)]], ("settled", Some(5)), 1);
    check(&[&[Intend, Settle(5)]], ("settled", Some(5)), 1);
    check(&[&[Intend], &[Settle(5)], &[Settle(6)]], ("settled", Some(5)), 1);
    check(&[&[Intend], &[Settle(5), Settle(6)]], ("settled", Some(5)), 1);
    check(&[&[Settle(5)]], ("settled", Some(5)), 1);
    check(&[&[Intend], &[Reap], &[Settle(5)]], ("abandoned", Some(8)), 0);
    check(&[&[Intend], &[Settle(5)], &[Reap]], ("settled", Some(5)), 1);
}

#[test]
fn what_a_dead_process_left_counts_the_tokens_that_it_was_estimated_at() {
    for (charge, expected) in [(true, (30, 12)), (false, (0, 0))] {
        let story = Story::begin();
        let closed = story.desk.database().unwrap().write(move |db| {
            Intents::new(false).make(db, &[&Record::Intent(Arc::new(row("a")))])?;
            intents::close_abandoned(db, 1, charge, 2)?;
            let tokens = "SELECT input, output FROM attempt WHERE state = 'abandoned'";
            db.query_row(tokens, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        });
        assert_eq!(closed.wait().unwrap(), expected, "charged: {charge}");
    }
    let story = Story::begin();
    let begun = |db: &Connection| Intents::new(false).make(db, &[&Record::Intent(Arc::new(row("a")))]);
    story.desk.database().unwrap().write(begun).wait().unwrap();
    assert_eq!(story.used("day"), 0);
    assert_eq!(story.again().used("day"), 42, "budgets count them after the restart");
}

#[test]
fn a_budget_for_a_key_by_its_name_counts_what_that_key_spent_before() {
    let story = Story::begin();
    let attempt = |id: &str, key: &str| {
        let mut row = row(id);
        let heading = Arc::get_mut(&mut row.heading).unwrap();
        heading.key = Some(key.into());
        row
    };
    let rows = [attempt("a", "k1"), attempt("b", "k2"), attempt("c", "jwt:ann")];
    story.spends(rows);
    let budgets = "[ { name: ci, tokens: 1000, per: day, for: { key: ci } },
        { name: id, tokens: 1000, per: day, for: { key: k2 } },
        { name: tokens, tokens: 1000, per: day, for: { key: jwt } } ]";
    let budgets: Vec<BudgetSettings> = serde_yaml::from_str(budgets).unwrap();
    let budgets = budgets.iter().map(|settings| settings.checked().unwrap()).collect();
    let named = |name: &str| PayerKey { name: name.into(), budgets: Vec::new() };
    let keys = || HashMap::from([("k1".into(), named("ci")), ("k2".into(), named("nightly"))]);
    story.desk.configure(budgets, &Aliases::default(), keys);
    assert_eq!(["ci", "id", "tokens"].map(|budget| story.used(budget)), [7, 20, 100]);
}

#[test]
fn a_new_budget_for_an_alias_counts_its_versions_and_no_other_alias() {
    let story = Story::begin();
    let attempt = |id: &str, model: &str| {
        let mut row = row(id);
        Arc::get_mut(&mut row.heading).unwrap().model = model.into();
        row
    };
    let rows = [attempt("a", "gpt"), attempt("b", "gpt@eu"), attempt("c", "team/fast@2")];
    story.spends(rows);
    let budgets = "[ { name: gpt, tokens: 1000, per: day, for: { model: gpt } },
        { name: eu, tokens: 1000, per: day, for: { model: 'gpt@eu' } },
        { name: fast, tokens: 1000, per: day, for: { model: team/fast } } ]";
    let budgets: Vec<BudgetSettings> = serde_yaml::from_str(budgets).unwrap();
    let budgets = budgets.iter().map(|settings| settings.checked().unwrap()).collect();
    let mut aliases = Aliases::default();
    for (name, versions) in [("gpt", false), ("gpt@eu", false), ("team/fast", true)] {
        aliases.add(&name.into(), versions);
    }
    story.desk.configure(budgets, &aliases, HashMap::new);
    assert_eq!(["gpt", "eu", "fast"].map(|budget| story.used(budget)), [7, 20, 100]);
}

#[test]
fn a_sheet_stays_until_the_last_of_its_attempts_has_ended() {
    let story = Story::begin();
    let written = story.desk.database().unwrap().write(|db| {
        let rows = ["a", "b", "c"].map(|id| Arc::new(row(id)));
        let mut intents = Intents::new(false);
        let mut write = |records: &[Record]| {
            let records: Vec<&Record> = records.iter().collect();
            intents.make(db, &records)?;
            intents.made(&records);
            let count = |what: &str| db.query_row(what, [], |row| row.get::<_, i64>(0));
            Ok::<_, rusqlite::Error>((
                count("SELECT count(*) FROM intent")?,
                count("SELECT count(*) FROM booked WHERE state = 'open'")?,
                count("SELECT count(*) FROM attempt")?,
            ))
        };
        let begun = |at: usize| Record::Intent(rows[at].clone());
        let ended = |at: usize| Record::Ended(rows[at].clone(), Box::new(end(1)));
        Ok([
            write(&[begun(0), begun(1)])?,
            write(&[ended(0)])?,
            // What stands beside an attempt that is under way stays a row.
            (0, 0, retention::roll_up(db, i64::MAX)?.map_or(0, |gone| gone as i64)),
            write(&[begun(2)])?,
            write(&[ended(1)])?,
            write(&[])?,
            write(&[ended(2)])?,
            write(&[])?,
        ])
    });
    let seen = written.wait().unwrap();
    let expected = [(1, 2, 0), (1, 1, 1), (0, 0, 0), (2, 2, 1), (2, 1, 2), (1, 1, 2), (1, 0, 3), (0, 0, 3)];
    assert_eq!(seen, expected);
}

#[test]
fn single_attempts_come_in_the_order_of_their_beginning_whether_they_have_ended_or_not() {
    let story = Story::begin();
    let mut under_way = Vec::new();
    for n in 0..6 {
        story.at(EVE + n);
        let entry = story.attempt();
        if n % 3 == 1 {
            under_way.push(entry);
        } else {
            entry.settle(closing(1, n));
        }
    }
    let database = story.desk.database().unwrap();
    database.write(|_| Ok(())).wait().unwrap();
    let question = Question { until_ms: u64::MAX, ..Question::default() };
    let seen = |most| {
        let mut seen = Vec::new();
        let look = |db: &Connection| {
            usage::attempts(db, &question, most, |names, row| {
                assert_eq!(names[usage::OPENED], "opened_ms");
                seen.push((row[usage::OPENED].as_u64().unwrap() - EVE, row[4].as_str() == Some("open")));
            })
        };
        let count = database.read_now(look).unwrap();
        assert_eq!(count, seen.len());
        seen
    };
    let all: Vec<_> = (0..6).map(|n| (n, n % 3 == 1)).collect();
    for most in [0, 1, 2, 4, 5, 6, 100] {
        assert_eq!(seen(most), all[..most.min(6)], "at most {most}");
    }
    drop(under_way);
}

#[test]
fn a_long_list_of_attempts_is_read_as_it_stands_without_sorting_it() {
    let story = Story::begin();
    let question = Question { until_ms: u64::MAX, ..Question::default() };
    let plan = |open| {
        let statement = usage::Statement::own_attempts(&question, 10, open);
        let explain = |db: &Connection| {
            let mut steps = db.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.sql))?;
            let steps = steps.query_map((0, i64::MAX, 10), |row| row.get::<_, String>(3))?;
            steps.collect::<rusqlite::Result<Vec<_>>>()
        };
        story.desk.database().unwrap().read_now(explain).unwrap().join("\n")
    };
    assert!(
        plan(false).contains("attempt_opened") && !plan(false).contains("TEMP B-TREE"),
        "{}",
        plan(false)
    );
    assert!(plan(true).contains("TEMP B-TREE"), "the few of both kinds are: {}", plan(true));
}

#[test]
fn rows_wait_in_the_order_of_their_ends_until_they_are_struck_off() {
    let story = Story::begin();
    let database = story.desk.database().unwrap();
    let parcel = database
        .write(|db| {
            for id in ["c", "a", "b"] {
                settle(db, &row(id), &end(1))?;
                outbox::note(db, id)?;
                outbox::note(db, id)?;
            }
            assert_eq!(outbox::count(db)?, outbox::Count { waiting: 3, oldest_ms: Some(EVE + 1) });
            assert_eq!(retention::roll_up(db, i64::MAX)?, None, "what waits stays a row");
            outbox::parcel(db, 2)
        })
        .wait()
        .unwrap();
    let ids: Vec<_> = parcel.rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, ["c", "a"]);
    let left = database
        .write(move |db| {
            outbox::strike(db, parcel.last)?;
            assert_eq!(retention::roll_up(db, i64::MAX)?, Some(2));
            outbox::count(db)
        })
        .wait()
        .unwrap();
    assert_eq!(left.waiting, 1);
}

#[test]
fn another_ledger_gets_everything_that_is_still_there() {
    let story = Story::begin();
    let noted = story.desk.database().unwrap().write(|db| {
        for id in ["a", "b", "c", "d"] {
            settle(db, &row(id), &end(1))?;
        }
        Intents::new(true).make(db, &[&Record::Intent(Arc::new(row("e")))])?;
        outbox::note(db, "c")?;
        let mut after = String::new();
        while let Some(last) = outbox::refill(db, &after, 0, "there", 3)? {
            after = last;
        }
        assert_eq!(outbox::destination(db)?.as_deref(), Some("there"));
        outbox::count(db)
    });
    assert_eq!(noted.wait().unwrap().waiting, 4, "each once, and none that is open");
}

#[test]
fn every_class_the_app_and_the_tier_stand_in_the_row_and_later_in_the_sum_of_its_day() {
    let story = Story::begin();
    let usage = Usage {
        input: 100,
        cached_read: 90,
        cached_audio: 9,
        cached_image: 8,
        cache_write: 70,
        cache_write_long: 60,
        output: 50,
        reasoning: 4,
        input_audio: 11,
        input_image: 12,
        output_audio: 13,
        output_image: 14,
        searches: 3,
        billed: Some(Billed { input: 21, output: 22 }),
        tier: Some(Tier::Priority),
        ..Usage::default()
    };
    let asked = |by: &str| {
        let question = Question { until_ms: u64::MAX, by: By::list(by).unwrap(), ..Question::default() };
        let sums = story.desk.database().unwrap().read_now(|db| usage::sums(db, &question)).unwrap();
        sums.into_iter().map(|sum| (sum.of.join(","), sum.numbers())).collect::<Vec<_>>()
    };
    let written = story.desk.database().unwrap().write(move |db| {
        settle(db, &row("a"), &End { usage, ..end(7) })?;
        // Nobody says which service it was, so it is the one that was asked for.
        settle(db, &row("b"), &end(1))?;
        let mut nobody = row("c");
        let heading = Arc::get_mut(&mut nobody.heading).unwrap();
        (heading.app, heading.tier) = (None, Tier::Standard);
        settle(db, &nobody, &end(0))
    });
    written.wait().unwrap();
    let before = asked("app,tier");
    let of: Vec<&str> = before.iter().map(|(of, _)| &**of).collect();
    assert_eq!(of, ["shop,priority", "shop,flex", ",standard"]);
    let expected =
        [1, 0, 1, 0, 0, 0, 7, 0, 0, 100, 90, 70, 50, 4, 0, 0, 0, 9, 8, 60, 11, 12, 13, 14, 3, 21, 22]
            .map(|n: u64| n);
    assert_eq!(before[0].1, expected);
    let parcel = story.desk.database().unwrap().write(|db| {
        outbox::note(db, "a")?;
        let parcel = outbox::parcel(db, 1)?;
        outbox::strike(db, parcel.last)?;
        while retention::roll_up(db, i64::MAX)?.is_some() {}
        db.query_row("SELECT count(*) FROM attempt", [], |row| row.get::<_, i64>(0))
            .map(|left| (parcel, left))
    });
    let (parcel, left) = parcel.wait().unwrap();
    let sent = &parcel.rows[0];
    assert_eq!(
        (&sent["app"], &sent["tier"], &sent["output_image"]),
        (&"shop".into(), &"priority".into(), &14.into())
    );
    assert_eq!(left, 0);
    assert_eq!(asked("app,tier"), before, "a sum of its day says the same");
}

#[test]
fn an_attempt_that_was_refused_says_the_tier_in_which_it_went_out() {
    let story = Story::begin();
    let mut entry = story.attempt();
    entry.served_in(Tier::Flex);
    entry.fail(&Fault::new(FaultKind::RateLimited, "not now"));
    assert_eq!(story.sums("state,tier"), [("free,flex".to_owned(), 0)]);
}

#[test]
fn an_attempt_under_way_says_its_app_and_the_tier_that_was_asked_for() {
    let story = Story::begin();
    let begun = |db: &Connection| Intents::new(false).make(db, &[&Record::Intent(Arc::new(row("a")))]);
    story.desk.database().unwrap().write(begun).wait().unwrap();
    assert_eq!(story.sums("state,app,tier"), [("open,shop,flex".to_owned(), 0)]);
    let story = story.again();
    assert_eq!(story.sums("state,app,tier"), [("abandoned,shop,flex".to_owned(), 8)]);
}

#[test]
fn what_was_held_for_something_without_a_known_price_is_charged_to_budgets_that_begin_later() {
    let story = Story::begin();
    let spent = story.desk.database().unwrap().write(|db| {
        use crate::ledger::State;
        let unknown = |state| End { cost: None, state, ..end(0) };
        settle(db, &row("a"), &unknown(State::Estimated))?;
        settle(db, &row("b"), &unknown(State::Abandoned))?;
        settle(db, &row("c"), &end(7))?;
        settle(db, &Row { reserved: 0, ..row("d") }, &unknown(State::Settled))
    });
    spent.wait().unwrap();
    let check = |names: [&str; 2]| {
        let [strict, free] = names;
        let budgets = format!(
            "[ {{ name: {strict}, dollars: 1, per: total }},
               {{ name: {free}, dollars: 1, per: total, unpriced: free }} ]"
        );
        let budgets: Vec<BudgetSettings> = serde_yaml::from_str(&budgets).unwrap();
        let budgets = budgets.iter().map(|settings| settings.checked().unwrap()).collect();
        story.desk.configure(budgets, &Aliases::default(), HashMap::new);
        assert_eq!(names.map(|budget| story.used(budget)), [9 + 7, 7]);
    };
    check(["strict", "free"]);
    // Sums of days do not tell it, so it stays a row, and is counted once.
    let rolled = story.desk.database().unwrap().write(|db| {
        while retention::roll_up(db, i64::MAX)?.is_some() {}
        db.query_row("SELECT group_concat(id) FROM attempt", [], |row| row.get::<_, String>(0))
    });
    assert_eq!(rolled.wait().unwrap(), "a");
    check(["strict2", "free2"]);
}

#[test]
fn an_estimate_is_never_more_than_was_held_whoever_gets_the_answer() {
    let story = Story::begin();
    let much = Usage { input: 1_000, output: 1_000, estimated: true, ..Usage::default() };
    story.attempt().used(Some(much), 200);
    assert_eq!(story.used("day"), 110, "one of several");
    story.attempt().withhold(much, &crate::fault::Fault::new(crate::fault::FaultKind::Rejected, "no"));
    assert_eq!(story.used("day"), 220, "withheld");
    story.attempt().used(Some(Usage { estimated: false, ..much }), 200);
    assert_eq!(story.used("day"), 2_220, "what a provider counted is booked as it says");
}
