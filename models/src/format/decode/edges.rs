//! Edges, a client's policy towards one callee, read from a document.
//!
//! You are here: `models::format::decode::edges`. Not here: `required`, which is about the calls over an edge (`required`).

use super::{Decoder, words};
use crate::format::cursor::{Cursor, Mistakes, Shape};
use crate::param::{Limit, Param};
use crate::system::*;
use crate::units::Nanos;

pub const EDGE: Shape = Shape {
    name: "edge",
    keys: &[
        "latency",
        "timeout",
        "deadline",
        "propagate_deadline",
        "retry",
        "hedge",
        "max_in_flight",
        "pool",
        "breaker",
        "required",
        "observed",
    ],
};
pub const RETRY: Shape = Shape { name: "retry", keys: &["attempts", "backoff", "factor", "max", "jitter", "on", "budget"] };
pub const BUDGET: Shape = Shape { name: "budget", keys: &["ratio", "min_per_s", "cap", "initial"] };
pub const HEDGE: Shape = Shape { name: "hedge", keys: &["after", "attempts"] };
pub const POOL: Shape = Shape { name: "pool", keys: &["connections", "waiting"] };
pub const BREAKER: Shape =
    Shape { name: "breaker", keys: &["window", "min_calls", "threshold", "consecutive", "open", "probes"] };
pub const OBSERVED_EDGE: Shape = Shape {
    name: "observed_edge",
    keys: &["calls", "attempts", "errors", "timeouts", "per_parent", "asynchronous", "p50_ms", "p99_ms"],
};

impl Decoder {
    pub(super) fn edge(&mut self, at: &Cursor<'_>, mut edge: Edge) -> Edge {
        let Some(fields) = at.fields(&EDGE, &mut self.mistakes) else { return edge };
        let time = |d: &mut Self, at: &Cursor<'_>, _| at.param(&mut d.mistakes, Cursor::duration);
        self.set_or_none(&fields, "latency", &mut edge.latency, time);
        self.set_or_none(&fields, "timeout", &mut edge.timeout, time);
        self.set_or_none(&fields, "deadline", &mut edge.deadline, time);
        self.set(&fields, "propagate_deadline", &mut edge.propagate_deadline, Cursor::boolean);
        self.set_or_none(&fields, "retry", &mut edge.retry, Self::retry);
        self.set_or_none(&fields, "hedge", &mut edge.hedge, Self::hedge);
        self.set_or_none(&fields, "max_in_flight", &mut edge.max_in_flight, |d, at, _| at.param(&mut d.mistakes, Cursor::count));
        self.set_or_none(&fields, "pool", &mut edge.pool, Self::pool);
        self.set_or_none(&fields, "breaker", &mut edge.breaker, Self::breaker);
        self.set_or_none(&fields, "observed", &mut edge.observed, Self::observed_edge);
        edge
    }

    fn retry(&mut self, at: &Cursor<'_>, base: Option<Retry>) -> Option<Retry> {
        let fields = at.fields(&RETRY, &mut self.mistakes)?;
        let before = base.as_ref().map(|retry| retry.attempts);
        let mut retry = base.unwrap_or_default();
        let attempts = self.need_param(&fields, "attempts", "tries in all, the first included", before, Cursor::count);
        self.set_param(&fields, "backoff", &mut retry.backoff, Cursor::duration);
        self.set_param(&fields, "factor", &mut retry.factor, Cursor::real);
        self.set_or_none(&fields, "max", &mut retry.max, |d, at, _| at.param(&mut d.mistakes, Cursor::duration));
        self.set(&fields, "jitter", &mut retry.jitter, |at, m| at.word(words::JITTER, m));
        self.set(&fields, "on", &mut retry.on, |at, m| {
            let causes = at.items(m)?;
            Some(causes.iter().filter_map(|at| at.word(words::CAUSE, m)).collect())
        });
        self.set_or_none(&fields, "budget", &mut retry.budget, Self::budget);
        Some(Retry { attempts: attempts?, ..retry })
    }

    fn budget(&mut self, at: &Cursor<'_>, base: Option<Budget>) -> Option<Budget> {
        let fields = at.fields(&BUDGET, &mut self.mistakes)?;
        let base = base.as_ref();
        let ratio = self.need_param(&fields, "ratio", "tokens per first try", base.map(|b| b.ratio), Cursor::real);
        let cap = self.need_param(&fields, "cap", "most tokens", base.map(|b| b.cap), Cursor::real);
        let mut min_per_s = base.map_or(Param::declared(0.0), |b| b.min_per_s);
        self.set_param(&fields, "min_per_s", &mut min_per_s, Cursor::real);
        let mut initial = base.and_then(|b| b.initial);
        self.set_or_none(&fields, "initial", &mut initial, |d, at, _| at.param(&mut d.mistakes, Cursor::real));
        Some(Budget { ratio: ratio?, min_per_s, cap: cap?, initial })
    }

