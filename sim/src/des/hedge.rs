//! Hedged calls: several tries under way at once, and the first success wins.
//!
//! You are here: `sim::des::hedge`. `client` begins a hedged call here and tells how each of its tries ended.
//! Always true: a hedged call sends nothing itself; each of its tries is a call of its own (`Parent::Hedge`) with one attempt, whose key is
//! that of the attempt of the same number. Try n + 1 leaves when try n has failed, or has been under way for the policy's wait.

use models::system::Cause;

use super::State;
use super::queue::Kind;
use super::records::{Call, Link, Parent};
use crate::program::{HedgeP, NONE, Tables};

impl State {
    pub(super) fn begin_hedging(&mut self, p: &Tables, c: u32) {
        let call = &mut self.calls[c];
        (call.hedges, call.first_hedge) = (0, NONE);
        // A name of its own: that of attempt 0 is its first try's.
        call.key = call.parent_key.child(p.sites[call.site as usize].site, call.repetition, u16::MAX);
        self.send_hedge(p, c);
    }

    fn policy_of(p: &Tables, call: &Call) -> HedgeP {
        p.policies[p.sites[call.site as usize].edge as usize].hedge.expect("only hedged calls come here")
    }

    /// Sends the next try, and schedules the one after it.
    fn send_hedge(&mut self, p: &Tables, c: u32) {
        let call = self.calls[c];
        let policy = State::policy_of(p, &call);
        let number = call.attempt;
        let hedge = self.calls.insert(Call {
            key: call.parent_key,
            event: 0,
            timeout: 0,
            exec: NONE,
            parent: c,
            next_open: call.first_hedge,
            previous_open: NONE,
            attempt: number,
            first_hedge: NONE,
            from: Parent::Hedge,
            reply: None,
            hit: false,
            probe: false,
            in_bulkhead: false,
            link: Link::None,
            ..call
        });
        if call.first_hedge != NONE {
            self.calls[call.first_hedge].previous_open = hedge;
        }
        let call = &mut self.calls[c];
        call.first_hedge = hedge;
        call.hedges = number;
        call.attempt += 1;
        call.event = if call.attempt < policy.attempts { self.queue.push(self.now + policy.after, Kind::Hedge, c) } else { 0 };
        self.send(p, hedge);
    }

    /// The last try has been under way for the policy's wait.
    pub(super) fn hedge(&mut self, p: &Tables, c: u32) {
        self.calls[c].event = 0;
        self.send_hedge(p, c);
    }

    pub(super) fn hedge_succeeded(&mut self, p: &Tables, hedge: u32) {
        let Call { parent: c, hit, key, .. } = self.calls[hedge];
        self.close_call(hedge);
        while self.calls[c].first_hedge != NONE {
            self.abandon_call(p, self.calls[c].first_hedge);
        }
        let call = &mut self.calls[c];
        (call.event, call.hit, call.key, call.attempt) = (0, hit, key, 0);
        self.call_succeeded(p, c);
    }

    pub(super) fn hedge_failed(&mut self, p: &Tables, hedge: u32, cause: Cause) {
        let Call { parent: c, key, .. } = self.calls[hedge];
        self.close_call(hedge);
        let call = &self.calls[c];
        let more = call.attempt < State::policy_of(p, call).attempts && self.now < call.deadline;
        if more {
            // Through the queue, as every further try.
            self.calls[c].event = self.queue.push(self.now, Kind::Hedge, c);
        } else if call.first_hedge == NONE {
            let call = &mut self.calls[c];
            (call.event, call.key, call.attempt) = (0, key, 0);
            self.call_failed(p, c, cause);
        }
    }
}
