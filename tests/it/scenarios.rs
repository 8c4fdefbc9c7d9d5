//! The analyser and the generator on models built by hand: every number of the evidence can be checked on paper.

use std::collections::{BTreeMap, BTreeSet};

use models::param::{Limit, Param};
use models::system::{EdgeName, Mode, Model, ObservedEdge};
use models::units::Nanos;
use scenarios::analyse::LinkKind;
use scenarios::check::check_all;
use scenarios::fault::{FaultKind, Target};
use scenarios::{GenerateOptions, analyse, generate, scenario_hash};

use crate::shop::{boundary, call, find, ms, near, one_service, path, service, shop, suggest, work};

#[test]
fn evidence_follows_from_rates_paths_and_policies() {
    let analysis = analyse(&shop());
    let node = |name: &str| analysis.node(name).expect(name);
    near(node("web").per_s, 70.0, "web gets every user");
    near(node("orders").per_s, 24.5, "35 % of them order");
    near(node("seatdb").erlangs, 24.5 * 0.033, "seatdb holds a worker for its work");
    near(node("seatdb").utilisation.unwrap(), 24.5 * 0.033 / 2.0, "of two workers");
    // A blocking worker is held through its callees; an asynchronous one for its own work alone.
    near(node("seats").erlangs, 24.5 * 0.038, "seats waits for seatdb");
    near(node("orders").erlangs, 24.5 * (0.006 + 0.038 + 0.090), "orders waits for seats, then payment");
    near(node("web").erlangs, 70.0 * 0.002, "web does not wait on a worker");
    near(node("mailq").utilisation.unwrap(), 24.5 * 0.130 / 6.0, "six deliveries at once");
    near(node("mailq").fills_in_s().unwrap(), 300.0 / 24.5, "the topic fills");
    assert!(node("mailq").may_reorder());

    let seatdb = boundary(&analysis, "seats", "seatdb");
    assert_eq!((seatdb.tries, seatdb.tries_from_entry, seatdb.downstream), (3, 6, 1));
    assert_eq!(seatdb.layers, [(EdgeName::new("orders", "seats"), 2), (EdgeName::new("seats", "seatdb"), 3)]);
    // Three tries of 220 ms, waits of 20 and 40 ms between them; 24.5/s of that in 12 workers.
    assert_eq!(seatdb.longest_call, Some(ms(720)));
    near(seatdb.stuck_share, 24.5 * 0.720 / 12.0, "workers of seats held if seatdb hangs");
    near(seatdb.user_harm, 1.0, "its failure is a user's");
    near(boundary(&analysis, "orders", "mailq").user_harm, 0.0, "a mail's is not");
    near(boundary(&analysis, "search", "cache").user_harm, 0.0, "a cache's is a miss");
    near(seatdb.per_request, 0.35, "calls per user request");

    let payment = boundary(&analysis, "orders", "payment");
    assert_eq!((payment.timeout, payment.longest_call, payment.stuck_share), (None, None, f64::INFINITY));
    assert_eq!(boundary(&analysis, "user", "web").downstream, 9);
    assert_eq!(boundary(&analysis, "user", "web").kind, LinkKind::Entry);
    assert_eq!(boundary(&analysis, "mailq", "mailer").kind, LinkKind::Delivery);

    // Users reach these through orders only; search and what is behind it they reach otherwise.
    assert_eq!(node("orders").dominates, ["seats", "seatdb", "payment", "mailer", "mailq"]);
    assert_eq!(node("cache").callers, 1);
}

#[test]
fn the_store_behind_a_cache_gets_the_misses() {
    let analysis = analyse(&shop());
    let (asked, missed) = (boundary(&analysis, "search", "cache"), boundary(&analysis, "search", "catalogdb"));
    let misses = missed.calls_per_s / 45.5;
    // 700 of 3,000 keys, Zipf 1.1: a simulated least-recently-used list misses 16.6 % of questions.
    assert!((0.163..0.169).contains(&misses), "{misses}");
    near(asked.calls_per_s, 45.5 * (1.0 + misses), "questions, and an answer stored for each miss");
}

