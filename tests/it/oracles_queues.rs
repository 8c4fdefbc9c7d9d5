//! Queues of the textbooks beyond `analytic.rs`: impatience, last come first served, load balancing, networks, order statistics, caches.
//! One unit of time is 10 ms. Each theory names its source; tolerances are 99.9 % intervals over ten seeds.

use models::system::Model;

use crate::story::{agrees, does, model, run, runs};

const UNIT_MS: f64 = 10.0;
const EXPONENTIAL: &str = "{ work: { exponential: 10ms } }";

/// One service `s` with these settings, work of mean 1 unit, and users at `rate` a unit of time.
fn station(settings: &str, rate: f64, edges: &str) -> Model {
    model(&format!(
        "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: {}/s }} }} }}
services:
  s: {{ {settings}, {} }}
edges: {{ {edges} }}
",
        rate * 100.0,
        does("op", EXPONENTIAL)
    ))
}

/// Stationary probabilities of a birth-death chain, cut where they no longer matter.
fn birth_death(states: usize, birth: impl Fn(usize) -> f64, death: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut p = vec![1.0];
    for n in 1..states {
        p.push(p[n - 1] * birth(n - 1) / death(n));
    }
    let total: f64 = p.iter().sum();
    p.into_iter().map(|x| x / total).collect()
}

/// Users whose patience is exponential: each asks `s` and a timer at once and takes what ends first; the other is cancelled.
/// Gross, Shortle, Thompson and Harris, Fundamentals of Queueing Theory (4th ed. 2008), section 2.10: reneging at a rate that grows with
/// the number present. Who is being served may leave too, as a client's timeout has it; so all n present have theta, not n - c.
#[test]
fn impatience_thins_a_queue_as_a_birth_death_chain_says() {
    let (lambda, theta, servers) = (2.5, 0.5, 2usize);
    let m = model(&format!(
        "version: 1
workload: {{ users: {{ to: race.op, open: {{ rate: {}/s }} }} }}
services:
  race: {{ workers: unlimited, {} }}
  s: {{ workers: {servers}, cancel_on_disconnect: true, {} }}
  timer: {{ workers: unlimited, cancel_on_disconnect: true, {} }}
",
        lambda * 100.0,
        does("op", "{ parallel: { wait: first, branches: [ { call: s.op }, { call: timer.op } ] } }"),
        does("op", EXPONENTIAL),
        does("op", &format!("{{ work: {{ exponential: {}ms }} }}", UNIT_MS / theta)),
    ));
    let p = birth_death(200, |_| lambda, |n| n.min(servers) as f64 + theta * n as f64);
    let number: f64 = p.iter().enumerate().map(|(n, p)| n as f64 * p).sum();
    let busy: f64 = p.iter().enumerate().map(|(n, p)| n.min(servers) as f64 * p).sum();
    let runs = runs(&m, 400, 10);
    agrees("number present", number, 0.0, 0.03, |s| runs.of(s).services["s"].mean_in_system);
    agrees("utilisation", busy / servers as f64, 0.0, 0.02, |s| runs.of(s).services["s"].utilisation);
    agrees("share that leaves", theta * number / lambda, 0.0, 0.03, |s| {
        let stats = &runs.of(s).services["s"];
        stats.errors as f64 / stats.requests as f64
    });
    agrees("time in the system (Little)", number / lambda, 0.0, 0.03, |s| runs.of(s).entries["users"].mean_ms / UNIT_MS);
}

