//! The command line as a user meets it: the built binary, its exit codes, its texts, its files.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use expect_test::expect;
use serde_json::Value;

use super::support::root;

/// M/M/1 at 80 % load, as the model format's documentation has it.
const MM1: &str = "\
version: 1
workload: { users: { to: s.op, open: { rate: 80/s } } }
services:
  s:
    workers: 1
    queue: unbounded
    operations: { op: { paths: [ { weight: 1, steps: [ { work: { exponential: 10ms } } ] } ] } }
";

/// Two services; the caller retries.
const CHAIN: &str = "\
version: 1
workload: { users: { to: a.get, open: { rate: 50/s } } }
services:
  a:
    workers: 16
    queue: 64
    operations: { get: { paths: [ { weight: 1, steps: [ { work: { exponential: 2ms } }, { call: b.get } ] } ] } }
  b:
    workers: 4
    queue: 32
    operations: { get: { paths: [ { weight: 1, steps: [ { work: { exponential: 20ms } } ] } ] } }
edges:
  a->b: { timeout: 200ms, retry: { attempts: 3, backoff: 20ms, jitter: full } }
";

const SLOW_B: &str = "\
version: 1
scenarios:
  - { id: slow-b, load: 1.0, faults: [ { kind: latency, target: a->b, start: 12s, duration: 8s, magnitude: { add: 800ms } } ] }
";

/// A folder with files in it, in which the binary runs.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let place = Place(tempfile::tempdir().expect("a temporary folder"));
        files.iter().for_each(|(name, text)| place.write(name, text.as_bytes()));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("created");
        fs::write(path, bytes).expect("written");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
    }

    /// The binary with these arguments, words split at spaces.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foreshock"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        command
    }

    pub fn run(&self, arguments: &str) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("the binary starts")
    }

    /// Standard output of a run that must end well.
    pub fn fine(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments}\n{}", stderr(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    pub fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.fine(arguments)).expect("JSON on standard output")
    }

    /// Standard error of a run that must be refused.
    pub fn refused(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}\n{}", stderr(&output));
        assert!(output.stdout.is_empty(), "a refusal writes no result");
        stderr(&output)
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Keys of a JSON object, in order.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn has_keys(value: &Value, wanted: &[&str]) {
    for key in wanted {
        assert!(value.get(key).is_some(), "{key} is missing in {value}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// One line of OTLP JSON: a trace of one server span.
fn span_line(n: u64) -> String {
    let (start, end) = (1_700_000_000_000_000_000 + n * 10_000_000, 1_700_000_000_005_000_000 + n * 10_000_000);
    format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},"scopeSpans":[{{"spans":[{{"traceId":"{:032x}","spanId":"{:016x}","name":"GET /","kind":2,"startTimeUnixNano":"{start}","endTimeUnixNano":"{end}"}}]}}]}}]}}"#,
        n + 1,
        n + 1
    ) + "\n"
}

#[test]
fn help_names_the_exit_codes_and_every_command_shows_an_example() {
    let place = Place::new(&[]);
    let help = place.fine("--help");
    for code in ["0    done", "1    a check failed", "2    used wrongly", "101  a bug", "130  interrupted"] {
        assert!(help.contains(code), "{help}");
    }
    for command in
        ["run", "learn", "inspect", "suggest", "sweep", "rank", "simulate", "replay", "explain", "shrink", "check", "schema"]
    {
        let help = place.fine(&format!("{command} --help"));
        assert!(help.contains(&format!("\n  foreshock {command} ")), "{command} shows no example:\n{help}");
    }
}

#[test]
fn wrong_use_exits_with_2() {
    let place = Place::new(&[("m.yaml", MM1)]);
    for wrong in [
        "",
        "frobnicate",
        "simulate",
        "simulate m.yaml --horizon 120",
        "simulate m.yaml --horizon -5s",
        "simulate m.yaml --horizon 5s --warmup 5s",
        "sweep m.yaml x.yaml --seeds 0 -o out",
    ] {
        assert_eq!(place.run(wrong).status.code(), Some(2), "foreshock {wrong}");
    }
    assert!(place.refused("simulate m.yaml --horizon 120").contains("a duration with a unit"));
}

