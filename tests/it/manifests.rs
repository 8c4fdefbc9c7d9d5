//! What manifests mean for a learned model: declared values, contradictions with the traces, and a list of what has no place.

use std::collections::BTreeMap;

use models::format::{read_model, timeouts_never_met, write_model};
use models::manifests::{Known, Manifests, Mapped};
use models::param::{Limit, Source};
use models::system::{Balance, Cause, Edge, EdgeName, Jitter, Model, Trips};
use models::units::Nanos;

const MODEL: &str = "version: 1
workload: { users: { to: web.get, open: { rate: 50/s } } }
services:
  web: { replicas: { value: 4, source: observed }, operations: { get: { paths: [ { weight: 1, steps: [ { work: { constant: 5ms } }, { call: cart.read }, { call: db.query } ] } ] } } }
  cart: { replicas: { value: 3, source: observed }, operations: { read: { paths: [ { weight: 1, steps: [ { work: { constant: 5ms } }, { call: db.query } ] } ] } } }
  db: { operations: { query: { paths: [ { weight: 1, steps: [ { work: { constant: 5ms } } ] } ] } } }
edges:
  web->cart: { observed: { calls: 100, attempts: 120, errors: 20, timeouts: 20, per_parent: 1, p50_ms: 20, p99_ms: 700 } }
";

const MANIFESTS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop, labels: { app: web } }
spec:
  replicas: 4
  selector: { matchLabels: { app: web } }
  strategy: { type: RollingUpdate }
  template:
    metadata: { labels: { app: web } }
    spec:
      containers:
        - name: web
          image: example/web:1
          resources: { limits: { cpu: '2' } }
          readinessProbe: { httpGet: { path: /, port: 80 }, periodSeconds: 5, failureThreshold: 2, successThreshold: 2 }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: cart-v1, namespace: shop }
spec: { replicas: 1, template: { metadata: { labels: { app: cart } } } }
---
# The second version of the same service.
apiVersion: apps/v1
kind: Deployment
metadata: { name: cart-v2, namespace: shop }
spec: { replicas: 1, template: { metadata: { labels: { app: cart } } } }
---
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: db, namespace: shop }
spec: { serviceName: db, template: {} }
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: web, namespace: shop }
spec:
  scaleTargetRef: { kind: Deployment, name: web }
  minReplicas: 2
  maxReplicas: 9
  metrics:
    - { type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 70 } } }
    - { type: Pods, pods: { metric: { name: queue } } }
  behavior: { scaleDown: { stabilizationWindowSeconds: 120 } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: cart, namespace: shop }
spec:
  hosts: [cart]
  http:
    - match: [ { uri: { prefix: /slow } } ]
      route: [ { destination: { host: cart } } ]
      timeout: 9s
    - route: [ { destination: { host: cart.shop.svc.cluster.local, subset: v1 }, weight: 100 } ]
      timeout: 1.5s
      retries: { attempts: 2, perTryTimeout: 500ms, retryOn: 'connect-failure,5xx,retriable-4xx' }
      fault: { delay: { fixedDelay: 1s, percentage: { value: 1 } } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: entry, namespace: shop }
spec: { hosts: ['*'], gateways: [shop-gateway], http: [ { route: [ { destination: { host: web } } ], timeout: 3s } ] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: db, namespace: shop }
spec:
  host: db
  trafficPolicy:
    loadBalancer: { simple: LEAST_REQUEST }
    connectionPool:
      tcp: { maxConnections: 20, connectTimeout: 1s }
      http: { http1MaxPendingRequests: 7, http2MaxRequests: 100, maxRetries: 3 }
    outlierDetection: { consecutive5xxErrors: 4, interval: 10s, baseEjectionTime: 45s }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: mail, namespace: shop }
spec: { host: smtp.example.org, trafficPolicy: { connectionPool: { tcp: { maxConnections: 2 } } } }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: {}
";

