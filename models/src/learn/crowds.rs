//! Names without end: operations that hold ids, services that are one each time.
//!
//! You are here: `models::learn::crowds`, before `extract`, which asks here what to call things. A model with a million operations teaches
//! nobody anything and holds a million tables. So the busiest names are kept, and the rest of a service's operations become one.
//! Always true: what is kept depends on names and their numbers alone; where there are no more names than the limits allow, all are kept.
//! Not here: ids in names that can be told by their form (`trace::operation`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexSet;

use crate::trace::{Span, TraceSet};

/// Most services, peers included.
const MOST_SERVICES: usize = 5_000;
/// Most operations of all services together, and of each: the largest number of these that keeps the sum.
const MOST_OPERATIONS: usize = 20_000;
const MOST_EACH: [usize; 10] = [1_000, 500, 200, 100, 50, 20, 10, 5, 2, 1];
/// Pairs of service and operation below which nothing needs to be counted.
const FEW: usize = 1_000;

/// What the rest of them is called.
const OTHER_OPERATIONS: &str = "other operations";
const OTHER_SERVICES: &str = "other services";

/// Which names are kept.
#[derive(Debug, Default)]
pub(crate) struct Crowds {
    /// `None`: all.
    services: Option<BTreeSet<Arc<str>>>,
    /// Of services with too many.
    operations: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    other_services: Arc<str>,
    other_operations: Arc<str>,
    /// Services that became one.
    pub(crate) joined_services: u64,
    /// Per service: operations kept, and joined.
    pub(crate) joined_operations: Vec<(String, [u64; 2])>,
}

impl Crowds {
    /// Looks at all names.
    pub(crate) fn of(traces: &TraceSet) -> Crowds {
        let spans = || traces.traces.iter().flat_map(|trace| &trace.spans);
        if are_few(spans()) {
            return Crowds::default();
        }
        let mut seen: BTreeMap<&Arc<str>, BTreeMap<&Arc<str>, u64>> = BTreeMap::new();
        let mut peers: BTreeSet<&Arc<str>> = BTreeSet::new();
        for span in spans() {
            *seen.entry(&span.service).or_default().entry(&span.operation).or_default() += 1;
            peers.extend(&span.peer);
        }
        let mut crowds =
            Crowds { other_services: OTHER_SERVICES.into(), other_operations: OTHER_OPERATIONS.into(), ..Crowds::default() };
        crowds.choose_services(&seen, &peers);
        crowds.choose_operations(&seen);
        crowds
    }

    fn choose_services(&mut self, seen: &BTreeMap<&Arc<str>, BTreeMap<&Arc<str>, u64>>, peers: &BTreeSet<&Arc<str>>) {
        let mut busy: BTreeMap<&Arc<str>, u64> = peers.iter().map(|&peer| (peer, 0)).collect();
        for (&service, operations) in seen {
            *busy.entry(service).or_default() += operations.values().sum::<u64>();
        }
        if busy.len() <= MOST_SERVICES {
            return;
        }
        self.joined_services = (busy.len() - MOST_SERVICES) as u64;
        self.services = Some(busiest(busy, MOST_SERVICES));
    }

    fn choose_operations(&mut self, seen: &BTreeMap<&Arc<str>, BTreeMap<&Arc<str>, u64>>) {
        // Services that become one have their operations together.
        let mut by_service: BTreeMap<&Arc<str>, BTreeMap<&Arc<str>, u64>> = BTreeMap::new();
        let other = self.other_services.clone();
        for (&service, operations) in seen {
            let service = if self.keeps_service(service) { service } else { &other };
            let all = by_service.entry(service).or_default();
            for (&operation, n) in operations {
                *all.entry(operation).or_default() += n;
            }
        }
        let sum = |each: usize| by_service.values().map(|operations| operations.len().min(each)).sum::<usize>();
        let each = MOST_EACH.into_iter().find(|&each| sum(each) <= MOST_OPERATIONS).unwrap_or(1);
        let mut joined = Vec::new();
        for (service, operations) in by_service {
            let n = operations.len();
            if n > each {
                joined.push((service.to_string(), [each as u64, (n - each) as u64]));
                self.operations.insert(service.clone(), busiest(operations, each));
            }
        }
        joined.sort_by(|a, b| b.1[1].cmp(&a.1[1]).then_with(|| a.0.cmp(&b.0)));
        self.joined_operations = joined;
    }

    fn keeps_service(&self, service: &Arc<str>) -> bool {
        self.services.as_ref().is_none_or(|kept| kept.contains(service))
    }

    /// What a service is called.
    pub(crate) fn service<'n>(&'n self, name: &'n Arc<str>) -> &'n Arc<str> {
        if self.keeps_service(name) { name } else { &self.other_services }
    }

    /// What an operation is called that a span of this service has.
    pub(crate) fn operation<'n>(&'n self, service: &'n Arc<str>, name: &'n Arc<str>) -> &'n Arc<str> {
        if self.operations.is_empty() {
            return name;
        }
        let crowded = self.operations.get(self.service(service));
        if crowded.is_none_or(|kept| kept.contains(name)) { name } else { &self.other_operations }
    }
}

/// Whether there are so few pairs of service and operation, and so few peers, that no limit is near. Equal names mostly share their place
/// in memory; where they do not, they only count too often.
fn are_few<'s>(spans: impl Iterator<Item = &'s Span>) -> bool {
    let place = |name: &Arc<str>| name.as_ptr() as usize;
    let mut pairs: IndexSet<(usize, usize)> = IndexSet::new();
    let mut last = (0, 0, 0);
    for span in spans {
        let (service, operation, peer) = (place(&span.service), place(&span.operation), span.peer.as_ref().map_or(0, place));
        if (service, operation, peer) != last {
            last = (service, operation, peer);
            pairs.insert((service, operation));
            pairs.insert((peer, 0));
            if pairs.len() > FEW {
                return false;
            }
        }
    }
    true
}

/// The names with the highest numbers; of equal ones those that come first by name.
fn busiest(names: BTreeMap<&Arc<str>, u64>, most: usize) -> BTreeSet<Arc<str>> {
    let mut order: Vec<(&Arc<str>, u64)> = names.into_iter().collect();
    order.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    order.into_iter().take(most).map(|(name, _)| name.clone()).collect()
}
