//! Hand-made traces, one inference each.

use super::{Finding, LearnOptions, Lesson, learn};
use crate::dist::Dist;
use crate::param::{Limit, Source};
use crate::system::{Call, ClosedLoop, EdgeName, Mode, Step, Wait};
use crate::trace::{ReadOptions, Reader};
use crate::units::Nanos;

/// Spans of made-up traces, as Zipkin JSON: the shortest form that says all.
#[derive(Default)]
struct Story {
    spans: Vec<String>,
    trace: u64,
    last: u64,
}

impl Story {
    fn trace(&mut self) -> &mut Self {
        self.trace += 1;
        self
    }

    #[expect(clippy::too_many_arguments, reason = "a story reads best with a span a line")]
    /// A span of the current trace; times in microseconds, each trace a second after the one before. Returns its id.
    fn span(&mut self, parent: u64, service: &str, kind: &str, name: &str, start: u64, length: u64, more: &str) -> u64 {
        self.last += 1;
        let (trace, id, start) = (self.trace, self.last, 1_700_000_000_000_000 + self.trace * 1_000_000 + start);
        let parent = if parent == 0 { String::new() } else { format!(r#""parentId":"{parent:016x}","#) };
        self.spans.push(format!(
            r#"{{"traceId":"{trace:016x}","id":"{id:016x}",{parent}"kind":"{kind}","name":"{name}","timestamp":{start},"duration":{length},"localEndpoint":{{"serviceName":"{service}"}}{more}}}"#
        ));
        id
    }

    /// A call with both sides: 100 us on the wire each way.
    fn call(&mut self, parent: u64, from: &str, to: &str, start: u64, length: u64, failed: bool) -> u64 {
        let error = if failed { r#","tags":{"error":"500"}"# } else { "" };
        let client = self.span(parent, from, "CLIENT", &format!("call {to}"), start, length, error);
        self.span(client, to, "SERVER", &format!("do {to}"), start + 100, length - 200, error)
    }

    fn learn_with(&self, options: &LearnOptions) -> Lesson {
        let text = format!("[{}]", self.spans.join(","));
        let mut reader = Reader::new(ReadOptions::default());
        reader.read("story", text.as_bytes()).expect("the story is good Zipkin JSON");
        let lesson = learn(&reader.finish(), options).expect("there are requests");
        crate::check::check(&lesson.model).unwrap_or_else(|e| panic!("the model makes no sense: {e}"));
        lesson
    }

    fn learn(&self) -> Lesson {
        self.learn_with(&LearnOptions::default())
    }
}

fn steps<'a>(lesson: &'a Lesson, service: &str, operation: &str) -> &'a [Step] {
    &lesson.model.services[service].operations[operation].paths[0].steps
}

fn calls(steps: &[Step]) -> Vec<&Call> {
    steps.iter().filter_map(|s| if let Step::Call(call) = s { Some(call) } else { None }).collect()
}

fn work_at(steps: &[Step], i: usize) -> Nanos {
    match &steps[i] {
        Step::Work(work) => match work.dist {
            Dist::Constant(time) => time,
            ref other => panic!("not constant: {other:?}"),
        },
        other => panic!("not work: {other:?}"),
    }
}

#[test]
fn calls_one_after_the_other_are_steps_and_work_stays_where_it_was() {
    let mut story = Story::default();
    for _ in 0..5 {
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 20_000, "");
        story.call(root, "a", "b", 2_000, 5_000, false);
        story.call(root, "a", "c", 10_000, 5_000, false);
    }
    let lesson = story.learn();
    let steps = steps(&lesson, "a", "get");
    assert_eq!(steps.len(), 5, "{steps:?}");
    assert_eq!([work_at(steps, 0), work_at(steps, 2), work_at(steps, 4)], [2, 3, 5].map(Nanos::from_millis));
    assert_eq!(calls(steps).iter().map(|c| c.to.to_string()).collect::<Vec<_>>(), ["b.do b", "c.do c"]);
    let latency = lesson.model.edges[&EdgeName::new("a", "b")].latency.expect("both sides were seen");
    assert_eq!((latency.value, latency.source), (Nanos::from_micros(100), Source::Observed));
}

