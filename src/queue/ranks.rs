//! Those who wait, by priority: each has a line of its own, and the lines take turns by weight. So whoever is more
//! important goes first, and nobody waits for ever.

use super::fair::Fair;
use crate::caller::{Priority, Tenant};

/// What a turn of a priority costs it: the higher it is, the sooner it has the next one.
const fn cost(priority: Priority) -> u64 {
    (Priority::High.weight() / priority.weight()) as u64
}

/// Those who wait, by priority and tenant.
#[derive(Debug)]
pub(super) struct Ranks<T> {
    /// By the place of their priority.
    ranks: [Rank<T>; 3],
    /// When whoever was served last had his turn.
    now: u64,
}

#[derive(Debug)]
struct Rank<T> {
    priority: Priority,
    line: Fair<T>,
    /// When its next turn is, at the earliest.
    turn: u64,
}

impl<T> Default for Ranks<T> {
    fn default() -> Self {
        Self {
            ranks: Priority::ALL.map(|priority| Rank { priority, line: Fair::default(), turn: 0 }),
            now: 0,
        }
    }
}

impl<T> Rank<T> {
    fn weighs(&self) -> usize {
        self.priority.weight() as usize
    }
}

impl<T> Ranks<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.ranks.iter().map(|rank| rank.line.len()).sum()
    }

    /// How many tenants wait.
    pub(super) fn tenants(&self) -> usize {
        self.ranks.iter().map(|rank| rank.line.tenants()).sum()
    }

    /// One more waits.
    pub(super) fn join(&mut self, tenant: Tenant, one: T) {
        let now = self.now;
        let Some(rank) = self.ranks.get_mut(tenant.priority().place()) else { return };
        if rank.line.len() == 0 {
            // What it did not use while nobody of it was in line is not made up for.
            rank.turn = rank.turn.max(now);
        }
        rank.line.join(tenant, one);
    }

    /// How many are served before the next that comes of this tenant, at most.
    pub(super) fn ahead(&self, tenant: Tenant) -> usize {
        let Some(own) = self.ranks.get(tenant.priority().place()) else { return 0 };
        let before = own.line.ahead(tenant);
        let turns = before + 1;
        let others = self.ranks.iter().filter(|rank| rank.priority != own.priority);
        before
            + others
                .map(|rank| rank.line.len().min((turns * rank.weighs()).div_ceil(own.weighs())))
                .sum::<usize>()
    }

    /// Whose turn it is; he waits no more.
    pub(super) fn next(&mut self) -> Option<T> {
        let waiting = self.ranks.iter_mut().rev().filter(|rank| rank.line.len() > 0);
        let rank = waiting.min_by_key(|rank| rank.turn)?;
        self.now = rank.turn;
        rank.turn += cost(rank.priority);
        rank.line.next()
    }

    /// One who does not wait any longer. Says whether he was there.
    pub(super) fn leave(&mut self, tenant: Tenant, is_he: impl Fn(&T) -> bool) -> bool {
        self.ranks.get_mut(tenant.priority().place()).is_some_and(|rank| rank.line.leave(tenant, is_he))
    }

    /// Makes room for one of this tenant: where a priority has more in line for its weight than the newcomer's would have,
    /// its last one goes; otherwise tenants of the same priority are compared.
    pub(super) fn push_out(&mut self, newcomer: Tenant) -> Option<T> {
        let own = newcomer.priority();
        let would_have = self.ranks.get(own.place())?.line.len() + 1;
        let by_weight = |len: usize, priority: Priority| len * cost(priority) as usize;
        let longest = self.ranks.iter_mut().max_by_key(|rank| by_weight(rank.line.len(), rank.priority))?;
        let has_more = by_weight(longest.line.len(), longest.priority) > by_weight(would_have, own);
        if longest.priority != own && has_more {
            return longest.line.pop_last();
        }
        self.ranks.get_mut(own.place())?.line.push_out(newcomer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Dice;

    const LOW: Tenant = Tenant::numbered(1).with(Priority::Low);
    const USUAL: Tenant = Tenant::numbered(2);
    const HIGH: Tenant = Tenant::numbered(3).with(Priority::High);

    fn crowd(of: &[(Tenant, usize)]) -> Ranks<Tenant> {
        let mut all = Ranks::default();
        of.iter().for_each(|(tenant, count)| (0..*count).for_each(|_| all.join(*tenant, *tenant)));
        all
    }

    fn served(all: &mut Ranks<Tenant>, count: usize) -> [usize; 3] {
        let mut served = [0; 3];
        (0..count).filter_map(|_| all.next()).for_each(|one| served[one.priority().place()] += 1);
        served
    }

    #[test]
    fn each_priority_gets_turns_by_its_weight_and_the_highest_goes_first() {
        let mut all = crowd(&[(LOW, 100), (USUAL, 100), (HIGH, 100)]);
        assert_eq!(all.next(), Some(HIGH));
        assert_eq!(served(&mut all, 104), [5, 20, 79]);
        let mut all = crowd(&[(LOW, 10)]);
        assert_eq!(served(&mut all, 10), [10, 0, 0], "alone, each may have all");
        assert_eq!((all.next(), all.len(), all.tenants()), (None, 0, 0));
    }

    #[test]
    fn a_crowd_of_low_tenants_is_no_more_than_one() {
        let mut all = crowd(&[(HIGH, 32)]);
        for number in 10..110 {
            let tenant = Tenant::numbered(number).with(Priority::Low);
            all.join(tenant, tenant);
        }
        assert_eq!(all.tenants(), 101);
        assert_eq!(served(&mut all, 34), [2, 0, 32]);
    }

    #[test]
    fn what_was_not_used_is_not_made_up_for() {
        let mut all = crowd(&[(HIGH, 1_000), (USUAL, 1_000)]);
        served(&mut all, 500);
        (0..100).for_each(|_| all.join(LOW, LOW));
        assert!(served(&mut all, 42)[0] <= 3);
        // Nor can anybody gain by leaving the line and coming back.
        let mut all = crowd(&[(USUAL, 1_000)]);
        let mut low = 0;
        for _ in 0..80 {
            if all.ranks[0].line.len() == 0 {
                all.join(LOW, LOW);
            }
            low += usize::from(all.next() == Some(LOW));
        }
        assert!((15..=17).contains(&low), "{low} of 80");
    }

    #[test]
    fn nobody_is_overtaken_by_more_than_was_said() {
        for seed in 0..200 {
            let dice = Dice::loaded(seed);
            let mut all: Ranks<(usize, usize)> = Ranks::default();
            let mut served = 0;
            for _ in 0..300 {
                if dice.unit() < 0.55 {
                    let priority = Priority::ALL[(dice.unit() * 3.0) as usize];
                    let tenant = Tenant::numbered((dice.unit() * 4.0) as u64).with(priority);
                    let own = all.ranks[priority.place()].line.of(tenant) + 1;
                    // Others may come meanwhile: a turn of each tenant for each of his own, by weight.
                    let turns = own * 4;
                    let most = Priority::ALL.iter().map(|other| turns * other.weight() as usize);
                    let most =
                        most.map(|turns| turns.div_ceil(priority.weight() as usize) + 1).sum::<usize>();
                    all.join(tenant, (served, most));
                } else if let Some((came, most)) = all.next() {
                    assert!(served - came <= most, "seed {seed}: {} of {most}", served - came);
                    served += 1;
                }
            }
        }
    }

    #[test]
    fn a_full_line_makes_room_for_those_who_have_less_for_their_weight() {
        let mut all = crowd(&[(LOW, 40)]);
        let mut taken = 0;
        while all.push_out(HIGH).is_some_and(|gone| gone == LOW) {
            all.join(HIGH, HIGH);
            taken += 1;
        }
        assert_eq!((taken, all.ranks[0].line.len()), (38, 2), "a seventeenth is left to the low ones");
        assert_eq!(all.push_out(LOW), None);
        let mut all = crowd(&[(HIGH, 40)]);
        assert_eq!(all.push_out(LOW), Some(HIGH));
        all.join(LOW, LOW);
        assert_eq!(all.push_out(HIGH), None);
        assert_eq!(all.push_out(Tenant::numbered(9).with(Priority::High)), Some(HIGH));
    }

    #[test]
    fn a_newcomer_is_told_what_is_before_him() {
        let all = crowd(&[(LOW, 100), (HIGH, 10)]);
        assert_eq!((all.ahead(HIGH), all.ahead(LOW)), (10 + 1, 100 + 10));
        assert_eq!(all.ahead(USUAL), 1 + 4);
    }
}
