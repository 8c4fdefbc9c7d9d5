//! Services, read from a document: resources, what protects them, what changes them.
//!
//! You are here: `models::format::decode::services`. Operations and their paths are in `decode` and `steps`.

use super::{Decoder, words, workers};
use crate::format::cursor::{Cursor, Shape};
use crate::param::Param;
use crate::system::*;
use crate::units::Nanos;

pub const SERVICE: Shape = Shape {
    name: "service",
    keys: &[
        "replicas",
        "workers",
        "queue",
        "discipline",
        "mode",
        "balance",
        "cancel_on_disconnect",
        "shed_expired",
        "codel",
        "adaptive_limit",
        "contention",
        "autoscale",
        "warm_up",
        "health_check",
        "cache",
        "operations",
        "observed",
    ],
};
pub const CODEL: Shape = Shape { name: "codel", keys: &["target", "interval"] };
pub const ADAPTIVE_LIMIT: Shape = Shape { name: "adaptive_limit", keys: &["aimd", "gradient", "initial", "min", "max"] };
pub const AIMD: Shape = Shape { name: "aimd", keys: &["latency", "backoff"] };
pub const GRADIENT: Shape = Shape { name: "gradient", keys: &["tolerance"] };
pub const CONTENTION: Shape = Shape { name: "contention", keys: &["in_progress", "arrival_rate"] };
pub const IN_PROGRESS: Shape = Shape { name: "in_progress", keys: &["add"] };
pub const ARRIVAL_RATE: Shape = Shape { name: "arrival_rate", keys: &["above", "factor"] };
pub const AUTOSCALE: Shape = Shape { name: "autoscale", keys: &["target", "min", "max", "every", "start_up", "down_after"] };
pub const WARM_UP: Shape = Shape { name: "warm_up", keys: &["lasting", "factor"] };
pub const HEALTH_CHECK: Shape = Shape { name: "health_check", keys: &["down_after", "up_after"] };
pub const CACHE: Shape = Shape { name: "cache", keys: &["capacity", "keys", "zipf", "ttl"] };

/// What an autoscaler gets for what the file leaves out: [`Autoscale::every`], [`Autoscale::start_up`], [`Autoscale::down_after`]. The
/// first and the last are those of the Kubernetes HPA.
pub const AUTOSCALE_TIMES: [Nanos; 3] = [Nanos::from_secs(15), Nanos::ZERO, Nanos::from_secs(300)];

impl Decoder {
    pub(super) fn service(&mut self, at: &Cursor<'_>, mut service: Service) -> Service {
        let Some(fields) = at.fields(&SERVICE, &mut self.mistakes) else { return service };
        self.set_param(&fields, "replicas", &mut service.replicas, Cursor::count);
        self.set(&fields, "workers", &mut service.workers, workers);
        self.set_param(&fields, "queue", &mut service.queue, |at, m| at.limit("unbounded", m));
        self.set(&fields, "discipline", &mut service.discipline, |at, m| at.word(words::DISCIPLINE, m));
        self.set(&fields, "mode", &mut service.mode, |at, m| at.word(words::MODE, m));
        self.set(&fields, "balance", &mut service.balance, |at, m| at.word(words::BALANCE, m));
        self.set(&fields, "cancel_on_disconnect", &mut service.cancel_on_disconnect, Cursor::boolean);
        self.set(&fields, "shed_expired", &mut service.shed_expired, Cursor::boolean);
        self.set_or_none(&fields, "codel", &mut service.codel, Self::codel);
        self.set_or_none(&fields, "adaptive_limit", &mut service.adaptive_limit, Self::adaptive_limit);
        self.set_or_none(&fields, "contention", &mut service.contention, Self::contention);
        self.set_or_none(&fields, "autoscale", &mut service.autoscale, Self::autoscale);
        self.set_or_none(&fields, "warm_up", &mut service.warm_up, Self::warm_up);
        self.set_or_none(&fields, "health_check", &mut service.health_check, Self::health_check);
        self.set_or_none(&fields, "cache", &mut service.cache, Self::cache);
        let operations = fields.get("operations");
        self.each(
            operations,
            &mut service.operations,
            |name| Some(name.into()),
            |d, at, base| Some(d.operation(at, base.unwrap_or_default())),
        );
        self.set_or_none(&fields, "observed", &mut service.observed, Self::observed);
        service
    }

