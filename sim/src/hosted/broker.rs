//! A topic as a small broker: it takes messages in, keeps them in order, delivers them, and delivers again what was not acknowledged.
//!
//! You are here: `sim::hosted::broker`. turmoil runs [`software`] on the topic's host; publishes come in over HTTP, deliveries are calls
//! (`client`); `visit` tells when a consumer has applied a message.
//! Always true: a message waits in a partition, or is held by a task, or is in delivery, or is gone.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::rc::Rc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use models::rng::{Key, Purpose};
use models::system::{Cause, Full};
use tokio::sync::{Notify, oneshot, watch};
use turmoil::net::TcpListener;

use super::client::{About, Parent, call};
use super::pool::{self, PORT};
use super::service::reply;
use super::wire::Context;
use super::world::{Origin, World};
use crate::des::{Left, Mark};
use crate::program::{FAR_NS, NONE, TopicP, popular};

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    id: u32,
    pub(super) topic: u32,
    key: Key,
    published: u64,
    version: u64,
    about: u32,
    request: u32,
    pub(super) poisoned: bool,
    /// The message that it is a copy of.
    original: Option<Rc<Message>>,
    deliveries: Cell<u16>,
    /// A consumer has applied it (noted at the original).
    applied: Cell<bool>,
    /// It lies in its place, and is not to be delivered yet.
    held: Cell<bool>,
    presence: u64,
    open: Cell<bool>,
}

#[derive(Default)]
struct Partition {
    ready: VecDeque<Rc<Message>>,
    /// Where order is promised: one of its messages is in delivery, or is to be delivered again.
    busy: bool,
}

#[derive(Default)]
struct Books {
    partitions: Vec<Partition>,
    next: usize,
    /// Messages ready or held.
    waiting: u32,
    in_delivery: u32,
    versions: u64,
    /// The newest version applied, by what it is about.
    applied: Vec<u64>,
    /// Publishers that wait for a place.
    blocked: VecDeque<(Context, oneshot::Sender<()>)>,
    ids: u32,
}

/// A topic.
pub(super) struct Topic {
    books: RefCell<Books>,
    /// All messages of the run: a consumer may apply one long after the broker has done with it.
    pub(super) messages: RefCell<BTreeMap<u32, Rc<Message>>>,
    /// There may be something to deliver.
    pub(super) wake: Notify,
    pub(super) up: watch::Sender<bool>,
    pub(super) silent: Cell<bool>,
}

impl Topic {
    pub(super) fn new(topic: &TopicP) -> Topic {
        let books = Books {
            partitions: (0..topic.partitions).map(|_| Partition::default()).collect(),
            applied: if topic.order_sensitive { vec![0; topic.popularity.len()] } else { Vec::new() },
            ..Books::default()
        };
        Topic {
            books: RefCell::new(books),
            messages: RefCell::default(),
            wake: Notify::new(),
            up: watch::Sender::new(true),
            silent: Cell::new(false),
        }
    }

    pub(super) fn backlog(&self) -> u32 {
        let books = self.books.borrow();
        books.waiting + books.blocked.len() as u32
    }

    /// A consumer has done what a message says.
    pub(super) fn applied(&self, world: &World, message: &Rc<Message>) {
        let topic = &world.p().topics[message.topic as usize];
        let first = message.original.as_ref().unwrap_or(message);
        if first.applied.replace(true) && !topic.idempotent {
            world.record(|recorder, _| recorder.duplicate_effect(topic.node));
        }
        if topic.order_sensitive {
            let last = &mut self.books.borrow_mut().applied[message.about as usize];
            if message.version < *last {
                world.record(|recorder, _| recorder.stale_write(topic.node));
            }
            *last = message.version.max(*last);
        }
    }

    /// The broker has died with all that it kept.
    pub(super) fn lose_all(&self, world: &World) {
        let node = |message: &Message| world.p().topics[message.topic as usize].node;
        for message in self.messages.borrow().values().filter(|message| message.open.get()) {
            world.note(Mark::Killed, node(message), message.key, message.published);
            close(world, node(message), message, Left::Killed);
        }
        let mut books = self.books.borrow_mut();
        for partition in &mut books.partitions {
            *partition = Partition::default();
        }
        books.blocked.clear();
        (books.waiting, books.in_delivery) = (0, 0);
    }
}

/// Takes a message out of the books.
fn close(world: &World, node: u32, message: &Message, how: Left) {
    message.open.set(false);
    world.goes(message.presence);
    world.record(|recorder, now| recorder.message_left(node, now, message.published, how));
}

