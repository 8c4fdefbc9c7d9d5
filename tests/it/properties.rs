//! What holds for every model and scenario: properties over random ones (`random_models`), with fixed seeds so that every build tries the
//! same cases. A failing case becomes a named test below.

use models::metrics::{Histogram, bucket_of};
use models::system::Model;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};
use scenarios::scenario::Scenario;
use sim::{RunResult, Shortcuts};

use crate::random_models::{Fault, System, faults, system, work};
use crate::random_text::{PLAIN, Style, Text};
use crate::story::{model, run, scenarios, sweep, sweep_with};

/// `cases` cases, the same ones every time; `FORESHOCK_CASES=N` tries N times as many, others each time N changes.
fn cases(cases: u32) -> ProptestConfig {
    let times: u32 = std::env::var("FORESHOCK_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    ProptestConfig {
        cases: cases * times,
        rng_seed: RngSeed::Fixed(0xF04E_5170_C4ED + u64::from(times)),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    }
}

fn written(system: &System, style: &Style) -> Model {
    model(&Text::file(&[&system.text(style)]))
}

fn scenario(system: &System, faults: &[Fault], style: &Style) -> Scenario {
    scenarios(&system.scenario("it", faults, style)).remove(0)
}

/// Everything but the digest, in which places are numbered, and the names.
fn numbers(result: &RunResult) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut result = result.clone();
    let series = result.series.take().expect("asked for");
    let calls: Vec<_> = result.boundaries.into_values().collect();
    let stations: Vec<_> = result.services.into_values().chain(result.topics.into_values()).collect();
    (
        result.requests,
        result.events,
        calls,
        stations,
        series.nodes.into_values().collect::<Vec<_>>(),
        series.edges.into_values().collect::<Vec<_>>(),
    )
}

/// The properties below are about something: random systems answer and fail in every way, and most faults are felt.
#[test]
fn random_systems_are_worth_the_trouble() {
    let mut runner = TestRunner::new(cases(0));
    let (mut felt, mut answered, mut busy, mut coalesced) = (0, 0, 0, 0);
    let mut failed = sim::result::FailedAttempts::default();
    for seed in 0..100 {
        let (system, faults) = (system(), faults()).new_tree(&mut runner).expect("no filters").current();
        let m = written(&system, &PLAIN);
        let (calm, hurt) = (run(&m, None, seed, 8, 0), run(&m, Some(&scenario(&system, &faults, &PLAIN)), seed, 8, 0));
        felt += usize::from(calm.boundaries != hurt.boundaries);
        answered += usize::from(calm.entries["users"].error_rate < 0.5);
        busy += usize::from(calm.services.values().any(|s| s.queue_peak > 2));
        let again = sweep(&m, &[scenario(&system, &faults, &PLAIN)], seed..seed + 1, 16, 1);
        coalesced += usize::from(again[0].coalesced_at_s.is_some());
        for boundary in hurt.boundaries.values() {
            let f = &boundary.failed_attempts;
            failed.error += f.error;
            failed.overload += f.overload;
            failed.timeout += f.timeout;
            failed.connection += f.connection;
            failed.breaker_open += f.breaker_open;
            failed.bulkhead += f.bulkhead;
        }
    }
    assert!(coalesced > 20, "{coalesced} of 100 runs become their twin again");
    assert!(felt > 40 && answered > 40 && busy > 30, "felt {felt}, answered {answered}, busy {busy}");
    let least = [failed.error, failed.overload, failed.timeout, failed.connection, failed.breaker_open, failed.bulkhead]
        .into_iter()
        .min();
    assert!(least > Some(500), "{failed:?}");
}

