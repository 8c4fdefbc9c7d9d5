//! What a request carries, and what an answer says, in HTTP.
//!
//! You are here: `sim::hosted::wire`. `client` writes requests and reads answers, `service` and `broker` the other way round.
//! Always true: whoever passes [`CONTEXT`] on keeps the luck of the request; a request without it is served all the same.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use models::rng::Key;
use models::system::Cause;

use crate::program::{FAR_NS, NONE};

/// The header that names a request: who it is for, and with what luck.
pub const CONTEXT: &str = "foreshock-context";
/// The header of an answer that came out of a cache.
const CACHE: &str = "foreshock-cache";

/// What a stand-in knows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// Names this attempt.
    pub(crate) key: Key,
    /// Names the request whatever the attempt.
    pub(crate) line: Key,
    /// The user request that it belongs to; `NONE`: of none that is known.
    pub(crate) request: u32,
    /// The call site.
    pub(crate) site: u32,
    /// What a cache is asked for, or given; `NONE`: it is not about a cache.
    pub(crate) cache_key: u32,
    /// A cache is given something rather than asked.
    pub(crate) fills: bool,
    /// When nobody wants the answer any more; `FAR_NS`: never.
    pub(crate) deadline: u64,
    /// The message that is delivered.
    pub(crate) message: u32,
}

impl Context {
    pub(crate) fn encode(&self) -> String {
        let Context { key, line, request, site, cache_key, fills, deadline, message } = self;
        format!("{:016x}-{:016x}-{request:x}-{site:x}-{cache_key:x}-{}-{deadline:x}-{message:x}", key.0, line.0, u8::from(*fills))
    }

    /// `None` if a header is not one of ours.
    pub(crate) fn decode(text: &str) -> Option<Context> {
        let mut parts = text.split('-');
        let mut next = || u64::from_str_radix(parts.next()?, 16).ok();
        let (key, line) = (Key(next()?), Key(next()?));
        let (request, site, cache_key) = (next()?, next()?, next()?);
        let (fills, deadline, message) = (next()? != 0, next()?.min(FAR_NS), next()?);
        let short = |long: u64| u32::try_from(long).ok();
        let context = Context {
            key,
            line,
            request: short(request)?,
            site: short(site)?,
            cache_key: short(cache_key)?,
            fills,
            deadline,
            message: short(message)?,
        };
        parts.next().is_none().then_some(context)
    }

    pub(crate) fn of(headers: &HeaderMap) -> Option<Context> {
        Context::decode(headers.get(CONTEXT)?.to_str().ok()?)
    }

    /// A request without a name of its own: of nobody, about no cache.
    pub(crate) fn anonymous(key: Key, site: u32) -> Context {
        Context { key, line: key, request: NONE, site, cache_key: NONE, fills: false, deadline: FAR_NS, message: NONE }
    }

    pub(crate) fn request(&self, host: &str, path: &str) -> Request<Empty<Bytes>> {
        let request = Request::post(path).header("host", host).header(CONTEXT, self.encode());
        request.body(Empty::new()).expect("names of hosts and operations are escaped")
    }
}

/// What a stand-in answers: rightly, having hit a cache or not, or why not.
pub(crate) type Answer = Result<bool, Cause>;

pub(crate) fn respond(answer: Answer) -> Response<Empty<Bytes>> {
    let status = match answer {
        Ok(_) => StatusCode::OK,
        Err(Cause::Overload) => StatusCode::SERVICE_UNAVAILABLE,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    if answer == Ok(true) {
        response.headers_mut().insert(CACHE, hyper::header::HeaderValue::from_static("hit"));
    }
    response
}

/// How a caller understands an answer. A service of somebody's own may say more than stand-ins do: a 429 or 503 is a refusal, whatever else
/// is no success is an error (404 and its like included: a caller cannot use it).
pub(crate) fn understand<B>(response: &Response<B>) -> Answer {
    match response.status() {
        status if status.is_success() => Ok(response.headers().contains_key(CACHE)),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Err(Cause::Overload),
        _ => Err(Cause::Error),
    }
}

/// A name as a path segment or host: what may not stand there is percent-encoded.
pub(crate) fn escape(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_read_as_it_was_written_and_nothing_else_is() {
        let context = Context {
            key: Key(u64::MAX),
            line: Key(7),
            request: NONE,
            site: 3,
            cache_key: 9,
            fills: true,
            deadline: FAR_NS,
            message: 4,
        };
        assert_eq!(Context::decode(&context.encode()), Some(context));
        for bad in ["", "1-2-3", "x-1-1-1-1-1-1-1", "1-1-100000000-1-1-1-1-1", "1-1-1-1-1-1-1-1-1"] {
            assert_eq!(Context::decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_are_escaped_where_they_have_to_be() {
        assert_eq!(escape("GET /cart/{id}"), "GET%20%2Fcart%2F%7Bid%7D");
        let request = Context::anonymous(Key(1), 0).request(&escape("a b"), &format!("/{}", escape("ü?#")));
        assert_eq!(request.uri().path(), "/%C3%BC%3F%23");
    }

    #[test]
    fn an_answer_says_what_was_meant() {
        for answer in [Ok(true), Ok(false), Err(Cause::Error), Err(Cause::Overload)] {
            assert_eq!(understand(&respond(answer)), answer);
        }
    }
}