#[test]
fn calls_that_overlap_are_made_at_once() {
    let mut story = Story::default();
    let root = story.trace().span(0, "a", "SERVER", "get", 0, 20_000, "");
    story.call(root, "a", "b", 1_000, 9_000, false);
    story.call(root, "a", "c", 1_200, 4_000, false);
    story.call(root, "a", "c", 5_300, 4_000, false);
    let lesson = story.learn();
    let Some(Step::Parallel { wait: Wait::All, branches }) = steps(&lesson, "a", "get").get(1) else { panic!("not parallel") };
    let branches = calls(branches);
    assert_eq!(branches.len(), 2, "{branches:?}");
    assert_eq!((branches[1].to.service.as_str(), branches[1].times.as_slice()), ("c", &[(2, 1.0)][..]));
}

#[test]
fn a_repeated_call_becomes_one_with_a_distribution() {
    let mut story = Story::default();
    for n in [1, 1, 1, 3] {
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 50_000, "");
        for i in 0..n {
            story.call(root, "a", "b", 1_000 + 6_000 * i, 5_000, false);
        }
    }
    let lesson = story.learn();
    assert_eq!(lesson.model.services["a"].operations["get"].paths.len(), 1);
    assert_eq!(calls(steps(&lesson, "a", "get"))[0].times, [(1, 0.75), (3, 0.25)]);
}

#[test]
fn time_between_repetitions_is_work_before_them() {
    let mut story = Story::default();
    for _ in 0..5 {
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 20_000, "");
        for start in [1_000, 5_000, 9_000] {
            story.call(root, "a", "b", start, 2_000, false);
        }
    }
    let lesson = story.learn();
    let steps = steps(&lesson, "a", "get");
    assert_eq!(calls(steps)[0].times, [(3, 1.0)]);
    assert_eq!((work_at(steps, 0), work_at(steps, 2)), (Nanos::from_millis(5), Nanos::from_millis(9)));
}

#[test]
fn what_a_call_takes_beside_its_callee_and_the_usual_way_is_its_callers_own() {
    let mut story = Story::default();
    for i in 0..10 {
        let extra = if i == 3 { 4_000 } else { 0 };
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 10_000 + extra, "");
        let client = story.span(root, "a", "CLIENT", "call b", 2_000, 5_000 + extra, "");
        story.span(client, "b", "SERVER", "do b", 2_100, 4_800, "");
    }
    let lesson = story.learn();
    let Step::Work(first) = &steps(&lesson, "a", "get")[0] else { panic!("it begins with work") };
    let Dist::Quantiles(points) = &first.dist else { panic!("one request took longer: {first:?}") };
    assert_eq!((points[0].1, points[points.len() - 1].1), (Nanos::from_millis(2), Nanos::from_millis(6)));
    let way = lesson.model.edges[&EdgeName::new("a", "b")].latency.expect("both sides were seen");
    assert_eq!(way.value, Nanos::from_nanos(100_000), "the way itself is as usual");
}

#[test]
fn kinds_of_request_are_paths_with_their_shares() {
    let mut story = Story::default();
    for i in 0..10 {
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 20_000, "");
        story.call(root, "a", if i < 7 { "b" } else { "c" }, 1_000, 5_000, false);
    }
    let lesson = story.learn();
    let paths = &lesson.model.services["a"].operations["get"].paths;
    let weights: Vec<f64> = paths.iter().map(|p| p.weight.value).collect();
    assert_eq!(weights, [0.7, 0.3]);
    let [low, high] = paths[1].weight.range.expect("ten requests leave a doubt");
    assert!(low < 0.3 && high > 0.3);
}

