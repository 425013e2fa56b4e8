//! A server that knows nothing of Entra ID, behind what is tested. It keeps what arrives.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// What it answers every call of a tool with.
pub(crate) const ANSWER: &str = "from behind";

/// A request as it has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Arrived {
    /// The values of a field that say something.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter().map(|value| value.to_str().unwrap());
        values.filter(|value| !value.is_empty()).collect()
    }

    /// The one value of a field.
    pub(crate) fn value(&self, name: &str) -> &str {
        let [value] = self.values(name).try_into().unwrap_or_else(|values| panic!("{name}: {values:?}"));
        value
    }
}

/// A server that answers every path: to `GET` two events, of which it sends the second one when it is told to, and to
/// everything else the result of a tool.
pub(crate) struct Behind {
    address: SocketAddr,
    status: StatusCode,
    arrived: Mutex<Vec<Arrived>>,
    pub(crate) second_event: Notify,
}

impl Behind {
    pub(crate) async fn start() -> Arc<Self> {
        Self::answering(StatusCode::OK).await
    }

    /// With this status.
    pub(crate) async fn answering(status: StatusCode) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let behind = Arc::new(Self { address, status, arrived: Mutex::default(), second_event: Notify::new() });
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&behind));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        behind
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// As its MCP endpoint is configured.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// What has arrived since the last call.
    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived.lock().unwrap())
    }
}

async fn answer(State(behind): State<Arc<Behind>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
    let message: Value = serde_json::from_str(&body).unwrap_or_default();
    let is_get = parts.method == Method::GET;
    let arrived = Arrived { method: parts.method, target: parts.uri.to_string(), headers: parts.headers, body };
    behind.arrived.lock().unwrap().push(arrived);
    let answer = Response::builder().status(behind.status);
    if !is_get {
        let result = json!({ "resultType": "complete", "content": [{ "type": "text", "text": ANSWER }] });
        let message = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string();
        return answer.header("content-type", "application/json").body(Body::from(message)).unwrap();
    }
    let events = stream::unfold(0, move |sent| {
        let behind = Arc::clone(&behind);
        async move {
            let event = match sent {
                0 => "data: first\n\n",
                1 => {
                    behind.second_event.notified().await;
                    "data: second\n\n"
                }
                _ => return None,
            };
            Some((Ok::<_, Infallible>(Bytes::from_static(event.as_bytes())), sent + 1))
        }
    });
    answer.header("content-type", "text/event-stream").body(Body::from_stream(events)).unwrap()
}
