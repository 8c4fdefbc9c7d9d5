//! From a model to the tables that the kernel reads.
//!
//! You are here: `sim::compile`. [`crate::Program::compile`] calls it once per (model, world).
//! Always true: everything that needs a float is decided here, through `libm`, so that the event loop has none; what does not
//! resolve is an error that names it.
//! Not here: what the tables are (`program`), whether the model makes sense (`models::check`).

use std::collections::BTreeMap;

use indexmap::IndexMap;
use models::dist::{Dist, Work};
use models::param::{Limit, Param};
use models::rng::{Chance, DrawName, Purpose};
use models::system::{
    AdaptiveLaw, AdaptiveLimit, Autoscale, Breaker, BreakerWindow, Call, Contention, Discipline, Edge, EdgeName, Entry, Lookup,
    Mode, Model, OpRef, Order, Publish, Retry, Service, Step, Trips,
};
use models::table::QuantileTable;
use models::units::Nanos;

use crate::SimError;
use crate::des::MOST_LANES;
use crate::program::{
    AdaptiveLawP, AdaptiveP, AutoscaleP, BreakerP, BudgetP, CacheP, ClosedP, CoDelP, ContentionP, EdgeP, EntryP, FAR_NS, HedgeP,
    HopP, LookupP, NONE, NodeKind, NodeP, ONE_Q16, OpP, OptionP, PathP, PolicyP, ServiceP, ShapeP, SiteP, StepP, TOKEN, Tables,
    TargetP, TopicP, TripsP, cause_bit, ns,
};

/// Most nodes, and most edges: latencies are logged with the number of their place in 16 bits.
const MOST_PLACES: usize = 1 << 16;
/// Waits between tries that are tabulated; later ones are as long as the last.
const WAITS: usize = 64;

/// All tables of a model. `world` is what they say they were drawn in, `quantum` the clock's step (0: a nanosecond).
pub(crate) fn tables(model: &Model, world: u32, quantum: u64) -> Result<Tables, SimError> {
    let mut compiler = Compiler::new(model);
    compiler.services()?;
    compiler.topics()?;
    compiler.entries()?;
    let (nodes, edges) = (compiler.tables.nodes.len(), compiler.tables.edges.len());
    if nodes > MOST_PLACES || edges > MOST_PLACES {
        let found =
            format!("{nodes} entries, services and topics, and {edges} edges; a run can tell {MOST_PLACES} of each apart");
        return Err(SimError::Model(found));
    }
    (compiler.tables.world, compiler.tables.quantum) = (world, quantum);
    for edge in compiler.tables.edges.iter_mut().filter(|_| quantum > 0) {
        edge.latency = edge.latency.next_multiple_of(quantum).max(quantum);
    }
    compiler.settle_lanes();
    compiler.settle_sites();
    compiler.settle_options();
    Ok(compiler.tables)
}

struct Compiler<'a> {
    model: &'a Model,
    tables: Tables,
    op_index: IndexMap<(&'a str, &'a str), u32>,
    edge_index: IndexMap<EdgeName, u32>,
    node_index: IndexMap<&'a str, u32>,
    /// Service of each operation.
    op_service: Vec<u32>,
    /// Tables of equal distributions are one.
    table_index: BTreeMap<String, u32>,
    /// The policy of callers that have none.
    no_edge: Edge,
}

impl<'a> Compiler<'a> {
    fn new(model: &'a Model) -> Self {
        let node = |name: &String, kind| NodeP { name: name.clone(), kind };
        let nodes: Vec<NodeP> = (model.workload.keys().map(|n| node(n, NodeKind::Entry)))
            .chain(model.services.keys().map(|n| node(n, NodeKind::Service)))
            .chain(model.topics.keys().map(|n| node(n, NodeKind::Topic)))
            .collect();
        let mut op_index = IndexMap::new();
        let mut op_service = Vec::new();
        for (i, (service, s)) in model.services.iter().enumerate() {
            for operation in s.operations.keys() {
                op_index.insert((service.as_str(), operation.as_str()), op_index.len() as u32);
                op_service.push(i as u32);
            }
        }
        let names = model.workload.keys().chain(model.services.keys()).chain(model.topics.keys());
        let node_index = names.enumerate().map(|(i, name)| (name.as_str(), i as u32)).collect();
        Compiler {
            model,
            tables: Tables {
                world: 0,
                quantum: 0,
                entries: Vec::new(),
                services: Vec::new(),
                topics: Vec::new(),
                nodes,
                ops: Vec::new(),
                op_names: Vec::new(),
                paths: Vec::new(),
                steps: Vec::new(),
                sites: Vec::new(),
                options: Vec::new(),
                hops: Vec::new(),
                lookups: Vec::new(),
                edges: Vec::new(),
                policies: Vec::new(),
                tables: Vec::new(),
                unit_exponential: QuantileTable::new(&Dist::Exponential(Nanos::from_nanos(1 << 32)), 1.0),
                lanes: 0,
                replicas: 0,
                client_states: 0,
            },
            op_index,
            edge_index: IndexMap::new(),
            node_index,
            op_service,
            table_index: BTreeMap::new(),
            no_edge: Edge::default(),
        }
    }

