//! A service as a process: listeners, connections, requests.
//!
//! You are here: `sim::hosted::service`. turmoil starts [`software`] on the service's host; `visit` has what becomes of a request.
//! Always true: a replica whose process is down does not listen, so that who connects is refused; work goes on when its caller has gone, unless
//! the service cancels on disconnect, for then the request's future is dropped with its connection.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use models::rng::Key;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use turmoil::net::{TcpListener, TcpStream};

use super::pool::{self, PORT};
use super::visit;
use super::wire::{Answer, Context, respond};
use super::world::{Origin, World};
use crate::program::{NONE, TargetP};

type Reply = Response<http_body_util::Empty<bytes::Bytes>>;

/// What runs on a service's host, from its start or restart on.
pub(super) async fn software(world: Rc<World>, service: u32) -> turmoil::Result {
    let s = &world.p().services[service as usize];
    let replicas: Vec<_> = (s.replica_base..s.replica_base + s.most_replicas)
        .map(|r| {
            let world = Rc::clone(&world);
            tokio::task::spawn_local(async move { keep_running(&world, r).await })
        })
        .collect();
    for replica in replicas {
        replica.await??;
    }
    Ok(())
}

/// Runs a replica's process whenever it is to be up.
async fn keep_running(world: &Rc<World>, r: u32) -> turmoil::Result {
    let replica = &world.replicas[r as usize];
    let s = &world.p().services[replica.service as usize];
    let mut up = replica.up.subscribe();
    loop {
        up.wait_for(|&up| up).await?;
        let listener = TcpListener::bind(("0.0.0.0", PORT + (r - s.replica_base) as u16)).await?;
        *replica.tasks.borrow_mut() = JoinSet::new();
        pool::prime(world, Origin::Replica(r), replica.node);
        loop {
            let accepted = tokio::select! {
                biased;
                _ = up.wait_for(|&up| !up) => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, _) = accepted?;
            let shared = Rc::clone(world);
            world.spawn(Origin::Replica(r), async move { connection(shared, r, stream).await });
        }
        // The process dies, with all that it does.
        drop(listener);
        replica.tasks.borrow_mut().abort_all();
    }
}

/// Serves what comes over one connection, until its caller closes it.
async fn connection(world: Rc<World>, r: u32, stream: TcpStream) {
    let service = service_fn(|request| respond_to(Rc::clone(&world), r, request));
    let served = http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(stream), service);
    // (A caller that has gone is an error of the connection, and of nobody else.)
    let _ = served.await;
}

async fn respond_to(world: Rc<World>, r: u32, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let Some((op, context)) = who_asks_what(&world, r, &request) else {
        let mut unknown = respond(Err(models::system::Cause::Error));
        *unknown.status_mut() = StatusCode::NOT_FOUND;
        return Ok(unknown);
    };
    drop(request);
    let s = &world.p().services[world.replicas[r as usize].service as usize];
    let left = Rc::new(Cell::new(false));
    let served = visit::serve(Rc::clone(&world), r, op, context, Rc::clone(&left));
    let answer = if s.cancel {
        served.await
    } else {
        let (tell, hear) = oneshot::channel();
        world.spawn(Origin::Replica(r), async move {
            let _ = tell.send(served.await);
        });
        let gone = Gone(Some(left));
        let Ok(answer) = hear.await else { return std::future::pending().await };
        gone.stays();
        answer
    };
    reply(&world, &context, answer).await
}

/// Sends an answer back, past the faults that are on the way of replies.
pub(super) async fn reply(world: &World, context: &Context, answer: Answer) -> Result<Reply, Infallible> {
    if context.site != NONE {
        let edge = world.p().sites[context.site as usize].edge;
        let delay = {
            let effects = world.effects.borrow();
            let effect = &effects.edges[edge as usize];
            if effect.active { effect.reply(context.key).delay } else { 0 }
        };
        world.sleep(delay).await;
    }
    Ok(respond(answer))
}

/// Which operation is wanted, and for whom.
fn who_asks_what<B>(world: &World, r: u32, request: &Request<B>) -> Option<(u32, Context)> {
    let p = world.p();
    let service = world.replicas[r as usize].service;
    let sites_of = |op: u32| p.sites.iter().position(|site| site.callee == service && site.target == TargetP::Op(op));
    match Context::of(request.headers()) {
        // From a stand-in: it says by its call site what it wants.
        Some(context)
            if p.sites
                .get(context.site as usize)
                .is_some_and(|site| site.callee == service && matches!(site.target, TargetP::Op(_))) =>
        {
            let TargetP::Op(op) = p.sites[context.site as usize].target else { return None };
            Some((op, context))
        }
        // From somebody's own service: by its path. If the request's context was passed on, its luck is.
        passed_on => {
            let path = request.uri().path();
            let op = world.operation(service, path)?;
            let site = sites_of(op)?;
            let id = p.sites[site].site;
            let parent = passed_on.map_or(Key(u64::from(service)), |context| context.key);
            let mut repeats = world.repeats.borrow_mut();
            let nth = repeats.entry((parent.0, id)).or_insert(0);
            let key = parent.child(id, *nth, 0);
            *nth = nth.wrapping_add(1);
            let mut context = Context::anonymous(key, site as u32);
            if let Some(passed_on) = passed_on {
                context.request = passed_on.request;
            }
            Some((op, context))
        }
    }
}

/// Notices when a caller goes: the future that holds it is dropped with the connection.
struct Gone(Option<Rc<Cell<bool>>>);

impl Gone {
    fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        if let Some(left) = &self.0 {
            left.set(true);
        }
    }
}
