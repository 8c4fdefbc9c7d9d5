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

    let mut together = reader(4_000);
    let parts = files.iter().map(|file| ("part".to_owned(), &file[..])).collect();
    assert!(together.read_together(parts).into_iter().all(|read| read.is_ok()));
    let together = together.finish();
    assert_eq!((together.traces.len(), &together.files), (in_files.traces.len(), &in_files.files));
    assert!(together.traces.iter().zip(&in_files.traces).all(|(a, b)| a.spans == b.spans), "also which file each came from");

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

/// JSON lines of `spans` traces with one span each, whose service and operation `name` gives; made as they are read.
struct Named<N> {
    next: u64,
    spans: u64,
    name: N,
    line: Vec<u8>,
    at: usize,
}

impl<N: Fn(u64) -> (String, String)> Read for Named<N> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.line.len() {
            (self.line, self.at) = (self.lines(), 0);
        }
        let n = buffer.len().min(self.line.len() - self.at);
        buffer[..n].copy_from_slice(&self.line[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

impl<N: Fn(u64) -> (String, String)> Named<N> {
    fn new(spans: u64, name: N) -> Self {
        Named { next: 0, spans, name, line: Vec::new(), at: 0 }
    }

    fn lines(&mut self) -> Vec<u8> {
        let upto = (self.next + 100).min(self.spans);
        let lines = (self.next..upto).map(|i| {
            let (service, operation) = (self.name)(i);
            let start = 1_767_225_600_000_000_000 + i * 100_000;
            format!(
                r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{service}"}}}}]}},"scopeSpans":[{{"spans":[{{"traceId":"{:032x}","spanId":"{:016x}","name":"{operation}","kind":2,"startTimeUnixNano":"{start}","endTimeUnixNano":"{}"}}]}}]}}]}}"#,
                i + 1,
                i + 1,
                start + 5_000_000
            ) + "\n"
        });
        let lines: String = lines.collect();
        self.next = upto;
        lines.into_bytes()
    }
}

/// A short name that no rule takes for an id.
fn letters(mut i: u64) -> String {
    let mut name = String::new();
    while name.is_empty() || i > 0 {
        name.push(char::from(b'a' + (i % 26) as u8));
        i /= 26;
    }
    name
}

#[test]
fn names_without_end_take_the_place_of_spans_and_become_one_in_the_model() {
    const SPANS: u64 = 2_000_000;
    // On one thread, whose allocations alone are counted.
    let on_one_thread = |work: &mut (dyn FnMut() -> (u64, u64) + Send)| {
        rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread").install(work)
    };
    let name = |i: u64| ("jobs".to_owned(), if i.is_multiple_of(10) { "tick".to_owned() } else { format!("run {}", letters(i)) });
    let (mut set, mut lesson) = (TraceSet::default(), None);
    let (reading, learning) = on_one_thread(&mut || {
        let reading = allocation_counter::measure(|| set = read(200_000, Named::new(SPANS, name)));
        let learning = allocation_counter::measure(|| lesson = Some(learn(&set, &LearnOptions::default()).expect("it teaches")));
        (reading.bytes_max >> 20, learning.bytes_max >> 20)
    });
    let lesson = lesson.expect("it was learned");
    let thinning = set.thinning.as_ref().expect("names count");
    assert_eq!(thinning.read, SPANS);
    // Nine names for ten spans, one in eight free: n + 0.9 n - 25,000 = 200,000.
    assert!((115_000..122_000).contains(&thinning.kept), "{}", thinning.kept);
    assert!(reading < 160 && learning < 160, "{reading} and {learning} MB held");
    // What users ask for is one operation with the paths of all.
    let jobs = &lesson.model.services["jobs"].operations;
    let paths: usize = jobs.values().map(|operation| operation.paths.len()).sum();
    assert!((1_000..=1_002).contains(&paths), "{paths} paths of {} operations", jobs.len());
    let rate = lesson.model.workload["users"].rate.value;
    assert!((rate / 10_000.0 - 1.0).abs() < 0.02, "rates count all: {rate}");
    let said = lesson.findings.iter().find(|f| matches!(f, Finding::Crowded { .. })).expect("it is said").to_string();
    assert!(said.contains("operations of jobs (1000 kept)"), "{said}");
}

#[test]
fn what_is_kept_of_many_names_depends_on_the_spans_alone() {
    let name = |i: u64| (format!("job {}", letters(i % 3_000)), format!("run {}", letters(i)));
    let mut all = Vec::new();
    Named::new(60_000, name).read_to_end(&mut all).expect("memory takes all");
    let expected = read(20_000, &all[..]);
    let spans = kept(&expected);
    assert!(spans.len() < 15_000, "{}", spans.len());
    let lines: Vec<&[u8]> = all.split_inclusive(|&byte| byte == b'\n').collect();
    let mut files: [Vec<u8>; 5] = Default::default();
    for (index, line) in lines.iter().enumerate().rev() {
        files[index * 7 % 5].extend_from_slice(line);
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let set = pool.install(|| {
            let mut reader = reader(20_000);
            for file in &files {
                reader.read("part", &file[..]).unwrap_or_else(|errors| panic!("{errors}"));
            }
            reader.finish()
        });
        assert_eq!(kept(&set), spans);
        assert_eq!(
            set.thinning.map(|thinning| (thinning.share, thinning.kept)),
            expected.thinning.as_ref().map(|t| (t.share, t.kept))
        );
    }
    let lesson = learn(&expected, &LearnOptions::default()).expect("it teaches");
    let operations: usize = lesson.model.services.values().map(|service| service.operations.len()).sum();
    assert!(operations <= 23_000, "{operations}");
}

/// Whole documents of Jaeger and Zipkin on one line: their records are read side by side, and counted in order.
#[test]
fn one_document_of_many_records_is_the_same_on_any_number_of_threads() {
    let jaeger = |i: u64| {
        let bad = if i % 500 == 7 { r#","duration":"long""# } else { r#","duration":900"# };
        format!(
            r#"{{"traceID":"{:x}","processes":{{"p":{{"serviceName":"s{}","tags":[]}}}},"spans":[{{"traceID":"{:x}","spanID":"1","operationName":"op {}","startTime":{},"processID":"p","tags":[{{"key":"note","type":"string","value":"{}"}}]{bad}}}]}}"#,
            i + 1,
            i % 40,
            i + 1,
            letters(i % 300),
            1_767_225_600_000_000 + i * 1_000,
            "x".repeat(400)
        )
    };
    let zipkin = |i: u64| {
        let bad = if i % 500 == 7 { r#""long""# } else { "900" };
        format!(
            r#"{{"traceId":"{:032x}","id":"1","kind":"SERVER","name":"op {}","timestamp":{},"duration":{bad},"localEndpoint":{{"serviceName":"s{}"}},"tags":{{"note":"{}"}}}}"#,
            i + 1,
            letters(i % 300),
            1_767_225_600_000_000 + i * 1_000,
            i % 40,
            "x".repeat(400)
        )
    };
    let list = |record: &dyn Fn(u64) -> String| (0..30_000).map(record).collect::<Vec<_>>().join(",");
    for text in [format!(r#"{{"data":[{}]}}"#, list(&jaeger)), format!("[{}]", list(&zipkin))] {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| read(1_000_000, text.as_bytes()))
        };
        let (one, four) = (on(1), on(4));
        let notes = &one.files[0];
        assert_eq!((notes.spans, notes.skipped), (30_000 - 60, 60), "{:?}", notes.format);
        assert_eq!(&one.files, &four.files, "also which records were skipped first");
        assert!(notes.skipped_records[0].place.contains("/7"), "{:?}", notes.skipped_records[0]);
        assert_eq!(kept(&one), kept(&four));
        let model =
            |set: &TraceSet| models::format::write_model(&learn(set, &LearnOptions::default()).expect("it teaches").model);
        assert_eq!(model(&one), model(&four));
    }
}
