//! Replicas and caches die and come back.
//!
//! You are here: `sim::des::crash`. `faults` says who and when.
//! Always true: a crash loses work, queue, and what is only in memory; callers get a connection error at once unless it is silent.

use super::State;
use super::records::Role;
use crate::program::{NONE, Tables};

impl State {
    /// Kills a replica: its work, queue and open calls are gone; its callers get a connection error at once unless `silent`.
    pub(super) fn crash(&mut self, p: &Tables, r: u32, silent: bool) {
        if self.counts(p, r) {
            self.serves(r, false);
        }
        let replica = &mut self.replicas[r as usize];
        (replica.up, replica.silent) = (false, silent);
        let mut cut = Vec::new();
        for x in 0..self.execs.slots() {
            let exec = &self.execs[x];
            if !exec.is_present() || exec.replica != r {
                continue;
            }
            let call = exec.call;
            self.kill(p, x);
            if call != NONE {
                self.calls[call].exec = NONE;
                cut.push(call);
            }
        }
        let replica = &mut self.replicas[r as usize];
        debug_assert_eq!(replica.present, 0, "all who were there are dead");
        (replica.queued, replica.head, replica.tail) = (0, NONE, NONE);
        self.restart_control(p, r);
        if !silent {
            for call in cut {
                // It may have been let go meanwhile, by a caller that was killed too.
                if self.calls[call].open && self.calls[call].exec == NONE && self.calls[call].event == 0 {
                    self.connection_error(p, call);
                }
            }
        }
    }

    /// A replica is up again, cold.
    pub(super) fn restart(&mut self, p: &Tables, r: u32) {
        if self.counts(p, r) {
            self.serves(r, true);
        }
        let replica = &mut self.replicas[r as usize];
        (replica.up, replica.started) = (true, self.now);
    }

    /// A cache's contents are gone.
    pub(super) fn empty_cache(&mut self, service: u32) {
        if let Some(contents) = &mut self.contents[service as usize] {
            contents.clear();
        }
    }

    /// Work that is under way at a service stands still for a while.
    pub(super) fn pause(&mut self, p: &Tables, service: u32, lasting: u64) {
        use super::queue::Kind;
        use super::records::Phase;
        let s = &p.services[service as usize];
        let replicas = s.replica_base..s.replica_base + s.most_replicas;
        let mut standing: Vec<(super::queue::Event, u32)> = (self.queue.pending())
            .filter(|event| event.kind() == Kind::WorkDone)
            .filter(|event| {
                let exec = &self.execs[event.slot()];
                exec.event == event.id() && exec.phase == Phase::Working && exec.role != Role::Publish
            })
            .filter(|event| replicas.contains(&self.execs[event.slot()].replica))
            .map(|event| (event, event.slot()))
            .collect();
        standing.sort_unstable();
        for (event, x) in standing {
            self.recorder.touch(self.execs[x].request);
            self.execs[x].event = self.queue.push(event.time() + lasting, Kind::WorkDone, x);
        }
    }
}
