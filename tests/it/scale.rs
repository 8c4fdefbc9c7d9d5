//! Scale: more spans than are held at once, and what is learned from the kept ones.

use std::io::{self, Read};

use models::learn::{Finding, LearnOptions, Lesson, learn};
use models::system::Step;
use models::trace::{Limits, ReadOptions, Reader, Span, TraceSet};

#[path = "../../benches/traffic/mod.rs"]
pub mod traffic;
use traffic::{Encoding, Traffic};

fn reader(kept_spans: usize) -> Reader {
    Reader::new(ReadOptions { limits: Limits { kept_spans, ..Limits::default() }, ..ReadOptions::default() })
}

fn read(kept_spans: usize, input: impl Read + Send) -> TraceSet {
    let mut reader = reader(kept_spans);
    reader.read("traffic", input).unwrap_or_else(|errors| panic!("{errors}"));
    reader.finish()
}

fn bytes(spans: u64, encoding: Encoding) -> Vec<u8> {
    let mut bytes = Vec::new();
    Traffic::new(spans, encoding).read_to_end(&mut bytes).expect("memory takes all");
    bytes
}

/// Everything that was kept, without the number of the file that it was in.
fn kept(set: &TraceSet) -> Vec<Span> {
    set.traces.iter().flat_map(|trace| &trace.spans).map(|span| Span { input: 0, ..span.clone() }).collect()
}

#[test]
fn what_is_kept_depends_on_the_spans_and_not_on_files_encodings_order_or_threads() {
    let json = bytes(30_000, Encoding::Json);
    let expected = read(4_000, &json[..]);
    let thinning = expected.thinning.clone().expect("thinned");
    let spans = kept(&expected);
    assert!((3_980..=4_000).contains(&spans.len()), "{}", spans.len());
    assert_eq!((thinning.kept, thinning.read), (spans.len() as u64, expected.files[0].spans));

    let protobuf = read(4_000, &bytes(30_000, Encoding::Protobuf)[..]);
    assert_eq!(kept(&protobuf), spans);

    let lines: Vec<&[u8]> = json.split_inclusive(|&byte| byte == b'\n').collect();
    let mut files: [Vec<u8>; 3] = Default::default();
    for (index, line) in lines.iter().enumerate().rev() {
        files[index * 7 % 3].extend_from_slice(line);
    }
    let mut in_files = reader(4_000);
    for file in &files {
        in_files.read("part", &file[..]).unwrap_or_else(|errors| panic!("{errors}"));
    }
    let in_files = in_files.finish();
    assert_eq!(kept(&in_files), spans);
    assert_eq!(in_files.thinning.as_ref(), Some(&thinning));
    assert_eq!(in_files.files.iter().map(|file| file.spans).sum::<u64>(), expected.files[0].spans);

    for threads in [1, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let set = pool.install(|| read(4_000, &json[..]));
        assert_eq!((kept(&set), &set.files, set.thinning.as_ref()), (spans.clone(), &expected.files, Some(&thinning)));
    }
}

#[test]
fn whole_traces_are_kept_and_all_spans_counted() {
    let set = read(10_000, Traffic::new(200_000, Encoding::Json));
    assert!(set.traces.iter().all(|trace| matches!(trace.spans.len(), 8 | 11)), "requests with and without a payment");
    assert_eq!(set.assembly.orphans, 0);
    let thinning = set.thinning.as_ref().expect("thinned");
    let traces: u64 = thinning.roots.values().map(|[_, all]| all).sum();
    assert_eq!(thinning.roots["front"], [set.traces.len() as u64, traces]);
    let weights: f64 = set.traces.iter().map(|trace| thinning.weight(trace)).sum();
    assert!((weights - traces as f64).abs() < 1e-6 * weights, "{weights} of {traces}");
    let estimate = set.files[0].traces as f64;
    assert!((estimate / traces as f64 - 1.0).abs() < 0.1, "{estimate} of {traces}");
}

#[test]
fn below_the_limit_nothing_is_thinned() {
    let exact = read(usize::MAX, Traffic::new(5_000, Encoding::Json));
    let spans = exact.spans() as usize;
    let at_the_limit = read(spans, Traffic::new(5_000, Encoding::Json));
    assert_eq!((kept(&at_the_limit), at_the_limit.thinning), (kept(&exact), None));
    assert!(read(spans - 1, Traffic::new(5_000, Encoding::Json)).thinning.is_some());
}

/// What is compared of two lessons.
struct Told {
    rate: f64,
    /// Share of requests that pay, and of payments that fail.
    pays: f64,
    fails: f64,
    /// p50 of the time of payments, seconds.
    charge: f64,
}

fn told(lesson: &Lesson) -> Told {
    let model = &lesson.model;
    let users = &model.workload["users"];
    let front = &model.services["front"].operations[&users.to.operation];
    let pays = |step: &Step| format!("{step:?}").contains("Charge");
    let edge = lesson.graph.edge("front", "payment").expect("payments").observed.clone();
    Told {
        rate: users.rate.value,
        pays: front.paths.iter().filter(|path| path.steps.iter().any(pays)).map(|path| path.weight.value).sum(),
        fails: edge.errors as f64 / edge.attempts as f64,
        charge: edge.p50_ms,
    }
}