/// A client's timeout is a limit on the whole sojourn. With `cancel_on_disconnect` the workload an arrival meets has density
/// lambda P0 exp(-(mu - lambda) x) on 0..tau (level crossing), so P0 = 1 / (1 + lambda (1 - exp(-(mu - lambda) tau)) / (mu - lambda)), and
/// P0 exp(-(mu - lambda) tau) of the users time out. Gnedenko and Kovalenko, Introduction to Queueing Theory (1968), ch. 1; Brill, Level
/// Crossing Methods in Stochastic Models (2008), ch. 3.
#[test]
fn a_timeout_that_cancels_bounds_the_sojourn() {
    for (lambda, tau) in [(1.2, 2.0), (0.7, 3.0)] {
        let m =
            station("workers: 1, cancel_on_disconnect: true", lambda, &format!("users->s: {{ timeout: {}ms }}", tau * UNIT_MS));
        let decay = libm::exp(-(1.0 - lambda) * tau);
        let idle = 1.0 / (1.0 + lambda * (1.0 - decay) / (1.0 - lambda));
        let runs = runs(&m, 400, 10);
        agrees("times out", idle * decay, 0.0, 0.05, |s| runs.of(s).entries["users"].error_rate);
        agrees("utilisation", 1.0 - idle, 0.0, 0.02, |s| runs.of(s).services["s"].utilisation);
    }
}

/// Without it the late work goes on: the queue is M/M/1 as if nobody had left, and exp(-(mu - lambda) tau) come too late.
#[test]
fn a_timeout_that_does_not_cancel_changes_nothing_at_the_server() {
    let (lambda, tau) = (0.7, 5.0);
    let m = station("workers: 1", lambda, &format!("users->s: {{ timeout: {}ms }}", tau * UNIT_MS));
    let late = libm::exp(-(1.0 - lambda) * tau);
    let runs = runs(&m, 1_000, 20);
    agrees("times out", late, 0.0, 0.1, |s| runs.of(s).entries["users"].error_rate);
    agrees("number present", lambda / (1.0 - lambda), 0.0, 0.06, |s| runs.of(s).services["s"].mean_in_system);
    agrees("work for nobody", late, 0.0, 0.1, |s| {
        let stats = &runs.of(s).services["s"];
        stats.wasted as f64 / stats.requests as f64
    });
}

/// The second moment of the sojourn at M/M/1, read off users of graded patience: the share of those with patience t who time out is
/// P(T > t) (nothing is cancelled, and Poisson arrivals see time averages), and E T^2 = integral of 2 t P(T > t) dt, here by the midpoint
/// rule in x = t^(1/3).
fn second_moment(discipline: &str, lambda: f64) -> impl Fn(u64) -> f64 {
    const CLASSES: usize = 50;
    let width = libm::cbrt(150.0) / CLASSES as f64;
    let patience = move |i: usize| (i as f64 + 0.5) * width;
    let (mut workload, mut edges) = (String::new(), String::new());
    for i in 0..CLASSES {
        let t = patience(i).powi(3);
        workload += &format!("  u{i}: {{ to: s.op, open: {{ rate: {}/s }} }}\n", lambda * 100.0 / CLASSES as f64);
        edges += &format!("  u{i}->s: {{ timeout: {}ns }}\n", (t * 1e7).round());
    }
    let m = model(&format!(
        "version: 1\nworkload:\n{workload}services:\n  s: {{ workers: 1, discipline: {discipline}, {} }}\nedges:\n{edges}",
        does("op", EXPONENTIAL)
    ));
    move |seed| {
        let entries = run(&m, None, seed, 3_000, 50).entries;
        (0..CLASSES).map(|i| 6.0 * patience(i).powi(5) * width * entries[&format!("u{i}")].error_rate).sum()
    }
}

/// Last come first served has the mean wait of first come first served and 1 / (1 - rho) times its second moment. Kleinrock, Queueing
/// Systems vol. 2 (1976), section 3.4; Takacs, Delay distributions for one line with Poisson input (1963).
#[test]
fn last_come_first_served_waits_as_long_on_average_and_varies_more() {
    let lambda: f64 = 0.6;
    let mean = 1.0 / (1.0 - lambda);
    for discipline in ["fifo", "lifo"] {
        let m = station(&format!("workers: 1, discipline: {discipline}"), lambda, "");
        agrees(discipline, mean, 0.0, 0.05, |s| run(&m, None, s, 1_000, 20).entries["users"].mean_ms / UNIT_MS);
    }
    // W^2 at FIFO: 2 rho / (1 - rho)^2; T = W + S with S of its own: T^2 = W^2 + 2 W S + S^2.
    let wait_squared = 2.0 * lambda / (1.0 - lambda).powi(2);
    let with_service = 2.0 * lambda / (1.0 - lambda) + 2.0;
    agrees("FIFO: T^2", wait_squared + with_service, 0.005, 0.1, second_moment("fifo", lambda));
    agrees("LIFO: T^2", wait_squared / (1.0 - lambda) + with_service, 0.005, 0.2, second_moment("lifo", lambda));
}

