//! Live pull against a server that speaks each API: whole, broken, slow and hostile answers. Shapes are written here.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use foreshock::exit::Failure;
use foreshock::pull::http::{Credentials, Manners};
use foreshock::pull::sources::Kind;
use foreshock::pull::{Order, Pulled, pull};

/// What the server says to a request.
enum Reply {
    Json(String),
    Status(u16, &'static str, String),
    /// A promised length, and less than that.
    Truncated(String),
    /// A header, then a byte now and then.
    Hanging,
    /// So many bytes of JSON text.
    Endless(usize),
}

/// One request as it came: path with query, and headers by lower-case name.
#[derive(Clone, Debug)]
struct Request {
    path: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    fn number(&self, key: &str) -> u64 {
        let from = self.path.find(&format!("{key}=")).unwrap_or_else(|| panic!("no {key} in {}", self.path)) + key.len() + 1;
        self.path[from..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
    }
}

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Answers each request by `answer`, which gets the request and how many of the same path came before.
    fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, ended, answer) = (seen.clone(), stop.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let (log, answer) = (log.clone(), answer.clone());
                let Ok(stream) = stream else { continue };
                thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Server { address, seen, stop }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("no panic").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request, usize) -> Reply) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket can be shared"));
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
    }
    let request = Request { path, headers };
    let before = {
        let mut seen = seen.lock().expect("no panic");
        let before = seen.iter().filter(|other| other.path == request.path).count();
        seen.push(request.clone());
        before
    };
    let head = |status: &str, more: &str, length: usize| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n"
        )
    };
    let _ = match answer(&request, before) {
        Reply::Json(json) => stream.write_all((head("200 OK", "", json.len()) + &json).as_bytes()),
        Reply::Status(status, body, more) => {
            stream.write_all((head(&format!("{status} Said"), &more, body.len()) + body).as_bytes())
        }
        Reply::Truncated(json) => {
            let sent = &json[..json.len() / 2];
            stream.write_all((head("200 OK", "", json.len()) + sent).as_bytes())
        }
        Reply::Hanging => {
            let _ = stream.write_all(head("200 OK", "", 1_000_000).as_bytes());
            for _ in 0..100 {
                thread::sleep(Duration::from_millis(100));
                if stream.write_all(b" ").is_err() {
                    break;
                }
            }
            Ok(())
        }
        Reply::Endless(bytes) => {
            let _ = stream.write_all(head("200 OK", "", bytes).as_bytes());
            let chunk = [b' '; 64 * 1024];
            (0..bytes / chunk.len()).try_for_each(|_| stream.write_all(&chunk))
        }
    };
}

/// 2026-01-01T00:00:00Z, on the grid of slices.
const T0: u64 = 1_767_225_600;

fn manners() -> Manners {
    Manners {
        pause: Duration::ZERO,
        connect: Duration::from_secs(2),
        whole: Duration::from_millis(1_500),
        tries: 3,
        backoff: Duration::from_millis(5),
        longest_wait: Duration::from_millis(50),
        answer_bytes: 1 << 20,
    }
}

fn order(kind: Kind, server: &Server, minutes: u64) -> Order {
    Order {
        kind,
        url: server.url(),
        from: T0,
        to: T0 + 60 * minutes,
        now: T0 + 86_400,
        services: Vec::new(),
        namespaces: Vec::new(),
        limit: 10,
    }
}

fn run(order: &Order, folder: &Path) -> Result<Pulled, String> {
    run_as(order, folder, Credentials::default())
}

fn run_as(order: &Order, folder: &Path, credentials: Credentials) -> Result<Pulled, String> {
    pull(order, folder, credentials, manners()).map_err(|failure| match failure {
        Failure::Refused(text) => text,
        other => panic!("{other:?}"),
    })
}

fn token(name: &str) -> Option<String> {
    (name == "FORESHOCK_TOKEN").then(|| "s3cr3t-t0ken".to_owned())
}

/// Traces in all files that were pulled.
fn traces(pulled: &Pulled) -> usize {
    let mut reader = models::trace::Reader::new(models::trace::ReadOptions::default());
    for file in &pulled.files {
        let name = file.display().to_string();
        reader.read(&name, fs::File::open(file).expect("it was written")).unwrap_or_else(|errors| panic!("{errors}"));
    }
    reader.finish().traces.len()
}