#[test]
fn a_million_spans_in_the_room_of_fifty_thousand_teach_what_all_of_them_teach() {
    let learned = |set: &TraceSet| learn(set, &LearnOptions::default()).unwrap_or_else(|errors| panic!("{errors}"));
    let thinned = read(50_000, Traffic::new(1_000_000, Encoding::Protobuf));
    assert!((49_900..=50_000).contains(&thinned.spans()), "{}", thinned.spans());
    let lesson = learned(&thinned);
    let Some(Finding::Thinned { kept, read: all, cut_traces: 0, share }) = lesson.findings.first() else {
        panic!("{:?}", lesson.findings)
    };
    assert_eq!((*kept, *all), (thinned.spans(), thinned.files[0].spans));
    assert!((0.045..0.055).contains(share), "{share}");
    let note = &lesson.model.learned.as_ref().expect("learned").notes[0];
    assert!(note.contains("of 1000001 spans (5.0 %) were kept to learn from"), "{note}");
    assert!(note.contains("workers are assumed"), "{note}");

    let everything = read(usize::MAX, Traffic::new(1_000_000, Encoding::Protobuf));
    assert_eq!(everything.thinning, None);
    let (few, all) = (told(&lesson), told(&learned(&everything)));
    for (what, few, all, within) in [
        ("rate", few.rate, all.rate, 0.02),
        ("pays", few.pays, all.pays, 0.02),
        ("fails", few.fails, all.fails, 0.15),
        ("charge", few.charge, all.charge, 0.02),
    ] {
        assert!((few / all - 1.0).abs() < within, "{what}: {few} instead of {all}");
    }
    assert!((all.rate / 500.0 - 1.0).abs() < 0.02 && (all.pays - 0.75).abs() < 0.01, "the traffic is as it was made");
}

/// One trace of so many spans, as bare protobuf: a root and its children.
struct Endless {
    left: u64,
    message: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.message.len() {
            if self.left == 0 {
                return Ok(0);
            }
            let mut spans = Vec::new();
            for _ in 0..self.left.min(1_000) {
                let id = self.left;
                self.left -= 1;
                let mut span = vec![0x0a, 16];
                span.extend([7; 16]);
                span.extend([0x12, 8]);
                span.extend((id + 1).to_be_bytes());
                span.extend([0x22, 8]);
                span.extend(u64::from(id > 1).to_be_bytes());
                span.extend([0x30, 2, 0x39]);
                span.extend((1_700_000_000_000_000_000 + id * 1_000).to_le_bytes());
                span.push(0x41);
                span.extend((1_700_000_000_000_000_000 + id * 1_000 + 500).to_le_bytes());
                spans.extend([0x12, span.len() as u8]);
                spans.extend(span);
            }
            // The lengths of ScopeSpans and ResourceSpans, as varints of three bytes.
            let long = |length: usize| [length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8];
            self.message = [&[0x0a], &long(spans.len() + 4)[..], &[0x12], &long(spans.len())[..], &spans].concat();
            self.at = 0;
        }
        let length = buffer.len().min(self.message.len() - self.at);
        buffer[..length].copy_from_slice(&self.message[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[test]
fn a_trace_that_never_ends_keeps_its_beginning() {
    let endless = Endless { left: 1_000_000, message: Vec::new(), at: 0 };
    let limits = Limits { kept_spans: 50_000, trace_spans: 5_000, ..Limits::default() };
    let mut reader = Reader::new(ReadOptions { limits, ..ReadOptions::default() });
    reader.read("endless", endless).unwrap_or_else(|errors| panic!("{errors}"));
    // It takes no room from others.
    reader.read("traffic", Traffic::new(20_000, Encoding::Json)).unwrap_or_else(|errors| panic!("{errors}"));
    let set = reader.finish();
    let long = set.traces.iter().max_by_key(|trace| trace.spans.len()).expect("traces");
    assert_eq!((set.files[0].spans, long.spans.len()), (1_000_000, 5_000));
    assert_eq!(long.spans.iter().map(|span| span.span_id).max(), Some(5_001), "those that begin first");
    assert_eq!(set.spans(), 5_000 + set.files[1].spans);
    let thinning = set.thinning.as_ref().expect("thinned");
    assert_eq!((thinning.share, thinning.cut_traces, thinning.cut_spans), (1.0, 1, 995_000));
    let lesson = learn(&set, &LearnOptions::default()).unwrap_or_else(|errors| panic!("{errors}"));
    let words = lesson.findings[0].to_string();
    assert!(
        words.ends_with("(2.5 %) were kept to learn from; 1 traces were too long to keep, but for the spans that began first"),
        "{words}"
    );
}
