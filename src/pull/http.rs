//! One HTTP client for every source: paced, patient for a while, careful with secrets.
//!
//! You are here: `pull::http`. `sources` asks; what comes back is a whole JSON text or a [`Failure`] in four parts.
//! Always true: a secret is sent to the host that the user named and nowhere else, not even by a redirect, and is in no message; no
//! answer grows beyond its limit; no request waits for ever.

use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use crate::exit::Failure;
use crate::show::plain;

/// How hard a server is asked.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Least time between two requests.
    pub pause: Duration,
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest time of one request, its answer included.
    pub whole: Duration,
    /// Tries of one request.
    pub tries: u32,
    /// Wait before the second try; it doubles from try to try.
    pub backoff: Duration,
    /// Longest wait between tries, whatever the server asks for.
    pub longest_wait: Duration,
    /// Largest answer, unpacked.
    pub answer_bytes: u64,
}

impl Default for Manners {
    /// Ten requests a second, 10 s to connect, 60 s in all, five tries with 500 ms, 1 s, 2 s, 4 s between them, answers of 256 MiB.
    fn default() -> Self {
        Manners {
            pause: Duration::from_millis(100),
            connect: Duration::from_secs(10),
            whole: Duration::from_secs(60),
            tries: 5,
            backoff: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            answer_bytes: 256 << 20,
        }
    }
}

/// What a server wants to see before it answers. `Debug` shows no secret.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Value of the `Authorization` header.
    authorization: Option<String>,
    /// Value of the `X-Scope-OrgID` header (Tempo's tenants).
    tenant: Option<String>,
    /// What must be in no message.
    secrets: Vec<String>,
    /// The variables that were looked for, for messages.
    variables: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("authorization", &self.authorization.is_some()).finish_non_exhaustive()
    }
}

