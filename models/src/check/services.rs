//! Whether a service can be: its resources, what protects it and what changes it.
//!
//! You are here: `models::check::services`.

use super::numbers::{least, limit, most};
use super::{Checker, MAX_CACHE_KEYS, MAX_REPLICAS, SHORTEST_PERIOD};
use crate::format::doc::pointer_step;
use crate::param::Limit;
use crate::system::*;

impl Checker<'_> {
    pub(super) fn service(&mut self, place: &str, service: &Service) {
        let replicas = format!("a number from 1 to {MAX_REPLICAS}");
        self.param(&format!("{place}/replicas"), &service.replicas, |n| (1..=MAX_REPLICAS).contains(n), &replicas);
        let workers = format!("{place}/workers");
        self.shown_param(&workers, &service.workers, |n| *n != Limit::Of(0), "at least 1 worker, or unlimited", limit);
        self.shown_param(&format!("{place}/queue"), &service.queue, |_| true, "a queue bound", limit);
        if let Some(codel) = &service.codel {
            self.some_time(&format!("{place}/codel/target"), &codel.target);
            self.some_time(&format!("{place}/codel/interval"), &codel.interval);
        }
        if let Some(limit) = &service.adaptive_limit {
            self.adaptive_limit(&format!("{place}/adaptive_limit"), limit);
        }
        match &service.contention {
            Some(Contention::InProgress { add }) => self.any_time(&format!("{place}/contention/in_progress/add"), add),
            Some(Contention::ArrivalRate { above, factor }) => {
                self.rate(&format!("{place}/contention/arrival_rate/above"), above);
                self.growth(&format!("{place}/contention/arrival_rate/factor"), factor);
            }
            None => {}
        }
        if let Some(autoscale) = &service.autoscale {
            self.autoscale(place, service, autoscale);
        }
        if let Some(warm_up) = &service.warm_up {
            self.some_time(&format!("{place}/warm_up/lasting"), &warm_up.lasting);
            self.growth(&format!("{place}/warm_up/factor"), &warm_up.factor);
        }
        if let Some(health_check) = &service.health_check {
            self.any_time(&format!("{place}/health_check/down_after"), &health_check.down_after);
            self.any_time(&format!("{place}/health_check/up_after"), &health_check.up_after);
        }
        if let Some(cache) = &service.cache {
            self.cache(&format!("{place}/cache"), cache);
        }
        for (name, operation) in &service.operations {
            let place = format!("{place}/operations/{}", pointer_step(name));
            if let Some(error_rate) = &operation.error_rate {
                self.share(&format!("{place}/error_rate"), error_rate);
            }
            if !self.partial && !operation.paths.iter().any(|path| path.weight.value > 0.0) {
                let help = "write paths: [{ weight: 1, steps: [...] }]";
                self.add(&format!("{place}/paths"), "none", "at least one path with a weight above 0", help);
            }
            for (i, path) in operation.paths.iter().enumerate() {
                self.real(&format!("{place}/paths/{i}/weight"), &path.weight);
                for (j, step) in path.steps.iter().enumerate() {
                    self.step(&format!("{place}/paths/{i}/steps/{j}"), step, false);
                }
            }
        }
    }

    fn cache(&mut self, place: &str, cache: &Cache) {
        self.some(&format!("{place}/capacity"), &cache.capacity, "at least 1 entry");
        let keys = format!("a number of keys from 1 to {MAX_CACHE_KEYS}");
        self.param(&format!("{place}/keys"), &cache.keys, |n| (1..=MAX_CACHE_KEYS).contains(n), &keys);
        self.real(&format!("{place}/zipf"), &cache.zipf);
        if let Some(ttl) = &cache.ttl {
            self.param(&format!("{place}/ttl"), ttl, |t| !t.is_zero(), "a duration above 0, or none");
        }
    }

    fn adaptive_limit(&mut self, place: &str, limit: &AdaptiveLimit) {
        match &limit.law {
            AdaptiveLaw::Aimd { latency, backoff } => {
                self.some_time(&format!("{place}/aimd/latency"), latency);
                let possible = |x: &f64| *x > 0.0 && *x < 1.0;
                self.param(&format!("{place}/aimd/backoff"), backoff, possible, "a factor above 0 and below 1");
            }
            AdaptiveLaw::Gradient { tolerance } => self.growth(&format!("{place}/gradient/tolerance"), tolerance),
        }
        self.some(&format!("{place}/min"), &limit.min, "at least 1 request");
        self.some(&format!("{place}/initial"), &limit.initial, "at least 1 request");
        self.some(&format!("{place}/max"), &limit.max, "at least 1 request");
        self.ordered(&format!("{place}/min"), &limit.min, &limit.initial, false, "its limit at the start");
        self.ordered(&format!("{place}/initial"), &limit.initial, &limit.max, false, "its greatest limit");
    }

    fn autoscale(&mut self, service_place: &str, service: &Service, autoscale: &Autoscale) {
        let place = format!("{service_place}/autoscale");
        let target = |share: &f64| *share > 0.0 && *share <= 1.0;
        self.param(&format!("{place}/target"), &autoscale.target, target, "a share above 0 and up to 1");
        let replicas = format!("a number from 1 to {MAX_REPLICAS}");
        let possible = |n: &u32| (1..=MAX_REPLICAS).contains(n);
        self.param(&format!("{place}/min"), &autoscale.min, possible, &replicas);
        self.param(&format!("{place}/max"), &autoscale.max, possible, &replicas);
        self.ordered(&format!("{place}/min"), &autoscale.min, &autoscale.max, false, "the most replicas");
        let every = format!("at least {SHORTEST_PERIOD} between two looks");
        self.param(&format!("{place}/every"), &autoscale.every, |t| *t >= SHORTEST_PERIOD, &every);
        self.any_time(&format!("{place}/start_up"), &autoscale.start_up);
        self.any_time(&format!("{place}/down_after"), &autoscale.down_after);
        if self.partial {
            // What else the service has is not known yet.
            return;
        }
        let (low, high) = (most(&autoscale.min), least(&autoscale.max));
        let has = &service.replicas;
        if low <= high && !(low <= least(has) && most(has) <= high) {
            let found = if has.range.is_some() {
                format!("{}, in a range of {} to {}", has.value, least(has), most(has))
            } else {
                has.value.to_string()
            };
            let help = format!("write replicas: {}, what it starts with", has.value.clamp(low, high));
            self.add(
                &format!("{service_place}/replicas"),
                found,
                format!("from {low} to {high}, where autoscale keeps it"),
                help,
            );
        }
        if service.workers.value == Limit::Unlimited {
            let expected = "a bound of workers: autoscale follows the busy share of them";
            self.add(&format!("{service_place}/workers"), "unlimited", expected, "");
        }
    }
}