#[test]
fn traces_count_before_arithmetic() {
    let mut model = shop();
    let seen =
        ObservedEdge { calls: 1_000, attempts: 1_250, errors: 250, p50_ms: 40.0, p99_ms: 400.0, ..ObservedEdge::default() };
    model.edges[&EdgeName::new("seats", "seatdb")].observed = Some(seen);
    let analysis = analyse(&model);
    let seatdb = boundary(&analysis, "seats", "seatdb");
    assert!(seatdb.measured && !boundary(&analysis, "orders", "seats").measured);
    near(seatdb.error_rate, 0.2, "failed share of attempts");
    near(seatdb.tail(), 10.0, "p99 over p50");
    // 1 + 0.2 + 0.04 tries per call; calls that fail three times (0.8 %) fail seats, which orders tries once more.
    near(seatdb.attempts_per_s / seatdb.calls_per_s, 1.24, "tries");
    near(boundary(&analysis, "orders", "seats").error_rate, 0.008, "what reaches orders");
    near(analysis.node("seats").expect("seats").per_s, 24.5 * 1.008, "attempts on seats");
    // Alone among nine boundaries without errors it is an outlier by any standard.
    assert!(seatdb.error_anomaly > 3.5, "{}", seatdb.error_anomaly);
    assert_eq!(analysis.boundaries[0].edge, seatdb.edge, "and the first place to look");
}

#[test]
fn a_cycle_of_calls_ends() {
    let mut model = shop();
    // payment asks orders again, half of the time; and a service that calls itself for ever.
    let again = vec![path(0.5, vec![work(90)]), path(0.5, vec![work(90), call("orders")])];
    model.services["payment"] = service(12, Mode::Async, again);
    near(analyse(&model).node("orders").expect("orders").per_s, 49.0, "24.5 + a half of all");
    model.services["payment"] = service(12, Mode::Blocking, vec![path(1.0, vec![work(90), call("payment")])]);
    let analysis = analyse(&model);
    assert!(analysis.node("payment").expect("payment").utilisation.expect("limited") > 1.0);
    assert_eq!(suggest(&model, 200).len(), 200);
}

#[test]
fn every_rule_fires_where_it_should() {
    let set = suggest(&shop(), 100_000);
    for kinds in [
        &[("latency", "orders->seats")][..],
        &[("black_hole", "orders->payment")],
        &[("connection_drop", "orders->seats")],
        &[("connection_drop", "orders->seats"), ("retries", "orders->seats")],
        &[("retries", "seats->seatdb"), ("surge", "user")],
        &[("errors", "payment")],
        &[("slow", "seatdb")],
        &[("crash", "seatdb")],
        &[("crash", "search")],
        &[("crash", "cache")],
        &[("latency", "search->cache")],
        &[("workers_lost", "seats"), ("surge", "user")],
        &[("surge", "user")],
        &[("retries", "user->web"), ("surge", "user")],
        &[("consumer_stall", "mailq")],
        &[("slow", "mailer")],
        &[("reorder", "mailq")],
        &[("delay", "mailq")],
        &[("slow", "seats"), ("latency", "orders->payment")],
        &[("latency", "orders->seats"), ("slow", "seatdb")],
        &[("slow", "seatdb"), ("surge", "user")],
        &[("flush", "cache")],
        &[("hit_ratio_drop", "cache")],
        &[("pause", "seatdb")],
        &[("replicas_lost", "search")],
        &[("queue_shrunk", "seatdb")],
        &[("leak", "seatdb")],
        &[("black_hole", "orders->seats")],
        &[("black_hole", "mailq->mailer")],
        &[("loss", "seats->seatdb")],
        &[("timeout", "seats->seatdb")],
        &[("duplicate", "mailq")],
        &[("message_loss", "mailq")],
        &[("poison", "mailq")],
        &[("slow_consumer", "mailq")],
        &[("reload", "user"), ("surge", "user")],
    ] {
        assert!(find(&set, kinds).is_some(), "{kinds:?}");
    }
}

#[test]
fn no_rule_fires_where_it_should_not() {
    let set = suggest(&shop(), 100_000);
    let kinds = |wanted: &str| -> BTreeSet<String> {
        let faults = set.iter().flat_map(|s| &s.faults);
        faults.filter(|f| f.kind.name() == wanted).map(|f| f.target.to_string()).collect()
    };
    // A failing mail fails nobody; a cache's failure is a miss.
    assert!(!kinds("errors").contains("mailer") && !kinds("errors").contains("cache"));
    assert_eq!(kinds("consumer_stall"), ["mailq".to_owned()].into());
    assert_eq!(kinds("surge"), ["user".to_owned()].into());
    // A broker has no client whose retries could be turned up.
    assert!(!kinds("retries").contains("mailq->mailer"));
    // Only search has a replica to lose.
    let one_of: BTreeSet<String> = set
        .iter()
        .flat_map(|s| &s.faults)
        .filter(|f| matches!(f.kind, FaultKind::Crash { replicas: Some(_), .. }))
        .map(|f| f.target.to_string())
        .collect();
    assert_eq!(one_of, ["search".to_owned()].into());
    // No request of web needs both search and orders.
    assert!(find(&set, &[("slow", "search"), ("latency", "web->orders")]).is_none());
    // The users' own way in is not slowed: that says nothing about the system.
    assert!(!kinds("latency").contains("user->web"));

    let alone = suggest(&one_service(), 100_000);
    let all: BTreeSet<&str> = alone.iter().flat_map(|s| &s.faults).map(|f| f.kind.name()).collect();
    assert_eq!(all, ["crash", "errors", "leak", "pause", "queue_shrunk", "reload", "retries", "slow", "surge"].into());
}