fn model() -> Model {
    read_model("model.yaml", MODEL.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The model with everything laid over it, the contradictions, and what has no place.
fn applied(text: &str) -> (Model, Vec<String>, Vec<String>) {
    let manifests = Manifests::read("shop.yaml", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    let mut model = model();
    let Mapped { overlays, unmapped } = manifests.overlays(&model);
    let contradictions = overlays.iter().flat_map(|overlay| overlay.apply(&mut model)).map(|c| c.to_string()).collect();
    models::check::check(&model).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(read_model("again.yaml", write_model(&model).as_bytes()).expect("readable"), model);
    (model, contradictions, unmapped)
}

#[test]
fn manifests_become_declared_values_of_the_services_and_edges_they_name() {
    let (model, _, _) = applied(MANIFESTS);
    let web = &model.services["web"];
    assert_eq!((web.replicas.value, web.replicas.source), (4, Source::Declared));
    let scale = web.autoscale.as_ref().expect("an autoscaler");
    assert_eq!((scale.min.value, scale.max.value, scale.target.value), (2, 9, 0.7));
    assert_eq!(scale.down_after.value, Nanos::from_secs(120));
    let health = web.health_check.as_ref().expect("a readiness probe");
    assert_eq!((health.down_after.value, health.up_after.value), (Nanos::from_secs(10), Nanos::from_secs(10)));
    assert_eq!(model.services["cart"].replicas.value, 2, "two versions of one service add up");

    let cart: &Edge = &model.edges[&EdgeName::new("web", "cart")];
    assert_eq!(cart.deadline.expect("the route's timeout").value, Nanos::from_millis(1_500));
    assert_eq!(cart.timeout.expect("of one try").value, Nanos::from_millis(500));
    let retry = cart.retry.as_ref().expect("retries");
    assert_eq!((retry.attempts.value, retry.attempts.source), (3, Source::Declared), "two beside the first");
    assert_eq!((retry.backoff.value, retry.jitter), (Nanos::from_millis(25), Jitter::Full));
    assert_eq!(retry.max.expect("Envoy's bound").value, Nanos::from_millis(250));
    assert_eq!(retry.on, [Cause::Connection, Cause::Error, Cause::Overload, Cause::Timeout]);
    for from in ["web", "cart"] {
        let db = model.edges.get(&EdgeName::new(from, "db"));
        assert!(db.is_some_and(|db| db.pool.is_some()), "{from}");
    }
    assert_eq!(model.services["db"].balance, Balance::TwoChoices);
    assert!(!model.edges.contains_key(&EdgeName::new("users", "web")), "a gateway's route is not the users' timeout");
}

#[test]
fn pools_and_outlier_detection_become_pools_and_breakers() {
    let text = MANIFESTS.replace("host: db\n", "host: cart\n");
    let (model, _, _) = applied(&text);
    let edge = &model.edges[&EdgeName::new("web", "cart")];
    let pool = edge.pool.as_ref().expect("a pool");
    assert_eq!((pool.connections.value, pool.waiting.value), (20, Limit::Of(7)));
    assert_eq!(edge.max_in_flight.expect("a bulkhead").value, 100);
    let breaker = edge.breaker.as_ref().expect("a breaker");
    assert!(matches!(&breaker.trips, Trips::Consecutive(n) if n.value == 4), "{breaker:?}");
    assert_eq!(breaker.open.value, Nanos::from_secs(45));
}

#[test]
fn what_has_no_place_is_listed_and_what_contradicts_the_traces_said() {
    let (_, contradictions, unmapped) = applied(MANIFESTS);
    expect_test::expect![[r#"
        shop.yaml: not in the model: Deployment web: strategy
        shop.yaml: not in the model: Deployment web: container web: resources
        shop.yaml: not in the model: HorizontalPodAutoscaler web: a metric of type Pods
        shop.yaml: not in the model: VirtualService cart: route: fault
        shop.yaml: not in the model: VirtualService cart: retryOn retriable-4xx
        shop.yaml: not in the model: VirtualService entry: it holds at the gateways shop-gateway alone, not between services
        shop.yaml: not in the model: DestinationRule db: tcp: connectTimeout
        shop.yaml: not in the model: DestinationRule db: http: maxRetries
        shop.yaml: not in the model: DestinationRule db: outlierDetection: interval
        shop.yaml: not in the model: DestinationRule db: outlierDetection puts out single replicas; in the model the caller's breaker opens for all of them
        shop.yaml: not in the model: kinds that say nothing a model can hold: 1 x Service
        shop.yaml: not in the model: VirtualService cart: routes to cart differ in timeout or retries; an edge has one policy, that of the last route, or of the one without a match
        shop.yaml: not in the model: DestinationRule mail: no service smtp.example.org in the model"#]]
    .assert_eq(&unmapped.join("\n"));
    expect_test::expect![[r#"
        services.cart.replicas: declared 2, but the traces show 3 (observed)"#]]
    .assert_eq(&contradictions.join("\n"));
}

#[test]
fn a_timeout_that_nothing_came_near_is_a_finding() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: cart }\nspec: { hosts: [cart], http: [ { timeout: 2s } ] }\n";
    let (model, _, _) = applied(text);
    let longest = |ms: u64| BTreeMap::from([(EdgeName::new("web", "cart"), Nanos::from_millis(ms))]);
    let said = timeouts_never_met(&model, &longest(800)).expect("it is not near").to_string();
    assert_eq!(said, "edges.web->cart.timeout: declared 2s, but no call ever lasted beyond 800ms");
    assert!(timeouts_never_met(&model, &longest(1_100)).is_none(), "that is near enough");
    // Several are one sentence.
    let two = model.edges[&EdgeName::new("web", "cart")].clone();
    let mut model = model;
    model.edges.insert(EdgeName::new("cart", "db"), two);
    let longest = BTreeMap::from([
        (EdgeName::new("web", "cart"), Nanos::from_millis(800)),
        (EdgeName::new("cart", "db"), Nanos::from_millis_f64(3.2)),
    ]);
    let said = timeouts_never_met(&model, &longest).expect("neither is near").to_string();
    let both = ["web->cart 2s (longest call 800ms)", "cart->db 2s (longest call 4ms)"];
    assert!(
        said.starts_with("declared timeouts that no call ever came near: ") && both.iter().all(|each| said.contains(each)),
        "{said}"
    );
    // And the other way round.
    let (_, contradictions, _) = applied(&text.replace("2s", "300ms"));
    assert!(contradictions.iter().any(|c| c.contains("declared 300ms, but 1 in 100 answers took 700ms")), "{contradictions:?}");
}

#[test]
fn lists_json_and_partial_models_are_told_apart() {
    let list = r#"{"apiVersion":"v1","kind":"List","items":[
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"cart","namespace":"shop"},"spec":{"replicas":5}},
        {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"other"},"spec":{"replicas":1}}]}"#;
    let (model, contradictions, unmapped) = applied(list);
    assert_eq!(model.services["cart"].replicas.value, 5);
    assert_eq!(contradictions.len(), 1);
    assert_eq!(unmapped, ["shop.yaml: not in the model: Deployment other: no service of that name in the model"]);
    assert!(matches!(Known::read("l.json", list.as_bytes()), Ok(Known::Manifests(_))));
    assert!(matches!(Known::read("k.yaml", b"version: 1\nservices: { web: { workers: 3 } }\n"), Ok(Known::Overlay(_))));
    let error = Known::read("x.yaml", b"apiVersion: v1\nkind: Deployment\n---\nversion: 1\n").expect_err("neither").to_string();
    assert!(error.contains("a document without kind or metadata.name"), "{error}");
    let error = Known::read("k.yaml", b"version: 1\nservices: { web: { wokers: 3 } }\n").expect_err("a mistake").to_string();
    assert!(error.contains("did you mean workers?"), "{error}");
}

