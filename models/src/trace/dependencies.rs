//! Dependency links, as Jaeger and Zipkin answer them: `{parent, child, callCount}`, Zipkin's with `errorCount`.
//!
//! You are here: `models::trace::dependencies`. `records` hands over one link at a time.
//! Always true: links of one pair add up; the time that was counted over is in no answer.

use serde::Deserialize;

use super::inbox::{Inbox, Place, Stop};
use super::loose::{Loose, plain};
use super::read::Format;
use super::summary::Volume;

#[derive(Deserialize)]
struct Link<'a> {
    #[serde(borrow)]
    parent: Loose<'a>,
    #[serde(borrow)]
    child: Loose<'a>,
    #[serde(borrow, rename = "callCount")]
    calls: Loose<'a>,
    #[serde(borrow, default, rename = "errorCount")]
    errors: Loose<'a>,
}

/// Reads one link.
pub(crate) fn link(json: &[u8], place: &Place, inbox: &mut Inbox<'_>) -> Result<(), Stop> {
    let link = match serde_json::from_slice::<Link<'_>>(json) {
        Ok(link) => link,
        Err(error) => return inbox.skip(place.plus_lines(error.line()), plain(&error)),
    };
    let (parent, child) = (link.parent.text().trim(), link.child.text().trim());
    let calls = match &link.calls {
        Loose::Nothing => None,
        calls => calls.unsigned(),
    };
    let (Some(calls), Some(errors), false) = (calls, link.errors.unsigned(), parent.is_empty() || child.is_empty()) else {
        return inbox.skip(place.clone(), "a dependency link without the names of both ends and a whole number of calls");
    };
    inbox.recognised(Format::Dependencies);
    let (parent, child) = (inbox.names.get(parent), inbox.names.get(child));
    let call = inbox.summary().call(Some(&parent), &child);
    call.volume = Volume::Count(call.volume.number() + calls as f64);
    if link.errors != Loose::Nothing {
        *call.failed.get_or_insert(0.0) += errors.min(calls) as f64;
    }
    Ok(())
}
