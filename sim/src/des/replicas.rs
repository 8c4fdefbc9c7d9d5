//! Which replicas a service has, and which one a try goes to: load balancing, health checks, autoscaling.
//!
//! You are here: `sim::des::replicas`. `client` asks for a replica, `crash` tells who went down and came back.
//! Always true: `listed` holds the replicas that callers choose among, rising; a replica may be listed and down (nobody has noticed yet), or
//! up and not listed (it is on its way out, or nobody has noticed yet that it is back).

use models::rng::{Key, Purpose, below};
use models::system::Balance;

use super::queue::Kind;
use super::records::Replica;
use super::{Mark, State};
use crate::program::{AutoscaleP, FAR_NS, NONE, ServiceP, Tables};

/// What changes of a service as a whole.
#[derive(Clone, Debug)]
pub(crate) struct ServiceState {
    /// Replicas that callers choose among.
    pub(super) listed: Vec<u32>,
    /// Replicas that there are to be, if they are scaled.
    pub(crate) wanted: u32,
    /// Signed sum of the instants at which workers were taken (-) and freed (+): with those still held counted up to now, the busy
    /// worker-nanoseconds since the last look. Kept only for services that are scaled.
    pub(super) busy: i128,
    pub(super) busy_now: u32,
    /// The same of its wanted replicas that are up.
    pub(super) serving: i128,
    pub(super) serving_now: u32,
    /// Since when fewer replicas would have been enough; `FAR_NS`: they would not.
    pub(super) fewer_since: u64,
    /// The most that would have been enough since then.
    pub(super) fewer: u32,
}

impl ServiceState {
    pub(crate) fn new(s: &ServiceP) -> Self {
        ServiceState {
            listed: (s.replica_base..s.replica_base + s.replicas).collect(),
            wanted: s.replicas,
            busy: 0,
            busy_now: 0,
            serving: 0,
            serving_now: s.replicas,
            fewer_since: FAR_NS,
            fewer: 0,
        }
    }

    /// A worker was taken or freed at `now`.
    pub(crate) fn worker(&mut self, taken: bool, now: u64) {
        if taken {
            self.busy -= i128::from(now);
            self.busy_now += 1;
        } else {
            self.busy += i128::from(now);
            self.busy_now -= 1;
        }
    }

    /// A wanted replica is up, or no longer.
    pub(crate) fn serves(&mut self, up: bool, now: u64) {
        if up {
            self.serving -= i128::from(now);
            self.serving_now += 1;
        } else {
            self.serving += i128::from(now);
            self.serving_now -= 1;
        }
    }

    /// Looks at the utilisation since the last look: how many replicas were wanted, and are from now on. `None`: fewer would do, but have
    /// not for long enough. (The rule of the Kubernetes horizontal pod autoscaler.)
    pub(crate) fn look(&mut self, s: &ServiceP, policy: &AutoscaleP, now: u64) -> Option<(u32, u32)> {
        let busy_ns = (self.busy + i128::from(self.busy_now) * i128::from(now)).max(0) as u128;
        self.busy = -(i128::from(self.busy_now) * i128::from(now));
        let serving_ns = (self.serving + i128::from(self.serving_now) * i128::from(now)).max(0) as u128;
        self.serving = -(i128::from(self.serving_now) * i128::from(now));
        let capacity_ns = u128::from(s.workers) * serving_ns;
        let utilisation_q16 = ((busy_ns << 16) / capacity_ns.max(1)) as u64;
        let ratio_q16 = (utilisation_q16 << 16) / policy.target_q16;
        let mut wanted = self.wanted;
        if ratio_q16.abs_diff(1 << 16) * 10 > 1 << 16 {
            let exact = (u128::from(self.wanted) * u128::from(ratio_q16)).div_ceil(1 << 16);
            wanted = u32::try_from(exact).unwrap_or(u32::MAX).clamp(policy.min, policy.max);
        }
        if wanted < self.wanted {
            if self.fewer_since == FAR_NS {
                (self.fewer_since, self.fewer) = (now, wanted);
            }
            self.fewer = self.fewer.max(wanted);
            if now - self.fewer_since < policy.down_after {
                return None;
            }
            wanted = self.fewer;
        }
        self.fewer_since = FAR_NS;
        Some((std::mem::replace(&mut self.wanted, wanted), wanted))
    }
}

/// The replicas of a service at time 0: those that only autoscaling starts are not up.
pub(super) fn replicas_of(service: u32, s: &ServiceP) -> impl Iterator<Item = Replica> {
    let special = s.shed_expired
        || s.codel.is_some()
        || s.adaptive.is_some()
        || s.contention.is_some()
        || s.warm_up.is_some()
        || s.autoscale.is_some();
    (0..s.most_replicas).map(move |n| Replica {
        busy: 0,
        limit: s.workers,
        present: 0,
        queued: 0,
        queue_bound: s.queue,
        head: NONE,
        tail: NONE,
        service,
        node: s.node,
        started: FAR_NS,
        up: n < s.replicas,
        silent: false,
        listed: n < s.replicas,
        starting: false,
        lifo: s.lifo,
        blocking: s.blocking,
        cancel: s.cancel,
        special,
    })
}

