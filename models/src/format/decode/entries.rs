//! Entries, where users come in, read from a document: open loops with their curve and bursts, closed loops.
//!
//! You are here: `models::format::decode::entries`.

use super::Decoder;
use crate::format::cursor::{Cursor, Mistakes, Shape};
use crate::system::{Bursts, ClosedLoop, Entry, RateCurve};
use crate::units::Nanos;

pub const ENTRY: Shape = Shape { name: "entry", keys: &["to", "open", "closed", "site"] };
pub const OPEN: Shape = Shape { name: "open", keys: &["rate", "curve", "bursts"] };
pub const CURVE: Shape = Shape { name: "curve", keys: &["steps", "repeat"] };
pub const BURSTS: Shape = Shape { name: "bursts", keys: &["every", "lasting", "factor"] };
pub const CLOSED: Shape = Shape { name: "closed", keys: &["users", "think"] };

impl Decoder {
    pub(super) fn entry(&mut self, at: &Cursor<'_>, base: Option<Entry>) -> Option<Entry> {
        let fields = at.fields(&ENTRY, &mut self.mistakes)?;
        let to = self.need(&fields, "to", "service.operation", base.as_ref().map(|e| e.to.clone()), Self::operation_name);
        let site = self.site_of(&fields, base.as_ref().map(|entry| entry.site));
        let help = "write open: { rate: 80/s }, or closed: { users: 100, think: { exponential: 1s } }";
        let Some((kind, at)) = self.exactly_one(&fields, &["open", "closed"], base.is_some(), help) else {
            return Some(Entry { to: to?, site, ..base? });
        };
        if kind == "open" {
            let open = self.open(&at, base.filter(|entry| entry.closed.is_none()));
            return Some(Entry { to: to?, site, ..open? });
        }
        let closed = self.closed(&at, base.and_then(|entry| entry.closed));
        Some(Entry::closed(to?, closed?, site))
    }

    /// The open loop at `at`, as an entry that leads to whatever `base` did.
    fn open(&mut self, at: &Cursor<'_>, base: Option<Entry>) -> Option<Entry> {
        let fields = at.fields(&OPEN, &mut self.mistakes)?;
        let rate =
            self.need_param(&fields, "rate", "user requests, such as 80/s", base.as_ref().map(|entry| entry.rate), Cursor::rate);
        let (mut curve, mut bursts) = base.map_or((None, None), |entry| (entry.curve, entry.bursts));
        self.set_or_none(&fields, "curve", &mut curve, Self::curve);
        self.set_or_none(&fields, "bursts", &mut bursts, Self::bursts);
        let nowhere = crate::system::OpRef::new("", "");
        Some(Entry { curve, bursts, ..Entry::open(nowhere, rate?, 0) })
    }

    fn curve(&mut self, at: &Cursor<'_>, base: Option<RateCurve>) -> Option<RateCurve> {
        let fields = at.fields(&CURVE, &mut self.mistakes)?;
        let mut repeat = base.as_ref().and_then(|curve| curve.repeat);
        let steps = self.need(
            &fields,
            "steps",
            "times and factors on the rate, such as { 0s: 1, 60s: 2.5 }",
            base.map(|c| c.steps),
            |d, at| curve_steps(at, &mut d.mistakes),
        );
        self.set_or_none(&fields, "repeat", &mut repeat, |d, at, _| at.duration(&mut d.mistakes));
        Some(RateCurve { steps: steps?, repeat })
    }

    fn bursts(&mut self, at: &Cursor<'_>, base: Option<Bursts>) -> Option<Bursts> {
        let fields = at.fields(&BURSTS, &mut self.mistakes)?;
        let base = base.as_ref();
        let every =
            self.need_param(&fields, "every", "from one burst's start to the next", base.map(|b| b.every), Cursor::duration);
        let lasting = self.need_param(&fields, "lasting", "how long a burst lasts", base.map(|b| b.lasting), Cursor::duration);
        let factor = self.need_param(&fields, "factor", "factor on the rate", base.map(|b| b.factor), Cursor::real);
        Some(Bursts { every: every?, lasting: lasting?, factor: factor? })
    }

    fn closed(&mut self, at: &Cursor<'_>, base: Option<ClosedLoop>) -> Option<ClosedLoop> {
        let fields = at.fields(&CLOSED, &mut self.mistakes)?;
        let users = self.need_param(&fields, "users", "number of users", base.as_ref().map(|c| c.users), Cursor::count);
        let think = "time between an answer and the next request, such as { exponential: 1s }";
        let think = self.need(&fields, "think", think, base.map(|c| c.think), Self::work);
        Some(ClosedLoop { users: users?, think: think? })
    }
}

/// `{ 0s: 1, 60s: 2.5 }`: from when on, and the factor on the rate.
fn curve_steps(at: &Cursor<'_>, m: &mut Mistakes) -> Option<Vec<(Nanos, f64)>> {
    let mut steps = Vec::new();
    for (time, at) in at.entries(m)? {
        match (Nanos::parse(time), at.real(m)) {
            (Some(time), Some(factor)) => steps.push((time, factor)),
            (Some(_), None) => {}
            (None, _) => m.add_found(&at, time, "a time with its unit and the factor on the rate from then on: 60s: 2.5", ""),
        }
    }
    Some(steps)
}
