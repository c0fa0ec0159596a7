//! The order of those who wait: tenants take turns, and each tenant's own are served as they came.

use std::collections::{HashMap, VecDeque};

use crate::caller::Tenant;

/// Those who wait, by tenant.
#[derive(Debug)]
pub(super) struct Fair<T> {
    parties: HashMap<Tenant, VecDeque<T>>,
    /// Tenants who wait; whose turn is next stands first.
    turns: VecDeque<Tenant>,
    len: usize,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self { parties: HashMap::new(), turns: VecDeque::new(), len: 0 }
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
        self.parties.get(&tenant).map_or(0, VecDeque::len)
    }

    /// One more waits.
    pub(super) fn join(&mut self, tenant: Tenant, one: T) {
        let party = self.parties.entry(tenant).or_default();
        if party.is_empty() {
            self.turns.push_back(tenant);
        }
        party.push_back(one);
        self.len += 1;
    }

    /// How many are served before the next that comes of this tenant, at most.
    pub(super) fn ahead(&self, tenant: Tenant) -> usize {
        let own = self.of(tenant);
        let others = self.parties.iter().filter(|(other, _)| **other != tenant);
        own + others.map(|(_, party)| party.len().min(own + 1)).sum::<usize>()
    }

    /// Whose turn it is; he waits no more.
    pub(super) fn next(&mut self) -> Option<T> {
        let tenant = self.turns.pop_front()?;
        let party = self.parties.get_mut(&tenant)?;
        let one = party.pop_front();
        if party.is_empty() {
            self.parties.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        self.len -= usize::from(one.is_some());
        one
    }

    /// One who does not wait any longer. Says whether he was there.
    pub(super) fn leave(&mut self, tenant: Tenant, is_he: impl Fn(&T) -> bool) -> bool {
        let Some(party) = self.parties.get_mut(&tenant) else { return false };
        let Some(place) = party.iter().position(is_he) else { return false };
        party.remove(place);
        self.len -= 1;
        self.tidy(tenant);
        true
    }

    /// Makes room for one of this tenant: the last of the tenant who has most in line goes, if that one has more than
    /// this one would have.
    pub(super) fn push_out(&mut self, newcomer: Tenant) -> Option<T> {
        let longest = self.turns.iter().copied().max_by_key(|tenant| self.of(*tenant))?;
        if self.of(longest) <= self.of(newcomer) + 1 {
            return None;
        }
        let last = self.parties.get_mut(&longest)?.pop_back()?;
        self.len -= 1;
        self.tidy(longest);
        Some(last)
    }

    fn tidy(&mut self, tenant: Tenant) {
        if self.of(tenant) == 0 {
            self.parties.remove(&tenant);
            self.turns.retain(|other| *other != tenant);
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
                assert_eq!(all.len(), all.parties.values().map(VecDeque::len).sum::<usize>());
                assert_eq!(all.tenants(), all.parties.len());
            }
        }
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
