//! Connections: HTTP/1.1 over turmoil's TCP, kept open, a few more than are in use.
//!
//! You are here: `sim::hosted::pool`. `client` takes one for each try. An HTTP/1.1 connection carries one request at a time; one whose answer
//! nobody waits for any more is closed, and the callee sees that.
//! Always true: a caller has connections before the load comes, and opens the next ones before it needs them, so that a try seldom waits for a
//! handshake; where bytes vanish, a handshake is heard of no more than anything else.

use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use turmoil::net::TcpStream;

use super::world::{Origin, TICK_NS, World};

/// The port of a service's first replica, and of a topic; the others' follow.
pub const PORT: u16 = 8_000;
/// Connections that a caller has to each callee before the load comes.
const FIRST: usize = 8;
/// Fewer idle ones than this, and some more are opened.
const FEW: usize = 6;

/// Connections of one caller to one callee.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Vec<Link>,
    opening: usize,
}

/// One connection. When it goes, it is closed.
pub(super) struct Link {
    pub(super) sender: SendRequest<Empty<Bytes>>,
    task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where tries of an edge go: one replica, or a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) origin: Origin,
    pub(super) edge: u32,
    /// The replica among all; of a topic, its index.
    pub(super) target: u32,
}

impl Way {
    fn address(self, world: &World) -> (core::net::IpAddr, u16) {
        let node = world.p().edges[self.edge as usize].to_node;
        let ip = world.addresses.borrow()[node as usize].expect("every callee that can be reached has a host");
        let nth = match world.service_of(node) {
            Some(s) if !world.replaced[s as usize] => self.target - world.p().services[s as usize].replica_base,
            _ => 0,
        };
        (ip, PORT + nth as u16)
    }

    /// Whether whatever is sent there vanishes.
    fn swallows(self, world: &World) -> bool {
        let hole = world.effects.borrow().edges[self.edge as usize].black_hole;
        let node = world.p().edges[self.edge as usize].to_node;
        let silent = match world.service_of(node) {
            Some(_) => world.replicas[self.target as usize].silent.get(),
            None => world.topics[self.target as usize].silent.get(),
        };
        hole.requests() || hole.replies() || silent
    }

    /// Opens a connection; `None` if it was refused, or would never be heard of.
    async fn open(self, world: &Rc<World>) -> Option<Link> {
        if self.swallows(world) {
            return None;
        }
        let stream = TcpStream::connect(self.address(world)).await.ok()?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        let task = world.spawn(self.origin, async move {
            // (How it ended is seen by whoever waits for an answer.)
            let _ = connection.await;
        });
        Some(Link { sender, task })
    }

    /// A connection that is free now, or a new one; `None` if the callee refuses.
    pub(super) async fn take(self, world: &Rc<World>) -> Option<Link> {
        loop {
            let idle = world.pools.borrow_mut().entry(self.key()).or_default().idle.pop();
            let Some(mut link) = idle else { break };
            self.refill(world, FEW);
            if link.sender.ready().await.is_ok() {
                return Some(link);
            }
        }
        let link = self.open(world).await;
        if link.is_none() && self.swallows(world) {
            std::future::pending::<()>().await; // nobody says that it failed
        }
        link
    }

    /// Gives one back that has had its answer.
    pub(super) fn give_back(self, world: &World, link: Link) {
        world.pools.borrow_mut().entry(self.key()).or_default().idle.push(link);
    }

    fn key(self) -> (u32, Origin, u32) {
        (self.edge, self.origin, self.target)
    }

    /// Opens connections until as many are idle, or being opened.
    fn refill(self, world: &Rc<World>, wanted: usize) {
        let missing = {
            let mut pools = world.pools.borrow_mut();
            let pool = pools.entry(self.key()).or_default();
            let missing = wanted.saturating_sub(pool.idle.len() + pool.opening);
            pool.opening += missing;
            missing
        };
        for _ in 0..missing {
            let shared = Rc::clone(world);
            world.spawn(self.origin, async move {
                // A callee that is down, or cut off, is tried again until it is there: its callers find a connection ready.
                let link = loop {
                    match self.open(&shared).await {
                        Some(link) => break link,
                        None => shared.sleep(TICK_NS).await,
                    }
                };
                let mut pools = shared.pools.borrow_mut();
                let pool = pools.entry(self.key()).or_default();
                pool.opening = pool.opening.saturating_sub(1);
                pool.idle.push(link);
            });
        }
    }

    /// Opens the first connections of a caller that has just started.
    fn prime(self, world: &Rc<World>) {
        world.pools.borrow_mut().remove(&self.key());
        self.refill(world, FIRST);
    }
}

/// Opens the first connections of a caller to all that it calls.
pub(super) fn prime(world: &Rc<World>, origin: Origin, node: u32) {
    let p = world.p();
    for (e, edge) in p.edges.iter().enumerate().filter(|(_, edge)| edge.from_node == node) {
        let targets = match world.service_of(edge.to_node) {
            Some(s) => {
                let s = &p.services[s as usize];
                s.replica_base..s.replica_base + s.replicas
            }
            None => {
                let t = edge.to_node - (p.entries.len() + p.services.len()) as u32;
                t..t + 1
            }
        };
        for target in targets {
            Way { origin, edge: e as u32, target }.prime(world);
        }
    }
}
