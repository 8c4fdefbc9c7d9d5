//! The steady flow of a healthy model: calls per second, time and failure of every operation, by following paths.
//!
//! You are here: `scenarios::flow`. `analyse` reads it; nothing is simulated.
//! Always true: queueing is left out, so times and held workers are lower bounds; cycles of calls are cut after a
//! number of rounds, so it always ends. A rate is that outside of bursts and at a curve's factor 1; a cache's entries do not age.
//! Not here: which of these numbers are worrying (`analyse`).

use std::collections::BTreeMap;

use models::param::Limit;
use models::system::{
    Call, Edge, EdgeName, Entry, Lookup, Mode, Model, OpRef, Operation, Order, Publish, Service, Step, Topic, Wait,
};

use crate::moments::{Moments, hit_ratio, moments};

/// No rate above this is believed: a cycle of calls that feeds itself would grow without bound.
const MOST_PER_S: f64 = 1e9;
/// No time above this is believed, for the same reason.
const LONGEST_S: f64 = 3_600.0;

/// What a node of the interaction graph is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    /// Where users come in.
    Entry,
    /// A service.
    Service,
    /// A topic.
    Topic,
}

/// Where requests pass: an entry, one operation of a service, or a topic.
enum What<'m> {
    Entry(&'m Entry),
    Op(&'m Operation),
    Topic(&'m Topic),
}

struct Place<'m> {
    node: usize,
    what: What<'m>,
}

/// What one request takes at a place, from its last solving round.
#[derive(Clone, Default, PartialEq)]
struct Numbers {
    /// Own work alone.
    work: Moments,
    /// Own work and waited-for calls: what a blocking worker is held for.
    hold: Moments,
    /// What the caller waits for: `hold`, or what traces showed.
    response: Moments,
    /// Probability of a failed answer.
    fail: f64,
}

/// How calls of an edge are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// Users come in.
    Entry,
    /// A call.
    Call,
    /// A question to a cache, or an answer stored in one.
    Cache,
    /// A message to a topic.
    Publish,
    /// A topic's delivery to its consumer.
    Delivery,
}

/// One kind of call that a place makes.
struct Link {
    to: usize,
    kind: LinkKind,
    /// Calls per request of the caller.
    per_request: f64,
    most_tries: f64,
    mean_tries: f64,
    try_fails: f64,
    try_takes: Moments,
    waits: bool,
    on_failure: f64,
}

/// What flows over an edge of the healthy system.
#[derive(Clone, Debug)]
pub(crate) struct EdgeFlow {
    pub kind: LinkKind,
    pub calls_per_s: f64,
    pub attempts_per_s: f64,
    /// Calls per request of the calling node.
    pub per_parent: f64,
    /// Failed share of tries.
    pub try_fails: f64,
    /// What one try takes, as the caller sees it.
    pub try_takes: Moments,
    pub waits: bool,
    /// Highest probability that a failed call fails its caller.
    pub on_failure: f64,
}

/// What flows through a node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeFlow {
    /// Attempts (messages, for a topic; user requests, for an entry) per second.
    pub per_s: f64,
    /// Workers (deliveries, for a topic) held at once on average.
    pub erlangs: f64,
    /// Failed share of answers.
    pub fails: f64,
    /// What a request takes.
    pub response: Moments,
}

/// The solved flow; nodes are entries, then services, then topics, in the model's order.
pub(crate) struct Flow {
    pub nodes: Vec<(String, NodeKind)>,
    pub at: Vec<NodeFlow>,
    pub edges: BTreeMap<(usize, usize), EdgeFlow>,
}

impl Flow {
    /// Solves the model's healthy flow. O(rounds x steps), with as many rounds as the longest chain of calls, or 64 for cycles.
    pub fn of(model: &Model) -> Flow {
        let mut solver = Solver::new(model);
        let links = solver.solve_times();
        let rates = solver.solve_rates(&links);
        solver.gather(&links, &rates)
    }
}

struct Solver<'m> {
    model: &'m Model,
    nodes: Vec<(String, NodeKind)>,
    places: Vec<Place<'m>>,
    numbers: Vec<Numbers>,
    /// First place of each service's operations.
    first_op: Vec<usize>,
    first_topic: usize,
}

