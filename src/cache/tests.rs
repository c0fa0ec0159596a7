//! Stories of the store: many who ask at once, makers who fail, room that ends.

use bytes::Bytes;

use super::*;
use crate::fault::{Fault, FaultKind};
use crate::money::Nano;

fn entry(text: &str, life: Duration) -> Entry {
    Entry {
        asks: [7; 32],
        form: Form::Whole,
        body: Bytes::copy_from_slice(text.as_bytes()),
        target: "a/b".into(),
        warnings: "".into(),
        cost: Some(Nano(5)),
        at: Instant::now(),
        life,
    }
}

fn join(store: &Arc<Store>) -> Joined {
    store.join(&[1; 32], &[7; 32], false)
}

fn lead(store: &Arc<Store>) -> Lead {
    let Joined::Lead(lead) = join(store) else { panic!("somebody is at it") };
    lead
}

fn waiter(store: &Arc<Store>) -> Waiter {
    let Joined::Wait(waiter) = join(store) else { panic!("nobody is at it") };
    waiter
}

#[tokio::test(start_paused = true)]
async fn one_makes_the_answer_and_all_get_it() {
    let store = Store::new(1 << 20);
    let first = lead(&store);
    let waiting: Vec<_> = (0..500).map(|_| tokio::spawn(waiter(&store).wait())).collect();
    assert!(matches!(store.join(&[1; 32], &[8; 32], false), Joined::Conflict));
    first.keep(entry("said", Duration::from_secs(60)));
    for one in waiting {
        assert!(matches!(one.await.unwrap(), Waited::Kept(entry) if entry.body == "said"));
    }
    assert!(matches!(join(&store), Joined::Kept(_)));
    assert!(matches!(store.join(&[1; 32], &[8; 32], false), Joined::Conflict));
    assert!(matches!(store.join(&[1; 32], &[7; 32], true), Joined::Lead(_)));
    assert_eq!(store.waiting.load(Ordering::Relaxed), 0);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(matches!(join(&store), Joined::Lead(_)));
}

#[tokio::test(start_paused = true)]
async fn who_fails_leaves_the_place_to_one_other() {
    let store = Store::new(1 << 20);
    let first = lead(&store);
    let waiting = [waiter(&store), waiter(&store)];
    drop(first);
    for one in waiting {
        assert!(matches!(one.wait().await, Waited::Nobody(None)));
    }
    let next = lead(&store);
    let waiting = [waiter(&store), waiter(&store)];
    next.failed(Arc::new(Fault::new(FaultKind::Overloaded, "busy")));
    for one in waiting {
        assert!(
            matches!(one.wait().await, Waited::Nobody(Some(fault)) if fault.kind == FaultKind::Overloaded)
        );
    }
    let second = lead(&store);
    let other = waiter(&store);
    second.unfit();
    assert!(matches!(other.wait().await, Waited::Unfit));
    assert!(matches!(join(&store), Joined::Lead(_)));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_goes() {
    let store = Store::new(64 << 10);
    for n in 0..200_u8 {
        let Joined::Lead(lead) = store.join(&[n; 32], &[7; 32], false) else { panic!("{n}") };
        lead.keep(entry(&"x".repeat(1_000), Duration::from_secs(60)));
    }
    store.kept.run_pending_tasks();
    assert!(store.bytes() <= 64 << 10, "{}", store.bytes());
    assert!(store.bytes() > 0);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait() {
    let store = Store::new(1 << 20);
    let _lead = lead(&store);
    let waiting: Vec<_> = (0..MOST_WAITING).map(|_| waiter(&store)).collect();
    assert!(matches!(join(&store), Joined::Busy));
    drop(waiting);
    assert!(matches!(join(&store), Joined::Wait(_)));
}