impl Credentials {
    /// From the environment: `FORESHOCK_<SOURCE>_TOKEN`, or `..._USER` and `..._PASSWORD`; the same without the source's name; and
    /// `FORESHOCK_TENANT`. `get` looks a variable up.
    pub fn from_environment(source: &str, get: impl Fn(&str) -> Option<String>) -> Self {
        let source = source.to_uppercase();
        let find = |what: &str| {
            let own = get(&format!("FORESHOCK_{source}_{what}"));
            own.or_else(|| get(&format!("FORESHOCK_{what}")))
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let (token, user, password, tenant) = (find("TOKEN"), find("USER"), find("PASSWORD"), find("TENANT"));
        let basic = user.as_ref().map(|user| BASE64_STANDARD.encode(format!("{user}:{}", password.as_deref().unwrap_or(""))));
        let authorization = match (&token, &basic) {
            (Some(token), _) => Some(format!("Bearer {token}")),
            (None, Some(basic)) => Some(format!("Basic {basic}")),
            (None, None) => None,
        };
        let secrets = [token, password, basic].into_iter().flatten().collect();
        let variables = format!("FORESHOCK_{source}_TOKEN, or FORESHOCK_{source}_USER and FORESHOCK_{source}_PASSWORD");
        Credentials { authorization, tenant, secrets, variables }
    }

    /// Whether anything secret is sent.
    pub fn are_given(&self) -> bool {
        self.authorization.is_some()
    }

    /// The text without any secret.
    fn redacted(&self, text: &str) -> String {
        let secrets = self.secrets.iter().filter(|secret| !secret.is_empty());
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// A base address: scheme, host and port, and the path before the API's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    origin: String,
    path: String,
}

impl Base {
    /// Reads `http://host:port/path`.
    pub fn parse(url: &str) -> Result<Base, Failure> {
        let refuse = |expected: &str, help: &str| {
            // What stands before an @ may be a password.
            let shown = url.split_once('@').map_or(url, |(_, rest)| rest);
            Err(Failure::refused(shown, expected, help))
        };
        let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https")) else {
            return refuse("an address that begins with https:// or http://", "such as https://jaeger.example.org");
        };
        let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        if host.contains('@') {
            let help = "put them into FORESHOCK_USER and FORESHOCK_PASSWORD, or a token into FORESHOCK_TOKEN";
            return refuse("an address without a name and password in it", help);
        }
        if host.is_empty() || path.contains(['?', '#']) {
            return refuse("the address of the server, without a query", "such as https://jaeger.example.org");
        }
        Ok(Base { origin: format!("{scheme}://{}", host.to_lowercase()), path: path.trim_end_matches('/').to_owned() })
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether whoever listens on the way can read along: plain HTTP to another machine.
    pub fn is_open(&self) -> bool {
        let host = self.origin.strip_prefix("http://");
        host.is_some_and(|host| !["localhost", "127.", "[::1]"].iter().any(|local| host.starts_with(local)))
    }

    /// The address of a path below this one.
    fn url(&self, path_and_query: &str) -> String {
        format!("{}{}{path_and_query}", self.origin, self.path)
    }
}

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// A whole JSON text.
    Json(Vec<u8>),
    /// 404.
    NotFound,
    /// More than [`Manners::answer_bytes`].
    TooLarge,
}

/// Asks one server.
pub struct Client {
    agent: Agent,
    base: Base,
    credentials: Credentials,
    manners: Manners,
    last: Option<Instant>,
    /// Requests sent.
    pub requests: u64,
}

impl Client {
    /// A client for the server at `base`.
    pub fn new(base: Base, credentials: Credentials, manners: Manners) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // Followed by hand, so that nothing goes to another host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(manners.connect))
            .timeout_global(Some(manners.whole))
            .user_agent(concat!("foreshock/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Client { agent, base, credentials, manners, last: None, requests: 0 }
    }

    /// Gets the JSON at a path below the base, with patience for what may pass.
    pub fn get(&mut self, path_and_query: &str) -> Result<Answer, Failure> {
        let mut url = self.base.url(path_and_query);
        let (mut tries, mut hops) = (1, 0);
        loop {
            self.pace();
            let tried = self.try_once(&url);
            let (trouble, wait) = match tried {
                Tried::Done(answer) => return Ok(answer),
                Tried::Moved(to) => {
                    hops += 1;
                    url = self.redirect(&url, &to, hops)?;
                    continue;
                }
                Tried::Refused(found, help) => return Err(self.failure(&url, &found, "an answer", &help)),
                Tried::Later(trouble, wait) => (trouble, wait),
            };
            if tries >= self.manners.tries {
                let found = format!("{trouble}, in {tries} tries");
                let help = "what was fetched is kept: the same command goes on from here";
                return Err(self.failure(&url, &found, "a whole JSON answer", help));
            }
            let own = self.manners.backoff * 2_u32.saturating_pow(tries - 1);
            thread::sleep(wait.unwrap_or(own).min(self.manners.longest_wait));
            tries += 1;
        }
    }

    /// Keeps requests apart.
    fn pace(&mut self) {
        if let Some(last) = self.last {
            thread::sleep(self.manners.pause.saturating_sub(last.elapsed()));
        }
        self.last = Some(Instant::now());
        self.requests += 1;
    }

    fn try_once(&self, url: &str) -> Tried {
        let mut request = self.agent.get(url).header("Accept", "application/json");
        if let Some(authorization) = &self.credentials.authorization {
            request = request.header("Authorization", authorization);
        }
        if let Some(tenant) = &self.credentials.tenant {
            request = request.header("X-Scope-OrgID", tenant);
        }
        let mut response = match request.call() {
            Ok(response) => response,
            Err(error) => return by_error(&error),
        };
        let status = response.status();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match status.as_u16() {
            200 => {}
            404 => return Tried::Done(Answer::NotFound),
            300..=399 => {
                return match header("location") {
                    Some(to) => Tried::Moved(to),
                    None => Tried::Refused(format!("{status} without an address"), String::new()),
                };
            }
            401 | 403 => {
                let help = if self.credentials.authorization.is_some() {
                    "the token or password in the environment is not accepted".to_owned()
                } else {
                    format!("put credentials into the environment: {}", self.credentials.variables)
                };
                return Tried::Refused(status.to_string(), help);
            }
            408 | 429 | 500 | 502 | 503 | 504 => {
                let wait = header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
                return Tried::Later(status.to_string(), wait);
            }
            _ => {
                let mut said = Vec::new();
                let _ = response.body_mut().as_reader().take(300).read_to_end(&mut said);
                let said = String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ");
                return Tried::Refused(format!("{status} {}", plain(&said)), "is this the address of the API?".to_owned());
            }
        }
        let mut body = Vec::new();
        let limit = self.manners.answer_bytes;
        match response.body_mut().as_reader().take(limit + 1).read_to_end(&mut body) {
            Err(error) if is_timeout(&error) => Tried::Later("no answer in time".to_owned(), None),
            Err(error) => Tried::Later(format!("the answer broke off after {} bytes ({error})", body.len()), None),
            Ok(_) if body.len() as u64 > limit => Tried::Done(Answer::TooLarge),
            Ok(_) => match whole_json(&body) {
                Ok(()) => Tried::Done(Answer::Json(body)),
                Err(Whole::CutOff) => Tried::Later(format!("the answer broke off after {} bytes", body.len()), None),
                Err(Whole::NoJson) => {
                    let what = if body.trim_ascii_start().starts_with(b"<") { "a web page" } else { "something" };
                    Tried::Refused(
                        format!("{what} that is not JSON"),
                        "name the address of the API, without the path of its pages; a sign-in page needs a token".to_owned(),
                    )
                }
            },
        }
    }

    /// The address that a redirect leads to, if it stays with the server that the user named.
    fn redirect(&self, from: &str, to: &str, hops: u32) -> Result<String, Failure> {
        const MOST: u32 = 5;
        let origin = self.base.origin();
        let next = match to {
            _ if to.starts_with("//") => format!("{}:{to}", origin.split(':').next().unwrap_or("https")),
            _ if to.starts_with('/') => format!("{origin}{to}"),
            _ => to.to_owned(),
        };
        let stays = next.strip_prefix(origin).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
        if !stays {
            let host = next.split("://").nth(1).unwrap_or(&next).split(['/', '?']).next().unwrap_or_default();
            let host = host.split_once('@').map_or(host, |(_, host)| host);
            let found = format!("a redirect to another server, {host}");
            let help = "credentials are not sent there; if that server is the right one, name it";
            return Err(self.failure(from, &found, "an answer", help));
        }
        if hops > MOST {
            return Err(self.failure(from, "redirects without end", "an answer", ""));
        }
        Ok(next)
    }

    fn failure(&self, url: &str, found: &str, expected: &str, help: &str) -> Failure {
        let redacted = |text: &str| self.credentials.redacted(text);
        let help = if help.is_empty() { String::new() } else { format!("\n  help:     {}", redacted(help)) };
        Failure::Refused(format!("error: {}\n  found:    {}\n  expected: {expected}{help}", redacted(url), redacted(found)))
    }
}

/// What one try came to.
enum Tried {
    Done(Answer),
    Moved(String),
    /// Another try would end alike: what was found, and what to do.
    Refused(String, String),
    /// Another try may do better, after so long if the server said that.
    Later(String, Option<Duration>),
}

fn by_error(error: &ureq::Error) -> Tried {
    match error {
        ureq::Error::Timeout(_) => Tried::Later("no answer in time".to_owned(), None),
        ureq::Error::HostNotFound => Tried::Refused("no such host".to_owned(), "is the address right?".to_owned()),
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            let help = "the server's certificate must be one that this machine trusts (SSL_CERT_FILE names further ones)";
            Tried::Refused(format!("a connection that is not secure: {error}"), help.to_owned())
        }
        ureq::Error::Io(why) if why.to_string().contains("certificate") => {
            let help = "the server's certificate must be one that this machine trusts (SSL_CERT_FILE names further ones)";
            Tried::Refused(format!("a connection that is not secure: {why}"), help.to_owned())
        }
        other => Tried::Later(other.to_string(), None),
    }
}

/// Whether reading an answer ended because its time was up.
fn is_timeout(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    error.kind() == std::io::ErrorKind::TimedOut || matches!(inner, Some(ureq::Error::Timeout(_)))
}

enum Whole {
    CutOff,
    NoJson,
}

/// Whether a body is JSON to its end: one value, or several, as streamed answers are.
fn whole_json(body: &[u8]) -> Result<(), Whole> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<serde::de::IgnoredAny>();
    let mut any = false;
    for value in &mut values {
        match value {
            Ok(_) => any = true,
            Err(error) if error.is_eof() => return Err(Whole::CutOff),
            Err(_) => return Err(Whole::NoJson),
        }
    }
    if any { Ok(()) } else { Err(Whole::CutOff) }
}