/// Two choices among n queues: mean sojourn sum over i of lambda^(2^i - 2) as n grows. Mitzenmacher, The power of two choices in
/// randomized load balancing (1996), section 3: within 1 % at n = 100 for loads up to 0.9. One random choice is M/M/1.
#[test]
fn two_choices_leave_a_doubly_exponential_tail() {
    let (lambda, n) = (0.9f64, 200);
    let with = |balance: &str| {
        let m = station(&format!("replicas: {n}, workers: 1, balance: {balance}"), lambda * f64::from(n), "");
        move |seed| run(&m, None, seed, 12, 2).entries["users"].mean_ms / UNIT_MS
    };
    let theory: f64 = (1..8).map(|i| lambda.powi((1 << i) - 2)).sum();
    agrees("two choices", theory, 0.01, 0.05, with("two_choices"));
    agrees("random", 1.0 / (1.0 - lambda), 0.0, 0.2, with("random"));
}

/// Round robin gives each of n queues every n-th arrival: Erlang(n)/M/1, sojourn 1 / (mu (1 - sigma)) with sigma = A*(mu (1 - sigma)).
/// Kleinrock, Queueing Systems vol. 1 (1975), section 6.4.
#[test]
fn round_robin_smooths_arrivals() {
    let (lambda, n) = (0.9f64, 10);
    let m = station(&format!("replicas: {n}, workers: 1, balance: round_robin"), lambda * f64::from(n), "");
    let mut sigma = 0.5;
    for _ in 0..10_000 {
        let rate = lambda * f64::from(n);
        sigma = (rate / (rate + 1.0 - sigma)).powi(n);
    }
    agrees("round robin", 1.0 / (1.0 - sigma), 0.0, 0.05, |s| run(&m, None, s, 400, 10).entries["users"].mean_ms / UNIT_MS);
}

/// Join the shorter of two queues, solved as a Markov chain (ties by a fair coin) cut at 60 a queue, by Gauss-Seidel iteration; the model
/// was posed by Haight, Two queues in parallel (1958).
#[test]
fn the_least_outstanding_of_two_is_the_shorter_queue() {
    const CUT: usize = 60;
    let lambda = 1.6; // for two servers of rate 1
    let mut p = vec![[1.0f64; CUT + 1]; CUT + 1];
    let joins = |mine: usize, other: usize| match mine.cmp(&other) {
        std::cmp::Ordering::Less => lambda,
        std::cmp::Ordering::Equal => lambda / 2.0,
        std::cmp::Ordering::Greater => 0.0,
    };
    for _ in 0..3_000 {
        for i in 0..=CUT {
            for j in 0..=CUT {
                let mut inflow = 0.0;
                if i > 0 {
                    inflow += p[i - 1][j] * joins(i - 1, j);
                }
                if j > 0 {
                    inflow += p[i][j - 1] * joins(j - 1, i);
                }
                inflow += if i < CUT { p[i + 1][j] } else { 0.0 };
                inflow += if j < CUT { p[i][j + 1] } else { 0.0 };
                let arrivals = if i == CUT && j == CUT { 0.0 } else { lambda };
                p[i][j] = inflow / (arrivals + f64::from(u8::from(i > 0)) + f64::from(u8::from(j > 0)));
            }
        }
        let total: f64 = p.iter().flatten().sum();
        p.iter_mut().flatten().for_each(|x| *x /= total);
    }
    let number: f64 =
        p.iter().enumerate().flat_map(|(i, row)| row.iter().enumerate().map(move |(j, p)| (i + j) as f64 * p)).sum();
    assert!(number > 2.0 * 1.777_78 && number < 8.0, "between M/M/2 and two M/M/1: {number}");
    let m = station("replicas: 2, workers: 1, balance: least_outstanding", lambda, "");
    agrees("shorter queue", number, 0.0, 0.06, |s| run(&m, None, s, 2_000, 40).services["s"].mean_in_system);
}