#[test]
fn the_one_scenario_that_is_meant_is_named_by_its_id() {
    let twice = format!("{SLOW_B}{}", SLOW_B.lines().last().expect("its scenario").replace("slow-b", "slow-a"));
    let place = Place::new(&[("m.yaml", CHAIN), ("s.yaml", &twice)]);
    let refused = |arguments: &str, want: expect_test::Expect| want.assert_eq(&place.refused(arguments));
    refused(
        "simulate m.yaml s.yaml",
        expect![[r#"
        error: s.yaml
          found:    2 scenarios, and no --id
          expected: one scenario, named by --id: slow-b, slow-a
          help:     write --id slow-b
    "#]],
    );
    refused(
        "simulate m.yaml s.yaml --id slow-c",
        expect![[r#"
        error: s.yaml
          found:    no scenario slow-c
          expected: one scenario, named by --id: slow-b, slow-a
          help:     write --id slow-b
    "#]],
    );
    refused(
        "simulate m.yaml --id slow-a",
        expect![[r#"
        error: --id slow-a
          expected: a scenario file that holds it, after the model
          help:     foreshock simulate m.yaml scenarios.yaml --id slow-a
    "#]],
    );
    refused(
        "simulate m.yaml --scenario s.yaml",
        expect![[r#"
        error: --id s.yaml
          expected: a scenario file that holds it, after the model
          help:     the file needs no flag: foreshock simulate m.yaml s.yaml
    "#]],
    );
    let run = |flag: &str| place.json(&format!("simulate m.yaml s.yaml --horizon 25s --json {flag} slow-a"))["digest"].clone();
    assert_eq!(run("--id"), run("--scenario"), "who means the id may say so");
}

#[test]
fn mm1_simulates_to_its_formula() {
    let place = Place::new(&[("mm1.yaml", MM1)]);
    let result = place.json("simulate mm1.yaml --seed 1 --horizon 5000s --warmup 100s --json");
    has_keys(&result, &["digest", "requests", "events", "cpu_seconds", "entries", "boundaries", "services"]);
    has_keys(&result["entries"]["users"], &["requests", "attempts", "errors", "error_rate", "mean_ms", "p50_ms", "p99_ms"]);
    has_keys(&result["boundaries"]["users->s"], &["requests", "attempts", "errors", "error_rate", "mean_ms", "p50_ms", "p99_ms"]);
    has_keys(&result["services"]["s"], &["utilisation", "mean_wait_ms", "mean_in_system", "queue_peak"]);
    let near = |value: &Value, expected: f64, tolerance: f64| {
        let value = value.as_f64().expect("a number");
        assert!((value / expected - 1.0).abs() < tolerance, "{value}, expected {expected}");
    };
    // Sojourn 1/(mu - lambda) = 50 ms, wait 40 ms, rho 0.8, L = 4. Over 4,900 s the standard error of the mean is about 1.3 %
    // (autocorrelation time of the queue: 2 rho / (mu (1 - rho)^2), about 0.4 s).
    near(&result["entries"]["users"]["mean_ms"], 50.0, 0.05);
    near(&result["services"]["s"]["mean_wait_ms"], 40.0, 0.06);
    near(&result["services"]["s"]["utilisation"], 0.8, 0.02);
    near(&result["services"]["s"]["mean_in_system"], 4.0, 0.06);
    assert_eq!(result["entries"]["users"]["errors"], 0);
}

#[test]
fn a_seed_gives_one_digest_and_another_seed_another() {
    let place = Place::new(&[("m.yaml", CHAIN), ("s.yaml", SLOW_B)]);
    let digest = |seed: u64| place.json(&format!("simulate m.yaml s.yaml --seed {seed} --horizon 30s --json"))["digest"].clone();
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8));
}

#[test]
fn simulate_shows_the_fault_and_its_course() {
    let place = Place::new(&[("m.yaml", CHAIN), ("s.yaml", SLOW_B)]);
    let healthy = place.json("simulate m.yaml --seed 1 --horizon 30s --json");
    let hurt = place.json("simulate m.yaml s.yaml --seed 1 --horizon 30s --json --series");
    assert_eq!(healthy["entries"]["users"]["requests"], hurt["entries"]["users"]["requests"], "a fault moves no arrival");
    assert_eq!(healthy["boundaries"]["a->b"]["errors"], 0);
    // 800 ms against a timeout of 200 ms: each of the 16 workers of a is held for three tries and two backoffs (full jitter: 10 and
    // 20 ms on average), 630 ms in all, so that 16 x 8 s / 0.63 s, about 203 calls, fail in the 8 s; the rest is refused at a.
    let failed = hurt["boundaries"]["a->b"]["errors"].as_u64().expect("a count");
    assert!((180..=215).contains(&failed), "{}", hurt["boundaries"]);
    let refused = hurt["boundaries"]["users->a"]["failed_attempts"]["overload"].as_u64();
    assert!(refused > Some(100), "50 requests/s meet room for 25/s and a queue of 64: {}", hurt["boundaries"]);
    assert_eq!(keys(&hurt["series"]["nodes"]), ["users", "a", "b"]);
    let text = place.fine("simulate m.yaml s.yaml --seed 1 --horizon 30s");
    assert!(text.contains("a->b") && text.contains("digest"), "{text}");
}

#[test]
fn learn_says_what_it_read_file_by_file() {
    let lines: String = (0..500).map(span_line).collect();
    let place = Place::new(&[("traces/b.jsonl", &lines), ("traces/notes.txt", "nothing to see")]);
    place.write("traces/a.jsonl.gz", &gzip(span_line(900).as_bytes()));
    let said = place.json("learn traces -o model.yaml --json");
    let names: Vec<_> =
        said["files"].as_array().expect("a list").iter().map(|file| file["path"].as_str().expect("text")).collect();
    assert_eq!(names, ["traces/a.jsonl.gz", "traces/b.jsonl"]);
    for file in said["files"].as_array().expect("a list") {
        has_keys(file, &["path", "format", "traces", "spans", "services", "skipped"]);
    }
    assert_eq!((&said["traces"], &said["spans"], &said["skipped"]), (&501.into(), &501.into(), &0.into()));
    assert_eq!(said["passed_over"][0]["path"], "traces/notes.txt");
    assert!(place.fine("inspect model.yaml").contains("shop"));
}

#[test]
fn traces_come_from_standard_input_too() {
    let place = Place::new(&[]);
    let mut child =
        place.command("learn - --json").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let lines: String = (0..50).map(span_line).collect();
    child.stdin.take().expect("piped").write_all(&gzip(lines.as_bytes())).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&said["files"][0]["path"], &said["traces"]), (&"standard input".into(), &50.into()));
}

#[test]
fn a_sweep_writes_every_file_and_its_tokens_replay() {
    let place = Place::new(&[("m.yaml", CHAIN), ("s.yaml", SLOW_B)]);
    let summary = place.fine("sweep m.yaml s.yaml --seeds 3 --horizon 60s -o out");
    assert!(summary.contains("slow-b"), "{summary}");
    for file in [
        "model.yaml",
        "scenarios.yaml",
        "runs.jsonl",
        "ranking.json",
        "ranking.csv",
        "outcomes.csv",
        "report.html",
        "plots/ranking.svg",
    ] {
        assert!(!place.read(&format!("out/{file}")).is_empty(), "{file} is empty");
    }
    let ranking: Value = serde_json::from_slice(&place.read("out/ranking.json")).expect("JSON");
    let row = &ranking["scenarios"][0];
    has_keys(
        row,
        &[
            "id",
            "rank",
            "why",
            "faults",
            "cascade_risk",
            "p_cascade",
            "p_metastable",
            "recovery_s",
            "excess_failed_share",
            "error_rate",
            "p99_ms",
            "retry_amplification",
            "queue_depth",
            "breached_services",
            "token",
        ],
    );
    let token = row["token"].as_str().expect("text");
    assert!(place.fine(&format!("replay {token} --in out")).contains("the same as the recorded run"));
    assert!(place.fine(&format!("replay {token}")).contains("the same as"), "the newest folder here is found");
    let schema: Value = serde_json::from_str(&place.fine("schema ranking")).expect("JSON");
    let errors: Vec<String> =
        jsonschema::validator_for(&schema).expect("a schema").iter_errors(&ranking).map(|e| e.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn replay_tells_another_digest_from_another_model() {
    let place = Place::new(&[("m.yaml", CHAIN), ("s.yaml", SLOW_B)]);
    place.fine("sweep m.yaml s.yaml --seeds 1 --horizon 30s -o out");
    let runs = String::from_utf8(place.read("out/runs.jsonl")).expect("UTF-8");
    let record: Value = serde_json::from_str(runs.lines().next().expect("a run")).expect("JSON");
    let (token, digest) = (record["token"].as_str().expect("text"), record["digest"].as_str().expect("text"));

    place.write("out/runs.jsonl", runs.replace(digest, "00000000deadbeef").as_bytes());
    let other = place.run(&format!("replay {token} --in out"));
    assert_eq!(other.status.code(), Some(1), "{}", stderr(&other));
    assert!(stderr(&other).contains("00000000deadbeef") && stderr(&other).contains(digest));

    place.write("out/model.yaml", CHAIN.replace("20ms } } ] } ] } }", "21ms } } ] } ] } }").as_bytes());
    let text = place.refused(&format!("replay {token} --in out"));
    assert!(text.contains("the model that the token names") && text.contains("model.yaml"), "{text}");

    place.write("out/model.yaml", &place.read("m.yaml"));
    place.write("out/scenarios.yaml", SLOW_B.replace("800ms", "801ms").as_bytes());
    let text = place.refused(&format!("replay {token} --in out"));
    assert!(text.contains("the scenario that the token names") && text.contains("scenarios.yaml"), "{text}");

    assert!(place.refused("replay nonsense --in out").contains("copy it whole"));
}

#[test]
fn one_thread_and_two_write_the_same_bytes() {
    let place = Place::new(&[("m.yaml", CHAIN)]);
    place.fine("suggest m.yaml --scenarios 12 -o s.yaml");
    for threads in ["1", "2"] {
        place.write(&format!("{threads}/.keep"), b"");
        let folder = place.path(threads);
        let mut command = place.command(&format!("sweep ../m.yaml ../s.yaml --seeds 2 --horizon 60s --threads {threads} -o out"));
        assert!(command.current_dir(folder).output().expect("starts").status.success());
    }
    same_files(&place.path("1/out"), &place.path("2/out"));
}

/// Every file below two folders is byte-identical, and there are some.
fn same_files(one: &Path, two: &Path) {
    let mut count = 0;
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(one.join(&folder)).expect("readable").flatten() {
            let name = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(name);
            } else {
                assert_eq!(fs::read(one.join(&name)).ok(), fs::read(two.join(&name)).ok(), "{}", name.display());
                count += 1;
            }
        }
    }
    assert!(count >= 9, "only {count} files");
}

#[test]
fn a_second_start_does_only_what_is_missing() {
    let place = Place::new(&[("m.yaml", CHAIN), ("s.yaml", SLOW_B)]);
    place.fine("sweep m.yaml s.yaml --seeds 4 --horizon 30s -o whole");
    place.fine("sweep m.yaml s.yaml --seeds 4 --horizon 30s -o out");
    let runs = String::from_utf8(place.read("out/runs.jsonl")).expect("UTF-8");
    let lines: Vec<&str> = runs.lines().collect();
    // As a kill would leave it: the second run whole, another one cut short.
    let cut = format!("{}\n{}", lines[1], &lines[2][..lines[2].len() / 2]);
    place.write("out/runs.jsonl", cut.as_bytes());
    let again = place.run("sweep m.yaml s.yaml --seeds 4 --horizon 30s -o out");
    assert!(stderr(&again).contains("1 of 4 runs are finished already"), "{}", stderr(&again));
    assert_eq!(place.read("out/runs.jsonl"), place.read("whole/runs.jsonl"));
    assert_eq!(place.read("out/ranking.json"), place.read("whole/ranking.json"));
    let longer = place.run("sweep m.yaml s.yaml --seeds 4 --horizon 40s -o out");
    assert!(!stderr(&longer).contains("finished already"), "runs of another length do not count");
}

#[test]
fn rank_needs_no_simulation_and_says_the_same() {
    let place = Place::new(&[("m.yaml", CHAIN), ("s.yaml", SLOW_B)]);
    place.fine("sweep m.yaml s.yaml --seeds 2 --horizon 30s -o out");
    let before = place.read("out/ranking.json");
    fs::remove_file(place.path("out/ranking.json")).expect("removed");
    let printed = place.json("rank out --json");
    assert_eq!(place.read("out/ranking.json"), before);
    assert_eq!(printed, serde_json::from_slice::<Value>(&before).expect("JSON"));
    assert!(place.refused("rank nowhere").contains("a folder"));
}

#[test]
fn an_unwritable_folder_is_found_out_before_the_work() {
    let place = Place::new(&[("m.yaml", MM1), ("s.yaml", SLOW_B), ("file", "")]);
    let text = place.refused("sweep m.yaml s.yaml -o file/out");
    assert!(text.contains("file/out") && text.contains("written"), "{text}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let place = Place::new(&[("m.yaml", CHAIN)]);
    let mut child = place
        .command("suggest m.yaml --scenarios 200")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn bad_inputs_are_refused_with_place_and_remedy() {
    let place = Place::new(&[("m.yaml", CHAIN), ("s.yaml", SLOW_B), ("prose.txt", "It was a dark and stormy night.\n")]);
    let check = |arguments: &str, expected: expect_test::Expect| expected.assert_eq(&place.refused(arguments));

    check(
        "learn prose.txt",
        expect![[r#"
        error: prose.txt
          found:    text that is not JSON
          expected: traces: OTLP (JSON or protobuf), Jaeger, Tempo or Zipkin JSON, a table of spans, or a graph summary; plain, gzip or zstd
          help:     the collector's file exporter, Jaeger's "Trace JSON" and Zipkin's download button write files that can be read
    "#]],
    );
    fs::create_dir(place.path("empty")).expect("created");
    check(
        "learn empty",
        expect![[r#"
        error: empty
          expected: a folder with trace files in it (this one is empty)
          help:     name a folder or file with OTLP, Jaeger or Zipkin traces, or - for standard input
    "#]],
    );
    check(
        "learn nowhere.json",
        expect![[r#"
        error: nowhere.json
          found:    No such file or directory (os error 2)
          expected: a file that can be read
    "#]],
    );

    place.write("unknown-key.yaml", CHAIN.replace("workers: 4", "wrokers: 4").as_bytes());
    check(
        "simulate unknown-key.yaml",
        expect![[r#"
            error: unknown-key.yaml:9: /services/b/wrokers
              found:    unknown key wrokers
              expected: one of replicas, workers, queue, discipline, mode, balance, cancel_on_disconnect, shed_expired, codel, adaptive_limit, contention, autoscale, warm_up, health_check, cache, operations, observed
              help:     did you mean workers?
        "#]],
    );
    place.write("unknown-service.yaml", SLOW_B.replace("a->b", "a->bb").as_bytes());
    check(
        "simulate m.yaml unknown-service.yaml",
        expect![[r#"
        error: unknown-service.yaml:3: /scenarios/0/faults/0/target
          found:    a->bb
          expected: an edge that the model has
          help:     did you mean a->b?
    "#]],
    );
    place.write("negative.yaml", SLOW_B.replace("8s", "-8s").as_bytes());
    check(
        "simulate m.yaml negative.yaml",
        expect![[r#"
        error: negative.yaml:3: /scenarios/0/faults/0/duration
          found:    -8s
          expected: a duration that is not negative
    "#]],
    );
    check(
        "replay fs1-00000000-00000000-w0-s1-h120s-k",
        expect![[r#"
        error: replay
          expected: an output folder here, with model.yaml, scenarios.yaml and runs.jsonl
          help:     name the folder that run or sweep wrote: --in DIR
    "#]],
    );
    check(
        "replay nonsense",
        expect![[r#"
        error: token: the version
          found:    nonsense
          expected: fs1, the only one this build reads
          help:     copy it whole from ranking.json, outcomes.csv or the report
    "#]],
    );
    check(
        "sweep m.yaml s.yaml --horizon 5s -o out",
        expect![[r#"
        error: --warmup
          expected: a warm-up (10s) that is shorter than the run (5s)
          help:     what comes before the warm-up's end is left out of the statistics
    "#]],
    );
    check(
        "rank m.yaml",
        expect![[r#"
        error: m.yaml
          expected: a folder with runs.jsonl and settings.json of this version
          help:     name a folder that foreshock run or foreshock sweep wrote
    "#]],
    );
}

#[test]
fn bad_records_are_skipped_and_listed_and_strict_stops() {
    let mut lines: Vec<String> = (0..10_000).map(span_line).collect();
    lines[6_999] = lines[6_999][..100].to_owned() + "\n";
    let place = Place::new(&[("broken.jsonl", &lines.concat())]);
    let said = place.json("learn broken.jsonl --json");
    assert_eq!((&said["traces"], &said["skipped"]), (&9_999.into(), &1.into()));
    assert!(said["files"][0]["skipped_records"][0].to_string().contains("7000"), "{}", said["files"][0]["skipped_records"]);
    let text = place.refused("learn broken.jsonl --strict -o m.yaml");
    assert!(text.contains("broken.jsonl") && text.contains("7000"), "{text}");

    let whole = gzip((0..2_000).map(span_line).collect::<String>().as_bytes());
    place.write("truncated.jsonl.gz", &whole[..whole.len() / 2]);
    let said = place.json("learn truncated.jsonl.gz --json");
    assert!(
        said["traces"].as_u64() > Some(100) && said["skipped"].as_u64() > Some(0),
        "what came before the cut is kept: {said}"
    );
    let text = place.refused("learn truncated.jsonl.gz --strict -o m.yaml");
    assert!(text.contains("truncated.jsonl.gz"), "{text}");
}

#[test]
fn the_demo_runs_and_stands_beside_what_happened() {
    let place = Place::new(&[]);
    let summary = place.fine("run -o out --scenarios 20 --seeds 2");
    let ranking: Value = serde_json::from_slice(&place.read("out/ranking.json")).expect("JSON");
    assert_eq!(ranking["scenarios"].as_array().map(Vec::len), Some(20));
    assert!(summary.contains("really happened"), "{summary}");
    let model = String::from_utf8(place.read("out/model.yaml")).expect("UTF-8");
    for service in ["web:", "search:", "cache:", "catalogdb:", "orders:", "seats:", "seatdb:", "payment:", "mailer:", "mailq:"] {
        assert!(model.contains(service), "{service} was not learned");
    }
    assert!(root().join("src/demo/README.md").is_file());
}

#[test]
fn a_simulated_run_leaves_spans_from_which_it_is_learned_foretold_and_inspected() {
    let place = Place::new(&[("m.yaml", CHAIN), ("s.yaml", SLOW_B)]);
    let plain = place.json("simulate m.yaml s.yaml --horizon 60s --json");
    let traced = place.json("simulate m.yaml s.yaml --horizon 60s --json --otlp spans.jsonl");
    assert_eq!(plain["digest"], traced["digest"], "who looks changes nothing");
    let tenth = place.json("simulate m.yaml s.yaml --horizon 60s --json --otlp tenth.jsonl --otlp-share 0.1");
    assert_eq!(plain["digest"], tenth["digest"]);
    let lines = |name: &str| String::from_utf8(place.read(name)).expect("UTF-8").matches("\"traceId\"").count();
    assert!((5..20).contains(&(lines("spans.jsonl") / lines("tenth.jsonl"))), "about a tenth of the traces");
    place.fine("simulate m.yaml s.yaml --horizon 60s --otlp again.jsonl");
    assert!(place.read("spans.jsonl") == place.read("again.jsonl"), "the same run has the same spans, byte for byte");

    place.fine("simulate m.yaml --horizon 60s --otlp calm.jsonl");
    let said = place.json("learn calm.jsonl --backcast --json -o learned.yaml");
    let boundary = &said["backcast"]["boundaries"]["a->b"];
    assert!(boundary["score"].as_f64() > Some(0.75) && boundary["attempts"].as_u64() > Some(800), "{said}");

    let text = place.fine("inspect learned.yaml --svg graph.svg --html page.html");
    for part in ["Hot spots", "Backcast", "a->b", "No single one of these numbers"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let unsure = CHAIN.replace("workers: 4", "workers: { value: 4, source: assumed, range: [1, 16] }");
    place.write("unsure.yaml", unsure.as_bytes());
    let text = place.fine("inspect unsure.yaml --html unsure.html");
    for part in ["The one measurement that would remove most doubt", "services.b.workers (assumed: 4, could be 1 to 16)"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let svg = String::from_utf8(place.read("graph.svg")).expect("UTF-8");
    assert!(svg.starts_with("<svg") && svg.contains("where to worry") && svg.contains("p99"), "{svg}");
    let page = String::from_utf8(place.read("page.html")).expect("UTF-8");
    assert!(
        page.contains("<svg")
            && page.contains("Hot spots")
            && page.contains("Backcast")
            && !page.contains("<script")
            && !page.contains("src="),
        "{page}"
    );
    assert!(String::from_utf8(place.read("unsure.html")).expect("UTF-8").contains("most doubt"));
    assert_eq!(place.json("inspect unsure.yaml --json")["doubts"][0]["what"], "services.b.workers");

    // Retries, in the traces of the run whose calls were slow: with the traces that show them.
    let notes = place.json("learn spans.jsonl --json")["notes"].to_string();
    assert!(notes.contains("a->b: ") && notes.contains("tried again") && notes.contains("(traces "), "{notes}");
    let text = place.refused("simulate m.yaml --otlp-share 0.1");
    assert!(text.contains("--otlp"), "{text}");
}
