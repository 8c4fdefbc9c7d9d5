//! CHAIN-3 as one would write it by hand for this case alone: what the kernel's speed is held against.
//!
//! You are here: `benches/peers/chain3.rs`. The kernel's bench includes it and times both; a test holds its results.
//! Always true: no metrics but a count and a sum; one binary heap of the standard library, in which timeouts that came to
//! nothing stay until their time.
//! Not here: anything of the kernel.
//!
//! The case: requests arrive as a Poisson process, 100 a second, at A, which calls B, which calls C. Each has 16 workers and an
//! unbounded FIFO queue; a request holds its worker for its own work, exponential with mean 20 ms, and then for its call. Every
//! caller (the client, A, B) waits 500 ms, tries 4 times in all, and waits uniform(0, 50 ms x 2^k) before retry k = 0, 1, 2. C fails
//! 5 % of its calls as it completes them. Work whose caller has given up goes on. The network takes no time.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

const ARRIVALS_PER_S: f64 = 100.0;
const WORKERS: u32 = 16;
const WORK_S: f64 = 0.020;
const TIMEOUT_NS: u64 = 500_000_000;
const TRIES: u8 = 4;
const BACKOFF_S: f64 = 0.050;
const ERROR_RATE: f64 = 0.05;
/// A, B and C are services 0, 1 and 2.
const LAST: usize = 2;

/// Simulates `requests` requests to their end.
///
/// Returns the mean response time in seconds, failed requests included, and the attempts per request over the three hops.
pub fn chain3(requests: u64, seed: u64) -> (f64, f64) {
    let mut chain = Chain {
        now: 0,
        sequence: 0,
        events: BinaryHeap::new(),
        jobs: Vec::new(),
        free: Vec::new(),
        services: [Service::default(), Service::default(), Service::default()],
        attempts: 0,
        ended: 0,
        response_ns: 0,
        random: Xoshiro256::new(seed),
    };
    chain.run(requests);
    (chain.response_ns as f64 / 1e9 / chain.ended as f64, chain.attempts as f64 / chain.ended as f64)
}

/// A request of the client, or an attempt that a service works on.
struct Job {
    /// Where it is worked on; `None` for the client's own request, which holds no worker.
    service: Option<usize>,
    /// The job that sent this attempt, and the attempt's number, by which that job knows whether it still waits for it.
    caller: u32,
    attempt: u64,
    /// The attempt that this job waits for; 0 = none. Attempt numbers are never used twice.
    awaited: u64,
    tries: u8,
    started: u64,
}

#[derive(Default)]
struct Service {
    busy: u32,
    queue: VecDeque<u32>,
}

enum What {
    Arrival,
    WorkDone { job: u32 },
    Timeout { job: u32, attempt: u64 },
    Retry { job: u32 },
}

struct Event {
    time: u64,
    sequence: u64,
    what: What,
}

impl Ord for Event {
    /// The heap gives its greatest first: the earliest time, then the lowest sequence number.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.time, other.sequence).cmp(&(self.time, self.sequence))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

struct Chain {
    now: u64,
    sequence: u64,
    events: BinaryHeap<Event>,
    jobs: Vec<Job>,
    free: Vec<u32>,
    services: [Service; LAST + 1],
    attempts: u64,
    ended: u64,
    response_ns: u64,
    random: Xoshiro256,
}

impl Chain {
    fn run(&mut self, requests: u64) {
        let mut arrived = 0;
        self.after(0, What::Arrival);
        while let Some(event) = self.events.pop() {
            self.now = event.time;
            match event.what {
                What::Arrival => {
                    arrived += 1;
                    if arrived < requests {
                        let gap = self.random.exponential_ns(1.0 / ARRIVALS_PER_S);
                        self.after(gap, What::Arrival);
                    }
                    let request = self.job(Job { service: None, caller: 0, attempt: 0, awaited: 0, tries: 0, started: self.now });
                    self.send(request);
                }
                What::WorkDone { job } => self.work_done(job),
                What::Timeout { job, attempt } => {
                    if self.jobs[job as usize].awaited == attempt {
                        self.attempt_ended(job, false);
                    }
                }
                What::Retry { job } => self.send(job),
            }
        }
    }

    fn after(&mut self, delay: u64, what: What) {
        self.sequence += 1;
        self.events.push(Event { time: self.now + delay, sequence: self.sequence, what });
    }

    fn job(&mut self, job: Job) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.jobs[slot as usize] = job;
            return slot;
        }
        self.jobs.push(job);
        self.jobs.len() as u32 - 1
    }

    /// `caller` sends its next attempt to the service behind its own.
    fn send(&mut self, caller: u32) {
        self.attempts += 1;
        let attempt = self.attempts;
        let sender = &mut self.jobs[caller as usize];
        sender.awaited = attempt;
        sender.tries += 1;
        let to = sender.service.map_or(0, |service| service + 1);
        self.after(TIMEOUT_NS, What::Timeout { job: caller, attempt });
        let job = self.job(Job { service: Some(to), caller, attempt, awaited: 0, tries: 0, started: self.now });
        if self.services[to].busy < WORKERS {
            self.services[to].busy += 1;
            self.work(job);
        } else {
            self.services[to].queue.push_back(job);
        }
    }

    fn work(&mut self, job: u32) {
        let time = self.random.exponential_ns(WORK_S);
        self.after(time, What::WorkDone { job });
    }

    fn work_done(&mut self, job: u32) {
        if self.jobs[job as usize].service == Some(LAST) {
            let good = self.random.uniform() >= ERROR_RATE;
            self.reply(job, good);
        } else {
            self.send(job);
        }
    }

    /// An attempt that `job` waited for has ended.
    fn attempt_ended(&mut self, job: u32, good: bool) {
        let waiting = &mut self.jobs[job as usize];
        waiting.awaited = 0;
        if good || waiting.tries == TRIES {
            self.reply(job, good);
        } else {
            let most = BACKOFF_S * f64::from(1_u32 << (waiting.tries - 1));
            let wait = (self.random.uniform() * most * 1e9) as u64;
            self.after(wait, What::Retry { job });
        }
    }

    /// A job is over: its worker takes the next, and its caller learns of it if it still waits.
    fn reply(&mut self, job: u32, good: bool) {
        let Job { service, caller, attempt, started, .. } = self.jobs[job as usize];
        self.free.push(job);
        let Some(service) = service else {
            self.ended += 1;
            self.response_ns += self.now - started;
            return;
        };
        match self.services[service].queue.pop_front() {
            Some(next) => self.work(next),
            None => self.services[service].busy -= 1,
        }
        if self.jobs[caller as usize].awaited == attempt {
            self.attempt_ended(caller, good);
        }
    }
}

/// xoshiro256++ (Blackman and Vigna, 2019), seeded through SplitMix64 as its authors advise.
struct Xoshiro256([u64; 4]);

impl Xoshiro256 {
    fn new(mut seed: u64) -> Self {
        Xoshiro256(std::array::from_fn(|_| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// In 0..1, 53 bits.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "speed is compared with this, never bits: the platform's ln is the fair choice"
    )]
    fn exponential_ns(&mut self, mean_s: f64) -> u64 {
        (-(1.0 - self.uniform()).ln() * mean_s * 1e9) as u64
    }
}