    fn hedge(&mut self, at: &Cursor<'_>, base: Option<Hedge>) -> Option<Hedge> {
        let fields = at.fields(&HEDGE, &mut self.mistakes)?;
        let base = base.as_ref();
        let after = self.need_param(&fields, "after", "wait before each further try", base.map(|h| h.after), Cursor::duration);
        let attempts =
            self.need_param(&fields, "attempts", "tries in all, the first included", base.map(|h| h.attempts), Cursor::count);
        Some(Hedge { after: after?, attempts: attempts? })
    }

    fn pool(&mut self, at: &Cursor<'_>, base: Option<Pool>) -> Option<Pool> {
        let fields = at.fields(&POOL, &mut self.mistakes)?;
        let base = base.as_ref();
        let expected = "how many, each for one try at a time";
        let connections = self.need_param(&fields, "connections", expected, base.map(|p| p.connections), Cursor::count);
        let mut waiting = base.map_or(Param::declared(Limit::Unlimited), |p| p.waiting);
        self.set_param(&fields, "waiting", &mut waiting, |at, m| at.limit("unbounded", m));
        Some(Pool { connections: connections?, waiting })
    }

    fn breaker(&mut self, at: &Cursor<'_>, base: Option<Breaker>) -> Option<Breaker> {
        let fields = at.fields(&BREAKER, &mut self.mistakes)?;
        let trips = match fields.get("consecutive") {
            Some(failures) => {
                if let Some(other) = ["window", "min_calls", "threshold"].iter().find(|key| fields.get(key).is_some()) {
                    let expected = "consecutive alone, or window, min_calls and threshold";
                    self.mistakes.add_found(&failures, format!("consecutive beside {other}"), expected, "");
                }
                failures.param(&mut self.mistakes, Cursor::count).map(Trips::Consecutive)
            }
            None => self.trips(&fields, base.as_ref().map(|b| &b.trips)),
        };
        let open = self.need_param(&fields, "open", "how long it stays open", base.as_ref().map(|b| b.open), Cursor::duration);
        let mut probes = base.map_or(Param::declared(1), |b| b.probes);
        self.set_param(&fields, "probes", &mut probes, Cursor::count);
        Some(Breaker { trips: trips?, open: open?, probes })
    }

    /// What opens a breaker whose file does not say `consecutive`.
    fn trips(&mut self, fields: &super::Fields<'_>, base: Option<&Trips>) -> Option<Trips> {
        let says = ["window", "min_calls", "threshold"].iter().any(|key| fields.get(key).is_some());
        let (window, min_calls, threshold) = match base {
            Some(Trips::Consecutive(_)) if !says => return base.cloned(),
            Some(Trips::Share { window, min_calls, threshold }) => (Some(*window), Some(*min_calls), Some(*threshold)),
            _ => (None, None, None),
        };
        let window = self.need(fields, "window", "tries or time remembered", window, |d, at| breaker_window(at, &mut d.mistakes));
        let min_calls = self.need_param(fields, "min_calls", "tries before it may open", min_calls, Cursor::count);
        let threshold = self.need_param(fields, "threshold", "failed share that opens it", threshold, Cursor::share);
        Some(Trips::Share { window: window?, min_calls: min_calls?, threshold: threshold? })
    }

    fn observed_edge(&mut self, at: &Cursor<'_>, _: Option<ObservedEdge>) -> Option<ObservedEdge> {
        let fields = at.fields(&OBSERVED_EDGE, &mut self.mistakes)?;
        let mut observed = ObservedEdge::default();
        self.set(&fields, "calls", &mut observed.calls, Cursor::large);
        self.set(&fields, "attempts", &mut observed.attempts, Cursor::large);
        self.set(&fields, "errors", &mut observed.errors, Cursor::large);
        self.set(&fields, "timeouts", &mut observed.timeouts, Cursor::large);
        self.set(&fields, "per_parent", &mut observed.per_parent, Cursor::real);
        self.set(&fields, "asynchronous", &mut observed.asynchronous, Cursor::boolean);
        self.set(&fields, "p50_ms", &mut observed.p50_ms, Cursor::real);
        self.set(&fields, "p99_ms", &mut observed.p99_ms, Cursor::real);
        Some(observed)
    }
}

/// `20` tries, or those of the last `10s`.
fn breaker_window(at: &Cursor<'_>, m: &mut Mistakes) -> Option<BreakerWindow> {
    let value = at.key("value").unwrap_or_else(|| at.clone());
    if value.scalar().is_some_and(|text| Nanos::parse(text).is_some()) {
        return at.param(m, Cursor::duration).map(BreakerWindow::Time);
    }
    let calls = at.param(m, |at, m| {
        let mut own = Mistakes::new("");
        let calls = at.count(&mut own);
        if calls.is_none() {
            m.add(at, "a number of tries such as 20, or a time such as 10s", "");
        }
        calls
    });
    calls.map(BreakerWindow::Calls)
}