/// M/G/infinity: lambda E S are present, whatever the distribution; and the Erlang loss formula does not see it either.
/// Sevastyanov's insensitivity theorem (1957); Kleinrock vol. 1, section 3.4.
#[test]
fn without_a_queue_only_the_mean_of_the_work_counts() {
    // Mean 10 ms each; squared coefficients of variation 0, 1 and 4; half of 2..6 ms and half of 6..26 ms.
    let works = [
        "{ constant: 10ms }",
        "{ exponential: 10ms }",
        "{ lognormal: { p50: 4472136ns, p99: 85545420ns } }",
        "{ quantiles: { 0: 2ms, 50: 6ms, 100: 26ms } }",
    ];
    for work in works {
        let with = |workers: &str, rate: f64| {
            model(&format!(
                "version: 1
workload: {{ users: {{ to: s.op, open: {{ rate: {}/s }} }} }}
services: {{ s: {{ workers: {workers}, queue: 0, {} }} }}
",
                rate * 100.0,
                does("op", &format!("{{ work: {work} }}"))
            ))
        };
        let (free, loss) = (with("unlimited", 20.0), with("10", 8.0));
        agrees(work, 20.0, 0.002, 0.02, |s| run(&free, None, s, 60, 1).services["s"].mean_in_system);
        agrees(work, 0.121_661, 0.002, 0.1, |s| run(&loss, None, s, 100, 1).entries["users"].error_rate);
    }
}

/// Burke: what leaves M/M/1 is Poisson, so a tandem is two M/M/1 in a row. Burke, The output of a queuing system (1956); Jackson (1957).
#[test]
fn a_tandem_is_two_queues_in_a_row() {
    let m = model(&format!(
        "version: 1
workload: {{ users: {{ to: a.op, open: {{ rate: 80/s }} }} }}
services:
  a: {{ workers: 1, mode: async, {} }}
  b: {{ workers: 1, {} }}
",
        does("op", &format!("{EXPONENTIAL}, {{ call: b.op }}")),
        does("op", "{ work: { exponential: 8ms } }"),
    ));
    let runs = runs(&m, 3_000, 60);
    let (a, b) = (1.0 / (1.0 - 0.8), 0.8 / (1.0 - 0.64));
    agrees("end to end", a + b, 0.0, 0.08, |s| runs.of(s).entries["users"].mean_ms / UNIT_MS);
    agrees("second queue", b - 0.8, 0.0, 0.06, |s| runs.of(s).services["b"].mean_wait_ms / UNIT_MS);
}

/// Retries at once are feedback: a Jackson network of one node with lambda / (1 - p) through it. Jackson, Networks of waiting lines (1957).
#[test]
fn retries_at_once_are_feedback() {
    let m = model(
        "version: 1
workload: { users: { to: s.op, open: { rate: 40/s } } }
services: { s: { workers: 1, operations: { op: { error_rate: 0.5, paths: [ { steps: [ { work: { exponential: 10ms } } ] } ] } } } }
edges: { users->s: { retry: { attempts: 1000 } } }
",
    );
    let runs = runs(&m, 4_000, 60);
    agrees("number present", 4.0, 0.0, 0.1, |s| runs.of(s).services["s"].mean_in_system);
    agrees("response", 10.0, 0.0, 0.1, |s| runs.of(s).entries["users"].mean_ms / UNIT_MS);
}

/// A blocking caller's worker is held through its call: M/G/1 with work + answer as its service time, here exponential 10 ms + constant
/// 10 ms at rho = 0.8 (Pollaczek-Khinchine: lambda E S^2 / (2 (1 - rho)) = 5); an async one is free meanwhile: M/M/1 at 0.4.
#[test]
fn a_blocking_caller_holds_its_worker_through_its_call() {
    for (mode, wait) in [("blocking", 5.0), ("async", 0.4 / 0.6)] {
        let m = model(&format!(
            "version: 1
workload: {{ users: {{ to: a.op, open: {{ rate: 40/s }} }} }}
services:
  a: {{ workers: 1, mode: {mode}, {} }}
  b: {{ workers: unlimited, {} }}
",
            does("op", &format!("{EXPONENTIAL}, {{ call: b.op }}")),
            does("op", "{ work: { constant: 10ms } }"),
        ));
        agrees(mode, wait, 0.0, 0.1, |s| run(&m, None, s, 3_000, 60).services["a"].mean_wait_ms / UNIT_MS);
    }
}