/// What a step takes of its request: own work, time until the next step, probability that the request fails here.
#[derive(Clone, Copy, Default)]
struct Taken {
    work: Moments,
    hold: Moments,
    fail: f64,
}

impl<'m> Solver<'m> {
    fn new(model: &'m Model) -> Self {
        let (mut nodes, mut places, mut first_op) = (Vec::new(), Vec::new(), Vec::new());
        for (name, entry) in &model.workload {
            places.push(Place { node: nodes.len(), what: What::Entry(entry) });
            nodes.push((name.clone(), NodeKind::Entry));
        }
        for (name, service) in &model.services {
            first_op.push(places.len());
            places.extend(service.operations.values().map(|op| Place { node: nodes.len(), what: What::Op(op) }));
            nodes.push((name.clone(), NodeKind::Service));
        }
        let first_topic = places.len();
        for (name, topic) in &model.topics {
            places.push(Place { node: nodes.len(), what: What::Topic(topic) });
            nodes.push((name.clone(), NodeKind::Topic));
        }
        let numbers = vec![Numbers::default(); places.len()];
        Solver { model, nodes, places, numbers, first_op, first_topic }
    }

    /// As many rounds as places settle every flow without cycles; with cycles, 64 rounds leave little under way.
    fn rounds(&self) -> usize {
        (self.places.len() + 1).max(64)
    }

    /// Iterates what a request takes at each place until nothing changes; returns the calls that each place makes.
    fn solve_times(&mut self) -> Vec<Vec<Link>> {
        let mut links = Vec::new();
        for _ in 0..self.rounds() {
            let solved: Vec<(Numbers, Vec<Link>)> = self.places.iter().map(|place| self.follow(place)).collect();
            let (numbers, now): (Vec<Numbers>, Vec<Vec<Link>>) = solved.into_iter().unzip();
            links = now;
            let settled = numbers == self.numbers;
            self.numbers = numbers;
            if settled {
                break;
            }
        }
        links
    }

    /// Pushes the entries' requests along the links, round by round, until none are left under way.
    fn solve_rates(&self, links: &[Vec<Link>]) -> Vec<f64> {
        let mut arriving: Vec<f64> = self
            .places
            .iter()
            .zip(&self.numbers)
            .map(|(place, numbers)| match place.what {
                What::Entry(entry) => entry_per_s(entry, numbers.response.mean),
                _ => 0.0,
            })
            .collect();
        let mut rates = vec![0.0; self.places.len()];
        for _ in 0..self.rounds() {
            let mut next = vec![0.0; self.places.len()];
            for (place, &rate) in arriving.iter().enumerate().filter(|(_, rate)| **rate > 0.0) {
                rates[place] = (rates[place] + rate).min(MOST_PER_S);
                for link in &links[place] {
                    // A topic takes each message once, however often its publisher tried.
                    let tries = if link.kind == LinkKind::Publish { 1.0 } else { link.mean_tries };
                    next[link.to] = f64::min(next[link.to] + rate * link.per_request * tries, MOST_PER_S);
                }
            }
            if next.iter().all(|&rate| rate == 0.0) {
                break;
            }
            arriving = next;
        }
        rates
    }

    /// One request's way through a place, with the callees' numbers of the round before.
    fn follow(&self, place: &Place<'m>) -> (Numbers, Vec<Link>) {
        let mut links = Vec::new();
        let from = place.node;
        let numbers = match place.what {
            What::Entry(entry) => {
                let taken = self
                    .op_place(&entry.to)
                    .map_or_else(Taken::default, |to| self.take(from, to, LinkKind::Entry, 1.0, 1.0, 1.0, true, &mut links));
                Numbers { work: Moments::default(), hold: taken.hold, response: taken.hold, fail: taken.fail }
            }
            What::Topic(topic) => {
                if let Some(to) = self.op_place(&topic.consumer) {
                    self.take(from, to, LinkKind::Delivery, 1.0, 1.0, 0.0, false, &mut links);
                }
                let accept = topic.accept.as_ref().map_or(Moments::default(), |work| moments(&work.dist));
                Numbers { work: accept, hold: accept, response: accept, fail: 0.0 }
            }
            What::Op(op) => self.follow_paths(from, op, &mut links),
        };
        (numbers, links)
    }