    fn node_of_service(&self, index: usize) -> u32 {
        (self.model.workload.len() + index) as u32
    }

    fn node_of_topic(&self, index: usize) -> u32 {
        (self.model.workload.len() + self.model.services.len() + index) as u32
    }

    fn services(&mut self) -> Result<(), SimError> {
        let model = self.model;
        for (i, s) in model.services.values().enumerate() {
            let node = self.node_of_service(i);
            let service = service(s, node, self.tables.replicas);
            self.tables.replicas += service.most_replicas;
            self.tables.services.push(service);
        }
        for (name, s) in &model.services {
            for (operation_name, operation) in &s.operations {
                self.tables.op_names.push(operation_name.clone());
                let first_path = self.tables.paths.len() as u32;
                let error = operation.error_rate.map_or(Chance::NEVER, |p| Chance::of(p.value));
                let total: f64 = operation.paths.iter().map(|p| p.weight.value).sum();
                let mut so_far = 0.0;
                for path in &operation.paths {
                    so_far += path.weight.value;
                    let steps = self.steps(name, &path.steps, error)?;
                    let first_step = self.tables.steps.len() as u32;
                    self.tables.steps.extend(steps);
                    self.tables.paths.push(PathP { upto: share(so_far / total), first_step });
                }
                self.tables.ops.push(OpP { first_path, paths: operation.paths.len() as u32 });
            }
        }
        Ok(())
    }

    fn topics(&mut self) -> Result<(), SimError> {
        let model = self.model;
        for (i, (name, topic)) in model.topics.iter().enumerate() {
            let delivery = self.site(name, &topic.consumer, topic.site, &[(1, 1.0)], Param::declared(0.0), true)?;
            let accept = topic.accept.as_ref().map_or(NONE, |work| self.table(work));
            self.tables.topics.push(TopicP {
                node: self.node_of_topic(i),
                delivery,
                concurrency: topic.concurrency.value.max(1),
                partitions: if topic.order == Order::PerKey { topic.partitions.value.max(1) } else { 1 },
                per_key: topic.order == Order::PerKey,
                popularity: zipf(topic.keys.count.value, topic.keys.zipf.value),
                full: topic.full,
                order_sensitive: topic.order_sensitive,
                idempotent: topic.idempotent,
                capacity: limit(topic.capacity),
                redelivery_delay: ns(topic.redelivery_delay.value),
                max_deliveries: topic.max_deliveries.value.max(1),
                accept,
            });
        }
        Ok(())
    }

    fn entries(&mut self) -> Result<(), SimError> {
        let model = self.model;
        for (name, entry) in &model.workload {
            let call = self.site(name, &entry.to, entry.site, &[(1, 1.0)], Param::declared(1.0), true)?;
            let rate = entry.rate.value;
            let active = rate > 0.0;
            let gap_q16 = if active { (1e9 / rate * 65_536.0) as u128 } else { 0 };
            let closed =
                entry.closed.as_ref().map(|closed| ClosedP { users: closed.users.value, think: self.table(&closed.think) });
            self.tables.entries.push(EntryP { site: entry.site, call, gap_q16, active, shape: shape(entry), closed });
        }
        Ok(())
    }

    fn steps(&mut self, caller: &str, steps: &[Step], error: Chance) -> Result<Vec<StepP>, SimError> {
        let last_work = steps.iter().rposition(|step| matches!(step, Step::Work(_)));
        let mut out = Vec::with_capacity(steps.len() + 1);
        for (i, step) in steps.iter().enumerate() {
            match step {
                Step::Work(work) => {
                    let error = if Some(i) == last_work { error } else { Chance::NEVER };
                    out.push(StepP::Work { table: self.table(work), error });
                }
                Step::Parallel { wait, branches } => {
                    out.push(StepP::Fork { count: branches.len() as u16, wait: *wait });
                    for branch in branches {
                        out.push(self.branch(caller, branch)?);
                    }
                }
                other => out.push(self.branch(caller, other)?),
            }
        }
        out.push(StepP::End { error: if last_work.is_none() { error } else { Chance::NEVER } });
        Ok(out)
    }

