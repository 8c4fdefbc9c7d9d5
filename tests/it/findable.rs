//! What the policies, resources and promises of a model say about where to look, and that every kind of fault is found.

use std::collections::BTreeSet;

use models::dist::{Dist, Work};
use models::param::Param;
use models::system::{ClosedLoop, EdgeName, Entry, Hedge, Model, OpRef, Order, Step};
use scenarios::analyse;
use scenarios::check::check_all;
use scenarios::format::MAGNITUDES;
use scenarios::scenario::Scenario;

use crate::shop::{boundary, ms, near, one_service, shop, suggest};

#[test]
fn what_a_topic_promises_says_what_is_worth_trying() {
    let why = |set: &[Scenario], id: &str| set.iter().find(|s| s.id == id).unwrap_or_else(|| panic!("{id}")).why.clone();
    let place = |set: &[Scenario], id: &str| set.iter().position(|s| s.id == id).unwrap_or_else(|| panic!("{id}"));
    let careless = suggest(&shop(), 100_000);
    let mut model = shop();
    let topic = model.topics.get_mut("mailq").expect("it is there");
    (topic.order_sensitive, topic.idempotent) = (true, false);
    let careful = suggest(&model, 100_000);
    assert!(why(&careless, "duplicate-mailq-10pct").contains("takes a second one for nothing"));
    assert!(
        why(&careful, "duplicate-mailq-10pct")
            .contains("2.5 more per second; mailer applies each, and a second application is a duplicate effect")
    );
    assert!(why(&careful, "reorder-mailq-5s").contains("an older update applied after a newer one is a stale write"));
    assert!(why(&careful, "partition-replies-mailq-mailer").contains(
        "the broker makes 4 tries, so that a message can be applied as often, and a second time is a duplicate effect"
    ));
    for id in ["duplicate-mailq-10pct", "partition-replies-mailq-mailer", "reorder-mailq-2s"] {
        assert!(place(&careful, id) < place(&careless, id), "{id}");
    }

    let topic = model.topics.get_mut("mailq").expect("it is there");
    (topic.order, topic.partitions) = (Order::PerKey, Param::declared(2));
    let ordered = suggest(&model, 100_000);
    let analysis = analyse(&model);
    let mailq = analysis.node("mailq").expect("mailq");
    // One delivery at a time in each of two partitions, though six might be made.
    assert!(mailq.workers == Some(2.0) && !mailq.may_reorder());
    let poison = why(&ordered, "poison-mailq-5pct");
    // Three waits of 300 ms and four deliveries of 92 ms; 24.5/s x 5 % of that over two partitions.
    assert!(
        poison.contains("each holds up its partition, one of 2, for 1.3 s, so that the partitions stand still 78 % of the time"),
        "{poison}"
    );
}

#[test]
fn a_flush_worries_less_where_a_key_is_asked_for_once_at_a_time() {
    let flush = |model: &Model| {
        let set = suggest(model, 100_000);
        let place = set.iter().position(|s| s.id == "flush-cache-100pct").expect("a cache can be flushed");
        (place, set[place].why.clone())
    };
    let (stampede, why) = flush(&shop());
    assert!(why.contains("if every question missed it would be 68 %; all it holds goes at once; the most popular of 3000 keys is asked for 8.7 times per second"), "{why}");
    let mut model = shop();
    let steps = &mut model.services["search"].operations["op"].paths[0].steps;
    let Step::Lookup(lookup) = &mut steps[1] else { panic!("search looks up") };
    lookup.single_flight = true;
    let (single, why) = flush(&model);
    assert!(why.contains("each replica of the caller asks for a key only once at a time"), "{why}");
    assert!(stampede < single, "{stampede} {single}");
}

#[test]
fn closed_loops_wait_for_their_answers_and_are_never_surged() {
    let mut model = one_service();
    let think = Work::declared(Dist::Exponential(ms(90)));
    let to = OpRef::new("s", "op");
    model.workload["users"] = Entry::closed(to, ClosedLoop { users: Param::declared(5), think }, 0);
    // Five users, 90 ms of thought and 10 ms of work: the response time law without waiting.
    near(analyse(&model).node("s").expect("s").per_s, 50.0, "requests per second");
    let set = suggest(&model, 100_000);
    check_all(&set, &model).expect("what is proposed makes sense for the model");
    let kinds: BTreeSet<&str> = set.iter().flat_map(|s| &s.faults).map(|f| f.kind.name()).collect();
    assert!(kinds.contains("reload") && !kinds.contains("surge"), "{kinds:?}");

    // Beside an open loop, the surge is the open one's.
    model.workload.insert("robots".into(), Entry::open(OpRef::new("s", "op"), Param::declared(1.0), 7));
    let set = suggest(&model, 100_000);
    check_all(&set, &model).expect("what is proposed makes sense for the model");
    let surged: BTreeSet<String> =
        set.iter().flat_map(|s| &s.faults).filter(|f| f.kind.name() == "surge").map(|f| f.target.to_string()).collect();
    assert_eq!(surged, ["robots".to_owned()].into());
}

#[test]
fn hedges_and_deadlines_bound_a_call() {
    let mut model = shop();
    let edge = &mut model.edges[&EdgeName::new("seats", "seatdb")];
    (edge.retry, edge.hedge) = (None, Some(Hedge { after: ms(50).into(), attempts: 2.into() }));
    let seatdb = boundary(&analyse(&model), "seats", "seatdb").clone();
    assert_eq!((seatdb.tries, seatdb.longest_call), (2, Some(ms(270))));
    model.edges[&EdgeName::new("seats", "seatdb")].deadline = Some(ms(200).into());
    model.edges[&EdgeName::new("orders", "payment")].deadline = Some(ms(900).into());
    let analysis = analyse(&model);
    assert_eq!(boundary(&analysis, "seats", "seatdb").longest_call, Some(ms(200)));
    assert_eq!(boundary(&analysis, "orders", "payment").longest_call, Some(ms(900)), "without a timeout");
}

#[test]
fn every_kind_of_fault_is_found_but_one() {
    let set = suggest(&shop(), 100_000);
    let found: BTreeSet<&str> = set.iter().flat_map(|s| &s.faults).map(|f| f.kind.name()).collect();
    let all: BTreeSet<&str> = MAGNITUDES.iter().map(|magnitude| magnitude.shape.name).collect();
    // No model says how large a message is.
    assert_eq!(all.difference(&found).copied().collect::<Vec<_>>(), ["bandwidth"]);
}
