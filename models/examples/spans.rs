//! Learns a model from spans made on the fly, and says how fast that was and how much memory it took:
//! `cargo run --release -p foreshock-models --example spans -- 20000000 json`.
//!
//! The second word is `json`, `protobuf`, or `value`: a plain reader that makes a `serde_json::Value` of every line, to compare with.

use std::io::{BufRead, BufReader, Read};
use std::time::Instant;

use models::learn::{LearnOptions, learn};
use models::trace::{ReadOptions, Reader};

#[path = "../../benches/traffic/mod.rs"]
mod traffic;
use traffic::{Encoding, Traffic};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let spans: u64 = words.first().map_or(Ok(1_000_000), |word| word.parse()).expect("a number of spans");
    let encoding = if words.get(1).is_some_and(|word| word == "protobuf") { Encoding::Protobuf } else { Encoding::Json };
    let begin = Instant::now();
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 20];
    let mut alone = Traffic::new(spans.min(1_000_000), encoding);
    while let Ok(got @ 1..) = alone.read(&mut buffer) {
        bytes += got as u64;
    }
    let making = begin.elapsed().as_secs_f64() / spans.min(1_000_000) as f64;
    println!("{} bytes a span; making alone takes {:.0} ns a span", bytes / spans.min(1_000_000), making * 1e9);

    let begin = Instant::now();
    let traffic = Traffic::new(spans, encoding);
    if words.get(1).is_some_and(|word| word == "value") {
        let mut count = 0;
        for line in BufReader::with_capacity(1 << 20, traffic).split(b'\n') {
            let line: serde_json::Value = serde_json::from_slice(&line.expect("memory")).expect("JSON");
            for scope in line["resourceSpans"].as_array().into_iter().flatten().map(|resource| &resource["scopeSpans"][0]) {
                count += scope["spans"].as_array().map_or(0, Vec::len);
            }
        }
        report("read as serde_json::Value", count as u64, begin);
    } else {
        let mut reader = Reader::new(ReadOptions::default());
        reader.read("traffic", traffic).unwrap_or_else(|errors| panic!("{errors}"));
        report("read", spans, begin);
        let set = reader.finish();
        report("assembled", spans, begin);
        println!("{} spans kept of {}", set.spans(), set.files[0].spans);
        let lesson = learn(&set, &LearnOptions::default()).unwrap_or_else(|errors| panic!("{errors}"));
        report("learned", spans, begin);
        for finding in lesson.findings.iter().take(2) {
            println!("  {finding}");
        }
    }
}

/// Time since `begin`, of the clock and of all processors together, and the most memory that was ever resident.
fn report(what: &str, spans: u64, begin: Instant) {
    let seconds = begin.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: unknown");
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15: ticks, a hundred a second, in user mode and in the kernel, since the process began.
    let ticks = stat.split_whitespace().skip(13).take(2).map(|ticks| ticks.parse::<f64>().unwrap_or(f64::NAN)).sum::<f64>();
    println!(
        "{what}: {seconds:.2} s, {:.0} spans/s; {:.0} spans a second of processor time, {}",
        spans as f64 / seconds,
        spans as f64 * 100.0 / ticks,
        peak.split_whitespace().collect::<Vec<_>>().join(" ")
    );
}