#[test]
fn an_autoscaler_and_its_replicas_fit_together() {
    let text = "apiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\nmetadata: { name: cart }\nspec: { scaleTargetRef: { name: cart }, minReplicas: 5, maxReplicas: 8, targetCPUUtilizationPercentage: 50 }\n";
    let (model, contradictions, _) = applied(text);
    assert_eq!(model.services["cart"].replicas.value, 5, "three were seen, five is the least");
    assert_eq!(model.services["cart"].autoscale.as_ref().expect("it scales").max.value, 8);
    assert_eq!(contradictions.len(), 1, "{contradictions:?}");
}

#[test]
fn odd_manifests_never_panic() {
    for text in [
        "apiVersion: 1\nkind: Deployment\nmetadata: { name: web }\nspec: []\n",
        "apiVersion: 1\nkind: Deployment\nmetadata: { name: web }\nspec: { replicas: many, template: { spec: { containers: 7 } } }\n",
        "apiVersion: 1\nkind: VirtualService\nmetadata: { name: web }\nspec: { hosts: web, http: [ 1, { timeout: soon, retries: { attempts: x } } ] }\n",
        "apiVersion: 1\nkind: DestinationRule\nmetadata: { name: web }\nspec: { host: cart, trafficPolicy: { outlierDetection: 3, connectionPool: { tcp: [] } } }\n",
        "apiVersion: 1\nkind: HorizontalPodAutoscaler\nmetadata: { name: web }\nspec: { scaleTargetRef: { name: web }, minReplicas: 9, maxReplicas: 1 }\n",
        "apiVersion: 1\nkind: List\nitems: 7\n",
    ] {
        if let Ok(manifests) = Manifests::read("odd.yaml", text.as_bytes()) {
            let mut model = model();
            let mapped = manifests.overlays(&model);
            mapped.overlays.iter().for_each(|overlay| {
                overlay.apply(&mut model);
            });
            models::check::check(&model).unwrap_or_else(|errors| panic!("{text}: {errors}"));
        }
    }
}
