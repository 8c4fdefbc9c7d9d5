//! Names fit to group by: paths and span names without the ids in them.
//!
//! You are here: `models::trace::operation`. `attributes` names each span's operation with these.
//! Always true: what is cut out is replaced by `{id}`, so that two requests of one kind get one name.

/// The path of a URL or of a request target, without query and fragment, ids replaced.
pub(crate) fn path_template(url: &str) -> String {
    let rest = match url.split_once("://") {
        Some((_, after_scheme)) => after_scheme.find('/').map_or("/", |slash| &after_scheme[slash..]),
        None => url,
    };
    let path = rest.split(['?', '#']).next().unwrap_or(rest);
    path.split('/').map(|segment| if is_id(segment) { "{id}" } else { segment }).collect::<Vec<_>>().join("/")
}

/// A span's name with the ids replaced: every id-like path segment, and long ids that stand as words of their own.
pub(crate) fn name_template(name: &str) -> String {
    if !name.bytes().any(|b| b.is_ascii_digit()) {
        return name.trim().to_owned();
    }
    let words = name.trim().split(' ').map(|word| match word {
        _ if word.contains('/') => path_template(word),
        _ if is_long_id(word) => "{id}".to_owned(),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A path segment that names one thing among many: a number, or a long id.
fn is_id(segment: &str) -> bool {
    let all_digits = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit());
    all_digits || is_long_id(segment)
}

/// A word that is an id wherever it stands: a UUID or a part of one, at least 8 hexadecimal digits, 5 decimal digits, a code of at
/// least 8 capitals and digits, or a token of at least 20 letters and digits; each with a decimal digit in it.
fn is_long_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 {
        return false;
    }
    let hex = word.bytes().filter(u8::is_ascii_hexdigit).count();
    let all = |allowed: fn(u8) -> bool| word.bytes().all(allowed);
    digits == word.len() && digits >= 5
        || hex >= 8 && all(|b| b.is_ascii_hexdigit() || b == b'-')
        || word.len() >= 8 && all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        || word.len() >= 20 && digits >= 3 && all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_paths_become_placeholders() {
        for (url, path) in [
            ("http://cache:8080/search", "/search"),
            ("https://shop.example/users/17/orders/8f14e45f-ceea-467f-a0e6-5f2c9d8b1a77?full=1", "/users/{id}/orders/{id}"),
            ("/cart/4e07408562bedb8b60ce05c1decfe3ad#top", "/cart/{id}"),
            ("http://host", "/"),
            ("/verify/2aaa7d4d-faf0-4dea-bdbe-568", "/verify/{id}"),
            ("/api/products/0PUK6V6EV0", "/api/products/{id}"),
            ("/v1/deadbeef/PRODUCTS/s3", "/v1/deadbeef/PRODUCTS/s3"),
            ("/", "/"),
        ] {
            assert_eq!(path_template(url), path, "{url}");
        }
    }

    #[test]
    fn short_numbers_in_sentences_stay() {
        assert_eq!(name_template("phase 2 of 3"), "phase 2 of 3");
        assert_eq!(name_template("GET /user/12"), "GET /user/{id}");
        assert_eq!(name_template("order 1234567 paid"), "order {id} paid");
    }
}