/// Kinds of request make a hyperexponential service time: Pollaczek-Khinchine with its second moment.
#[test]
fn kinds_of_request_mix_as_a_hyperexponential() {
    let m = model(
        "version: 1
workload: { users: { to: s.op, open: { rate: 60/s } } }
services: { s: { workers: 1, operations: { op: { paths: [
  { weight: 9, steps: [ { work: { exponential: 5ms } } ] }, { weight: 1, steps: [ { work: { exponential: 55ms } } ] } ] } } } }
",
    );
    // E S = 0.9 x 0.5 + 0.1 x 5.5 = 1, E S^2 = 2 (0.9 x 0.25 + 0.1 x 30.25) = 6.5.
    let wait = 0.6 * 6.5 / (2.0 * 0.4);
    agrees("M/H2/1", wait, 0.0, 0.1, |s| run(&m, None, s, 6_000, 60).services["s"].mean_wait_ms / UNIT_MS);
}

/// The k-th of n exponential branches comes after the sum of 1/i, i = n - k + 1 .. n. Renyi's representation (1953).
#[test]
fn a_quorum_takes_as_long_as_its_last_voter() {
    for (wait, n, k) in [("first", 5, 1), ("{ quorum: 3 }", 5, 3), ("all", 4, 4)] {
        let m = model(&format!(
            "version: 1
workload: {{ users: {{ to: root.op, open: {{ rate: 100/s }} }} }}
services:
  root: {{ workers: unlimited, {} }}
  leaf: {{ workers: unlimited, {} }}
",
            does("op", &format!("{{ parallel: {{ wait: {wait}, branches: [ {} ] }} }}", vec!["{ call: leaf.op }"; n].join(", "))),
            does("op", EXPONENTIAL),
        ));
        let mean: f64 = (n - k + 1..=n).map(|i| 1.0 / i as f64).sum();
        agrees(wait, mean, 0.0, 0.05, |s| run(&m, None, s, 150, 1).entries["users"].mean_ms / UNIT_MS);
    }
}

/// Of n votes each of which fails with probability p, fewer than k succeed as often as the binomial distribution says. Who waits for all
/// waits for those that fail too.
#[test]
fn a_quorum_fails_when_too_few_votes_are_left() {
    let p = 0.5f64;
    let tail = |n: i32, k: i32| (0..k).map(|i| ways(n, i) * (1.0 - p).powi(i) * p.powi(n - i)).sum::<f64>();
    for (wait, n, k) in [("first", 3, 1), ("{ quorum: 2 }", 3, 2), ("all", 3, 3)] {
        let m = model(&format!(
            "version: 1
workload: {{ users: {{ to: root.op, open: {{ rate: 200/s }} }} }}
services:
  root: {{ workers: unlimited, {} }}
  leaf: {{ workers: unlimited, operations: {{ op: {{ error_rate: {p}, paths: [ {{ steps: [ {EXPONENTIAL} ] }} ] }} }} }}
",
            does("op", &format!("{{ parallel: {{ wait: {wait}, branches: [ {} ] }} }}", vec!["{ call: leaf.op }"; n].join(", "))),
        ));
        let figures = |s: u64| run(&m, None, s, 150, 1).entries["users"].clone();
        agrees(&format!("{wait}: errors"), tail(n as i32, k), 0.0, 0.05, |s| figures(s).error_rate);
        if k == n as i32 {
            let mean: f64 = (1..=n).map(|i| 1.0 / i as f64).sum();
            agrees("all, of whom some fail", mean, 0.0, 0.05, |s| figures(s).mean_ms / UNIT_MS);
        }
    }
}

/// n over k.
fn ways(n: i32, k: i32) -> f64 {
    (0..k).map(|i| f64::from(n - i) / f64::from(i + 1)).product()
}

