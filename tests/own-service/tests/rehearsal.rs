//! The price service among its neighbours: the bug that one slow minute of the warehouse makes permanent, and its fix.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use axum::http::HeaderMap;
use models::system::Model;
use models::units::Nanos;
use own_service::{Remember, Warehouse, prices};
use scenarios::scenario::Scenario;
use sim::hosted::turmoil::net::{TcpListener, TcpStream};
use sim::hosted::{CONTEXT, Own, Rehearsal};

/// The warehouse as the rehearsal's network reaches it.
#[derive(Clone)]
struct Neighbour(Own);

impl Warehouse for Neighbour {
    async fn has_price(&self, headers: &HeaderMap) -> bool {
        let context = headers.get(CONTEXT).and_then(|value| value.to_str().ok());
        let call = self.0.call("warehouse", "lookup", context);
        matches!(tokio::time::timeout(Duration::from_millis(100), call).await, Ok(Ok(status)) if status.is_success())
    }
}

/// axum serves whatever can accept connections.
struct Accept(TcpListener);

impl axum::serve::Listener for Accept {
    type Io = TcpStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (TcpStream, Self::Addr) {
        loop {
            if let Ok(accepted) = self.0.accept().await {
                return accepted;
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

async fn serve(own: Own, remember: Remember) -> Result<(), Box<dyn Error>> {
    let listener = Accept(own.listen().await?);
    axum::serve(listener, prices(Neighbour(own), remember)).await?;
    Ok(())
}

fn shop() -> Model {
    models::format::read_model("shop.yaml", include_bytes!("shop.yaml")).unwrap_or_else(|errors| panic!("{errors}"))
}

fn slow_warehouse() -> Scenario {
    let text = include_bytes!("slow-warehouse.yaml");
    scenarios::format::read_scenarios("slow-warehouse.yaml", text).unwrap_or_else(|errors| panic!("{errors}")).remove(0)
}

fn rehearsal() -> Rehearsal {
    Rehearsal::new(&shop(), &slow_warehouse()).seed(11).lasting(Nanos::from_secs(40), Nanos::from_secs(5))
}

#[test]
fn a_service_that_remembers_failures_never_recovers() {
    let outcome = rehearsal().replace("prices", |own| serve(own, Remember::Everything)).run().expect("it runs");
    assert!(outcome.record.metastable, "the fault has been over for long: {:?}", outcome.record);
    // What a test that expects more would print.
    let failed =
        catch_unwind(AssertUnwindSafe(|| outcome.recovers_within(Nanos::from_secs(10)))).expect_err("it does not recover");
    let said = failed.downcast_ref::<String>().expect("a message");
    for part in ["recovery within 10s", "seed:     11", &outcome.record.token, "a_service_that_remembers_failures_never_recovers"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn one_that_remembers_prices_alone_recovers_at_once() {
    let outcome = rehearsal().replace("prices", |own| serve(own, Remember::Prices)).run().expect("it runs");
    assert!(outcome.record.failed > 100, "the fault was felt: {:?}", outcome.record);
    outcome.recovers_within(Nanos::from_secs(2));
    outcome.error_rate_at("customers", 0.5);
    outcome.no_stale_writes();
    // The stand-in behind it was really called, on behalf of the users' requests.
    assert!(outcome.result.services["warehouse"].requests > 500, "{:?}", outcome.result.services["warehouse"]);
}

#[test]
fn a_service_that_panics_is_named() {
    let failed = rehearsal().replace("prices", |_| async { panic!("no configuration") }).run().expect_err("it panics");
    assert!(failed.to_string().contains("panicked"), "{failed}");
}

#[test]
fn a_service_that_ends_is_named() {
    let failed = rehearsal().replace("prices", |_| async { Ok(()) }).run().expect_err("it ends");
    assert!(failed.to_string().contains("`prices` ended"), "{failed}");
}

#[test]
fn a_service_that_never_answers_costs_its_callers_their_timeouts() {
    let silent = |own: Own| async move {
        let listener = own.listen().await?;
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await?);
        }
    };
    let outcome = rehearsal().replace("prices", silent).run().expect("it runs");
    let calls = &outcome.result.boundaries["web->prices"];
    assert!(calls.requests > 0 && calls.errors == calls.requests && calls.failed_attempts.timeout > 0, "{calls:?}");
}

#[test]
fn a_service_that_uses_the_wall_clock_is_found_out() {
    let by_the_clock = |own: Own| async move {
        let listener = own.listen().await?;
        loop {
            let (stream, _) = listener.accept().await?;
            #[expect(clippy::disallowed_methods, reason = "that is the mistake")]
            let odd = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.subsec_nanos() / 128 % 2 == 1;
            if odd {
                drop(stream);
            } else {
                std::mem::forget(stream);
            }
        }
    };
    let failed = rehearsal().replace("prices", by_the_clock).run().expect_err("two runs of it differ");
    assert!(failed.to_string().contains("two results"), "{failed}");
}

#[test]
fn what_cannot_be_rehearsed_is_refused_with_the_reason() {
    let serves = |own| serve(own, Remember::Prices);
    let unknown = rehearsal().replace("price", serves).run().expect_err("no such service").to_string();
    assert!(unknown.contains("did you mean `prices`?"), "{unknown}");
    let mut scenario = slow_warehouse();
    scenario.faults[0].target = scenarios::fault::Target::Node("prices".to_owned());
    let struck = Rehearsal::new(&shop(), &scenario).replace("prices", serves).run().expect_err("it cannot be slowed").to_string();
    assert!(struck.contains("only a stand-in can suffer `slow`"), "{struck}");
}
