//! What the state is made of: requests at services, calls, replicas.
//!
//! You are here: `sim::des::records`. Plain data; `client` and `server` and their helpers change it.
//! Always true: a record is two cache lines, and what every request needs lies in the first; links are slots of the slabs in `State`.

use models::rng::Key;
use models::system::Cause;

use super::slab::Empty;
use crate::program::{FAR_NS, NONE};

/// A request at a service, from its sending to its answer.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Exec {
    /// Names this attempt.
    pub(super) key: Key,
    /// Names the request whatever the attempt: what it asks a cache for, and the key of its messages, do not change with a retry.
    pub(super) line: Key,
    /// Id of the event it waits for.
    pub(super) event: u64,
    pub(super) arrived: u64,
    /// The call that waits for it; `NONE` once the caller has given up.
    pub(super) call: u32,
    pub(super) request: u32,
    /// The next step.
    pub(super) step: u32,
    /// Where it is; of a message on its way (`Role::Publish`): the topic.
    pub(super) replica: u32,
    /// The first of its open calls.
    pub(super) first_call: u32,
    /// Branches that are still waited for, and successes still needed.
    pub(super) pending: u16,
    pub(super) wanted: u16,
    pub(super) works: u16,
    pub(super) phase: Phase,
    pub(super) role: Role,
    /// What else is to be known of it.
    pub(super) flags: u8,
    /// Its second cache line is not as in [`Exec::EMPTY`].
    pub(super) spread: bool,
    /// Counts uses of the slot, so that a note of it that lives no longer than an event can be known to be stale.
    pub(super) uses: u16,
    // The second cache line: for those who wait, and for what few models use. Plain calls never touch it.
    /// When it began to wait for a worker; in transit, until when a fault holds it back where it can still be let go.
    pub(super) waits_since: u64,
    /// When nobody wants its answer any more; `FAR_NS`: never.
    pub(super) deadline: u64,
    pub(super) next: u32,
    pub(super) prev: u32,
    /// Tells publishes from each other, so that a note of one can be known to be stale.
    pub(super) generation: u32,
    pub(super) cache_key: u32,
    /// The message that it handles.
    pub(super) message: u32,
}

/// Flags of an [`Exec`].
pub(super) mod flag {
    /// It holds a worker.
    pub(crate) const WORKER: u8 = 1;
    /// Its caller gave up.
    pub(crate) const ABANDONED: u8 = 1 << 1;
    /// A callee's failure is to be its own.
    pub(crate) const FAILED: u8 = 1 << 2;
    /// A callee failed, and it goes on all the same.
    pub(crate) const DEGRADED: u8 = 1 << 3;
    /// It fails at the end of its work whatever happens.
    pub(crate) const POISONED: u8 = 1 << 4;
    /// It handles a message.
    pub(crate) const MESSAGE: u8 = 1 << 5;
    /// It asks or fills a cache.
    pub(crate) const CACHE: u8 = 1 << 6;
    /// Nobody wants its answer from some time on.
    pub(crate) const DEADLINE: u8 = 1 << 7;
}

impl Empty for Exec {
    const EMPTY: Exec = Exec {
        key: Key(0),
        line: Key(0),
        event: 0,
        arrived: 0,
        call: NONE,
        request: 0,
        step: 0,
        replica: 0,
        first_call: NONE,
        pending: 0,
        wanted: 0,
        works: 0,
        phase: Phase::Free,
        role: Role::Plain,
        flags: 0,
        spread: false,
        uses: 0,
        waits_since: 0,
        deadline: FAR_NS,
        next: NONE,
        prev: NONE,
        generation: 0,
        cache_key: 0,
        message: NONE,
    };
}

impl Exec {
    /// Whether its second cache line is as in [`Exec::EMPTY`].
    pub(super) fn is_narrow(&self) -> bool {
        let Exec { waits_since, deadline, next, prev, generation, cache_key, message, .. } = Exec::EMPTY;
        (self.waits_since, self.deadline) == (waits_since, deadline)
            && (self.next, self.prev, self.generation) == (next, prev, generation)
            && (self.cache_key, self.message) == (cache_key, message)
    }

    #[inline]
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it is at a service's replica: arrived, and not yet gone.
    #[inline]
    pub(super) fn is_present(&self) -> bool {
        self.role != Role::Publish && matches!(self.phase, Phase::Queued | Phase::Working | Phase::Waiting | Phase::Ready)
    }
}

/// What a request at a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Free,
    InTransit,
    Queued,
    Working,
    Waiting,
    Ready,
    /// A publish that waits for a place in its topic.
    Blocked,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Plain,
    /// A message is given to its topic.
    Publish,
    /// A cache is asked.
    Ask,
    /// The store behind the cache is asked.
    Origin,
    /// The cache is given what the store answered.
    Fill,
}

/// Who made a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// A request at a service waits for it.
    Exec,
    /// A user of this entry (open loop) waits for it.
    Entry,
    /// This user of a closed loop waits for it.
    User,
    /// A topic delivers this message.
    Message,
    /// It is one of the tries of this hedged call.
    Hedge,
    /// Nobody waits for it.
    Nobody,
}

