//! A price service as a team might write it with axum: it asks a warehouse and remembers what it heard.
//!
//! Its network is a parameter, so that it runs on a real one, and in a rehearsal (`tests/rehearsal.rs`) on a simulated one.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;

/// Who knows prices when this service does not: called with the headers of the request it is for.
pub trait Warehouse: Clone + Send + Sync + 'static {
    /// Whether there is a price now.
    fn has_price(&self, headers: &HeaderMap) -> impl Future<Output = bool> + Send;
}

/// What is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remember {
    /// Every answer: a failure too. That is the bug: once the warehouse has failed for an article, its price is gone for good.
    Everything,
    /// What is worth remembering.
    Prices,
}

struct Shop<W> {
    warehouse: W,
    remember: Remember,
    known: Mutex<BTreeMap<String, bool>>,
}

/// The service.
pub fn prices<W: Warehouse>(warehouse: W, remember: Remember) -> Router {
    let shop = Arc::new(Shop { warehouse, remember, known: Mutex::default() });
    Router::new().route("/{operation}", post(price::<W>)).with_state(shop)
}

async fn price<W: Warehouse>(State(shop): State<Arc<Shop<W>>>, Path(article): Path<String>, headers: HeaderMap) -> StatusCode {
    let status = |known: bool| if known { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
    let known = shop.known.lock().unwrap_or_else(PoisonError::into_inner).get(&article).copied();
    // A price is good for one answer in this example, so that the warehouse goes on being asked.
    if let Some(false) = known {
        return status(false);
    }
    let has_price = shop.warehouse.has_price(&headers).await;
    if has_price || shop.remember == Remember::Everything {
        shop.known.lock().unwrap_or_else(PoisonError::into_inner).insert(article, has_price);
    }
    status(has_price)
}