    fn follow_paths(&self, from: usize, op: &Operation, links: &mut Vec<Link>) -> Numbers {
        let total: f64 = op.paths.iter().map(|path| path.weight.value.max(0.0)).sum();
        let own_error = op.error_rate.map_or(0.0, |rate| rate.value.clamp(0.0, 1.0));
        let (mut work, mut hold, mut fail) = (Vec::new(), Vec::new(), 0.0);
        for path in op.paths.iter().filter(|path| path.weight.value > 0.0) {
            let share = path.weight.value / total;
            let (mut path_work, mut path_hold) = (Moments::default(), Moments::default());
            // Steps after a failure are skipped: `alive` is the share of requests that get this far.
            let mut alive = 1.0;
            for step in &path.steps {
                let taken = self.step(from, step, share * alive, links);
                path_work = path_work.plus(taken.work.times(alive));
                path_hold = path_hold.plus(taken.hold.times(alive));
                alive *= 1.0 - taken.fail;
            }
            work.push((share, path_work));
            hold.push((share, path_hold));
            fail += share * (1.0 - alive);
        }
        let mut hold = Moments::mixture(&hold);
        hold.mean = hold.mean.min(LONGEST_S);
        hold.var = hold.var.min(LONGEST_S * LONGEST_S);
        let seen = op.observed.as_ref().filter(|seen| seen.calls > 0);
        Numbers {
            work: Moments::mixture(&work),
            hold,
            response: seen
                .map_or(hold, |seen| Moments::from_mean_and_tail(seen.mean_ms / 1e3, seen.p50_ms / 1e3, seen.p99_ms / 1e3)),
            fail: seen.map_or(1.0 - (1.0 - own_error) * (1.0 - fail), |seen| seen.error_rate.clamp(0.0, 1.0)),
        }
    }

    fn step(&self, from: usize, step: &Step, reach: f64, links: &mut Vec<Link>) -> Taken {
        match step {
            Step::Work(work) => {
                let time = moments(&work.dist);
                Taken { work: time, hold: time, fail: 0.0 }
            }
            Step::Call(call) => self.call(from, call, LinkKind::Call, reach, links),
            Step::Parallel { wait, branches } => {
                let taken: Vec<Taken> = branches.iter().map(|branch| self.step(from, branch, reach, links)).collect();
                let mut holds: Vec<Moments> = taken.iter().map(|t| t.hold).collect();
                holds.sort_by(|a, b| a.mean.total_cmp(&b.mean));
                let last = match *wait {
                    Wait::All => holds.len(),
                    Wait::First => 1,
                    Wait::Quorum(n) => (n as usize).min(holds.len()),
                };
                Taken {
                    work: Moments::default(),
                    // The slowest branch that is waited for, by mean: a lower bound of the mean of the slowest.
                    hold: last.checked_sub(1).and_then(|i| holds.get(i).copied()).unwrap_or_default(),
                    fail: 1.0 - taken.iter().map(|t| 1.0 - t.fail).product::<f64>(),
                }
            }
            Step::Lookup(lookup) => self.lookup(from, lookup, reach, links),
            Step::Publish(publish) => self.publish(from, publish, reach, links),
        }
    }

    fn lookup(&self, from: usize, lookup: &Lookup, reach: f64, links: &mut Vec<Link>) -> Taken {
        let contents = self.model.services.get(&lookup.cache.to.service).and_then(|service| service.cache.as_ref());
        let hits = contents.map_or(0.0, |c| hit_ratio(c.capacity.value, c.keys.value, c.zipf.value));
        // A question that fails counts as a miss and fails nobody; how often it does stands on its link.
        let (asked, misses) = match self.op_place(&lookup.cache.to) {
            None => (Taken::default(), 1.0),
            Some(to) => {
                let asked = self.take(from, to, LinkKind::Cache, mean_times(&lookup.cache.times), reach, 0.0, true, links);
                let failed = links.last().map_or(0.0, |link| libm::pow(link.try_fails, link.most_tries));
                (asked, 1.0 - hits * (1.0 - failed))
            }
        };
        let origin = self.call(from, &lookup.origin, LinkKind::Call, reach * misses, links);
        if let Some(fill) = &lookup.fill {
            self.call(from, fill, LinkKind::Cache, reach * misses * (1.0 - origin.fail), links);
        }
        let behind = Moments::mixture(&[(1.0 - misses, Moments::default()), (misses, origin.hold)]);
        Taken { work: Moments::default(), hold: asked.hold.plus(behind), fail: misses * origin.fail }
    }