    fn branch(&mut self, caller: &str, step: &Step) -> Result<StepP, SimError> {
        match step {
            Step::Call(call) => Ok(StepP::Call(self.call(caller, call)?)),
            Step::Publish(publish) => Ok(StepP::Call(self.publish(caller, publish)?)),
            Step::Lookup(lookup) => self.lookup(caller, lookup),
            Step::Work(_) | Step::Parallel { .. } => {
                Err(SimError::Model(format!("{caller}: a parallel step may hold calls, lookups and publishes only")))
            }
        }
    }

    fn call(&mut self, caller: &str, call: &Call) -> Result<u32, SimError> {
        let fallback = match &call.fallback {
            Some(fallback) => self.call(caller, fallback)?,
            None => NONE,
        };
        let index = self.site(caller, &call.to, call.site, &call.times, call.on_failure, call.wait)?;
        self.tables.sites[index as usize].fallback = fallback;
        Ok(index)
    }

    fn publish(&mut self, caller: &str, publish: &Publish) -> Result<u32, SimError> {
        let Some(topic) = self.model.topics.get_index_of(&publish.to) else {
            return Err(SimError::Model(format!("{caller} publishes to {:?}, which is no topic", publish.to)));
        };
        let edge = self.edge(caller, &publish.to, self.node_of_topic(topic));
        Ok(self.push_site(SiteP {
            site: publish.site,
            edge,
            target: TargetP::Topic,
            callee: topic as u32,
            first_step: NONE,
            replica: NONE,
            fallback: NONE,
            wait: true,
            once: is_once(&publish.times),
            on_failure: Chance::of(publish.on_failure.value),
            times: times(&publish.times),
        }))
    }

    fn lookup(&mut self, caller: &str, lookup: &Lookup) -> Result<StepP, SimError> {
        let cache = self.model.services.get_index_of(&lookup.cache.to.service);
        let Some(cache) = cache.filter(|&i| self.model.services[i].cache.is_some()) else {
            return Err(SimError::Model(format!("{caller} looks up in {:?}, which has no `cache`", lookup.cache.to.service)));
        };
        let ask = self.call(caller, &lookup.cache)?;
        let origin = self.call(caller, &lookup.origin)?;
        let fill = match &lookup.fill {
            Some(fill) => self.call(caller, fill)?,
            None => NONE,
        };
        let asked_at = self.tables.sites[ask as usize].site;
        let contents = self.tables.services[cache].cache.as_mut().expect("it has a cache");
        contents.asked_at = contents.asked_at.min(asked_at);
        self.tables.lookups.push(LookupP { ask, origin, fill, cache: cache as u32, single_flight: lookup.single_flight });
        Ok(StepP::Lookup(self.tables.lookups.len() as u32 - 1))
    }

    fn site(
        &mut self,
        caller: &str,
        to: &OpRef,
        site: u32,
        counts: &[(u32, f64)],
        on_failure: Param<f64>,
        wait: bool,
    ) -> Result<u32, SimError> {
        let Some(&op) = self.op_index.get(&(to.service.as_str(), to.operation.as_str())) else {
            return Err(SimError::Model(format!("{caller} calls {to}, which is not in the model")));
        };
        let service = self.model.services.get_index_of(&to.service).expect("its operation is indexed");
        let edge = self.edge(caller, &to.service, self.node_of_service(service));
        Ok(self.push_site(SiteP {
            site,
            edge,
            target: TargetP::Op(op),
            callee: self.op_service[op as usize],
            first_step: NONE,
            replica: NONE,
            fallback: NONE,
            wait,
            once: is_once(counts),
            on_failure: Chance::of(on_failure.value),
            times: times(counts),
        }))
    }

    fn push_site(&mut self, site: SiteP) -> u32 {
        self.tables.sites.push(site);
        self.tables.sites.len() as u32 - 1
    }

