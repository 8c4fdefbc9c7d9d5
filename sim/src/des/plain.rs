//! Plain calls: what most calls are, in as few steps as they need.
//!
//! You are here: `sim::des::plain`. A call is plain (`HopP::plain`) if one operation is called at most once, is waited for by a user or by a request
//! that waits for nothing else, and its edge has no limits, deadline, breaker or hedging; and no fault is on that edge.
//! Always true: a plain call does, draws and schedules what the general way (`client`) would, in the same order, so that no digest tells which
//! way it went. Whatever goes wrong with it goes on in the general way: its records are the same, but for their second cache lines, which
//! nobody has touched as long as all goes well.
//! Not here: all other calls (`client`), and what a request does at its service (`server`).

use models::rng::Key;

use super::State;
use super::client::choose_path;
use super::queue::Kind;
use super::records::{Call, Exec, Parent, Phase, Role};
use super::slab::Empty;
use crate::program::{HopP, NONE, StepP, Tables};

impl State {
    /// Makes the next of several calls that may be left out, or goes on after the last of them, if a request waits for nothing.
    #[inline(never)]
    pub(super) fn pass_optional_calls(&mut self, p: &Tables, x: u32) {
        let exec = &mut self.execs[x];
        let key = exec.key;
        let options = &p.options[exec.step as usize..];
        exec.step += options.iter().take_while(|option| key.draw_of(option.draw) < option.below).count() as u32;
        let site = match p.steps[exec.step as usize] {
            StepP::Call(site) | StepP::Optional(site) => site,
            StepP::End { error } if !error.may_hit() => {
                self.finish(p, x, None);
                return;
            }
            _ => NONE,
        };
        match p.hops.get(site as usize) {
            Some(hop) if hop.plain && !self.effects.on_edge(hop.edge) => self.call_plainly(p, x, site, hop),
            _ => self.advance_anyhow(p, x),
        }
    }

    /// The next step of a request is a plain call over an edge that no fault is on.
    #[inline(always)]
    pub(super) fn call_plainly(&mut self, p: &Tables, x: u32, site: u32, hop: &HopP) {
        let c = self.calls.reserve();
        let exec = &mut self.execs[x];
        exec.step += 1;
        (exec.phase, exec.pending, exec.wanted, exec.first_call) = (Phase::Waiting, 1, 1, c);
        let (key, line, request) = (exec.key, exec.line, exec.request);
        self.open_plain_call(p, c, Parent::Exec, x, site, hop, key, line, request);
    }

    /// What [`State::open_call`] does for the one plain call that a user or a request at a service waits for, where no fault is on its edge.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of the call")]
    #[inline(always)]
    pub(super) fn open_plain_call(
        &mut self,
        p: &Tables,
        c: u32,
        from: Parent,
        parent: u32,
        site: u32,
        hop: &HopP,
        parent_key: Key,
        parent_line: Key,
        request: u32,
    ) {
        let y = self.execs.reserve();
        let key = parent_key.child(hop.site, 0, 0);
        let line = if parent_key == parent_line { key } else { parent_line.child(hop.site, 0, 0) };
        self.recorder.attempt(hop.edge, hop.inner, false);
        let mut timeout = 0;
        if hop.timeout > 0 {
            timeout = self.queue.push_lane(u32::from(hop.timeout_lane), self.now + hop.timeout, Kind::Timeout, c);
        }
        let call = &mut self.calls[c];
        if call.spread {
            *call = Call::EMPTY;
        }
        debug_assert!(call.is_narrow());
        (call.parent_key, call.key, call.began) = (parent_key, key, self.now);
        (call.event, call.timeout, call.site, call.exec, call.parent, call.request) = (0, timeout, site, y, parent, request);
        (call.attempt, call.from, call.reply, call.hit, call.open, call.plain) = (0, from, None, false, true, true);
        if parent_line != parent_key {
            (call.other_line, call.spread) = (parent_line, true);
        }
        let replica = if hop.replica != NONE && !self.effects.any {
            hop.replica
        } else if let Some(replica) = self.choose_replica(p, hop.callee, hop.edge, key) {
            replica
        } else {
            self.execs.remove(y);
            self.touch_at(hop.callee, request);
            self.connection_error(p, c);
            return;
        };
        let step = if hop.first_step != NONE { hop.first_step } else { choose_path(p, hop.first_path, hop.paths, key) };
        let mut event = 0;
        if hop.latency > 0 {
            event = self.queue.push_lane(u32::from(hop.request_lane), self.now + hop.latency, Kind::Request, y);
        }
        let exec = &mut self.execs[y];
        if exec.spread {
            *exec = Exec { uses: exec.uses, ..Exec::EMPTY };
        }
        debug_assert!(exec.is_narrow());
        (exec.key, exec.line, exec.event, exec.call, exec.request) = (key, line, event, c, request);
        (exec.step, exec.replica, exec.first_call, exec.pending, exec.wanted) = (step, replica, NONE, 0, 0);
        (exec.works, exec.phase, exec.role, exec.flags) = (0, Phase::InTransit, Role::Plain, 0);
        exec.uses = exec.uses.wrapping_add(1);
        if hop.latency == 0 {
            self.request_arrives(p, y);
        }
    }

    /// A reply has arrived. Returns the request that can go on at once because of it, if there is one.
    #[inline(always)]
    pub(super) fn take_reply(&mut self, p: &Tables, c: u32) -> Option<u32> {
        let call = &mut self.calls[c];
        let e = p.hops[call.site as usize].edge;
        if !call.plain || call.reply.is_some() || self.effects.on_edge(e) {
            self.reply_arrives_anyhow(p, c);
            return None;
        }
        // The way of most: what `reply_arrives_anyhow` does, where nothing has to be thought of but who waited for this reply alone.
        (call.event, call.timeout, call.open) = (0, 0, false);
        let (x, from) = (call.parent, call.from);
        self.recorder.call_ended(e, self.now - call.began, call.attempt, false);
        self.calls.remove(c);
        if from == Parent::Entry {
            let Call { request, began, parent_key, .. } = self.calls[c];
            self.user_done(x, request, began, parent_key, None);
            return None;
        }
        let exec = &mut self.execs[x];
        debug_assert!(exec.first_call == c && exec.pending == 1 && exec.phase == Phase::Waiting, "it waits for this call alone");
        (exec.first_call, exec.pending, exec.wanted, exec.phase) = (NONE, 0, 0, Phase::Ready);
        Some(x)
    }
}