/// A call: all its tries, and all its repetitions.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Call {
    pub(super) parent_key: Key,
    /// Names the current try.
    pub(super) key: Key,
    pub(super) began: u64,
    /// Id of the reply, end of wait or hedge that it waits for.
    pub(super) event: u64,
    /// Id of its timeout.
    pub(super) timeout: u64,
    pub(super) site: u32,
    /// The request in progress at the callee.
    pub(super) exec: u32,
    /// The slot of who made it, by `from`.
    pub(super) parent: u32,
    pub(super) request: u32,
    pub(super) attempt: u16,
    pub(super) from: Parent,
    pub(super) reply: Option<Cause>,
    pub(super) hit: bool,
    pub(super) open: bool,
    /// Its site is a plain one, and it is the only call that its caller waits for.
    pub(super) plain: bool,
    /// Its second cache line is not as in [`Call::EMPTY`].
    pub(super) spread: bool,
    // The second cache line. Plain calls touch it only if they are tried again.
    /// The line of who made it; 0 if that is its key.
    pub(super) other_line: Key,
    pub(super) previous_wait: u64,
    /// When it fails whatever happens; `FAR_NS`: never.
    pub(super) deadline: u64,
    /// Neighbours among its parent's open calls, or among a hedged call's tries.
    pub(super) next_open: u32,
    pub(super) previous_open: u32,
    /// Its caller's budget, breaker and limits.
    pub(super) client: u32,
    pub(super) lookup: u32,
    pub(super) cache_key: u32,
    /// The next who waits for the same connection, or for the same answer of a store.
    pub(super) next_waiter: u32,
    /// The first of a hedged call's open tries.
    pub(super) first_hedge: u32,
    pub(super) repetition: u16,
    pub(super) repetitions: u16,
    /// Hedged tries sent.
    pub(super) hedges: u16,
    pub(super) role: Role,
    /// A half-open breaker let it through to see.
    pub(super) probe: bool,
    /// Counts in its caller's bulkhead.
    pub(super) in_bulkhead: bool,
    /// Holds a connection of its caller's pool, or waits for one.
    pub(super) link: Link,
    /// It waits for the answer that another request of its caller's replica has asked the store for.
    pub(super) follows: bool,
}

impl Empty for Call {
    const EMPTY: Call = Call {
        parent_key: Key(0),
        other_line: Key(0),
        key: Key(0),
        began: 0,
        event: 0,
        timeout: 0,
        site: 0,
        exec: NONE,
        parent: NONE,
        request: 0,
        next_open: NONE,
        previous_open: NONE,
        client: 0,
        lookup: NONE,
        cache_key: 0,
        next_waiter: NONE,
        attempt: 0,
        repetition: 0,
        repetitions: 1,
        hedges: 0,
        previous_wait: 0,
        deadline: FAR_NS,
        first_hedge: NONE,
        from: Parent::Nobody,
        role: Role::Plain,
        reply: None,
        hit: false,
        probe: false,
        open: false,
        in_bulkhead: false,
        link: Link::None,
        follows: false,
        plain: false,
        spread: false,
    };
}

impl Call {
    /// Whether its second cache line is as in [`Call::EMPTY`].
    pub(super) fn is_narrow(&self) -> bool {
        let Call { other_line, previous_wait, deadline, next_open, previous_open, client, lookup, .. } = Call::EMPTY;
        let Call { cache_key, next_waiter, first_hedge, repetition, repetitions, hedges, .. } = Call::EMPTY;
        let Call { role, probe, in_bulkhead, link, follows, .. } = Call::EMPTY;
        let (waits, ways) = ((previous_wait, deadline), (role, probe, in_bulkhead, link, follows));
        let links = (next_open, previous_open, client, lookup, cache_key, next_waiter, first_hedge);
        self.other_line == other_line
            && (self.previous_wait, self.deadline) == waits
            && (self.next_open, self.previous_open, self.client, self.lookup) == (links.0, links.1, links.2, links.3)
            && (self.cache_key, self.next_waiter, self.first_hedge) == (links.4, links.5, links.6)
            && (self.repetition, self.repetitions, self.hedges) == (repetition, repetitions, hedges)
            && (self.role, self.probe, self.in_bulkhead, self.link, self.follows) == ways
    }

    /// Names the request of who made it, whatever the attempt.
    #[inline]
    pub(super) fn parent_line(&self) -> Key {
        if self.other_line == Key(0) { self.parent_key } else { self.other_line }
    }
}

/// What is to be kept as a call's `other_line`.
#[inline]
pub(super) fn other_line(parent_key: Key, parent_line: Key) -> Key {
    if parent_line == parent_key { Key(0) } else { parent_line }
}

/// A try and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// There is no pool, or no try.
    None,
    /// In line for one.
    Waits,
    /// Has just been given one, and leaves at once through the event queue.
    Granted,
    /// Has one.
    Held,
}

const _: () = assert!(size_of::<Exec>() == 128 && size_of::<Call>() == 128, "two cache lines each");
const _: () = assert!(std::mem::offset_of!(Exec, waits_since) == 64 && std::mem::offset_of!(Call, other_line) == 64);

/// One replica of a service.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Replica {
    pub(super) busy: u32,
    pub(super) limit: u32,
    pub(super) present: u32,
    pub(super) queued: u32,
    pub(super) queue_bound: u32,
    pub(super) head: u32,
    pub(super) tail: u32,
    pub(super) service: u32,
    pub(super) node: u32,
    /// When it last started, for its warm-up; `FAR_NS`: warm from the beginning.
    pub(super) started: u64,
    pub(super) up: bool,
    /// Down without a word: nobody is refused.
    pub(super) silent: bool,
    /// Callers choose it.
    pub(super) listed: bool,
    /// On its way up by autoscaling.
    pub(super) starting: bool,
    // Copies of its service's, to have them at hand.
    pub(super) lifo: bool,
    pub(super) blocking: bool,
    pub(super) cancel: bool,
    /// Has shedding, an adaptive limit, contention, a warm-up or autoscaling: look at its service.
    pub(super) special: bool,
}