    /// The edge between two nodes, compiled at its first use.
    fn edge(&mut self, from: &str, to: &str, to_node: u32) -> u32 {
        let name = EdgeName::new(from, to);
        if let Some(&index) = self.edge_index.get(&name) {
            return index;
        }
        let edge = self.model.edges.get(&name).unwrap_or(&self.no_edge);
        let default_retry = Retry::default();
        let retry = edge.retry.as_ref().unwrap_or(&default_retry);
        let from_node = *self.node_index.get(from).expect("callers are entries, services or topics");
        let max_wait = retry.max.map_or(FAR_NS, |max| ns(max.value));
        let policy = PolicyP {
            waits: waits(retry.backoff.value, retry.factor.value, max_wait),
            max_wait,
            jitter: retry.jitter,
            retry_on: if retry.on.is_empty() { 0xFF } else { retry.on.iter().fold(0, |bits, &c| bits | cause_bit(c)) },
            budget: retry.budget.as_ref().map(|b| BudgetP {
                per_first: (b.ratio.value * TOKEN as f64) as u64,
                per_ns_q32: (b.min_per_s.value / 1e9 * TOKEN as f64 * TOKEN as f64) as u64,
                cap: (b.cap.value * TOKEN as f64) as u64,
                initial: (b.initial.unwrap_or(b.cap).value.min(b.cap.value) * TOKEN as f64) as u64,
            }),
            breaker: edge.breaker.as_ref().map(breaker),
            deadline: edge.deadline.map_or(FAR_NS, |d| ns(d.value)),
            propagates: edge.propagate_deadline,
            hedge: edge
                .hedge
                .as_ref()
                .filter(|h| h.attempts.value > 1)
                .map(|h| HedgeP { after: ns(h.after.value), attempts: h.attempts.value.min(u32::from(u16::MAX)) as u16 }),
            max_in_flight: edge.max_in_flight.map_or(u32::MAX, |n| n.value.max(1)),
            pool: edge.pool.as_ref().map(|pool| (pool.connections.value.max(1), limit(pool.waiting))),
            name: name.clone(),
        };
        let guarded = policy.budget.is_some()
            || policy.breaker.is_some()
            || policy.deadline != FAR_NS
            || policy.propagates
            || policy.hedge.is_some()
            || policy.max_in_flight != u32::MAX
            || policy.pool.is_some();
        let callers = if guarded { self.model.services.get(from).map_or(1, most_replicas) } else { 0 };
        let compiled = EdgeP {
            latency: edge.latency.map_or(0, |l| ns(l.value)),
            timeout: edge.timeout.map_or(0, |t| ns(t.value)),
            timeout_lane: NONE,
            request_lane: NONE,
            reply_lane: NONE,
            to_node,
            from_node,
            attempts: retry.attempts.value.max(1),
            state_base: if guarded { self.tables.client_states } else { 0 },
            callers,
            inner: self.tables.nodes[from_node as usize].kind != NodeKind::Entry,
            guarded,
        };
        self.tables.client_states += callers;
        self.tables.edges.push(compiled);
        self.tables.policies.push(policy);
        let index = self.tables.edges.len() as u32 - 1;
        self.edge_index.insert(name, index);
        index
    }

    fn table(&mut self, work: &Work) -> u32 {
        let next = self.tables.tables.len() as u32;
        let index = *self.table_index.entry(format!("{:?}", work.dist)).or_insert(next);
        if index == next {
            self.tables.tables.push(QuantileTable::new(&work.dist, 1.0));
        }
        index
    }

    /// Gives lanes to the timeouts and latencies that most edges have, a latency two (requests and replies): in each, events fall due in the
    /// order they are pushed.
    fn settle_lanes(&mut self) {
        let mut uses: BTreeMap<(u8, u64), usize> = BTreeMap::new();
        for edge in &self.tables.edges {
            for kind in [(0, edge.timeout), (1, edge.latency), (2, edge.latency)] {
                *uses.entry(kind).or_default() += usize::from(kind.1 > 0);
            }
        }
        let mut commonest: Vec<((u8, u64), usize)> = uses.into_iter().filter(|&(_, uses)| uses > 0).collect();
        commonest.sort_by_key(|&(kind, uses)| (std::cmp::Reverse(uses), kind));
        commonest.truncate(MOST_LANES);
        let lane = |kind| commonest.iter().position(|&(one, _)| one == kind).map_or(NONE, |lane| lane as u32);
        for edge in &mut self.tables.edges {
            edge.timeout_lane = lane((0, edge.timeout));
            edge.request_lane = lane((1, edge.latency));
            edge.reply_lane = lane((2, edge.latency));
        }
        self.tables.lanes = commonest.len() as u32;
    }