/// Least recently used under independent requests: alike keys hit at capacity / keys; two places for keys of popularity p_i hit at the sum
/// of p_i p_j / (1 - p_i) x (p_i + p_j) over ordered pairs. King, Analysis of demand paging algorithms (1971).
#[test]
fn a_cache_hits_as_often_as_its_policy_lets_it() {
    let with = |capacity: u32, keys: u32, zipf: f64| {
        let m = model(&format!(
            "version: 1
workload: {{ users: {{ to: app.get, open: {{ rate: 400/s }} }} }}
services:
  app: {{ workers: unlimited, {} }}
  cache: {{ workers: unlimited, cache: {{ capacity: {capacity}, keys: {keys}, zipf: {zipf} }}, {} }}
  store: {{ workers: unlimited, {} }}
",
            does("get", "{ lookup: { cache: cache.get, origin: store.get } }"),
            does("get", "{ work: { constant: 1us } }"),
            does("get", "{ work: { constant: 1us } }"),
        ));
        move |seed| {
            let edges = run(&m, None, seed, 200, 5).boundaries;
            1.0 - edges["app->store"].requests as f64 / edges["app->cache"].requests as f64
        }
    };
    agrees("alike", 0.3, 0.001, 0.02, with(30, 100, 0.0));
    let weights: Vec<f64> = (1..=5).map(|rank| libm::pow(f64::from(rank), -1.2)).collect();
    let total: f64 = weights.iter().sum();
    let p: Vec<f64> = weights.iter().map(|w| w / total).collect();
    let mut hit = 0.0;
    for i in 0..5 {
        for j in (0..5).filter(|&j| j != i) {
            hit += p[i] * p[j] / (1.0 - p[i]) * (p[i] + p[j]);
        }
    }
    agrees("Zipf", hit, 0.001, 0.02, with(2, 5, 1.2));
}

/// A topic whose consumer group takes one message at a time is M/M/1 from publish to acknowledgement.
#[test]
fn a_topic_with_one_delivery_at_a_time_is_a_queue() {
    let m = model(&format!(
        "version: 1
workload: {{ users: {{ to: app.op, open: {{ rate: 70/s }} }} }}
services:
  app: {{ workers: unlimited, {} }}
  consumer: {{ workers: unlimited, {} }}
topics: {{ t: {{ consumer: consumer.op, concurrency: 1 }} }}
",
        does("op", "{ publish: t }"),
        does("op", EXPONENTIAL),
    ));
    let runs = runs(&m, 2_000, 40);
    let quantile = |p: f64| -libm::log(1.0 - p) / 0.3;
    agrees("median", quantile(0.5), 0.01, 0.1, |s| runs.of(s).topics["t"].p50_ms / UNIT_MS);
    agrees("p99", quantile(0.99), 0.01, 0.15, |s| runs.of(s).topics["t"].p99_ms / UNIT_MS);
}

/// A consumer that fails with probability p, N deliveries at most: (1 - p^N) / (1 - p) deliveries a message, p^N of them dead letters.
#[test]
fn deliveries_follow_the_geometric_series() {
    let m = model(
        "version: 1
workload: { users: { to: app.op, open: { rate: 200/s } } }
services:
  app: { workers: unlimited, operations: { op: { paths: [ { steps: [ { publish: t } ] } ] } } }
  consumer: { workers: unlimited, operations: { op: { error_rate: 0.4, paths: [ { steps: [ { work: { constant: 1ms } } ] } ] } } }
topics: { t: { consumer: consumer.op, concurrency: 1000, max_deliveries: 3, redelivery_delay: 20ms } }
",
    );
    let runs = runs(&m, 300, 5);
    agrees("dead letters", 0.064, 0.0, 0.1, |s| {
        let topic = &runs.of(s).topics["t"];
        topic.errors as f64 / topic.requests as f64
    });
    agrees("deliveries", 1.0 + 0.4 + 0.16, 0.000_2, 0.02, |s| {
        let run = runs.of(s);
        run.boundaries["t->consumer"].requests as f64 / run.topics["t"].requests as f64
    });
}