#[test]
fn siblings_after_a_failure_are_retries_not_calls() {
    let mut story = Story::default();
    for i in 0..20 {
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 90_000, "");
        let failures = if i < 5 { 2 } else { 0 };
        let mut at = 1_000;
        for k in 0..failures {
            story.call(root, "a", "b", at, 5_000, true);
            at += 5_000 + 10_000 * (k + 1);
        }
        story.call(root, "a", "b", at, 5_000, false);
    }
    let lesson = story.learn();
    assert_eq!(calls(steps(&lesson, "a", "get"))[0].times, [(1, 1.0)]);
    let edge = &lesson.model.edges[&EdgeName::new("a", "b")];
    let retry = edge.retry.as_ref().expect("they were retried");
    assert_eq!((retry.attempts.value, retry.attempts.range), (3, Some([3, 5])), "nobody gave up: three is a lower bound");
    assert_eq!(retry.backoff.value, Nanos::from_millis(10));
    assert!((retry.factor.value - 2.0).abs() < 0.01, "{:?}", retry.factor);
    let seen = edge.observed.as_ref().expect("it was seen");
    assert_eq!((seen.calls, seen.attempts, seen.errors), (20, 30, 10));
    assert!(lesson.findings.iter().any(|f| matches!(f, Finding::Retries { retried: 5, calls: 20, attempts: 3, .. })));
}

#[test]
fn calls_in_a_loop_that_all_succeed_are_no_retries() {
    let mut story = Story::default();
    let root = story.trace().span(0, "a", "SERVER", "get", 0, 90_000, "");
    for i in 0..3 {
        story.call(root, "a", "b", 1_000 + i * 10_000, 5_000, false);
    }
    let lesson = story.learn();
    assert_eq!(lesson.model.edges[&EdgeName::new("a", "b")].retry, None);
    assert_eq!(calls(steps(&lesson, "a", "get"))[0].times, [(3, 1.0)]);
}

