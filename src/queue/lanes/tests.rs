//! Lanes on paused time: whoever waits, leaves or is refused, every place comes back.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::task::JoinSet;

use super::super::{Berth, Refused, Ticket};
use super::*;
use crate::caller::Tenant;
use crate::clock::Dice;
use crate::target::Adaptive;

const LINE: QueueSettings =
    QueueSettings { size: 512, max_wait: crate::settings::Period(Duration::from_secs(60)) };

fn lane(max: u32) -> Arc<Lane> {
    let lanes = Lanes::default();
    let rules = ConcurrencyRules { max: Some(max), adaptive: Adaptive::Off, ..ConcurrencyRules::default() };
    lanes.configure(LaneTerms { providers: [("p".into(), rules)].into(), ..LaneTerms::default() });
    lanes.of(&TargetName::parse("p/m").unwrap(), || true)
}

fn join(lane: &Arc<Lane>, tenant: u64, seconds: u64) -> Result<Ticket, Refused> {
    let until = Instant::now() + Duration::from_secs(seconds);
    lane.join(Tenant::numbered(tenant), Duration::ZERO, until, LINE)
}

/// A place, if need be after a wait of at most so many seconds.
async fn place(lane: &Arc<Lane>, tenant: u64, seconds: u64) -> Option<Berth> {
    if let Some(berth) = lane.enter() {
        return Some(berth);
    }
    let ticket = join(lane, tenant, seconds).ok()?;
    let waited = async {
        ticket.turn().await.ok()?;
        loop {
            if let Some(berth) = ticket.enter() {
                return Some(berth);
            }
            ticket.changed(Duration::from_secs(3_600)).await;
        }
    };
    let berth = tokio::time::timeout(Duration::from_secs(seconds), waited).await.ok()??;
    ticket.served();
    Some(berth)
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nobody_waits_and_everybody_is_counted() {
    let lanes = Lanes::default();
    let lane = lanes.of(&TargetName::parse("p/m").unwrap(), || true);
    let berths: Vec<_> = (0..10_000).map(|_| lane.enter().unwrap()).collect();
    assert_eq!((lane.look().in_flight, lane.look().limit), (10_000, None));
    drop(berths);
    assert_eq!((lane.look().in_flight, lane.look().waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_tenant_costs_another_one_turn() {
    let lane = lane(2);
    let mut flood = JoinSet::new();
    for _ in 0..40 {
        let lane = lane.clone();
        flood.spawn(async move {
            let berth = place(&lane, 1, 600).await.unwrap();
            seconds(1).await;
            drop(berth);
        });
    }
    seconds(2).await;
    let began = Instant::now();
    let quiet = place(&lane, 2, 600).await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    drop(quiet);
    flood.join_all().await;
    assert!(began.elapsed() <= Duration::from_secs(19), "no place stays empty: {:?}", began.elapsed());
    assert_eq!((lane.look().in_flight, lane.look().waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_could_not_go_in_time_is_refused_at_once() {
    let lane = lane(1);
    for _ in 0..3 {
        let berth = place(&lane, 1, 60).await;
        seconds(10).await;
        drop(berth);
    }
    let berth = lane.enter().unwrap();
    let refused = join(&lane, 1, 5).err().unwrap();
    assert_eq!((refused.full, refused.wait), (false, Duration::from_secs(10)));
    let second = join(&lane, 1, 15).unwrap();
    assert!(join(&lane, 1, 15).is_err(), "two before him take twenty seconds");
    let rested = lane.join(
        Tenant::numbered(9),
        Duration::from_secs(40),
        Instant::now() + Duration::from_secs(30),
        LINE,
    );
    assert_eq!(rested.err().unwrap().wait, Duration::from_secs(40), "what is known to rest so long");
    drop((second, berth));
    assert_eq!((lane.look().in_flight, lane.look().waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_line_takes_those_who_have_less_in_it() {
    let lane = lane(1);
    let _berth = lane.enter().unwrap();
    let short = QueueSettings { size: 3, ..LINE };
    let until = Instant::now() + Duration::from_secs(60);
    let join = |tenant| lane.join(Tenant::numbered(tenant), Duration::ZERO, until, short);
    // The first has its turn and stands in no line.
    let tickets: Vec<_> = (0..4).map(|_| join(1).unwrap()).collect();
    assert!(join(1).err().unwrap().full);
    let quiet = join(2).unwrap();
    assert!(tickets[3].turn().await.is_err(), "the newest of who has most");
    assert!(join(1).err().unwrap().full);
    drop(tickets);
    quiet.turn().await.unwrap();
    let none = QueueSettings { size: 0, ..LINE };
    assert!(lane.join(Tenant::numbered(3), Duration::ZERO, until, none).err().unwrap().full);
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_goes_or_leaves_no_place_is_lost_and_none_is_given_twice() {
    for seed in 0..60 {
        let (dice, pauses) = (Arc::new(Dice::loaded(seed)), Dice::loaded(seed + 1_000));
        let roll = |dice: &Dice, most: f64| (dice.unit() * most) as u64;
        let most = 1 + u32::try_from(roll(&dice, 8.0)).unwrap();
        let (lane, there) = (lane(most), Arc::new(AtomicU32::new(0)));
        let mut all = JoinSet::new();
        for _ in 0..300 {
            let (lane, there, dice) = (lane.clone(), there.clone(), dice.clone());
            let tenant = roll(&dice, 4.0);
            all.spawn(async move {
                let patience = Duration::from_millis(roll(&dice, 40_000.0));
                let served = tokio::time::timeout(patience, async {
                    let Some(berth) = place(&lane, tenant, 30).await else { return };
                    if dice.unit() < 0.1 {
                        return berth.put_back();
                    }
                    let now = there.fetch_add(1, Ordering::SeqCst) + 1;
                    let left = Left(there);
                    assert!(now <= most, "seed {seed}: {now} of {most}");
                    tokio::time::sleep(Duration::from_millis(roll(&dice, 2_000.0))).await;
                    drop(left);
                    drop(berth);
                });
                // Some leave while they wait, others while they are served.
                let _ = served.await;
            });
            let pause = roll(&pauses, 150.0);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        while let Some(ended) = all.join_next().await {
            ended.unwrap();
        }
        let look = lane.look();
        assert_eq!((look.in_flight, look.waiting, look.tenants), (0, 0, 0), "seed {seed}");
        assert!(lane.enter().is_some(), "seed {seed}: nobody is in the way");
    }
}

/// Counts one less on drop, as a client who leaves does.
struct Left(Arc<AtomicU32>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_lifted_lets_those_who_wait_go() {
    let lanes = Arc::new(Lanes::default());
    let terms = |max| {
        let rules = ConcurrencyRules { max, ..ConcurrencyRules::default() };
        LaneTerms { providers: [("p".into(), rules)].into(), ..LaneTerms::default() }
    };
    lanes.configure(terms(Some(1)));
    let lane = lanes.of(&TargetName::parse("p/m").unwrap(), || true);
    let berth = lane.enter().unwrap();
    let waiting: Vec<_> = (0..5)
        .map(|tenant| {
            let lane = lane.clone();
            tokio::spawn(async move { place(&lane, tenant, 30).await })
        })
        .collect();
    seconds(1).await;
    assert_eq!(lane.look().waiting, 5);
    lanes.configure(terms(None));
    let mut berths = Vec::new();
    for one in waiting {
        berths.push(one.await.unwrap().unwrap());
    }
    assert_eq!((lane.look().in_flight, lane.look().waiting), (6, 0));
    drop((berth, berths));
    seconds(1_000).await;
    lanes.tick(Instant::now());
    assert!(lanes.of_provider("p").is_empty(), "and it is forgotten in the end");
}

#[tokio::test(start_paused = true)]
async fn names_that_clients_invent_share_a_lane() {
    let lanes = Lanes::default();
    for n in 0..2 * MOST_LANES {
        lanes.of(&TargetName::parse(&format!("p/{n}")).unwrap(), || false);
    }
    assert_eq!(lanes.of_provider("p").len(), MOST_LANES + 1);
    let own = lanes.of(&TargetName::parse("p/named").unwrap(), || true);
    assert_eq!(&*own.target().model, "named");
}