    /// Notes at each call site where its requests begin, now that all operations are compiled and all edges have their lanes.
    fn settle_sites(&mut self) {
        let tables = &mut self.tables;
        for site in &mut tables.sites {
            let edge = &tables.edges[site.edge as usize];
            let (mut first_path, mut paths) = (0, 0);
            if let TargetP::Op(op) = site.target {
                let op = &tables.ops[op as usize];
                (first_path, paths) = (op.first_path, op.paths);
                if op.paths == 1 {
                    site.first_step = tables.paths[op.first_path as usize].first_step;
                }
                let service = &tables.services[site.callee as usize];
                if service.most_replicas == 1 && service.health_check.is_none() {
                    site.replica = service.replica_base;
                }
            }
            let at_most_once = site.once || left_out(site).is_some();
            tables.hops.push(HopP {
                latency: edge.latency,
                timeout: edge.timeout,
                timeout_lane: edge.timeout_lane as u16,
                request_lane: edge.request_lane as u16,
                reply_lane: edge.reply_lane as u16,
                inner: edge.inner,
                plain: site.wait && at_most_once && !edge.guarded && site.target != TargetP::Topic,
                site: site.site,
                edge: site.edge,
                callee: site.callee,
                replica: site.replica,
                first_step: site.first_step,
                first_path,
                paths,
            });
        }
    }

    /// Tells plain calls that may be left out from other steps.
    fn settle_options(&mut self) {
        let tables = &mut self.tables;
        for step in &mut tables.steps {
            let mut option = OptionP { draw: DrawName::new(Purpose::Times, 0), below: 0 };
            if let StepP::Call(call) = *step
                && tables.hops[call as usize].plain
                && let Some(below) = left_out(&tables.sites[call as usize])
            {
                *step = StepP::Optional(call);
                option = OptionP { draw: DrawName::new(Purpose::Times, tables.sites[call as usize].site), below };
            }
            tables.options.push(option);
        }
    }
}

/// Of a call that is made once or not at all: below which draw it is left out.
fn left_out(site: &SiteP) -> Option<u64> {
    match site.times[..] {
        // (One that is never made goes the general way.)
        [(0, upto), (1, _)] => upto.checked_add(1),
        _ => None,
    }
}

/// Replicas that there can be.
fn most_replicas(service: &Service) -> u32 {
    let replicas = service.replicas.value.max(1);
    service.autoscale.as_ref().map_or(replicas, |a| replicas.max(a.max.value))
}

fn service(s: &Service, node: u32, replica_base: u32) -> ServiceP {
    ServiceP {
        node,
        replicas: s.replicas.value.max(1),
        most_replicas: most_replicas(s),
        replica_base,
        workers: limit(s.workers).max(1),
        queue: limit(s.queue),
        lifo: s.discipline == Discipline::Lifo,
        blocking: s.mode == Mode::Blocking,
        balance: s.balance,
        cancel: s.cancel_on_disconnect,
        shed_expired: s.shed_expired,
        codel: s.codel.as_ref().map(|c| CoDelP { target: ns(c.target.value), interval: ns(c.interval.value).max(1) }),
        adaptive: s.adaptive_limit.as_ref().map(adaptive),
        contention: s.contention.as_ref().map(contention),
        autoscale: s.autoscale.as_ref().map(autoscale),
        warm_up: s.warm_up.as_ref().map(|w| (ns(w.lasting.value).max(1), q16(w.factor.value))),
        health_check: s.health_check.as_ref().map(|h| (ns(h.down_after.value), ns(h.up_after.value))),
        cache: s.cache.as_ref().map(|cache| CacheP {
            capacity: cache.capacity.value.min(cache.keys.value),
            keys: cache.keys.value,
            popularity: zipf(cache.keys.value, cache.zipf.value),
            ttl: cache.ttl.map_or(FAR_NS, |ttl| ns(ttl.value)),
            asked_at: u32::MAX,
        }),
    }
}

fn adaptive(a: &AdaptiveLimit) -> AdaptiveP {
    let law = match &a.law {
        AdaptiveLaw::Aimd { latency, backoff } => {
            AdaptiveLawP::Aimd { latency: ns(latency.value), backoff_q16: q16(backoff.value) }
        }
        AdaptiveLaw::Gradient { tolerance } => AdaptiveLawP::Gradient { tolerance_q16: q16(tolerance.value) },
    };
    AdaptiveP { law, initial: a.initial.value, min: a.min.value.max(1), max: a.max.value.max(1) }
}

