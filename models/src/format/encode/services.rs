//! What a service has beside workers, queue and operations, as a file has it: the mirror image of `decode::services`.
//!
//! You are here: `models::format::encode::services`.

use super::{Entries, count, number, rate, time};
use crate::format::decode::services::AUTOSCALE_TIMES;
use crate::format::yaml::Yaml;
use crate::param::Param;
use crate::system::*;
use crate::units::Nanos;

/// Adds what protects a service and what changes it.
pub(super) fn protections(entries: &mut Entries, service: &Service) {
    entries.add_some("codel", service.codel.as_ref().map(codel));
    entries.add_some("adaptive_limit", service.adaptive_limit.as_ref().map(adaptive_limit));
    entries.add_some("contention", service.contention.as_ref().map(contention));
    entries.add_some("autoscale", service.autoscale.as_ref().map(autoscale));
    entries.add_some("warm_up", service.warm_up.as_ref().map(warm_up));
    entries.add_some("health_check", service.health_check.as_ref().map(health_check));
}

fn codel(codel: &CoDel) -> Yaml {
    let mut entries = Entries::default();
    entries.add("target", time(&codel.target));
    entries.add("interval", time(&codel.interval));
    entries.flow()
}

fn adaptive_limit(limit: &AdaptiveLimit) -> Yaml {
    let mut entries = Entries::default();
    let mut law = Entries::default();
    match &limit.law {
        AdaptiveLaw::Aimd { latency, backoff } => {
            law.add("latency", time(latency));
            law.add("backoff", number(backoff));
            entries.add("aimd", law.flow());
        }
        AdaptiveLaw::Gradient { tolerance } => {
            law.add("tolerance", number(tolerance));
            entries.add("gradient", law.flow());
        }
    }
    entries.add("initial", count(&limit.initial));
    entries.add("min", count(&limit.min));
    entries.add("max", count(&limit.max));
    entries.flow()
}

fn contention(contention: &Contention) -> Yaml {
    let mut entries = Entries::default();
    let mut law = Entries::default();
    match contention {
        Contention::InProgress { add } => {
            law.add("add", time(add));
            entries.add("in_progress", law.flow());
        }
        Contention::ArrivalRate { above, factor } => {
            law.add("above", rate(above));
            law.add("factor", number(factor));
            entries.add("arrival_rate", law.flow());
        }
    }
    entries.flow()
}

fn autoscale(autoscale: &Autoscale) -> Yaml {
    let [every, start_up, down_after] = AUTOSCALE_TIMES.map(Param::declared);
    let mut entries = Entries::default();
    entries.add("target", number(&autoscale.target));
    entries.add("min", count(&autoscale.min));
    entries.add("max", count(&autoscale.max));
    entries.add_unless_default("every", &autoscale.every, &every, time);
    entries.add_unless_default("start_up", &autoscale.start_up, &start_up, time);
    entries.add_unless_default("down_after", &autoscale.down_after, &down_after, time);
    entries.flow()
}

fn warm_up(warm_up: &WarmUp) -> Yaml {
    let mut entries = Entries::default();
    entries.add("lasting", time(&warm_up.lasting));
    entries.add("factor", number(&warm_up.factor));
    entries.flow()
}

fn health_check(health_check: &HealthCheck) -> Yaml {
    let mut entries = Entries::default();
    entries.add("down_after", time(&health_check.down_after));
    entries.add_unless_default("up_after", &health_check.up_after, &Param::declared(Nanos::ZERO), time);
    entries.flow()
}

pub(super) fn cache(cache: &Cache) -> Yaml {
    let mut entries = Entries::default();
    entries.add("capacity", count(&cache.capacity));
    entries.add("keys", count(&cache.keys));
    entries.add("zipf", number(&cache.zipf));
    entries.add_some("ttl", cache.ttl.as_ref().map(time));
    entries.flow()
}