/// What runs on a topic's host, from its start or restart on.
pub(super) async fn software(world: Rc<World>, t: u32) -> turmoil::Result {
    let topic = &world.topics[t as usize];
    let mut up = topic.up.subscribe();
    up.wait_for(|&up| up).await?;
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    pool::prime(&world, Origin::Topic(t), world.p().topics[t as usize].node);
    loop {
        deliver(&world, t);
        let accepted = tokio::select! {
            biased;
            () = topic.wake.notified() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, _) = accepted?;
        let shared = Rc::clone(&world);
        tokio::task::spawn_local(async move {
            let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
                let (world, context) = (Rc::clone(&shared), Context::of(request.headers()));
                async move {
                    let context = context.unwrap_or_else(|| anonymous(&world, t));
                    let answer = publish(&world, t, context).await;
                    reply(&world, &context, answer.map(|()| false)).await as Result<_, Infallible>
                }
            });
            let _ = http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A publish by somebody's own service that passed no context on.
fn anonymous(world: &World, t: u32) -> Context {
    let nth = world.topics[t as usize].books.borrow().versions;
    Context::anonymous(Key(u64::from(t)).child(u32::MAX, nth as u16, (nth >> 16) as u16), NONE)
}

/// A publish, from its arrival to its answer.
async fn publish(world: &Rc<World>, t: u32, context: Context) -> Result<(), Cause> {
    let topic = &world.p().topics[t as usize];
    if world.effects.borrow().topics[t as usize].active {
        world.touch(context.request);
    }
    let waiting = world.topics[t as usize].books.borrow().waiting;
    if waiting >= topic.capacity {
        match topic.full {
            Full::Reject => {
                world.record(|recorder, now| {
                    recorder.message_arrived(topic.node, now);
                    recorder.message_left(topic.node, now, now, Left::Refused);
                });
                return Err(Cause::Overload);
            }
            Full::Block => {
                let (tell, hear) = oneshot::channel();
                world.topics[t as usize].books.borrow_mut().blocked.push_back((context, tell));
                let depth = world.topics[t as usize].backlog();
                world.record(|recorder, _| recorder.queue_depth(topic.node, depth));
                if hear.await.is_err() {
                    std::future::pending::<()>().await; // its broker has died
                }
            }
            Full::DropOldest => {
                drop_oldest(world, t);
                accept(world, t, &context);
            }
        }
    } else {
        accept(world, t, &context);
    }
    if topic.accept != NONE {
        world.sleep(world.p().tables[topic.accept as usize].draw(context.key.draw(Purpose::Work, 0))).await;
    }
    Ok(())
}

/// Takes a publish in.
fn accept(world: &Rc<World>, t: u32, context: &Context) {
    let topic = &world.p().topics[t as usize];
    let state = &world.topics[t as usize];
    let bits = context.line.draw(Purpose::MessageKey, 0);
    let about = popular(&topic.popularity, bits);
    let fate = {
        let effects = world.effects.borrow();
        if effects.topics[t as usize].active { effects.topics[t as usize].fate(context.key) } else { Default::default() }
    };
    let version = {
        let mut books = state.books.borrow_mut();
        books.versions += 1;
        books.versions
    };
    if fate.lost {
        world.record(|recorder, _| recorder.message_lost(topic.node));
        return;
    }
    let arrives = |key, original: Option<Rc<Message>>| {
        let now = world.now();
        world.record(|recorder, now| recorder.message_arrived(topic.node, now));
        let id = {
            let mut books = state.books.borrow_mut();
            books.ids += 1;
            // Ids are unique over topics, so that a consumer of two knows whose message it has.
            (books.ids - 1) * world.topics.len() as u32 + t
        };
        let message = Rc::new(Message {
            id,
            topic: t,
            key,
            published: now,
            version,
            about,
            request: context.request,
            poisoned: fate.poisoned,
            original,
            deliveries: Cell::new(0),
            applied: Cell::new(false),
            held: Cell::new(false),
            presence: world.comes(topic.node, now),
            open: Cell::new(true),
        });
        state.messages.borrow_mut().insert(id, Rc::clone(&message));
        message
    };
    let message = arrives(context.key, None);
    wait(world, &message, fate.hold, false);
    if fate.twice {
        let copy = arrives(context.key.child(u32::MAX, 0, 0), Some(message));
        wait(world, &copy, 0, false);
    }
}

/// The oldest message that waits gives its place to a newer one.
fn drop_oldest(world: &World, t: u32) {
    let mut books = world.topics[t as usize].books.borrow_mut();
    let fronts = books.partitions.iter().enumerate().filter_map(|(i, part)| part.ready.front().map(|m| (m.version, i)));
    let Some((_, oldest)) = fronts.min() else { return };
    let message = books.partitions[oldest].ready.pop_front().expect("it has a front");
    books.waiting -= 1;
    drop(books);
    let node = world.p().topics[t as usize].node;
    world.note(Mark::MessageDead, node, message.key, message.published);
    close(world, node, &message, Left::Shed);
}

fn partition_of(books: &Books, message: &Message) -> usize {
    (message.about % books.partitions.len() as u32) as usize
}

/// A message joins the backlog: ready at once, or after a hold; at the front if it is to be delivered again in its order.
fn wait(world: &Rc<World>, message: &Rc<Message>, hold: u64, front: bool) {
    let topic = &world.p().topics[message.topic as usize];
    let state = &world.topics[message.topic as usize];
    {
        let mut books = state.books.borrow_mut();
        books.waiting += 1;
        let partition = partition_of(&books, message);
        if hold == 0 || topic.per_key && !front {
            let ready = &mut books.partitions[partition].ready;
            if front { ready.push_front(Rc::clone(message)) } else { ready.push_back(Rc::clone(message)) }
        }
    }
    let depth = state.backlog();
    world.record(|recorder, _| recorder.queue_depth(topic.node, depth));
    state.wake.notify_one();
    if hold > 0 {
        message.held.set(true);
        let (world, message) = (Rc::clone(world), Rc::clone(message));
        tokio::task::spawn_local(async move {
            world.sleep(hold).await;
            due(&world, &message);
        });
    }
}

/// A held message is ready.
fn due(world: &World, message: &Rc<Message>) {
    if !message.held.replace(false) || !message.open.get() {
        return;
    }
    let state = &world.topics[message.topic as usize];
    let mut books = state.books.borrow_mut();
    let partition = partition_of(&books, message);
    let partition = &mut books.partitions[partition];
    match (world.p().topics[message.topic as usize].per_key, message.deliveries.get() > 0) {
        (true, true) => {
            // Its partition has been waiting for it.
            partition.busy = false;
            partition.ready.push_front(Rc::clone(message));
        }
        (true, false) => {} // it lies in its place already
        (false, _) => partition.ready.push_back(Rc::clone(message)),
    }
    state.wake.notify_one();
}

/// Delivers ready messages while the consumer group has places.
fn deliver(world: &Rc<World>, t: u32) {
    let topic = &world.p().topics[t as usize];
    let state = &world.topics[t as usize];
    loop {
        let stalled = world.effects.borrow().topics[t as usize].stalled;
        let message = {
            let mut books = state.books.borrow_mut();
            if stalled || books.in_delivery >= topic.concurrency {
                return;
            }
            let n = books.partitions.len();
            let found = (0..n).map(|i| (books.next + i) % n).find(|&i| {
                let partition = &books.partitions[i];
                !partition.busy && partition.ready.front().is_some_and(|message| !message.held.get())
            });
            let Some(found) = found else { return };
            books.next = (found + 1) % n;
            let partition = &mut books.partitions[found];
            partition.busy = topic.per_key;
            let message = partition.ready.pop_front().expect("it was not empty");
            books.waiting -= 1;
            books.in_delivery += 1;
            message
        };
        unblock(world, t);
        let shared = Rc::clone(world);
        tokio::task::spawn_local(async move {
            let parent = Parent {
                origin: Origin::Topic(t),
                key: message.key,
                line: message.key,
                request: message.request,
                deadline: FAR_NS,
                degraded: Rc::default(),
                message: message.id,
            };
            let site = shared.p().topics[t as usize].delivery;
            let ended = call(&shared, &parent, site, message.deliveries.get(), About::NOTHING).await;
            delivered(&shared, &message, ended.answer.is_ok());
        });
    }
}

/// Publishers that waited for a place take those that have become free.
fn unblock(world: &Rc<World>, t: u32) {
    loop {
        let next = {
            let mut books = world.topics[t as usize].books.borrow_mut();
            if books.waiting >= world.p().topics[t as usize].capacity {
                return;
            }
            books.blocked.pop_front()
        };
        let Some((context, tell)) = next else { return };
        if !tell.is_closed() {
            accept(world, t, &context);
            let _ = tell.send(());
        }
    }
}

/// A delivery was acknowledged, or has failed.
fn delivered(world: &Rc<World>, message: &Rc<Message>, acknowledged: bool) {
    let topic = &world.p().topics[message.topic as usize];
    let state = &world.topics[message.topic as usize];
    let deliveries = message.deliveries.get().saturating_add(1);
    message.deliveries.set(deliveries);
    let again = !acknowledged && u32::from(deliveries) < topic.max_deliveries && deliveries < u16::MAX;
    {
        let mut books = state.books.borrow_mut();
        books.in_delivery -= 1;
        if !again || topic.redelivery_delay == 0 {
            let partition = partition_of(&books, message);
            books.partitions[partition].busy = false;
        }
    }
    state.wake.notify_one();
    if again {
        world.record(|recorder, _| recorder.redelivered(topic.node));
        wait(world, message, topic.redelivery_delay, topic.per_key);
        return;
    }
    let (mark, how) = if acknowledged { (Mark::MessageDone, Left::Answered) } else { (Mark::MessageDead, Left::Failed) };
    world.note(mark, topic.node, message.key, message.published);
    if !acknowledged {
        world.record(|recorder, _| recorder.dead_letter(topic.node));
    }
    close(world, topic.node, message, how);
}