/// Which of the `listed` replicas the try that `key` names goes to; `None` if there is none. `turn` is its edge's round-robin pointer, `present` tells
/// how many requests a replica has.
pub(crate) fn balanced(balance: Balance, listed: &[u32], turn: &mut u32, key: Key, present: impl Fn(u32) -> u32) -> Option<u32> {
    let n = listed.len();
    if n == 0 {
        return None;
    }
    let any = |draw| listed[below(key.draw(Purpose::Balance, draw), n as u64) as usize];
    Some(match balance {
        Balance::RoundRobin => {
            let at = if (*turn as usize) < n { *turn as usize } else { 0 };
            *turn = if at + 1 == n { 0 } else { at as u32 + 1 };
            listed[at]
        }
        Balance::Random => any(0),
        Balance::LeastOutstanding => *listed.iter().min_by_key(|&&r| present(r)).expect("at least one is listed"),
        Balance::TwoChoices => {
            let (a, b) = (any(0), any(1));
            if present(b) < present(a) { b } else { a }
        }
    })
}

impl State {
    /// Which replica of a service a try goes to; `None` if callers know of none.
    #[inline]
    pub(super) fn choose_replica(&mut self, p: &Tables, service: u32, edge: u32, key: Key) -> Option<u32> {
        let s = &p.services[service as usize];
        if s.most_replicas == 1 && self.replicas[s.replica_base as usize].listed {
            return Some(s.replica_base);
        }
        let replicas = &self.replicas;
        let present = |r: u32| replicas[r as usize].present;
        balanced(s.balance, &self.services[service as usize].listed, &mut self.turns[edge as usize], key, present)
    }

    /// Callers choose a replica from now on, or no longer.
    pub(super) fn list(&mut self, r: u32, listed: bool) {
        let replica = &mut self.replicas[r as usize];
        if replica.listed == listed {
            return;
        }
        replica.listed = listed;
        let list = &mut self.services[replica.service as usize].listed;
        match list.binary_search(&r) {
            Ok(at) => drop(list.remove(at)),
            Err(at) => list.insert(at, r),
        }
    }

    /// A replica has gone down, or come up: callers will notice if they check.
    pub(super) fn will_notice(&mut self, p: &Tables, r: u32, up: bool) {
        if let Some((down_after, up_after)) = p.services[self.replicas[r as usize].service as usize].health_check {
            let after = if up { up_after } else { down_after };
            self.queue.push(self.now + after, Kind::Notice, r);
        }
    }

    /// Callers learn how a replica is, or a replica that autoscaling has ordered is there.
    pub(super) fn notice(&mut self, p: &Tables, r: u32) {
        let replica = &mut self.replicas[r as usize];
        let (service, up) = (replica.service, replica.up);
        if replica.starting {
            replica.starting = false;
            replica.up = true;
            replica.started = self.now;
            self.serves(r, true);
            self.note(Mark::Scaled, r, Key(1));
            self.list(r, true);
            return;
        }
        let s = &p.services[service as usize];
        // A replica that scaling has sent away stays away, however well it is.
        let belongs = s.autoscale.is_none() || !up || self.replicas[r as usize].listed || self.is_wanted(s, r);
        if belongs && self.replicas[r as usize].listed != up {
            self.note(Mark::Scaled, r, Key(2 + u64::from(up)));
            self.list(r, up);
        }
    }

    /// Whether a replica, while it is up, is one of those that are wanted.
    pub(super) fn counts(&self, p: &Tables, r: u32) -> bool {
        let replica = &self.replicas[r as usize];
        !replica.starting && self.is_wanted(&p.services[replica.service as usize], r)
    }

    fn is_wanted(&self, s: &ServiceP, r: u32) -> bool {
        r - s.replica_base < self.services[self.replicas[r as usize].service as usize].wanted
    }

    /// A worker of a scaled service was taken or freed.
    pub(super) fn worker_of_scaled(&mut self, service: u32, taken: bool) {
        self.services[service as usize].worker(taken, self.now);
    }

    /// A wanted replica is up, or no longer.
    pub(super) fn serves(&mut self, r: u32, up: bool) {
        self.services[self.replicas[r as usize].service as usize].serves(up, self.now);
    }

    /// Looks at a service's utilisation, and starts or sends away replicas.
    pub(super) fn scale(&mut self, p: &Tables, service: u32) {
        let s = &p.services[service as usize];
        let policy = s.autoscale.expect("only scaled services are looked at");
        self.queue.push(self.now + policy.every, Kind::Scale, service);
        let Some((before, wanted)) = self.services[service as usize].look(s, &policy, self.now) else { return };
        for r in s.replica_base + wanted..s.replica_base + before {
            self.replicas[r as usize].starting = false;
            if self.replicas[r as usize].up {
                self.serves(r, false);
            }
            self.list(r, false); // it finishes what it has
        }
        for r in s.replica_base + before..s.replica_base + wanted {
            // One that is still finishing what it had starts anew.
            self.replicas[r as usize].starting = true;
            self.queue.push(self.now + policy.start_up, Kind::Notice, r);
        }
    }
}