    fn publish(&self, from: usize, publish: &Publish, reach: f64, links: &mut Vec<Link>) -> Taken {
        let Some(topic) = self.model.topics.get_index_of(&publish.to) else { return Taken::default() };
        let times = mean_times(&publish.times);
        self.take(from, self.first_topic + topic, LinkKind::Publish, times, reach, publish.on_failure.value, true, links)
    }

    fn call(&self, from: usize, call: &Call, kind: LinkKind, reach: f64, links: &mut Vec<Link>) -> Taken {
        let Some(to) = self.op_place(&call.to) else { return Taken::default() };
        let times = mean_times(&call.times);
        let on_failure = if call.wait { call.on_failure.value } else { 0.0 };
        let mut taken = self.take(from, to, kind, times, reach, on_failure, call.wait, links);
        if let (Some(fallback), Some(link)) = (&call.fallback, links.last()) {
            let failed = libm::pow(link.try_fails, link.most_tries);
            let instead = self.call(from, fallback, kind, reach * times * failed, links);
            taken.hold = taken.hold.plus(instead.hold.times(failed));
            taken.fail *= instead.fail;
        }
        taken
    }

    fn op_place(&self, to: &OpRef) -> Option<usize> {
        let (service, _, found) = self.model.services.get_full(&to.service)?;
        Some(self.first_op[service] + found.operations.get_index_of(&to.operation)?)
    }

    /// Notes a link and returns what its `times` calls, one after the other, take of one request of the caller.
    #[expect(clippy::too_many_arguments, reason = "one call site's facts, from the four kinds of call sites")]
    fn take(
        &self,
        from: usize,
        to: usize,
        kind: LinkKind,
        times: f64,
        reach: f64,
        on_failure: f64,
        waits: bool,
        links: &mut Vec<Link>,
    ) -> Taken {
        let from_node = &self.nodes[from];
        let to_node = &self.nodes[self.places[to].node];
        let edge = self.model.edges.get(&EdgeName::new(&from_node.0, &to_node.0));
        let most_tries = match self.model.topics.get(&from_node.0) {
            Some(topic) if kind == LinkKind::Delivery => f64::from(topic.max_deliveries.value.max(1)),
            _ => f64::from(tries(edge)),
        };
        let callee = &self.numbers[to];
        let seen = edge.and_then(|edge| edge.observed.as_ref()).filter(|seen| seen.attempts > 0);
        let try_fails = seen.map_or(callee.fail, |seen| seen.errors as f64 / seen.attempts as f64).clamp(0.0, 1.0);
        let network = edge.and_then(|edge| edge.latency).map_or(0.0, |latency| 2.0 * latency.value.as_secs_f64());
        let timeout = edge.and_then(|edge| edge.timeout).map_or(LONGEST_S, |timeout| timeout.value.as_secs_f64());
        let try_takes = Moments { mean: (callee.response.mean + network).min(timeout), var: callee.response.var };
        // Tries of a call: 1 + p + p^2 + ..., as far as the policy goes.
        let mean_tries = if try_fails < 1.0 { (1.0 - libm::pow(try_fails, most_tries)) / (1.0 - try_fails) } else { most_tries };
        links.push(Link {
            to,
            kind,
            per_request: reach * times,
            most_tries,
            mean_tries,
            try_fails,
            try_takes,
            waits,
            on_failure: on_failure.clamp(0.0, 1.0),
        });
        let fails = libm::pow(try_fails, most_tries) * on_failure.clamp(0.0, 1.0);
        Taken {
            work: Moments::default(),
            hold: if waits { try_takes.times(mean_tries * times) } else { Moments::default() },
            fail: 1.0 - libm::pow(1.0 - fails, times),
        }
    }