proptest! {
    #![proptest_config(cases(60))]

    /// A scenario without faults, and one whose faults come after the end, are their fault-free twin to the byte.
    #[test]
    fn without_a_fault_a_run_is_its_twin(system in system(), faults in faults(), seed in 0u64..1_000) {
        let m = written(&system, &PLAIN);
        let twin = run(&m, None, seed, 8, 2);
        let late: Vec<Fault> = faults.iter().map(|fault| Fault { start: fault.start + 8_000_000, ..fault.clone() }).collect();
        let both = scenarios(&("  - { id: control, faults: [] }\n".to_owned() + &system.scenario("late", &late, &PLAIN)));
        prop_assert_eq!(&run(&m, Some(&both[1]), seed, 8, 2), &twin);
        for record in sweep(&m, &both, seed..seed + 1, 8, 1) {
            prop_assert_eq!((&record.digest, record.events), (&twin.digest, twin.events));
            prop_assert_eq!((record.harmed, record.failed, record.cascaded), (0, record.twin_failed, false));
            prop_assert!(record.breaches.is_empty() && !record.metastable);
        }
    }

    /// One seed, one outcome: on one thread and on three, forked from a shared prefix and from the start.
    #[test]
    fn one_seed_has_one_outcome(system in system(), first in faults(), second in faults(), seed in 0u64..1_000) {
        let m = written(&system, &PLAIN);
        let list = scenarios(&(system.scenario("first", &first, &PLAIN) + &system.scenario("second", &second, &PLAIN)));
        let records = sweep(&m, &list, seed..seed + 2, 8, 1);
        prop_assert_eq!(&records, &sweep(&m, &list, seed..seed + 2, 8, 3));
        for record in records {
            let scenario = list.iter().find(|s| s.id == record.scenario).expect("one of them");
            let whole = run(&m, Some(scenario), record.seed, 8, 5);
            prop_assert_eq!((&whole.digest, whole.events), (&record.digest, record.events));
        }
    }

    /// What a sweep spares to simulate, because a twin has done it, changes nothing in its records.
    #[test]
    fn shortcuts_change_no_record(system in system(), first in faults(), second in faults(), seed in 0u64..1_000) {
        let m = written(&system, &PLAIN);
        let list = scenarios(&(system.scenario("first", &first, &PLAIN) + &system.scenario("second", &second, &PLAIN)));
        let with = |shortcuts| {
            let mut records = sweep_with(&m, &list, seed..seed + 2, 16, 1, shortcuts);
            records.iter_mut().for_each(|record| record.coalesced_at_s = None);
            records
        };
        let whole = with(Shortcuts::None);
        prop_assert_eq!(&with(Shortcuts::ForkOnly), &whole, "forked");
        prop_assert_eq!(&with(Shortcuts::All), &whole, "forked and spliced");
    }

    /// Faults change nothing at all in a part of the graph that shares nothing with them.
    #[test]
    fn a_fault_stays_in_its_half(left in system(), right in system(), faults in faults(), seed in 0u64..1_000) {
        let (l, r) = (Style { prefix: "l-", ..PLAIN }, Style { prefix: "r-", ..PLAIN });
        let m = model(&Text::file(&[&left.text(&l), &right.text(&r)]));
        let hurt = run(&m, Some(&scenario(&left, &faults, &l)), seed, 8, 0);
        let calm = run(&m, None, seed, 8, 0);
        let (hurt_series, calm_series) = (hurt.series.expect("asked for"), calm.series.expect("asked for"));
        let here = |name: &str| name.starts_with("r-");
        for (name, node) in calm_series.nodes.iter().filter(|(name, _)| here(name)) {
            prop_assert_eq!(&hurt_series.nodes[name], node, "{}", name);
        }
        for (name, edge) in calm.boundaries.iter().filter(|(name, _)| here(name)) {
            prop_assert_eq!(&hurt.boundaries[name], edge, "{}", name);
            prop_assert_eq!(&hurt_series.edges[name], &calm_series.edges[name], "{}", name);
        }
        for (name, service) in calm.services.iter().chain(&calm.topics).filter(|(name, _)| here(name)) {
            prop_assert_eq!(hurt.services.get(name).or(hurt.topics.get(name)), Some(service), "{}", name);
        }
    }

    /// Names are but names.
    #[test]
    fn renaming_changes_no_number(system in system(), faults in faults(), seed in 0u64..1_000) {
        let renamed = Style { renamed: true, ..PLAIN };
        let [a, b] = [PLAIN, renamed].map(|style| {
            run(&written(&system, &style), Some(&scenario(&system, &faults, &style)), seed, 8, 2)
        });
        prop_assert_eq!(&a.digest, &b.digest);
        prop_assert_eq!(numbers(&a), numbers(&b));
    }

    /// A service that nobody calls changes no number of the others, wherever it stands.
    #[test]
    fn a_service_elsewhere_changes_no_number(system in system(), faults in faults(), seed in 0u64..1_000, first in any::<bool>()) {
        let text = system.text(&PLAIN);
        let mut other = text.clone();
        let alone = "  alone: { replicas: 3, workers: 2, operations: { op: { paths: [ { steps: [ { work: { constant: 1ms } } ] } ] } } }\n";
        other.services = if first { alone.to_owned() + &text.services } else { text.services.clone() + alone };
        let scenario = scenario(&system, &faults, &PLAIN);
        let [a, mut b] = [text, other].map(|text| run(&model(&Text::file(&[&text])), Some(&scenario), seed, 8, 2));
        let without = b.services.shift_remove("alone").expect("it is there");
        prop_assert_eq!(without, sim::result::ServiceStats::default());
        b.series.as_mut().expect("asked for").nodes.shift_remove("alone");
        prop_assert_eq!(numbers(&a), numbers(&b));
    }

    /// All times times 2^k give all results times 2^k, to within 1 ns a draw.
    #[test]
    fn time_has_no_scale_of_its_own(system in system().prop_map(System::without_scale), faults in faults(), seed in 0u64..1_000, doublings in 1u32..6) {
        let long = Style { doublings, ..PLAIN };
        let [short, long] = [PLAIN, long].map(|style| {
            run(&written(&system, &style), Some(&scenario(&system, &faults, &style)), seed, 4 << style.doublings, 0)
        });
        // Of many events some two lie within a nanosecond of one another, and may change their order.
        if short.events > 4_000 {
            return Ok(());
        }
        prop_assert_eq!((short.requests, short.events), (long.requests, long.events));
        let scale = f64::from(1u32 << doublings);
        // A latency is the sum of some draws, and the clock counts no less than 1 ns: of a few hundred draws at most.
        let near = |a: f64, b: f64| (a * scale - b).abs() <= 500e-6 * scale;
        for (name, a) in &short.boundaries {
            let b = &long.boundaries[name];
            prop_assert_eq!(&a.failed_attempts, &b.failed_attempts, "{}", name);
            prop_assert_eq!((a.requests, a.attempts, a.errors), (b.requests, b.attempts, b.errors), "{}", name);
            prop_assert!(near(a.mean_ms, b.mean_ms), "{}: {} {}", name, a.mean_ms, b.mean_ms);
        }
        for (name, a) in &short.services {
            let b = &long.services[name];
            let counts = |s: &sim::result::ServiceStats| (s.requests, s.errors, s.queue_peak, s.wasted);
            prop_assert_eq!(counts(a), counts(b), "{}", name);
            prop_assert!(near(a.mean_wait_ms, b.mean_wait_ms), "{}: {} {}", name, a.mean_wait_ms, b.mean_wait_ms);
            prop_assert!((a.utilisation - b.utilisation).abs() < 1e-5 && (a.mean_in_system - b.mean_in_system).abs() < 1e-4);
        }
    }

    /// A fault changes no draw of a request that never meets it: of two kinds of request that share only services without queues, the one
    /// that does not pass the fault sees nothing of it.
    #[test]
    fn a_fault_changes_no_draw_of_who_does_not_meet_it(
        kinds in (2u32..5, 2u32..5),
        error_rate in 0.0..0.5f64,
        work in work(),
        faults in faults(),
        seed in 0u64..1_000,
    ) {
        let op = |steps: &str| format!("operations: {{ op: {{ error_rate: {error_rate}, paths: [ {{ steps: [ {steps} ] }} ] }} }}");
        let work = PLAIN.work(&work);
        let m = model(&format!(
            "version: 1
workload: {{ users: {{ to: root.op, open: {{ rate: 100/s }} }} }}
services:
  root: {{ workers: unlimited, operations: {{ op: {{ paths: [
    {{ weight: {}, steps: [ {{ work: {work} }}, {{ call: s0.op }} ] }}, {{ weight: {}, steps: [ {{ call: other.op }}, {{ work: {work} }} ] }} ] }} }} }}
  s0: {{ workers: unlimited, {} }}
  other: {{ replicas: 2, workers: unlimited, balance: random, {} }}
edges:
  root->s0: {{ latency: 1ms, timeout: 20ms, retry: {{ attempts: 3, backoff: 5ms, jitter: full }} }}
  root->other: {{ latency: 1ms, timeout: 20ms, retry: {{ attempts: 3, backoff: 5ms, jitter: full }} }}
",
            kinds.0, kinds.1, op(&format!("{{ work: {work} }}")), op(&format!("{{ work: {work} }}"))
        ));
        // Edge and service faults on s0 alone.
        let strikes: Vec<String> = faults.iter().map(|f| {
            let (start, duration, size) = (PLAIN.time(f.start), PLAIN.time(f.duration), f.size);
            let what = match f.kind % 6 {
                0 => "kind: latency, target: root->s0, magnitude: { add: 15ms, jitter: 10ms }".into(),
                1 => format!("kind: connection_drop, target: root->s0, magnitude: {{ probability: {size} }}"),
                2 => "kind: black_hole, target: root->s0".into(),
                3 => "kind: crash, target: s0".into(),
                4 => format!("kind: errors, target: s0, magnitude: {{ probability: {size} }}"),
                _ => format!("kind: slow, target: s0, magnitude: {{ factor: {} }}", 1.0 + 9.0 * size),
            };
            format!("{{ {what}, start: {start}, duration: {duration} }}")
        }).collect();
        let it = scenarios(&format!("  - {{ id: it, faults: [ {} ] }}\n", strikes.join(", ")));
        let (calm, hurt) = (run(&m, None, seed, 8, 0), run(&m, Some(&it[0]), seed, 8, 0));
        prop_assert_eq!(&calm.services["other"], &hurt.services["other"]);
        prop_assert_eq!(&calm.boundaries["root->other"], &hurt.boundaries["root->other"]);
        let (calm, hurt) = (calm.series.expect("asked for"), hurt.series.expect("asked for"));
        prop_assert_eq!(&calm.nodes["other"], &hurt.nodes["other"]);
        prop_assert_eq!(&calm.edges["root->other"], &hurt.edges["root->other"]);
    }

    /// At one FIFO station without timeouts, retries or bound, a further worker lets no request start later: so at every instant at least as
    /// many have been answered, at the end of every bucket no more are waiting, and the waits add up to no more.
    #[test]
    fn a_further_worker_lets_no_request_start_later(
        workers in 1u32..5,
        works in prop::collection::vec((1u32..5, work()), 1..4),
        load in 0.3..1.5f64,
        seed in 0u64..1_000,
    ) {
        let paths: Vec<String> =
            works.iter().map(|(weight, work)| format!("{{ weight: {weight}, steps: [ {{ work: {} }} ] }}", PLAIN.work(work))).collect();
        let with = |workers: u32, rate: f64| {
            let m = model(&format!(
                "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: {rate}/s }} }} }}
services: {{ s: {{ workers: {workers}, operations: {{ op: {{ paths: [ {} ] }} }} }} }}
",
                paths.join(", ")
            ));
            run(&m, None, seed, 20, 0)
        };
        // The rate at which so many workers are busy for this share of the time.
        let mean_ms = with(1_000, 100.0).entries["users"].mean_ms.max(0.1);
        let rate = (load * f64::from(workers) * 1_000.0 / mean_ms).min(1_000.0);
        let (fewer, more) = (with(workers, rate), with(workers + 1, rate));
        prop_assert_eq!(fewer.requests, more.requests);
        let (few, many) = (fewer.series.expect("asked for"), more.series.expect("asked for"));
        let (mut ended_few, mut ended_many) = (0, 0);
        for bucket in 0..few.nodes["s"].ended.len() {
            ended_few += few.nodes["s"].ended[bucket];
            ended_many += many.nodes["s"].ended[bucket];
            prop_assert!(ended_many >= ended_few, "bucket {}", bucket);
            prop_assert!(many.nodes["s"].queue[bucket] <= few.nodes["s"].queue[bucket], "bucket {}", bucket);
        }
        // All that have begun with fewer have begun with more, and waited no longer.
        let waits = |r: &sim::result::ServiceStats| r.mean_wait_ms;
        if ended_few == ended_many {
            prop_assert!(waits(&more.services["s"]) <= waits(&fewer.services["s"]) + 1e-9);
        }
    }

    /// A bucket at a time, merged, is all at once.
    #[test]
    fn merged_histograms_are_one(parts in prop::collection::vec(prop::collection::vec(0..60_000_000_000u64, 0..200), 1..6)) {
        let (mut all, mut merged) = (Histogram::default(), Histogram::default());
        for part in &parts {
            let mut own = Histogram::default();
            for &latency in part {
                own.add(bucket_of(latency));
                all.add(bucket_of(latency));
            }
            merged.merge(&own);
        }
        prop_assert_eq!(&merged, &all);
        for per_mille in [1, 500, 990, 999, 1_000] {
            prop_assert_eq!(merged.quantile_bucket(per_mille), all.quantile_bucket(per_mille));
        }
    }
}