fn contention(contention: &Contention) -> ContentionP {
    match contention {
        Contention::InProgress { add } => ContentionP::InProgress { add: ns(add.value) },
        Contention::ArrivalRate { above, factor } => {
            ContentionP::ArrivalRate { above: above.value.min(4e9) as u32, factor_q16: q16(factor.value) }
        }
    }
}

fn autoscale(a: &Autoscale) -> AutoscaleP {
    AutoscaleP {
        target_q16: q16(a.target.value).max(1),
        min: a.min.value.max(1),
        max: a.max.value.max(1),
        every: ns(a.every.value).max(1),
        start_up: ns(a.start_up.value),
        down_after: ns(a.down_after.value),
    }
}

fn breaker(b: &Breaker) -> BreakerP {
    let trips = match &b.trips {
        Trips::Consecutive(n) => TripsP::Consecutive(n.value.max(1)),
        Trips::Share { window, min_calls, threshold } => {
            let min_calls = min_calls.value.max(1);
            let threshold_q16 = (threshold.value * 65_536.0).ceil() as u64;
            match window {
                BreakerWindow::Calls(n) => TripsP::Calls { window: n.value.max(1), min_calls, threshold_q16 },
                BreakerWindow::Time(time) => TripsP::Time { window: ns(time.value).max(10), min_calls, threshold_q16 },
            }
        }
    };
    BreakerP { trips, open: ns(b.open.value), probes: b.probes.value.max(1) }
}

/// How an entry's rate changes over time, if it does.
fn shape(entry: &Entry) -> Option<ShapeP> {
    if entry.curve.is_none() && entry.bursts.is_none() {
        return None;
    }
    let steps = match &entry.curve {
        Some(curve) => curve.steps.iter().map(|&(from, factor)| (ns(from), q16(factor))).collect(),
        None => vec![(0, ONE_Q16)],
    };
    let bursts = entry.bursts.as_ref().map_or((0, 0, 0), |b| (ns(b.every.value), ns(b.lasting.value), q16(b.factor.value)));
    Some(ShapeP { steps, repeat: entry.curve.as_ref().and_then(|c| c.repeat).map_or(0, ns), bursts })
}

/// A factor in 2^-16.
fn q16(factor: f64) -> u64 {
    (factor * 65_536.0).round().clamp(0.0, 1e15) as u64
}

/// Made just once, whatever is drawn.
fn is_once(counts: &[(u32, f64)]) -> bool {
    matches!(counts, [(1, _)])
}

fn limit(limit: Param<Limit>) -> u32 {
    match limit.value {
        Limit::Of(n) => n,
        Limit::Unlimited => u32::MAX,
    }
}

/// 2^64 times a share; everything for 1 and above.
fn share(share: f64) -> u64 {
    if share >= 1.0 - 1e-12 { u64::MAX } else { (share * 18_446_744_073_709_551_616.0) as u64 }
}

fn times(counts: &[(u32, f64)]) -> Vec<(u16, u64)> {
    let total: f64 = counts.iter().map(|&(_, p)| p).sum();
    let mut so_far = 0.0;
    counts
        .iter()
        .map(|&(count, p)| {
            so_far += p;
            (count.min(u32::from(u16::MAX)) as u16, share(so_far / total))
        })
        .collect()
}

/// Longest waits before the second, third, ... try: backoff x factor^k, at most `max`.
fn waits(backoff: Nanos, factor: f64, max: u64) -> Vec<u64> {
    let mut wait = backoff.as_nanos() as f64;
    let mut out = Vec::with_capacity(WAITS);
    while out.len() < WAITS {
        out.push((wait.min(4.0e18) as u64).min(max));
        if wait == 0.0 || factor == 1.0 || wait >= max as f64 {
            break;
        }
        wait *= factor;
    }
    out
}

/// Cumulated shares of keys whose popularity falls as rank^-s (Zipf), times 2^64.
fn zipf(keys: u32, s: f64) -> Vec<u64> {
    let weights: Vec<f64> = (1..=keys.max(1)).map(|rank| libm::pow(f64::from(rank), -s)).collect();
    let total: f64 = weights.iter().sum();
    let mut so_far = 0.0;
    weights
        .iter()
        .map(|w| {
            so_far += w;
            share(so_far / total)
        })
        .collect()
}
