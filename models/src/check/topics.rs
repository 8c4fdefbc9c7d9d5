//! Whether a topic can be: deliveries, partitions, keys, and what a full one does.
//!
//! You are here: `models::check::topics`.

use super::numbers::{least, limit};
use super::{Checker, MAX_MESSAGE_KEYS, MAX_PARTITIONS};
use crate::param::Limit;
use crate::system::{Full, Topic};

impl Checker<'_> {
    pub(super) fn topic(&mut self, place: &str, topic: &Topic) {
        self.some(&format!("{place}/concurrency"), &topic.concurrency, "at least 1 delivery at once");
        let partitions = format!("a number of partitions from 1 to {MAX_PARTITIONS}");
        self.param(&format!("{place}/partitions"), &topic.partitions, |n| (1..=MAX_PARTITIONS).contains(n), &partitions);
        let keys = format!("a number of keys from 1 to {MAX_MESSAGE_KEYS}");
        self.param(&format!("{place}/keys/count"), &topic.keys.count, |n| (1..=MAX_MESSAGE_KEYS).contains(n), &keys);
        self.real(&format!("{place}/keys/zipf"), &topic.keys.zipf);
        self.shown_param(&format!("{place}/capacity"), &topic.capacity, |_| true, "a bound", limit);
        if topic.full != Full::Reject && least(&topic.capacity) == Limit::Of(0) {
            let what = if topic.full == Full::Block { "block waits for" } else { "drop_oldest empties" };
            self.add(&format!("{place}/capacity"), "0", format!("at least 1 place, which full: {what}"), "");
        }
        self.any_time(&format!("{place}/redelivery_delay"), &topic.redelivery_delay);
        self.some(&format!("{place}/max_deliveries"), &topic.max_deliveries, "at least 1 delivery");
        if let Some(accept) = &topic.accept {
            self.work(&format!("{place}/accept"), accept);
        }
    }
}