/// A text as part of a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_carry_no_credentials() {
        let base = Base::parse("https://Jaeger.example.org:8443/ui/").unwrap_or_else(|_| panic!("an address"));
        assert_eq!(base.url("/api/services"), "https://jaeger.example.org:8443/ui/api/services");
        let is_open = |url: &str| Base::parse(url).is_ok_and(|base| base.is_open());
        assert!(is_open("http://jaeger:16686") && !is_open("https://jaeger") && !is_open("http://127.0.0.1:16686"));
        for (url, expected) in [
            ("jaeger:16686", "begins with https:// or http://"),
            ("https://joe:s3cret@jaeger/", "without a name and password"),
            ("https:///x", "the address of the server"),
        ] {
            let Err(Failure::Refused(text)) = Base::parse(url) else { panic!("{url} was accepted") };
            assert!(text.contains(expected) && !text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn credentials_are_found_by_source_and_never_shown() {
        let environment = |name: &str| match name {
            "FORESHOCK_TOKEN" => Some("general".to_owned()),
            "FORESHOCK_TEMPO_TOKEN" => Some("s3cret".to_owned()),
            "FORESHOCK_TENANT" => Some("shop".to_owned()),
            _ => None,
        };
        let tempo = Credentials::from_environment("tempo", environment);
        assert_eq!((tempo.authorization.as_deref(), tempo.tenant.as_deref()), (Some("Bearer s3cret"), Some("shop")));
        assert_eq!(Credentials::from_environment("jaeger", environment).authorization.as_deref(), Some("Bearer general"));
        assert!(!format!("{tempo:?}").contains("s3cret"));
        assert_eq!(tempo.redacted("it said s3cret?"), "it said ***?");
        let basic = Credentials::from_environment("zipkin", |name| match name {
            "FORESHOCK_ZIPKIN_USER" => Some("joe".to_owned()),
            "FORESHOCK_ZIPKIN_PASSWORD" => Some("p:w".to_owned()),
            _ => None,
        });
        assert_eq!(basic.authorization.as_deref(), Some("Basic am9lOnA6dw=="));
    }

    #[test]
    fn a_query_is_encoded() {
        assert_eq!(encoded("a b/c&d=é"), "a%20b%2Fc%26d%3D%C3%A9");
    }
}
