//! Visitors of a model: every number with its path, every call with its caller.
//!
//! You are here: `models::visit`. Worlds are drawn, assumptions listed and overlays compared through [`Model::visit_params`].
//! Always true: the order is that of the model's maps, so the same model is visited in the same order.
//! Not here: what is done with a number (`world`, `format::overlay`).

use crate::dist::Work;
use crate::param::ParamMut;
use crate::system::{AdaptiveLaw, BreakerWindow, Call, Contention, Edge, Entry, Model, OpRef, Service, Step, Topic, Trips};

/// One use of an operation or topic by somebody else: what stands behind an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use<'a> {
    /// What is used.
    pub to: Used<'a>,
    /// The call site.
    pub site: u32,
}

/// What a [`Use`] uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used<'a> {
    /// An operation: called by a step, a lookup, a fallback, an entry or a delivery.
    Operation(&'a OpRef),
    /// A topic: published to.
    Topic(&'a str),
}

impl<'a> Used<'a> {
    /// The service or topic at the far end of the edge.
    pub fn name(self) -> &'a str {
        match self {
            Used::Operation(operation) => &operation.service,
            Used::Topic(topic) => topic,
        }
    }
}

impl Model {
    /// Shows `f` every number of the model, with a path such as `services.s.workers` or
    /// `services.s.operations.op.paths.0.steps.1.call.on_failure`. O(size of the model).
    pub fn visit_params(&mut self, f: &mut impl FnMut(&str, ParamMut<'_>)) {
        let f: &mut dyn FnMut(&str, ParamMut<'_>) = f;
        for (name, entry) in &mut self.workload {
            visit_entry(&format!("workload.{name}"), entry, f);
        }
        for (name, service) in &mut self.services {
            visit_service(&format!("services.{name}"), service, f);
        }
        for (name, edge) in &mut self.edges {
            visit_edge(&format!("edges.{name}"), edge, f);
        }
        for (name, topic) in &mut self.topics {
            visit_topic(&format!("topics.{name}"), topic, f);
        }
    }

    /// Every use of an operation or topic, with its caller: an entry, service or topic. An edge may come more than once.
    pub fn uses(&self) -> Vec<(&str, Use<'_>)> {
        let mut uses: Vec<(&str, Use<'_>)> = Vec::new();
        for (name, entry) in &self.workload {
            uses.push((name, Use { to: Used::Operation(&entry.to), site: entry.site }));
        }
        for (name, service) in &self.services {
            for step in service.operations.values().flat_map(|operation| &operation.paths).flat_map(|path| &path.steps) {
                step.visit_uses(&mut |one| uses.push((name, one)));
            }
        }
        for (name, topic) in &self.topics {
            uses.push((name, Use { to: Used::Operation(&topic.consumer), site: topic.site }));
        }
        uses
    }
}

impl Step {
    /// Shows `f` every call and publish of this step, those of lookups, branches and fallbacks included.
    pub fn visit_uses<'a>(&'a self, f: &mut dyn FnMut(Use<'a>)) {
        match self {
            Step::Work(_) => {}
            Step::Call(call) => call.visit_uses(f),
            Step::Parallel { branches, .. } => branches.iter().for_each(|branch| branch.visit_uses(f)),
            Step::Lookup(lookup) => {
                let calls = [Some(&lookup.cache), Some(&lookup.origin), lookup.fill.as_ref()];
                calls.into_iter().flatten().for_each(|call| call.visit_uses(f));
            }
            Step::Publish(publish) => f(Use { to: Used::Topic(&publish.to), site: publish.site }),
        }
    }
}

impl Call {
    /// Shows `f` this call and its fallbacks.
    pub fn visit_uses<'a>(&'a self, f: &mut dyn FnMut(Use<'a>)) {
        f(Use { to: Used::Operation(&self.to), site: self.site });
        if let Some(fallback) = &self.fallback {
            fallback.visit_uses(f);
        }
    }
}

type Visitor<'f> = dyn FnMut(&str, ParamMut<'_>) + 'f;

fn visit_entry(path: &str, entry: &mut Entry, f: &mut Visitor<'_>) {
    if let Some(closed) = &mut entry.closed {
        // Its rate follows from these.
        f(&format!("{path}.closed.users"), ParamMut::Count(&mut closed.users));
        visit_work(&format!("{path}.closed.think"), &mut closed.think, f);
        return;
    }
    f(&format!("{path}.open.rate"), ParamMut::Real(&mut entry.rate));
    if let Some(bursts) = &mut entry.bursts {
        f(&format!("{path}.open.bursts.every"), ParamMut::Time(&mut bursts.every));
        f(&format!("{path}.open.bursts.lasting"), ParamMut::Time(&mut bursts.lasting));
        f(&format!("{path}.open.bursts.factor"), ParamMut::Real(&mut bursts.factor));
    }
}

fn visit_service(path: &str, service: &mut Service, f: &mut Visitor<'_>) {
    f(&format!("{path}.replicas"), ParamMut::Count(&mut service.replicas));
    f(&format!("{path}.workers"), ParamMut::Limit(&mut service.workers));
    f(&format!("{path}.queue"), ParamMut::Limit(&mut service.queue));
    if let Some(codel) = &mut service.codel {
        f(&format!("{path}.codel.target"), ParamMut::Time(&mut codel.target));
        f(&format!("{path}.codel.interval"), ParamMut::Time(&mut codel.interval));
    }
    if let Some(limit) = &mut service.adaptive_limit {
        let path = format!("{path}.adaptive_limit");
        match &mut limit.law {
            AdaptiveLaw::Aimd { latency, backoff } => {
                f(&format!("{path}.aimd.latency"), ParamMut::Time(latency));
                f(&format!("{path}.aimd.backoff"), ParamMut::Share(backoff));
            }
            AdaptiveLaw::Gradient { tolerance } => f(&format!("{path}.gradient.tolerance"), ParamMut::Real(tolerance)),
        }
        f(&format!("{path}.initial"), ParamMut::Count(&mut limit.initial));
        f(&format!("{path}.min"), ParamMut::Count(&mut limit.min));
        f(&format!("{path}.max"), ParamMut::Count(&mut limit.max));
    }
    match &mut service.contention {
        Some(Contention::InProgress { add }) => f(&format!("{path}.contention.in_progress.add"), ParamMut::Time(add)),
        Some(Contention::ArrivalRate { above, factor }) => {
            f(&format!("{path}.contention.arrival_rate.above"), ParamMut::Real(above));
            f(&format!("{path}.contention.arrival_rate.factor"), ParamMut::Real(factor));
        }
        None => {}
    }
    if let Some(autoscale) = &mut service.autoscale {
        let path = format!("{path}.autoscale");
        f(&format!("{path}.target"), ParamMut::Share(&mut autoscale.target));
        f(&format!("{path}.min"), ParamMut::Count(&mut autoscale.min));
        f(&format!("{path}.max"), ParamMut::Count(&mut autoscale.max));
        f(&format!("{path}.every"), ParamMut::Time(&mut autoscale.every));
        f(&format!("{path}.start_up"), ParamMut::Time(&mut autoscale.start_up));
        f(&format!("{path}.down_after"), ParamMut::Time(&mut autoscale.down_after));
    }
    if let Some(warm_up) = &mut service.warm_up {
        f(&format!("{path}.warm_up.lasting"), ParamMut::Time(&mut warm_up.lasting));
        f(&format!("{path}.warm_up.factor"), ParamMut::Real(&mut warm_up.factor));
    }
    if let Some(health_check) = &mut service.health_check {
        f(&format!("{path}.health_check.down_after"), ParamMut::Time(&mut health_check.down_after));
        f(&format!("{path}.health_check.up_after"), ParamMut::Time(&mut health_check.up_after));
    }
    if let Some(cache) = &mut service.cache {
        f(&format!("{path}.cache.capacity"), ParamMut::Count(&mut cache.capacity));
        f(&format!("{path}.cache.keys"), ParamMut::Count(&mut cache.keys));
        f(&format!("{path}.cache.zipf"), ParamMut::Real(&mut cache.zipf));
        if let Some(ttl) = &mut cache.ttl {
            f(&format!("{path}.cache.ttl"), ParamMut::Time(ttl));
        }
    }
    for (name, operation) in &mut service.operations {
        let path = format!("{path}.operations.{name}");
        if let Some(error_rate) = &mut operation.error_rate {
            f(&format!("{path}.error_rate"), ParamMut::Share(error_rate));
        }
        for (i, call_path) in operation.paths.iter_mut().enumerate() {
            let path = format!("{path}.paths.{i}");
            f(&format!("{path}.weight"), ParamMut::Real(&mut call_path.weight));
            for (j, step) in call_path.steps.iter_mut().enumerate() {
                visit_step(&format!("{path}.steps.{j}"), step, f);
            }
        }
    }
}

fn visit_step(path: &str, step: &mut Step, f: &mut Visitor<'_>) {
    match step {
        Step::Work(work) => visit_work(&format!("{path}.work"), work, f),
        Step::Call(call) => visit_call(&format!("{path}.call"), call, f),
        Step::Parallel { branches, .. } => {
            for (i, branch) in branches.iter_mut().enumerate() {
                visit_step(&format!("{path}.parallel.branches.{i}"), branch, f);
            }
        }
        Step::Lookup(lookup) => {
            visit_call(&format!("{path}.lookup.cache"), &mut lookup.cache, f);
            visit_call(&format!("{path}.lookup.origin"), &mut lookup.origin, f);
            if let Some(fill) = &mut lookup.fill {
                visit_call(&format!("{path}.lookup.fill"), fill, f);
            }
        }
        Step::Publish(publish) => {
            f(&format!("{path}.publish.on_failure"), ParamMut::Share(&mut publish.on_failure));
        }
    }
}

fn visit_work(path: &str, work: &mut Work, f: &mut Visitor<'_>) {
    f(path, ParamMut::Work(work));
}

fn visit_call(path: &str, call: &mut Call, f: &mut Visitor<'_>) {
    f(&format!("{path}.on_failure"), ParamMut::Share(&mut call.on_failure));
    if let Some(fallback) = &mut call.fallback {
        visit_call(&format!("{path}.fallback"), fallback, f);
    }
}

fn visit_edge(path: &str, edge: &mut Edge, f: &mut Visitor<'_>) {
    if let Some(latency) = &mut edge.latency {
        f(&format!("{path}.latency"), ParamMut::Time(latency));
    }
    if let Some(timeout) = &mut edge.timeout {
        f(&format!("{path}.timeout"), ParamMut::Time(timeout));
    }
    if let Some(deadline) = &mut edge.deadline {
        f(&format!("{path}.deadline"), ParamMut::Time(deadline));
    }
    if let Some(retry) = &mut edge.retry {
        f(&format!("{path}.retry.attempts"), ParamMut::Count(&mut retry.attempts));
        f(&format!("{path}.retry.backoff"), ParamMut::Time(&mut retry.backoff));
        f(&format!("{path}.retry.factor"), ParamMut::Real(&mut retry.factor));
        if let Some(max) = &mut retry.max {
            f(&format!("{path}.retry.max"), ParamMut::Time(max));
        }
        if let Some(budget) = &mut retry.budget {
            f(&format!("{path}.retry.budget.ratio"), ParamMut::Real(&mut budget.ratio));
            f(&format!("{path}.retry.budget.min_per_s"), ParamMut::Real(&mut budget.min_per_s));
            f(&format!("{path}.retry.budget.cap"), ParamMut::Real(&mut budget.cap));
            if let Some(initial) = &mut budget.initial {
                f(&format!("{path}.retry.budget.initial"), ParamMut::Real(initial));
            }
        }
    }
    if let Some(hedge) = &mut edge.hedge {
        f(&format!("{path}.hedge.after"), ParamMut::Time(&mut hedge.after));
        f(&format!("{path}.hedge.attempts"), ParamMut::Count(&mut hedge.attempts));
    }
    if let Some(max_in_flight) = &mut edge.max_in_flight {
        f(&format!("{path}.max_in_flight"), ParamMut::Count(max_in_flight));
    }
    if let Some(pool) = &mut edge.pool {
        f(&format!("{path}.pool.connections"), ParamMut::Count(&mut pool.connections));
        f(&format!("{path}.pool.waiting"), ParamMut::Limit(&mut pool.waiting));
    }
    if let Some(breaker) = &mut edge.breaker {
        match &mut breaker.trips {
            Trips::Share { window, min_calls, threshold } => {
                match window {
                    BreakerWindow::Calls(calls) => f(&format!("{path}.breaker.window"), ParamMut::Count(calls)),
                    BreakerWindow::Time(last) => f(&format!("{path}.breaker.window"), ParamMut::Time(last)),
                }
                f(&format!("{path}.breaker.min_calls"), ParamMut::Count(min_calls));
                f(&format!("{path}.breaker.threshold"), ParamMut::Share(threshold));
            }
            Trips::Consecutive(failures) => f(&format!("{path}.breaker.consecutive"), ParamMut::Count(failures)),
        }
        f(&format!("{path}.breaker.open"), ParamMut::Time(&mut breaker.open));
        f(&format!("{path}.breaker.probes"), ParamMut::Count(&mut breaker.probes));
    }
}

fn visit_topic(path: &str, topic: &mut Topic, f: &mut Visitor<'_>) {
    f(&format!("{path}.concurrency"), ParamMut::Count(&mut topic.concurrency));
    f(&format!("{path}.partitions"), ParamMut::Count(&mut topic.partitions));
    f(&format!("{path}.keys.count"), ParamMut::Count(&mut topic.keys.count));
    f(&format!("{path}.keys.zipf"), ParamMut::Real(&mut topic.keys.zipf));
    f(&format!("{path}.capacity"), ParamMut::Limit(&mut topic.capacity));
    f(&format!("{path}.redelivery_delay"), ParamMut::Time(&mut topic.redelivery_delay));
    f(&format!("{path}.max_deliveries"), ParamMut::Count(&mut topic.max_deliveries));
    if let Some(accept) = &mut topic.accept {
        visit_work(&format!("{path}.accept"), accept, f);
    }
}