fn jaeger_trace(id: u64, start_us: u64) -> String {
    format!(
        r#"{{"traceID":"{id:032x}","spans":[{{"traceID":"{id:032x}","spanID":"{id:016x}","operationName":"op","startTime":{start_us},"duration":500,"processID":"p"}}],"processes":{{"p":{{"serviceName":"web"}}}}}}"#
    )
}

/// A Jaeger with a trace every ten seconds.
fn jaeger(request: &Request) -> Reply {
    if request.path.starts_with("/api/services") {
        return Reply::Json(r#"{"data":["web","cart/ü"],"total":2}"#.to_owned());
    }
    let (from, to, limit) = (request.number("start"), request.number("end"), request.number("limit"));
    let starts = (from.div_ceil(10_000_000)..).map(|n| n * 10_000_000).take_while(|&start| start <= to).take(limit as usize);
    let traces: Vec<String> = starts.map(|start| jaeger_trace(start, start)).collect();
    Reply::Json(format!(r#"{{"data":[{}],"total":0,"errors":null}}"#, traces.join(",")))
}

#[test]
fn jaeger_is_asked_slice_by_slice_and_nothing_twice() {
    let server = Server::start(|request, _| jaeger(request));
    let folder = tempfile::tempdir().expect("a folder");
    let order = order(Kind::Jaeger, &server, 30);
    let first = run(&order, folder.path()).expect("it answers");
    // 30 minutes in slices of 5, of two services; 30 traces a slice, asked for by tens, so in quarters (75 s hold 7 or 8).
    assert_eq!((first.fetched, first.kept, first.files.len()), (12, 0, 12));
    assert_eq!(traces(&first), 180, "whichever service they were asked for");
    assert!(server.seen().iter().any(|request| request.path.contains("service=cart%2F%C3%BC")), "names are encoded");
    let asked = server.seen().len();
    let second = run(&order, folder.path()).expect("it answers");
    assert_eq!((second.fetched, second.kept), (0, 12));
    assert_eq!(second.files, first.files);
    assert_eq!(server.seen().len(), asked + 1, "only the services were asked for again");

    // Ten minutes later: what is over is kept, what has come is fetched, and the slice that is still open is fetched anew.
    let later = Order { from: T0 + 600, to: T0 + 2_430, now: T0 + 2_500, ..order };
    let third = run(&later, folder.path()).expect("it answers");
    assert_eq!((third.fetched, third.kept), (6, 8));
    let again = run(&later, folder.path()).expect("it answers");
    assert_eq!((again.fetched, again.kept), (2, 12), "an open slice is never taken for whole");
}

#[test]
fn version_3_of_jaeger_is_asked_where_there_is_no_other() {
    let server = Server::start(|request, _| {
        let path = request.path.as_str();
        match path {
            "/api/v3/services" => Reply::Json(r#"{"services":["web"]}"#.to_owned()),
            _ if path.starts_with("/api/v3/traces?query.service_name=web&query.start_time_min=2026-01-01T00%3A00%3A00Z") => Reply::Json(
                r#"{"result":{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"web"}}]},"scopeSpans":[{"spans":[
                {"traceId":"00000000000000000000000000000007","spanId":"0000000000000007","name":"x","kind":2,"startTimeUnixNano":"1767225600000000000","endTimeUnixNano":"1767225600005000000"}]}]}]}}"#
                    .to_owned(),
            ),
            _ => Reply::Status(404, "{}", String::new()),
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let pulled = run(&order(Kind::Jaeger, &server, 2), folder.path()).expect("it answers");
    assert_eq!((traces(&pulled), pulled.traces, pulled.fetched), (1, 1, 2));
}

