//! The caller's own limits: bulkheads and connection pools.
//!
//! You are here: `sim::des::limits`. `client` asks before a call begins and before a try leaves.
//! Always true: `in_flight` counts the open calls that are marked `in_bulkhead`, `held` the tries with a connection; tries that wait for
//! one stand in line by `next_waiter`, first come first served, each with its timeout running.

use models::system::Cause;

use super::State;
use super::queue::Kind;
use super::records::Link;
use crate::program::{NONE, Tables};

/// What one calling replica has under way over one edge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) in_flight: u32,
    pub(super) held: u32,
    pub(super) waiting: u32,
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Limits {
    pub(super) fn new() -> Self {
        Limits { in_flight: 0, held: 0, waiting: 0, first: NONE, last: NONE }
    }
}

impl State {
    pub(super) fn leave_bulkhead(&mut self, c: u32) {
        let call = &mut self.calls[c];
        if call.in_bulkhead {
            call.in_bulkhead = false;
            self.clients[call.client as usize].limits.in_flight -= 1;
        }
    }

    /// Whether a try has a connection now. If not, it waits for one, or has failed because too many wait.
    pub(super) fn take_connection(&mut self, p: &Tables, c: u32) -> bool {
        let call = &mut self.calls[c];
        let (connections, places) = p.policies[p.sites[call.site as usize].edge as usize].pool.expect("asked with a pool alone");
        let limits = &mut self.clients[call.client as usize].limits;
        if limits.held < connections && limits.waiting == 0 {
            limits.held += 1;
            call.link = Link::Held;
            return true;
        }
        if limits.waiting >= places {
            self.try_failed(p, c, Cause::Bulkhead);
            return false;
        }
        limits.waiting += 1;
        call.link = Link::Waits;
        call.next_waiter = NONE;
        match std::mem::replace(&mut limits.last, c) {
            NONE => limits.first = c,
            last => self.calls[last].next_waiter = c,
        }
        self.arm_timeout(p, c);
        false
    }

    /// A try gives its connection on, or leaves the line for one.
    pub(super) fn leave_connection(&mut self, c: u32) {
        let call = &mut self.calls[c];
        let client = call.client as usize;
        match std::mem::replace(&mut call.link, Link::None) {
            Link::None => {}
            Link::Waits => self.leave_line(client, c),
            Link::Granted | Link::Held => {
                let next = self.clients[client].limits.first;
                if next == NONE {
                    self.clients[client].limits.held -= 1;
                    return;
                }
                self.leave_line(client, next);
                // Through the event queue, so that a thousand tries that are refused at once do not stand on each other's shoulders.
                let event = self.queue.push(self.now, Kind::Resend, next);
                let call = &mut self.calls[next];
                (call.link, call.event) = (Link::Granted, event);
            }
        }
    }

    fn leave_line(&mut self, client: usize, c: u32) {
        let after = self.calls[c].next_waiter;
        let limits = &mut self.clients[client].limits;
        limits.waiting -= 1;
        if limits.first == c {
            limits.first = after;
            if after == NONE {
                limits.last = NONE;
            }
            return;
        }
        let mut before = limits.first;
        while self.calls[before].next_waiter != c {
            before = self.calls[before].next_waiter;
        }
        self.calls[before].next_waiter = after;
        let limits = &mut self.clients[client].limits;
        if limits.last == c {
            limits.last = before;
        }
    }
}
