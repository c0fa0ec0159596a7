//! The order of those who wait: start-time fair queueing (Goyal, Vin and Cheng, 1996), with tenants as flows and each
//! request of the same length. Tenants take turns, each tenant's own are served as they came, and a tenant who had nobody
//! in line comes before those who were served meanwhile.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::caller::Tenant;

/// Past turns that are remembered; more are looked through for those that count for nothing any more.
const REMEMBERED: usize = 1_024;

/// When it is a tenant's turn: the number of the round, and the order within it.
type Turn = (u64, u64);

/// Those who wait, by tenant.
#[derive(Debug)]
pub(super) struct Fair<T> {
    parties: HashMap<Tenant, Party<T>>,
    /// Tenants who wait; whose turn is next stands first.
    turns: BTreeMap<Turn, Tenant>,
    /// The round that tenants who do not wait come in at the earliest, where it is still to come.
    later: HashMap<Tenant, u64>,
    /// The round of who was served last.
    round: u64,
    /// Turns that were given ever.
    given: u64,
    len: usize,
}

/// Those of one tenant.
#[derive(Debug)]
struct Party<T> {
    line: VecDeque<T>,
    turn: Turn,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        let (parties, turns, later) = (HashMap::new(), BTreeMap::new(), HashMap::new());
        Self { parties, turns, later, round: 0, given: 0, len: 0 }
    }
}