#[test]
fn resend_counts_join_attempts_and_leave_other_failures_alone() {
    let mut story = Story::default();
    let root = story.trace().span(0, "a", "SERVER", "get", 0, 90_000, "");
    story.span(root, "a", "CLIENT", "call b", 1_000, 5_000, r#","remoteEndpoint":{"serviceName":"b"},"tags":{"error":"x"}"#);
    let again = r#","remoteEndpoint":{"serviceName":"b"},"tags":{"http.request.resend_count":"1"}"#;
    story.span(root, "a", "CLIENT", "call b", 8_000, 5_000, again);
    story.span(root, "a", "CLIENT", "call c", 20_000, 5_000, r#","remoteEndpoint":{"serviceName":"c"},"tags":{"error":"x"}"#);
    story.span(root, "a", "CLIENT", "call c", 30_000, 5_000, r#","remoteEndpoint":{"serviceName":"c"}"#);
    let lesson = story.learn();
    let made = calls(steps(&lesson, "a", "get")).into_iter().map(|c| c.times[0].0).collect::<Vec<_>>();
    assert_eq!(made, [1, 2], "b was retried; c was called twice, since this client would have counted a retry");
}

#[test]
fn a_wait_over_a_try_whose_span_is_missing_is_no_backoff() {
    let mut story = Story::default();
    for (i, (count, wait)) in (0..8).map(|i| (i, if i == 7 { (2, 60_000) } else { (1, 10_000) })) {
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 90_000, "");
        story.span(root, "a", "CLIENT", "call b", 1_000, 5_000, r#","remoteEndpoint":{"serviceName":"b"},"tags":{"error":"x"}"#);
        let again = format!(r#","remoteEndpoint":{{"serviceName":"b"}},"tags":{{"http.request.resend_count":"{count}"}}"#);
        story.span(root, "a", "CLIENT", "call b", 6_000 + wait + i, 5_000, &again);
    }
    let retry = story.learn().model.edges[&EdgeName::new("a", "b")].retry.clone().expect("they were retried");
    let [low, high] = retry.backoff.range.expect("it is inferred").map(|ns| ns.as_millis_f64());
    assert!(9.9 < low && high < 10.1, "{:?}", retry.backoff);
}

#[test]
fn what_a_failure_does_to_the_caller_is_a_share_with_an_interval() {
    let mut story = Story::default();
    for i in 0..40 {
        let (failed, fatal) = (i < 10, i < 4);
        let error = if fatal { r#","tags":{"error":"500"}"# } else { "" };
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 20_000, error);
        story.call(root, "a", "b", 1_000, 5_000, failed);
        if !fatal {
            story.call(root, "a", "c", 8_000, 5_000, false);
        }
    }
    let lesson = story.learn();
    let paths = &lesson.model.services["a"].operations["get"].paths;
    assert_eq!(paths.len(), 1, "requests cut short by a failure are no path of their own: {paths:?}");
    assert_eq!(paths[0].weight.value, 1.0);
    let on_failure = calls(&paths[0].steps)[0].on_failure;
    assert_eq!((on_failure.value, on_failure.source), (0.4, Source::Inferred));
    let unseen = calls(&paths[0].steps)[1].on_failure;
    assert_eq!((unseen.value, unseen.source, unseen.range), (1.0, Source::Assumed, Some([0.5, 1.0])));
    assert_eq!(lesson.model.services["a"].operations["get"].error_rate, None, "its failures were b's");
    let rate = lesson.model.services["b"].operations["do b"].error_rate.expect("b failed by itself");
    assert_eq!(rate.value, 0.25);
}

#[test]
fn timeouts_are_where_failed_clients_pile_up_and_servers_go_on() {
    let mut story = Story::default();
    for i in 0..12 {
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 400_000, "");
        let (error, client, server) =
            if i % 3 == 0 { (r#","tags":{"error":"gave up"}"#, 250_000 + i * 50, 380_000) } else { ("", 40_000, 39_000) };
        let client = story.span(root, "a", "CLIENT", "call b", 1_000, client, error);
        story.span(client, "b", "SERVER", "do b", 1_500, server, "");
    }
    let lesson = story.learn();
    let timeout = lesson.model.edges[&EdgeName::new("a", "b")].timeout.expect("four gave up");
    assert!((250..251).contains(&(timeout.value.as_nanos() / 1_000_000)), "{timeout:?}");
    assert_eq!(timeout.source, Source::Inferred);
    assert_eq!(lesson.model.services["b"].operations["do b"].error_rate, None, "b answered, though too late");
    assert!(
        !lesson
            .findings
            .iter()
            .any(|f| matches!(f, Finding::NoTimeoutSeen { edges } if edges.contains(&EdgeName::new("a", "b"))))
    );
}

/// Ten calls of b by a that are given up after these times, and ten that succeed after another one.
fn given_up(after: impl Fn(u64) -> u64, succeeds_after: u64) -> Option<Nanos> {
    let mut story = Story::default();
    for i in 0..20 {
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 900_000, "");
        let error = r#","remoteEndpoint":{"serviceName":"b"},"tags":{"error":"timeout"}"#;
        let (length, more) =
            if i % 2 == 0 { (after(i / 2), error) } else { (succeeds_after, r#","remoteEndpoint":{"serviceName":"b"}"#) };
        story.span(root, "a", "CLIENT", "call b", 1_000, length, more);
    }
    story.learn().model.edges[&EdgeName::new("a", "b")].timeout.map(|timeout| timeout.value)
}

#[test]
fn what_is_given_up_at_any_time_or_before_others_succeed_is_no_timeout() {
    assert_eq!(given_up(|i| 250_000 + i * 10, 40_000).map(|t| t.as_nanos() / 1_000_000), Some(250));
    assert_eq!(given_up(|i| 50_000 + i * 40_000, 40_000), None, "they leave whenever they like");
    assert_eq!(given_up(|i| 250_000 + i * 10, 600_000), None, "others waited longer");
}

#[test]
fn a_callee_whose_clock_is_behind_is_moved_into_its_caller() {
    let mut story = Story::default();
    for _ in 0..5 {
        let root = story.trace().span(0, "a", "SERVER", "get", 50_000, 10_000, "");
        story.span(root, "b", "SERVER", "do b", 20_000, 2_000, "");
    }
    let lesson = story.learn();
    let steps = steps(&lesson, "a", "get");
    assert_eq!(calls(steps).len(), 1);
    assert_eq!(
        [work_at(steps, 0), work_at(steps, 2)],
        [Nanos::from_millis(4); 2],
        "as much before the call as after it: {steps:?}"
    );
}

/// Six visitors, each of whom asks again 500, 1,000 or 1,500 ms after the answer, which takes 500 ms; what their requests carry is `tag`.
fn visitors(tag: &str) -> Option<ClosedLoop> {
    let mut story = Story::default();
    for i in 0..400_u64 {
        // (Traces of a story are a second apart: what is not to be so is taken back.)
        let (visitor, nth) = (i % 6, i / 6);
        let start = 60_000_000 + visitor * 170_000 + nth * 1_500_000 + [0, 0, 500_000][nth as usize % 3];
        let tags = format!(r#","tags":{{"{tag}":"visitor-{visitor}"}}"#);
        let start = start + 1_000_000 * (400 - story.trace().trace);
        story.span(0, "web", "SERVER", "get", start, 500_000, &tags);
    }
    story.learn().model.workload[0].closed.clone()
}

#[test]
fn sessions_that_requests_name_are_counted() {
    for tag in ["session.id", "enduser.id"] {
        let closed = visitors(tag).unwrap_or_else(|| panic!("{tag}"));
        assert_eq!(closed.users.value, 6);
        let think = closed.think.dist.mean().as_millis_f64();
        assert!((think - 1_000.0).abs() < 20.0, "{think}");
    }
    assert_eq!(visitors("visit"), None);
}

#[test]
fn calls_that_outlive_their_caller_are_not_waited_for() {
    let mut story = Story::default();
    for _ in 0..4 {
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 10_000, "");
        story.call(root, "a", "b", 2_000, 5_000, false);
        story.call(root, "a", "log", 9_000, 30_000, false);
    }
    let lesson = story.learn();
    let made: Vec<(&str, bool)> =
        calls(steps(&lesson, "a", "get")).into_iter().map(|c| (c.to.service.as_str(), c.wait)).collect();
    assert_eq!(made, [("b", true), ("log", false)]);
    assert!(lesson.model.edges[&EdgeName::new("a", "log")].observed.as_ref().is_some_and(|o| o.asynchronous));
}

#[test]
fn a_cache_in_front_of_a_store_is_a_lookup_with_the_hit_ratio_seen() {
    let mut story = Story::default();
    for i in 0..50 {
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 20_000, "");
        story.call(root, "a", "things-cache", 1_000, 2_000, false);
        if i % 5 == 0 {
            story.call(root, "a", "store", 3_100, 8_000, false);
            let fill = story.span(root, "a", "CLIENT", "keep", 20_100, 2_000, "");
            story.span(fill, "things-cache", "SERVER", "keep", 20_200, 1_800, "");
        }
    }
    let lesson = story.learn();
    let paths = &lesson.model.services["a"].operations["get"].paths;
    assert_eq!(paths.len(), 1, "hit and miss are one path: {paths:?}");
    let Some(Step::Lookup(lookup)) = paths[0].steps.iter().find(|s| matches!(s, Step::Lookup(_))) else { panic!("no lookup") };
    assert_eq!((lookup.cache.to.service.as_str(), lookup.origin.to.service.as_str()), ("things-cache", "store"));
    assert_eq!(lookup.fill.as_ref().map(|f| (f.to.operation.as_str(), f.wait)), Some(("keep", false)));
    let cache = lesson.model.services["things-cache"].cache.as_ref().expect("it is a cache");
    let ratio = super::lookup::hit_ratio(cache.capacity.value, cache.keys.value, cache.zipf.value);
    assert!((ratio - 0.8).abs() < 0.01, "{ratio}");
    assert!(lesson.findings.iter().any(|f| matches!(f, Finding::CacheAside { asked: 50, missed: 10, .. })));
}

#[test]
fn what_only_looks_like_a_cache_is_said_not_modelled() {
    let mut story = Story::default();
    for i in 0..50 {
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 20_000, "");
        story.call(root, "a", "hoard", 1_000, 2_000, false);
        if i % 5 == 0 {
            story.call(root, "a", "store", 3_100, 8_000, false);
            let fill = story.span(root, "a", "CLIENT", "keep", 12_000, 2_000, "");
            story.span(fill, "hoard", "SERVER", "keep", 12_100, 1_800, "");
        }
    }
    let lesson = story.learn();
    assert!(lesson.findings.iter().any(|f| matches!(f, Finding::UndeclaredCache { cache, filled: 10, .. } if cache == "hoard")));
    assert_eq!(lesson.model.services["hoard"].cache, None);
    let mut known = LearnOptions::default();
    known.known_caches.insert("hoard".into(), Some(40));
    let told = story.learn_with(&known);
    assert_eq!(told.model.services["hoard"].cache.as_ref().map(|c| c.capacity.value), Some(40));
}

#[test]
fn a_topic_ties_its_producer_to_its_consumer_and_counts_redeliveries() {
    let mut story = Story::default();
    let broker = r#","remoteEndpoint":{"serviceName":"mails"}"#;
    for i in 0..10 {
        let root = story.trace().span(0, "shop", "SERVER", "buy", 0, 10_000, "");
        let sent = story.span(root, "shop", "PRODUCER", "send", 8_000, 1_000, broker);
        let failed = i == 0;
        let error = if failed { format!(r#"{broker},"tags":{{"error":"no"}}"#) } else { broker.to_owned() };
        let got = story.span(sent, "mailer", "CONSUMER", "process", 12_000, 30_000, &error);
        story.call(got, "mailer", "smtp", 13_000, 25_000, failed);
        if failed {
            let got = story.span(sent, "mailer", "CONSUMER", "process", 342_000, 30_000, broker);
            story.call(got, "mailer", "smtp", 343_000, 25_000, false);
        }
    }
    let lesson = story.learn();
    let topic = &lesson.model.topics["mails"];
    assert_eq!(topic.consumer.to_string(), "mailer.process");
    assert_eq!(topic.redelivery_delay.value, Nanos::from_millis(300));
    assert!(steps(&lesson, "shop", "buy").iter().any(|s| matches!(s, Step::Publish(p) if p.to == "mails")));
    assert_eq!(lesson.model.workload.len(), 1, "a consumer is no entry");
    assert!(lesson.findings.iter().any(|f| matches!(f, Finding::SyncInAsync { callee, .. } if callee == "smtp")));
    assert!(lesson.graph.edge("shop", "mails").is_some() && lesson.graph.edge("mails", "mailer").is_some());
}

#[test]
fn a_service_without_spans_is_named_by_its_callers() {
    let mut story = Story::default();
    for _ in 0..6 {
        let root = story.trace().span(0, "a", "SERVER", "get", 0, 10_000, r#","tags":{"error":"503"}"#);
        story.span(
            root,
            "a",
            "CLIENT",
            "get cart",
            1_000,
            2_000,
            r#","remoteEndpoint":{"serviceName":"cart"},"tags":{"error":"refused"}"#,
        );
    }
    let lesson = story.learn();
    assert!(
        lesson
            .findings
            .iter()
            .any(|f| matches!(f, Finding::DeadService { service, attempts: 6, failed: 6, .. } if service == "cart"))
    );
    let cart = &lesson.model.services["cart"];
    assert_eq!((cart.workers.value, cart.workers.source), (Limit::Unlimited, Source::Assumed));
    assert_eq!(cart.operations["get cart"].error_rate.map(|r| r.value), Some(1.0));
    assert_eq!(calls(steps(&lesson, "a", "get"))[0].on_failure.value, 1.0);
}

#[test]
fn queueing_is_not_taken_for_work() {
    // One worker, 10 ms of work, arrivals in bursts of three: two of three requests wait.
    let mut story = Story::default();
    for i in 0..120 {
        for k in 0..3 {
            story.trace().span(0, "db", "SERVER", "get", i, 10_000 * (k + 1), "");
            story.trace -= 1;
        }
        story.trace += 1;
    }
    for known in [None, Some(1)] {
        let mut options = LearnOptions::default();
        options.known_workers.extend(known.map(|w| ("db".to_owned(), w)));
        let lesson = story.learn_with(&options);
        let db = &lesson.model.services["db"];
        assert_eq!(db.workers.value, Limit::Of(1), "{:?}", db.workers);
        assert_eq!(db.workers.source, if known.is_some() { Source::Declared } else { Source::Inferred });
        assert_eq!(work_at(steps(&lesson, "db", "get"), 0), Nanos::from_millis(10));
        assert_eq!(db.mode, Mode::Blocking);
    }
}

#[test]
fn sampling_is_undone_in_rates_alone() {
    let mut story = Story::default();
    for _ in 0..30 {
        story.trace().span(0, "a", "SERVER", "get", 0, 10_000, "");
    }
    let rate =
        |sampling| story.learn_with(&LearnOptions { sampling, ..LearnOptions::default() }).model.workload["users"].rate.value;
    assert!((rate(Some(0.1)) / rate(None) - 10.0).abs() < 1e-9);
    assert!((rate(None) - 30.0 / 29.0).abs() < 1e-9);
}

#[test]
fn a_circle_that_traces_left_is_left_by_the_model_too() {
    let mut story = Story::default();
    for _ in 0..3 {
        let root = story.trace().span(0, "a", "SERVER", "do a", 0, 90_000, "");
        let b = story.call(root, "a", "b", 1_000, 80_000, false);
        let a = story.call(b, "b", "a", 2_000, 60_000, false);
        story.call(a, "a", "b", 3_000, 40_000, false);
    }
    let lesson = story.learn();
    assert!(!lesson.model.services["b"].operations["do b"].paths.is_empty());
}

#[test]
fn the_same_traces_give_the_same_model() {
    let mut story = Story::default();
    for i in 0..20 {
        let root = story.trace().span(0, "a", "SERVER", if i % 2 == 0 { "x" } else { "y" }, 0, 20_000, "");
        story.call(root, "a", "b", 1_000, 5_000, i % 7 == 0);
    }
    let (one, two) = (story.learn(), story.learn());
    assert_eq!(crate::format::write_model(&one.model), crate::format::write_model(&two.model));
    assert_eq!(one.model.services["a"].operations["any"].paths.len(), 2, "two operations that users ask for are paths of one");
}

#[test]
fn spans_without_requests_are_refused_in_words() {
    let mut story = Story::default();
    story.trace().span(7, "a", "CLIENT", "call", 0, 1_000, "");
    let text = format!("[{}]", story.spans.join(","));
    let mut reader = Reader::new(ReadOptions::default());
    reader.read("story.json", text.as_bytes()).expect("it reads");
    let error = learn(&reader.finish(), &LearnOptions::default()).expect_err("nothing comes in");
    expect_test::expect![[r#"
        error: story.json
          found:    1 spans in 1 traces, none of them a request that comes in from outside
          expected: traces with at least one root or server span
          help:     export whole traces, not single spans of them"#]]
    .assert_eq(&error.to_string());
}
