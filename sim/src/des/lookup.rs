//! Cache-aside: the cache is asked, then on a miss or any failure the store behind it, and the cache is filled.
//!
//! You are here: `sim::des::lookup`. `client` comes here when a question to a cache or store has ended; `cache` has the contents.
//! Always true: with single flight, each call in `Role::Origin` either leads one flight or follows one (`follows`).

use models::system::Cause;

use super::State;
use super::flights::FlightKey;
use super::records::{Call, Parent, Role, flag};
use crate::program::{NONE, Tables};

impl State {
    /// The cache had no answer: the store is asked, unless somebody else of the same replica is asking it for the same key.
    pub(super) fn ask_origin(&mut self, p: &Tables, c: u32) {
        self.calls[c].role = Role::Origin;
        if let Some(of) = self.flight_of(p, c) {
            match self.flights.find(of) {
                Ok(at) => {
                    self.follow(at, c);
                    return;
                }
                Err(at) => self.flights.open(at, of, c),
            }
        }
        self.lead(p, c);
    }

    fn lead(&mut self, p: &Tables, c: u32) {
        let call = &self.calls[c];
        let (origin, repetition) = (p.lookups[call.lookup as usize].origin, call.repetition);
        self.begin_again(p, c, origin, repetition);
    }

    fn follow(&mut self, at: usize, c: u32) {
        self.leave_bulkhead(c);
        let call = &mut self.calls[c];
        (call.event, call.timeout, call.exec, call.next_waiter, call.follows) = (0, 0, NONE, NONE, true);
        let flight = &mut self.flights.0[at];
        match std::mem::replace(&mut flight.last, c) {
            NONE => flight.first = c,
            last => self.calls[last].next_waiter = c,
        }
    }

    /// What flight a question belongs to, if it is one of a single-flight lookup.
    fn flight_of(&self, p: &Tables, c: u32) -> Option<FlightKey> {
        let call = &self.calls[c];
        let single = call.from == Parent::Exec && p.lookups[call.lookup as usize].single_flight;
        single.then(|| (call.lookup, self.execs[call.parent].replica, call.cache_key))
    }

    /// The store has answered: the cache is filled, and whoever waited for the same answer has it too.
    pub(super) fn origin_answered(&mut self, p: &Tables, c: u32) {
        let Call { lookup, cache_key, parent_key, repetition, request, .. } = self.calls[c];
        let parent_line = self.calls[c].parent_line();
        let l = &p.lookups[lookup as usize];
        let followers = self.land(p, c);
        if l.fill == NONE {
            let now = self.now;
            self.contents[l.cache as usize].as_mut().expect("lookups ask caches").store(cache_key, now);
        } else {
            let (from, role) = (Parent::Nobody, Role::Fill);
            self.open_call(
                p,
                from,
                NONE,
                l.fill,
                parent_key,
                parent_line,
                repetition,
                repetition + 1,
                request,
                role,
                cache_key,
                NONE,
            );
        }
        self.repetition_over(p, c, None);
        self.tell(p, followers, None);
    }

    /// The store has failed for good, for all who waited.
    pub(super) fn origin_failed(&mut self, p: &Tables, c: u32, cause: Cause) {
        let followers = self.land(p, c);
        self.origin_lost(p, c, cause);
        self.tell(p, followers, Some(cause));
    }

    fn origin_lost(&mut self, p: &Tables, c: u32, cause: Cause) {
        let call = &self.calls[c];
        let site = if call.follows { p.lookups[call.lookup as usize].origin } else { call.site };
        match p.sites[site as usize].fallback {
            NONE => self.repetition_over(p, c, Some(cause)),
            fallback => {
                let (parent, repetition) = (call.parent, call.repetition);
                if call.from == Parent::Exec {
                    self.execs[parent].flags |= flag::DEGRADED;
                }
                let call = &mut self.calls[c];
                (call.role, call.follows) = (Role::Plain, false);
                self.begin_again(p, c, fallback, repetition);
            }
        }
    }

    /// Ends the flight that a call leads; returns the first of its followers.
    fn land(&mut self, p: &Tables, c: u32) -> u32 {
        let Some(of) = self.flight_of(p, c) else { return NONE };
        let Ok(at) = self.flights.find(of) else { return NONE };
        debug_assert_eq!(self.flights.0[at].leader, c, "a follower sends nothing");
        self.flights.0.remove(at).first
    }

    fn tell(&mut self, p: &Tables, first: u32, failure: Option<Cause>) {
        let mut c = first;
        while c != NONE {
            let next = self.calls[c].next_waiter;
            // What a failure means is asked of the store's site, with the follower's own luck.
            let origin = p.lookups[self.calls[c].lookup as usize].origin;
            let call = &mut self.calls[c];
            call.site = origin;
            call.key = call.parent_key.child(p.sites[origin as usize].site, call.repetition, 0);
            match failure {
                None => {
                    call.follows = false;
                    self.repetition_over(p, c, None);
                }
                Some(cause) => self.origin_lost(p, c, cause),
            }
            c = next;
        }
    }

    /// A question to a store is abandoned. If it led a flight, the next in line asks instead.
    pub(super) fn leave_flight(&mut self, p: &Tables, c: u32) {
        let Some(of) = self.flight_of(p, c) else { return };
        let Ok(at) = self.flights.find(of) else { return };
        let flight = self.flights.0[at];
        if flight.leader == c {
            let next = flight.first;
            if next == NONE {
                self.flights.0.remove(at);
                return;
            }
            let after = self.calls[next].next_waiter;
            let flight = &mut self.flights.0[at];
            (flight.leader, flight.first) = (next, after);
            if after == NONE {
                flight.last = NONE;
            }
            self.calls[next].follows = false;
            self.lead(p, next);
        } else if self.calls[c].follows {
            let after = self.calls[c].next_waiter;
            if flight.first == c {
                self.flights.0[at].first = after;
                if after == NONE {
                    self.flights.0[at].last = NONE;
                }
                return;
            }
            let mut before = flight.first;
            while self.calls[before].next_waiter != c {
                before = self.calls[before].next_waiter;
            }
            self.calls[before].next_waiter = after;
            if flight.last == c {
                self.flights.0[at].last = before;
            }
        }
    }
}