impl<T> Fair<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many tenants wait.
    pub(super) fn tenants(&self) -> usize {
        self.turns.len()
    }

    /// How many of this tenant wait.
    pub(super) fn of(&self, tenant: Tenant) -> usize {
        self.parties.get(&tenant).map_or(0, |party| party.line.len())
    }

    /// One more waits.
    pub(super) fn join(&mut self, tenant: Tenant, one: T) {
        self.len += 1;
        if let Some(party) = self.parties.get_mut(&tenant) {
            return party.line.push_back(one);
        }
        let round = self.later.remove(&tenant).map_or(self.round, |later| later.max(self.round));
        let turn = self.give(tenant, round);
        self.parties.insert(tenant, Party { line: [one].into(), turn });
    }

    fn give(&mut self, tenant: Tenant, round: u64) -> Turn {
        self.given += 1;
        self.turns.insert((round, self.given), tenant);
        (round, self.given)
    }

    /// How many are served before the next that comes of this tenant, at most.
    pub(super) fn ahead(&self, tenant: Tenant) -> usize {
        let own = self.of(tenant);
        let others = self.parties.iter().filter(|(other, _)| **other != tenant);
        own + others.map(|(_, party)| party.line.len().min(own + 1)).sum::<usize>()
    }

    /// Whose turn it is; he waits no more.
    pub(super) fn next(&mut self) -> Option<T> {
        let (turn, tenant) = self.turns.pop_first()?;
        self.round = turn.0;
        let mut party = self.parties.remove(&tenant)?;
        let one = party.line.pop_front();
        self.len -= usize::from(one.is_some());
        if party.line.is_empty() {
            self.remember(tenant, turn.0 + 1);
        } else {
            party.turn = self.give(tenant, turn.0 + 1);
            self.parties.insert(tenant, party);
        }
        one
    }

    fn remember(&mut self, tenant: Tenant, round: u64) {
        if self.later.len() >= REMEMBERED {
            let now = self.round;
            self.later.retain(|_, later| *later > now);
        }
        if self.later.len() < REMEMBERED {
            self.later.insert(tenant, round);
        }
    }

    /// One who does not wait any longer. Says whether he was there.
    pub(super) fn leave(&mut self, tenant: Tenant, is_he: impl Fn(&T) -> bool) -> bool {
        let Some(party) = self.parties.get_mut(&tenant) else { return false };
        let Some(place) = party.line.iter().position(is_he) else { return false };
        party.line.remove(place);
        self.len -= 1;
        self.tidy(tenant);
        true
    }

    /// Makes room for one of this tenant: the last of the tenant who has most in line goes, if that one has more than
    /// this one would have.
    pub(super) fn push_out(&mut self, newcomer: Tenant) -> Option<T> {
        self.pop_longest(self.of(newcomer) + 1)
    }

    /// The last of the tenant who has most in line goes.
    pub(super) fn pop_last(&mut self) -> Option<T> {
        self.pop_longest(0)
    }

    fn pop_longest(&mut self, more_than: usize) -> Option<T> {
        let longest = self.turns.values().copied().max_by_key(|tenant| self.of(*tenant))?;
        if self.of(longest) <= more_than {
            return None;
        }
        let last = self.parties.get_mut(&longest)?.line.pop_back()?;
        self.len -= 1;
        self.tidy(longest);
        Some(last)
    }

    fn tidy(&mut self, tenant: Tenant) {
        if self.of(tenant) > 0 {
            return;
        }
        if let Some(party) = self.parties.remove(&tenant) {
            self.turns.remove(&party.turn);
            // He was not served, and comes in the same round again.
            self.remember(tenant, party.turn.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Dice;

    const A: Tenant = Tenant::numbered(1);
    const B: Tenant = Tenant::numbered(2);
    const C: Tenant = Tenant::numbered(3);

    fn line(of: &[(Tenant, &'static str)]) -> Fair<&'static str> {
        let mut line = Fair::default();
        of.iter().for_each(|(tenant, name)| line.join(*tenant, *name));
        line
    }

    fn served(line: &mut Fair<&'static str>) -> String {
        std::iter::from_fn(|| line.next()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn tenants_take_turns_and_each_ones_own_come_in_order() {
        let mut all = line(&[(A, "a1"), (A, "a2"), (A, "a3"), (B, "b1"), (C, "c1"), (B, "b2")]);
        assert_eq!((all.len(), all.tenants()), (6, 3));
        assert_eq!(served(&mut all), "a1 b1 c1 a2 b2 a3");
        assert_eq!((all.len(), all.tenants()), (0, 0));
    }

    #[test]
    fn who_leaves_or_is_pushed_out_holds_nobody_up() {
        let mut all = line(&[(A, "a1"), (A, "a2"), (A, "a3"), (B, "b1")]);
        assert!(all.leave(B, |one| *one == "b1") && !all.leave(B, |one| *one == "b1"));
        assert_eq!(all.push_out(C), Some("a3"), "the last of who has most");
        assert_eq!(all.push_out(A), None, "not for a tenant who has no fewer");
        assert_eq!(served(&mut all), "a1 a2");
    }

    #[test]
    fn nobody_is_overtaken_by_more_than_a_turn_of_everybody_for_each_of_his_own() {
        const TENANTS: u64 = 6;
        for seed in 0..200 {
            let dice = Dice::loaded(seed);
            let mut all: Fair<(usize, usize)> = Fair::default();
            let mut served = 0;
            for _ in 0..300 {
                if dice.unit() < 0.6 {
                    // Some come more often than others.
                    let tenant = Tenant::numbered((dice.unit() * dice.unit() * TENANTS as f64) as u64);
                    let own = all.of(tenant) + 1;
                    all.join(tenant, (served, own * TENANTS as usize));
                } else if let Some((came, most)) = all.next() {
                    served += 1;
                    assert!(served - came <= most, "seed {seed}: {} of {most}", served - came);
                }
                assert_eq!(all.len(), all.parties.values().map(|party| party.line.len()).sum::<usize>());
                assert_eq!(all.tenants(), all.parties.len());
            }
        }
    }

    #[test]
    fn who_had_nobody_in_line_comes_before_those_who_were_served_meanwhile() {
        let mut all: Fair<&str> = Fair::default();
        (0..50).for_each(|_| all.join(A, "a"));
        all.join(B, "b");
        assert_eq!((all.next(), all.next()), (Some("a"), Some("b")));
        // Again at once: the other one's turn comes first.
        all.join(B, "b");
        assert_eq!((all.next(), all.next()), (Some("a"), Some("b")));
        (0..10).for_each(|_| assert_eq!(all.next(), Some("a")));
        all.join(B, "b");
        assert_eq!((all.next(), all.next()), (Some("b"), Some("a")));
        // A crowd of such tenants takes turns with everybody else, too.
        let crowd: Vec<_> = (10..20).map(Tenant::numbered).collect();
        let mut served = 0;
        for _ in 0..20 {
            for tenant in &crowd {
                if all.of(*tenant) == 0 {
                    all.join(*tenant, "c");
                }
            }
            served += (0..11).filter(|_| all.next() == Some("a")).count();
        }
        assert!((18..=22).contains(&served), "{served} of 220");
    }

    #[test]
    fn a_flood_costs_a_quiet_tenant_one_place() {
        let mut all: Fair<u32> = Fair::default();
        (0..500).for_each(|number| all.join(A, number));
        assert_eq!((all.ahead(A), all.ahead(B)), (500, 1));
        all.join(B, 1_000);
        all.next();
        assert_eq!(all.next(), Some(1_000));
    }
}
