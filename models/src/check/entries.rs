//! Whether users can come in as an entry says: curves that rise in time, bursts that end, a bound on how many come.
//!
//! You are here: `models::check::entries`.

use super::numbers::most;
use super::{Checker, MAX_PER_S, MAX_USERS, SHORTEST_PERIOD};
use crate::param::Param;
use crate::system::{Bursts, ClosedLoop, Entry, RateCurve};

impl Checker<'_> {
    pub(super) fn entry(&mut self, place: &str, entry: &Entry) {
        if let Some(closed) = &entry.closed {
            self.closed(&format!("{place}/closed"), closed);
            return;
        }
        let place = format!("{place}/open");
        let before = self.errors.len();
        self.rate(&format!("{place}/rate"), &entry.rate);
        if let Some(curve) = &entry.curve {
            self.curve(&format!("{place}/curve"), curve);
        }
        if let Some(bursts) = &entry.bursts {
            self.bursts(&format!("{place}/bursts"), bursts);
        }
        if self.errors.len() > before {
            return;
        }
        let bursts = entry.bursts.as_ref().map(|b| Bursts { factor: Param::declared(most(&b.factor)), ..b.clone() });
        let peak = Entry { rate: Param::declared(most(&entry.rate)), bursts, ..entry.clone() }.peak_per_s();
        if peak > MAX_PER_S {
            let (at, with) = if peak > most(&entry.rate) { (place, " at its peak") } else { (format!("{place}/rate"), "") };
            let expected = format!("at most {MAX_PER_S}/s, so that a run comes to an end");
            self.add(&at, format!("{peak}/s{with}"), expected, "rehearse a part of the system, or fewer users");
        }
    }

    fn curve(&mut self, place: &str, curve: &RateCurve) {
        let steps = format!("{place}/steps");
        let Some((last, _)) = curve.steps.last() else {
            self.add(&steps, "no step", "at least one step", "write steps: { 0s: 1, 60s: 2.5 }");
            return;
        };
        let (first, _) = curve.steps[0];
        if !first.is_zero() {
            let help = "write 0s: 1 for the rate as it is";
            self.add(&steps, format!("a first step at {first}"), "a first step at 0s", help);
        }
        if let Some(pair) = curve.steps.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            self.add(&steps, format!("{} after {}", pair[1].0, pair[0].0), "times that rise", "");
        }
        let Some(repeat) = curve.repeat else { return };
        if repeat <= *last || repeat < SHORTEST_PERIOD {
            let expected = format!("more than {last}, where its last step begins, and at least {SHORTEST_PERIOD}");
            self.add(&format!("{place}/repeat"), repeat.to_string(), expected, "");
        }
    }

    fn bursts(&mut self, place: &str, bursts: &Bursts) {
        let expected = format!("at least {SHORTEST_PERIOD} from burst to burst");
        self.param(&format!("{place}/every"), &bursts.every, |t| *t >= SHORTEST_PERIOD, &expected);
        self.real(&format!("{place}/factor"), &bursts.factor);
        let place = format!("{place}/lasting");
        let before = self.errors.len();
        self.some_time(&place, &bursts.lasting);
        if self.errors.len() == before {
            self.ordered(&place, &bursts.lasting, &bursts.every, true, "the time from burst to burst");
        }
    }

    /// Users whose think time is 0 ask again as soon as they have their answer, which is no mistake.
    fn closed(&mut self, place: &str, closed: &ClosedLoop) {
        let users = format!("a number of users from 1 to {MAX_USERS}");
        self.param(&format!("{place}/users"), &closed.users, |n| (1..=MAX_USERS).contains(n), &users);
        let before = self.errors.len();
        self.work(&format!("{place}/think"), &closed.think);
        if self.errors.len() > before {
            return;
        }
        let fastest = closed.think.scale_range.map_or(1.0, |[low, _]| low);
        let widest = ClosedLoop { users: Param::declared(most(&closed.users)), think: closed.think.clone() };
        let most_per_s = if closed.think.dist.mean().is_zero() { widest.most_per_s() } else { widest.most_per_s() / fastest };
        if most_per_s > MAX_PER_S {
            let found = format!("{} users who think {} on average", most(&closed.users), closed.think.dist.mean());
            let expected = format!("at most {MAX_PER_S}/s, users / think time");
            self.add(place, found, expected, "write fewer users or a longer think time; 0s counts as 1ms here");
        }
    }
}