    fn codel(&mut self, at: &Cursor<'_>, base: Option<CoDel>) -> Option<CoDel> {
        let fields = at.fields(&CODEL, &mut self.mistakes)?;
        let base = base.as_ref();
        let target =
            self.need_param(&fields, "target", "acceptable standing wait, such as 5ms", base.map(|c| c.target), Cursor::duration);
        let interval = "how long it may be exceeded, such as 100ms";
        let interval = self.need_param(&fields, "interval", interval, base.map(|c| c.interval), Cursor::duration);
        Some(CoDel { target: target?, interval: interval? })
    }

    fn adaptive_limit(&mut self, at: &Cursor<'_>, base: Option<AdaptiveLimit>) -> Option<AdaptiveLimit> {
        let fields = at.fields(&ADAPTIVE_LIMIT, &mut self.mistakes)?;
        let initial = self.need_param(&fields, "initial", "limit at the start", base.as_ref().map(|a| a.initial), Cursor::count);
        let min = self.need_param(&fields, "min", "least limit", base.as_ref().map(|a| a.min), Cursor::count);
        let max = self.need_param(&fields, "max", "greatest limit", base.as_ref().map(|a| a.max), Cursor::count);
        let help = "write aimd: { latency: 100ms, backoff: 0.9 }, or gradient: { tolerance: 1.5 }";
        let law = match self.exactly_one(&fields, &["aimd", "gradient"], base.is_some(), help) {
            Some(("aimd", at)) => self.aimd(&at, base.map(|a| a.law)),
            Some((_, at)) => self.gradient(&at, base.map(|a| a.law)),
            None => base.map(|a| a.law),
        };
        Some(AdaptiveLimit { law: law?, initial: initial?, min: min?, max: max? })
    }

    fn aimd(&mut self, at: &Cursor<'_>, base: Option<AdaptiveLaw>) -> Option<AdaptiveLaw> {
        let fields = at.fields(&AIMD, &mut self.mistakes)?;
        let base = match base {
            Some(AdaptiveLaw::Aimd { latency, backoff }) => Some((latency, backoff)),
            _ => None,
        };
        let latency = "an answer slower than this is a sign of overload";
        let latency = self.need_param(&fields, "latency", latency, base.map(|b| b.0), Cursor::duration);
        let backoff =
            self.need_param(&fields, "backoff", "factor on the limit then, such as 0.9", base.map(|b| b.1), Cursor::share);
        Some(AdaptiveLaw::Aimd { latency: latency?, backoff: backoff? })
    }

    fn gradient(&mut self, at: &Cursor<'_>, base: Option<AdaptiveLaw>) -> Option<AdaptiveLaw> {
        let fields = at.fields(&GRADIENT, &mut self.mistakes)?;
        let base = match base {
            Some(AdaptiveLaw::Gradient { tolerance }) => Some(tolerance),
            _ => None,
        };
        let expected = "how many times the long-term latency is still fine, such as 1.5";
        Some(AdaptiveLaw::Gradient { tolerance: self.need_param(&fields, "tolerance", expected, base, Cursor::real)? })
    }