#[test]
fn why_says_the_numbers() {
    let set = suggest(&shop(), 100_000);
    let why = |id: &str| set.iter().find(|s| s.id == id).unwrap_or_else(|| panic!("{id}")).why.as_str();
    let expect = |id: &str, words: &str| assert!(why(id).contains(words), "{id}: {}", why(id));
    expect("latency-orders-seats-650ms", "orders calls seats 25 times per second");
    expect("latency-orders-seats-650ms", "passes its timeout of 500ms");
    expect("latency-orders-seats-350ms", "stays below its timeout of 500ms");
    expect("latency-orders-seats-350ms", "orders needs 8.6 more workers for it, and has 32");
    expect("black-hole-orders-payment", "it has no timeout, so all 32 workers are stuck after 1.3 s");
    expect("slow-seatdb-x4", "seatdb is busy at 40 % of its 2 workers; x4 makes that 162 %, more than it has");
    expect("slow-seatdb-x2", "up to 2 x 3 tries multiply through 2 layers (orders->seats, seats->seatdb)");
    expect("stall-mailq", "its 300 places are full after 12 s without deliveries");
    expect("surge-user-x3", "user brings 70 requests per second");
    expect("surge-user-x3", "mailq is busy at 53 % of its 6 deliveries at once; 3 times the load makes that 159 %");
    expect("errors-payment-30pct", "35 % of user requests need it");
    expect("crash-cache", "if every question missed it would be 68 %");
    expect("errors-payment-30pct", "leave 30 % of its calls failed after 1 try");
    expect(
        "pause-seatdb",
        "each second that it stands still leaves 25 requests waiting, its 64 waiting places are full after 2.6 s",
    );
    expect("pause-seatdb", "afterwards each second takes 679 ms to catch up with");
    expect("leak-seatdb-10pct", "with each second its work takes 10 % longer: it has no room left after 15 s");
    expect("queue-seatdb-0", "where 64 may wait at a replica; with 0 places about 15 % of its requests are refused");
    expect("lost-1-of-search", "on 2 replicas; without 1 of them what is left is busy at 1.9 %");
    expect("partition-replies-seats-seatdb", "the work is done each time, 3 tries a call; seatdb is busy at 40 %");
    expect(
        "loss-search-cache-20pct",
        "1.2 for each request of its own; with 20 % of the packets lost, 41 % of these meet a loss",
    );
    expect("loss-search-cache-20pct", "longer than its timeout of 60ms");
    expect("timeout-seats-seatdb-23ms", "a timeout of 23ms (now 220ms) gives up on about 50 % of its tries");
    expect("message-loss-mailq-10pct", "2.5 per second that mailer never sees, and no error rate shows them");
    expect("poison-mailq-5pct", "delivered 4 times before they are dead letters: 3.7 more deliveries per second");
    expect("slow-consumer-mailq-x4", "if mailer takes 4 times as long for each message, that is 212 %");
    expect("hits-cache-50pct", "with 50 % of the hits left it is 40 %");
    expect("reload-user-3-after-1.2s", "once answers take 1.2s its users ask again, up to 3 times");
    for scenario in &set {
        assert!(scenario.why.chars().any(|c| c.is_ascii_digit()), "{}: {}", scenario.id, scenario.why);
        assert!(!scenario.why.contains("NaN") && !scenario.why.contains("inf"), "{}: {}", scenario.id, scenario.why);
    }
}

#[test]
fn why_says_what_was_measured_and_what_is_guessed() {
    let mut model = shop();
    model.services["seatdb"].workers = Param::assumed(Limit::Of(2), [Limit::Of(1), Limit::Of(64)]);
    let seen =
        ObservedEdge { calls: 1_000, attempts: 1_250, errors: 250, p50_ms: 40.0, p99_ms: 400.0, ..ObservedEdge::default() };
    model.edges[&EdgeName::new("seats", "seatdb")].observed = Some(seen);
    let set = suggest(&model, 1_000);
    let why = |id: &str| set.iter().find(|s| s.id == id).unwrap_or_else(|| panic!("{id}")).why.as_str();
    assert!(why("slow-seatdb-x2").contains("of its 2 workers (assumed)"), "{}", why("slow-seatdb-x2"));
    let late = why("latency-seats-seatdb-290ms");
    assert!(
        late.starts_with("seats calls seatdb 25 times per second (p50 40 ms, p99 400 ms, 20 % fail, its errors stand out at"),
        "{late}"
    );
}