#[test]
fn tempo_is_searched_and_each_trace_fetched() {
    let server = Server::start(|request, _| {
        if request.path.starts_with("/api/search") {
            let from = request.number("start");
            let ids: Vec<String> =
                (1..=3).map(|n| format!(r#"{{"traceID":"{:x}","rootServiceName":"web"}}"#, from * 10 + n)).collect();
            return Reply::Json(format!(r#"{{"traces":[{}],"metrics":{{}}}}"#, ids.join(",")));
        }
        // One trace is known to the older path alone, one has gone.
        let id = request.path.rsplit('/').next().unwrap_or_default();
        let n = u64::from_str_radix(id, 16).unwrap_or(0) % 10;
        let (v2, span) = (request.path.contains("/v2/"), id.repeat(32));
        let (trace, span) = (&span[..32], &span[..16]);
        let spans = format!(
            r#"[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"web"}}}}]}},"scopeSpans":[{{"spans":[{{"traceId":"{trace}","spanId":"{span}","name":"x","kind":"SPAN_KIND_SERVER","startTimeUnixNano":"1767225600000000000","endTimeUnixNano":"1767225600005000000"}}]}}]}}]"#
        );
        match (n, v2) {
            (1, true) => Reply::Json(format!(r#"{{"trace":{{"resourceSpans":{spans}}},"metrics":{{}}}}"#)),
            (2, false) => Reply::Json(format!(r#"{{"batches":{spans}}}"#)),
            _ => Reply::Status(404, "", String::new()),
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let pulled = run(&order(Kind::Tempo, &server, 2), folder.path()).expect("it answers");
    assert_eq!((pulled.fetched, pulled.traces, traces(&pulled)), (2, 4, 4));
    assert_eq!(pulled.missing.len(), 2, "{:?}", pulled.missing);
    assert!(pulled.missing[0].contains("found by the search and then not there"));
    let again = run(&order(Kind::Tempo, &server, 2), folder.path()).expect("it answers");
    assert_eq!(again.fetched, 2, "a slice that lacks a trace is asked for again");
}

#[test]
fn zipkin_and_kiali_are_asked_in_their_own_words() {
    let server = Server::start(|request, _| {
        if let Some(rest) = request.path.strip_prefix("/kiali/api/namespaces") {
            return Reply::Json(match rest {
                "" => r#"[{"name":"shop"},{"name":"bank"}]"#.to_owned(),
                _ => {
                    assert!(
                        rest.starts_with("/graph?namespaces=bank,shop&graphType=workload&duration=1800s&queryTime=1767227400"),
                        "{rest}"
                    );
                    r#"{"duration":1800,"graphType":"workload","elements":{"nodes":[{"data":{"id":"a","nodeType":"unknown"}},{"data":{"id":"b","nodeType":"workload","workload":"web"}}],
                        "edges":[{"data":{"source":"a","target":"b","traffic":{"protocol":"http","rates":{"http":"3.0"}}}}]}}"#.to_owned()
                }
            });
        }
        let (end, lookback) = (request.number("endTs"), request.number("lookback"));
        assert_eq!((end + 1) % 60_000, 0, "a slice ends with its last millisecond");
        assert_eq!(lookback, 59_999);
        // Nothing in the second minute.
        if (end + 1) / 1_000 == T0 + 120 {
            return Reply::Json("[]".to_owned());
        }
        let us = (end - lookback) * 1_000;
        Reply::Json(format!(
            r#"[[{{"traceId":"{us:016x}","id":"0000000000000001","kind":"SERVER","timestamp":{us},"duration":9,"localEndpoint":{{"serviceName":"web"}}}}]]"#
        ))
    });
    let folder = tempfile::tempdir().expect("a folder");
    let zipkin = run(&order(Kind::Zipkin, &server, 3), folder.path()).expect("it answers");
    assert_eq!((zipkin.fetched, zipkin.files.len(), traces(&zipkin)), (3, 2, 2), "a minute without traffic is no file to read");
    let kiali = Order { url: format!("{}/kiali", server.url()), ..order(Kind::Kiali, &server, 30) };
    let kiali = run(&kiali, folder.path()).expect("it answers");
    assert_eq!((kiali.fetched, kiali.files.len(), kiali.missing.len()), (1, 1, 0));
}

#[test]
fn what_passes_is_waited_for() {
    let server = Server::start(|request, before| match before {
        0 => Reply::Status(500, "{\"errors\":[\"oops\"]}", String::new()),
        1 => Reply::Status(429, "", "Retry-After: 1\r\n".to_owned()),
        _ => jaeger(request),
    });
    let folder = tempfile::tempdir().expect("a folder");
    let order = Order { services: vec!["web".to_owned()], ..order(Kind::Jaeger, &server, 1) };
    let pulled = run(&order, folder.path()).expect("the third try is fine");
    assert_eq!((pulled.fetched, pulled.requests, traces(&pulled)), (1, 6, 6));

    let truncated = Server::start(|request, before| match (request.path.starts_with("/api/traces"), before, jaeger(request)) {
        (true, 0, Reply::Json(json)) => Reply::Truncated(json),
        (_, _, reply) => reply,
    });
    let order = Order { url: truncated.url(), ..order };
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(run(&order, folder.path()).map(|pulled| pulled.traces), Ok(6), "a cut answer is asked for again");
}

#[test]
fn what_does_not_pass_ends_in_four_parts_and_keeps_what_there_is() {
    let refused = |answer: fn(&Request) -> Reply, credentials: Credentials| {
        // The first minute is fine.
        let server = Server::start(move |request, _| match request.path.contains("start=1767225600000000") {
            false if request.path.starts_with("/api/traces") => answer(request),
            _ => jaeger(request),
        });
        let folder = tempfile::tempdir().expect("a folder");
        let order = Order { services: vec!["web".to_owned()], ..order(Kind::Jaeger, &server, 3) };
        let error = run_as(&order, folder.path(), credentials).expect_err("it fails");
        let files = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(files, 1, "the slice before is kept: {error}");
        assert!(!error.contains("s3cr3t-t0ken"), "{error}");
        let lines: Vec<&str> = error.lines().map(str::trim).collect();
        assert!(lines[0].starts_with("error: http://127.0.0.1:") && lines[0].contains("/api/traces?"), "{error}");
        lines[1..].join("\n")
    };
    let with_token = || Credentials::from_environment("jaeger", token);
    expect_test::expect![[r#"
        found:    401 Unauthorized
        expected: an answer
        help:     put credentials into the environment: FORESHOCK_JAEGER_TOKEN, or FORESHOCK_JAEGER_USER and FORESHOCK_JAEGER_PASSWORD"#]]
    .assert_eq(&refused(|_| Reply::Status(401, "", String::new()), Credentials::from_environment("jaeger", |_| None)));
    expect_test::expect![[r#"
        found:    403 Forbidden
        expected: an answer
        help:     the token or password in the environment is not accepted"#]]
    .assert_eq(&refused(|_| Reply::Status(403, "", String::new()), with_token()));
    // A server that repeats what it was sent.
    expect_test::expect![[r#"
        found:    400 Bad Request bad header Bearer ***
        expected: an answer
        help:     is this the address of the API?"#]]
    .assert_eq(&refused(|_| Reply::Status(400, "bad header\n Bearer s3cr3t-t0ken", String::new()), with_token()));
    expect_test::expect![[r#"
        found:    500 Internal Server Error, in 3 tries
        expected: a whole JSON answer
        help:     what was fetched is kept: the same command goes on from here"#]]
    .assert_eq(&refused(|_| Reply::Status(500, "", String::new()), Credentials::default()));
    expect_test::expect![[r#"
        found:    no answer in time, in 3 tries
        expected: a whole JSON answer
        help:     what was fetched is kept: the same command goes on from here"#]]
    .assert_eq(&refused(|_| Reply::Hanging, Credentials::default()));
    expect_test::expect![[r#"
        found:    a web page that is not JSON
        expected: an answer
        help:     name the address of the API, without the path of its pages; a sign-in page needs a token"#]]
    .assert_eq(&refused(|_| Reply::Json("<html>Sign in</html>".to_owned()), Credentials::default()));
    let cut = refused(|_| Reply::Truncated("{\"data\":[1,2,3,4,5]}".to_owned()), Credentials::default());
    assert!(cut.contains("the answer broke off after"), "{cut}");
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_server() {
    let other = Server::start(|request, _| jaeger(request));
    let elsewhere = other.url();
    let server = Server::start(move |request, _| match request.path.as_str() {
        "/api/services" => Reply::Status(302, "", "Location: /moved/services\r\n".to_owned()),
        "/moved/services" => Reply::Json(r#"{"data":["web"]}"#.to_owned()),
        _ => Reply::Status(307, "", format!("Location: {elsewhere}/api/traces?token=x\r\n")),
    });
    let folder = tempfile::tempdir().expect("a folder");
    let credentials = Credentials::from_environment("jaeger", token);
    let error = run_as(&order(Kind::Jaeger, &server, 1), folder.path(), credentials).expect_err("it is refused");
    assert!(error.contains(&format!("a redirect to another server, {}", other.address)), "{error}");
    assert!(error.contains("credentials are not sent there"), "{error}");
    assert_eq!(other.seen().len(), 0, "the other server hears nothing at all");
    let seen = server.seen();
    assert!(seen.iter().any(|request| request.path == "/moved/services"), "a redirect on the same server is followed");
    assert!(seen.iter().all(|request| request.headers["authorization"] == "Bearer s3cr3t-t0ken"));
}

#[test]
fn an_answer_without_end_is_cut_and_time_cut_finer() {
    // More than a MiB for every slice of more than 15 s; a shorter one is fine.
    let server = Server::start(|request, _| {
        if request.path.starts_with("/api/services") {
            return jaeger(request);
        }
        let length = (request.number("end") - request.number("start")) / 1_000_000;
        if length > 15 { Reply::Endless(64 << 20) } else { jaeger(request) }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let order = Order { services: vec!["web".to_owned()], ..order(Kind::Jaeger, &server, 1) };
    let pulled = run(&order, folder.path()).expect("in parts");
    assert_eq!((pulled.traces, pulled.missing.len()), (6, 0));
}

#[test]
fn a_server_is_never_asked_faster_than_allowed() {
    let server = Server::start(|request, _| jaeger(request));
    let folder = tempfile::tempdir().expect("a folder");
    let order = Order { services: vec!["web".to_owned()], ..order(Kind::Jaeger, &server, 30) };
    let slow = Manners { pause: Duration::from_millis(20), ..manners() };
    let start = Instant::now();
    let pulled = pull(&order, folder.path(), Credentials::default(), slow).expect("it answers");
    let (took, asked) = (start.elapsed(), server.seen().len() as u32);
    assert!(pulled.fetched == 6 && asked > 12, "slices in parts: {asked} requests");
    // (A busy machine only makes it longer.)
    assert!(took >= Duration::from_millis(20) * (asked - 1), "{asked} requests in {took:?}");
}

#[test]
fn nobody_at_home_is_said() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(|request, _| jaeger(request));
    let order = Order { url: format!("http://{free}"), ..order(Kind::Zipkin, &server, 1) };
    let error = run(&order, folder.path()).expect_err("nobody answers");
    assert!(error.contains("in 3 tries"), "{error}");
}

#[test]
fn the_command_line_pulls_learns_and_tells_no_secret() {
    let server = Server::start(|request, _| jaeger(request));
    let folder = tempfile::tempdir().expect("a folder");
    let learn = || {
        let output = Command::new(env!("CARGO_BIN_EXE_foreshock"))
            .current_dir(folder.path())
            .env("FORESHOCK_JAEGER_TOKEN", "s3cr3t-t0ken")
            .args(["learn", "--jaeger", &server.url(), "--since", "2min", "--until", "2026-01-01T00:10:00Z"])
            .args(["--service", "web", "--pull-into", "pulled", "--pull-rate", "1000", "-o", "model.yaml"])
            .output()
            .expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = learn();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("jaeger: 2 slices fetched (12 traces, 3 requests), 0 were there already in pulled"), "{said}");
    assert!(!said.contains("s3cr3t"), "{said}");
    assert!(server.seen().iter().all(|request| request.headers["authorization"] == "Bearer s3cr3t-t0ken"));
    let model = fs::read_to_string(folder.path().join("model.yaml")).expect("a model");
    assert!(model.contains("web:") && !model.contains("s3cr3t"), "{model}");
    for file in fs::read_dir(folder.path().join("pulled")).expect("the folder") {
        let text = fs::read_to_string(file.expect("a file").path()).expect("text");
        assert!(!text.contains("s3cr3t"));
    }
    let (_, said) = learn();
    assert!(said.contains("jaeger: 0 slices fetched (0 traces, 1 requests), 2 were there already"), "{said}");
}
