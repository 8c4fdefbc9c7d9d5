//! Topics, read from a document.
//!
//! You are here: `models::format::decode::topics`.

use super::{Decoder, words};
use crate::format::cursor::{Cursor, Shape};
use crate::system::{MessageKeys, Topic};

pub const TOPIC: Shape = Shape {
    name: "topic",
    keys: &[
        "consumer",
        "site",
        "concurrency",
        "partitions",
        "keys",
        "order",
        "capacity",
        "full",
        "order_sensitive",
        "idempotent",
        "redelivery_delay",
        "max_deliveries",
        "accept",
        "observed",
    ],
};
pub const KEYS: Shape = Shape { name: "keys", keys: &["count", "zipf"] };

impl Decoder {
    pub(super) fn topic(&mut self, at: &Cursor<'_>, base: Option<Topic>) -> Option<Topic> {
        let fields = at.fields(&TOPIC, &mut self.mistakes)?;
        let old = base.as_ref();
        let consumer = self.need(&fields, "consumer", "service.operation", old.map(|t| t.consumer.clone()), Self::operation_name);
        let concurrency =
            self.need_param(&fields, "concurrency", "deliveries at once", old.map(|t| t.concurrency), Cursor::count);
        let site = self.site_of(&fields, old.map(|topic| topic.site));
        let (consumer, concurrency) = (consumer?, concurrency?);
        let mut topic = match base {
            Some(base) => Topic { consumer, concurrency, site, ..base },
            None => Topic::to(consumer, concurrency, site),
        };
        self.set_param(&fields, "partitions", &mut topic.partitions, Cursor::count);
        if let Some(at) = fields.get("keys") {
            self.keys(&at, &mut topic.keys);
        }
        self.set(&fields, "order", &mut topic.order, |at, m| at.word(words::ORDER, m));
        self.set_param(&fields, "capacity", &mut topic.capacity, |at, m| at.limit("unbounded", m));
        self.set(&fields, "full", &mut topic.full, |at, m| at.word(words::FULL, m));
        self.set(&fields, "order_sensitive", &mut topic.order_sensitive, Cursor::boolean);
        self.set(&fields, "idempotent", &mut topic.idempotent, Cursor::boolean);
        self.set_param(&fields, "redelivery_delay", &mut topic.redelivery_delay, Cursor::duration);
        self.set_param(&fields, "max_deliveries", &mut topic.max_deliveries, Cursor::count);
        self.set_or_none(&fields, "accept", &mut topic.accept, |d, at, _| d.work(at));
        self.set_or_none(&fields, "observed", &mut topic.observed, Self::observed);
        Some(topic)
    }

    fn keys(&mut self, at: &Cursor<'_>, keys: &mut MessageKeys) {
        let Some(fields) = at.fields(&KEYS, &mut self.mistakes) else { return };
        self.set_param(&fields, "count", &mut keys.count, Cursor::count);
        self.set_param(&fields, "zipf", &mut keys.zipf, Cursor::real);
    }
}