#[test]
fn as_many_as_asked_for_all_different() {
    for count in [1, 10, 200, 500] {
        let set = suggest(&shop(), count);
        assert_eq!(set.len(), count);
        let ids: BTreeSet<&str> = set.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(ids.len(), count, "ids");
        let hashes: BTreeSet<[u8; 4]> = set.iter().map(scenario_hash).collect();
        assert_eq!(hashes.len(), count, "what they do");
        check_all(&set, &shop()).expect("what is proposed makes sense for the model");
    }
    assert!(suggest(&one_service(), 100).len() == 100, "even one service offers a hundred");
    assert!(suggest(&Model::default(), 10).is_empty());
}

#[test]
fn the_same_model_gives_the_same_scenarios_and_a_smaller_set_is_the_start_of_a_larger() {
    let set = suggest(&shop(), 200);
    assert_eq!(set, suggest(&shop(), 200));
    assert_eq!(set[..50], suggest(&shop(), 50));
}

#[test]
fn the_first_dozen_is_varied() {
    let set = suggest(&shop(), 12);
    let kinds: BTreeSet<String> =
        set.iter().map(|s| s.faults.iter().map(|f| f.kind.name()).collect::<Vec<_>>().join("+")).collect();
    assert!(kinds.len() >= 8, "{kinds:?}");
    let targets: BTreeMap<&Target, usize> = set.iter().flat_map(|s| &s.faults).fold(BTreeMap::new(), |mut counts, fault| {
        *counts.entry(&fault.target).or_default() += 1;
        counts
    });
    assert!(targets.len() >= 6, "{targets:?}");
}

#[test]
fn faults_of_a_pair_are_near_each_other() {
    let model = shop();
    let analysis = analyse(&model);
    let ends = |target: &Target| match target {
        Target::Edge(edge) => vec![edge.from.clone(), edge.to.clone()],
        Target::Node(name) => vec![name.clone()],
    };
    let set = suggest(&model, 2_000);
    let pairs = set.iter().filter(|s| s.faults.len() == 2 && s.faults.iter().all(|f| f.kind.name() != "surge"));
    let mut seen = 0;
    for scenario in pairs {
        let (first, second) = (ends(&scenario.faults[0].target), ends(&scenario.faults[1].target));
        let touch = |a: &String, b: &String| a == b || analysis.boundary(a, b).is_some() || analysis.boundary(b, a).is_some();
        let callers = |name: &String| -> BTreeSet<&str> {
            analysis.boundaries.iter().filter(|b| b.edge.to == *name).map(|b| b.edge.from.as_str()).collect()
        };
        let near = first.iter().any(|a| second.iter().any(|b| touch(a, b) || !callers(a).is_disjoint(&callers(b))));
        assert!(near, "{}", scenario.id);
        seen += 1;
    }
    assert!(seen > 50, "{seen} pairs");
}

#[test]
fn faults_lie_between_warm_up_and_horizon() {
    let model = shop();
    for (horizon, start, duration, warm_up) in [(120, 30, 20, 10), (60, 30, 20, 40), (20, 30, 20, 2), (300, 5, 100, 10)] {
        let secs = Nanos::from_secs;
        let options = GenerateOptions {
            count: 300,
            horizon: secs(horizon),
            fault_start: secs(start),
            fault_duration: secs(duration),
            warm_up: secs(warm_up),
        };
        let set = generate(&model, &analyse(&model), &options);
        assert_eq!(set.len(), 300);
        for fault in set.iter().flat_map(|s| &s.faults) {
            assert!(!fault.duration.is_zero() && fault.clears_at().as_nanos() < secs(horizon).as_nanos(), "{horizon}: {fault:?}");
        }
    }
}

#[test]
fn names_that_no_id_can_hold_still_give_different_ids() {
    let mut model = one_service();
    for name in ["db:1", "db/1"] {
        model.services.insert(name.into(), service(2, Mode::Blocking, vec![path(1.0, vec![work(5)])]));
    }
    model.services["s"] = service(4, Mode::Blocking, vec![path(1.0, vec![work(1), call("db:1"), call("db/1")])]);
    let set = suggest(&model, 400);
    let ids: BTreeSet<&str> = set.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids.len(), set.len());
    check_all(&set, &model).expect("ids hold such names in a form that files accept");
    assert!(ids.contains("slow-db_1-x2") && ids.contains("slow-db_1-x2-2"), "{ids:?}");
}