    /// Sums links to edges and places to nodes.
    fn gather(self, links: &[Vec<Link>], rates: &[f64]) -> Flow {
        let mut at = vec![NodeFlow::default(); self.nodes.len()];
        let mut response: Vec<Vec<(f64, Moments)>> = vec![Vec::new(); self.nodes.len()];
        for ((place, numbers), &rate) in self.places.iter().zip(&self.numbers).zip(rates) {
            let node = &mut at[place.node];
            let held = match place.what {
                What::Op(_) if self.model.services[&self.nodes[place.node].0].mode == Mode::Async => numbers.work.mean,
                What::Op(_) => numbers.hold.mean,
                What::Entry(_) | What::Topic(_) => 0.0,
            };
            node.per_s += rate;
            node.erlangs += rate * held;
            node.fails += rate * numbers.fail;
            response[place.node].push((rate, numbers.response));
        }
        let mut edges: BTreeMap<(usize, usize), Vec<(f64, &Link)>> = BTreeMap::new();
        for (place, (links, &rate)) in self.places.iter().zip(links.iter().zip(rates)) {
            for link in links {
                edges.entry((place.node, self.places[link.to].node)).or_default().push((rate * link.per_request, link));
            }
        }
        for (node, parts) in at.iter_mut().zip(&response) {
            node.fails = if node.per_s > 0.0 { node.fails / node.per_s } else { 0.0 };
            node.response = Moments::mixture(parts);
        }
        let edges: BTreeMap<(usize, usize), EdgeFlow> =
            edges.into_iter().map(|((from, to), links)| ((from, to), EdgeFlow::of(&links, at[from].per_s))).collect();
        for (&(from, _), edge) in edges.iter().filter(|(_, edge)| edge.kind == LinkKind::Delivery) {
            at[from].erlangs += edge.attempts_per_s * edge.try_takes.mean;
        }
        Flow { nodes: self.nodes, at, edges }
    }
}

impl EdgeFlow {
    /// The sum of an edge's links, each with its calls per second.
    fn of(links: &[(f64, &Link)], parent_per_s: f64) -> EdgeFlow {
        let calls_per_s: f64 = links.iter().map(|(rate, _)| rate).sum();
        let attempts_per_s: f64 = links.iter().map(|(rate, link)| rate * link.mean_tries).sum();
        let failed: f64 = links.iter().map(|(rate, link)| rate * link.mean_tries * link.try_fails).sum();
        EdgeFlow {
            // A service that is asked as a cache and called otherwise too counts as called.
            kind: links.iter().map(|(_, link)| link.kind).min().unwrap_or(LinkKind::Call),
            calls_per_s,
            attempts_per_s,
            per_parent: if parent_per_s > 0.0 { calls_per_s / parent_per_s } else { 0.0 },
            try_fails: if attempts_per_s > 0.0 { failed / attempts_per_s } else { 0.0 },
            try_takes: Moments::mixture(
                &links.iter().map(|(rate, link)| (rate * link.mean_tries, link.try_takes)).collect::<Vec<_>>(),
            ),
            waits: links.iter().any(|(_, link)| link.waits),
            on_failure: links.iter().map(|(_, link)| link.on_failure).fold(0.0, f64::max),
        }
    }
}

/// User requests per second of an entry. A closed loop's users wait for their answers, which take `response` seconds at least.
fn entry_per_s(entry: &Entry, response: f64) -> f64 {
    let Some(closed) = &entry.closed else { return entry.rate.value.max(0.0) };
    let round = closed.think.dist.mean().as_secs_f64() + response;
    if round > 0.0 { f64::from(closed.users.value) / round } else { entry.rate.value.max(0.0) }
}

/// Tries of one call that an edge's policy allows, hedged ones included.
pub(crate) fn tries(edge: Option<&Edge>) -> u32 {
    let policy = |edge: &Edge| match (&edge.retry, &edge.hedge) {
        (Some(retry), _) => retry.attempts.value,
        (None, Some(hedge)) => hedge.attempts.value,
        (None, None) => 1,
    };
    edge.map_or(1, policy).max(1)
}

/// Deliveries of a topic at once. Where it keeps the order of a key, a partition has one.
pub(crate) fn deliveries(topic: &Topic) -> u32 {
    match topic.order {
        Order::None => topic.concurrency.value,
        Order::PerKey => topic.concurrency.value.min(topic.partitions.value),
    }
}

/// Workers of all replicas of a service; `None` if they are not limited.
pub(crate) fn capacity(service: &Service) -> Option<f64> {
    match service.workers.value {
        Limit::Of(workers) => Some(f64::from(workers) * f64::from(service.replicas.value)),
        Limit::Unlimited => None,
    }
}

/// Mean of a table of counts.
fn mean_times(times: &[(u32, f64)]) -> f64 {
    times.iter().map(|&(count, share)| f64::from(count) * share).sum()
}