    fn contention(&mut self, at: &Cursor<'_>, base: Option<Contention>) -> Option<Contention> {
        let fields = at.fields(&CONTENTION, &mut self.mistakes)?;
        let help = "write in_progress: { add: 10ms }, or arrival_rate: { above: 300/s, factor: 10 }";
        match self.exactly_one(&fields, &["in_progress", "arrival_rate"], base.is_some(), help) {
            Some(("in_progress", at)) => {
                let fields = at.fields(&IN_PROGRESS, &mut self.mistakes)?;
                let base = match base {
                    Some(Contention::InProgress { add }) => Some(add),
                    _ => None,
                };
                let expected = "time per request in progress, such as 10ms";
                Some(Contention::InProgress { add: self.need_param(&fields, "add", expected, base, Cursor::duration)? })
            }
            Some((_, at)) => {
                let fields = at.fields(&ARRIVAL_RATE, &mut self.mistakes)?;
                let base = match base {
                    Some(Contention::ArrivalRate { above, factor }) => Some((above, factor)),
                    _ => None,
                };
                let above = self.need_param(&fields, "above", "a rate, such as 300/s", base.map(|b| b.0), Cursor::rate);
                let factor = self.need_param(&fields, "factor", "factor on the service time", base.map(|b| b.1), Cursor::real);
                Some(Contention::ArrivalRate { above: above?, factor: factor? })
            }
            None => base,
        }
    }

    fn autoscale(&mut self, at: &Cursor<'_>, base: Option<Autoscale>) -> Option<Autoscale> {
        let fields = at.fields(&AUTOSCALE, &mut self.mistakes)?;
        let base = base.as_ref();
        let target = self.need_param(&fields, "target", "wanted share of busy workers", base.map(|a| a.target), Cursor::share);
        let min = self.need_param(&fields, "min", "least replicas", base.map(|a| a.min), Cursor::count);
        let max = self.need_param(&fields, "max", "most replicas", base.map(|a| a.max), Cursor::count);
        let [every, start_up, down_after] = AUTOSCALE_TIMES.map(Param::declared);
        let [mut every, mut start_up, mut down_after] =
            base.map_or([every, start_up, down_after], |a| [a.every, a.start_up, a.down_after]);
        self.set_param(&fields, "every", &mut every, Cursor::duration);
        self.set_param(&fields, "start_up", &mut start_up, Cursor::duration);
        self.set_param(&fields, "down_after", &mut down_after, Cursor::duration);
        Some(Autoscale { target: target?, min: min?, max: max?, every, start_up, down_after })
    }

    fn warm_up(&mut self, at: &Cursor<'_>, base: Option<WarmUp>) -> Option<WarmUp> {
        let fields = at.fields(&WARM_UP, &mut self.mistakes)?;
        let base = base.as_ref();
        let lasting = self.need_param(&fields, "lasting", "how long it is slower", base.map(|w| w.lasting), Cursor::duration);
        let factor =
            self.need_param(&fields, "factor", "factor on its service time at its start", base.map(|w| w.factor), Cursor::real);
        Some(WarmUp { lasting: lasting?, factor: factor? })
    }

    fn health_check(&mut self, at: &Cursor<'_>, base: Option<HealthCheck>) -> Option<HealthCheck> {
        let fields = at.fields(&HEALTH_CHECK, &mut self.mistakes)?;
        let base = base.as_ref();
        let expected = "how long a replica that is down is still chosen";
        let down_after = self.need_param(&fields, "down_after", expected, base.map(|h| h.down_after), Cursor::duration);
        let mut up_after = base.map_or(Param::declared(Nanos::ZERO), |h| h.up_after);
        self.set_param(&fields, "up_after", &mut up_after, Cursor::duration);
        Some(HealthCheck { down_after: down_after?, up_after })
    }

    fn cache(&mut self, at: &Cursor<'_>, base: Option<Cache>) -> Option<Cache> {
        let fields = at.fields(&CACHE, &mut self.mistakes)?;
        let base = base.as_ref();
        let capacity = self.need_param(&fields, "capacity", "entries it can hold", base.map(|c| c.capacity), Cursor::count);
        let keys = self.need_param(&fields, "keys", "distinct keys that are asked for", base.map(|c| c.keys), Cursor::count);
        let mut zipf = base.map_or(Param::declared(1.0), |cache| cache.zipf);
        self.set_param(&fields, "zipf", &mut zipf, Cursor::real);
        let mut ttl = base.and_then(|cache| cache.ttl);
        self.set_or_none(&fields, "ttl", &mut ttl, |d, at, _| at.param(&mut d.mistakes, Cursor::duration));
        Some(Cache { capacity: capacity?, keys: keys?, zipf, ttl })
    }
}
