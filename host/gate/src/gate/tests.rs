//! The gate between a component that says what a test wants and a server behind that does what it should not.

#![allow(clippy::disallowed_methods, reason = "the clock of the runtime stands still, and moves only with its timers")]
#![allow(clippy::type_complexity, reason = "what a fake was asked, as tuples")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use entra_mcp_plugin::gatekeeper::Caller;
use entra_mcp_plugin::token_validator::PrincipalKind;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::sync::{Notify, mpsc};

use super::*;

mod answers;
mod handed_out;
mod judging;
mod requests;
mod streamed;

/// A component that says what it is told, and remembers what it was asked.
struct Keeper {
    grant: Grant,
    admission: Mutex<Option<Result<Admission, Error>>>,
    answered: Mutex<Option<Result<Result<Vec<Header>, Answered>, Error>>>,
    asked: Mutex<Vec<Asked>>,
    heads: Mutex<Vec<AnswerHead>>,
    judged: Mutex<Vec<String>>,
    /// It fails to judge.
    fails: AtomicBool,
    recorded: Notify,
}

impl Keeper {
    fn granting(grant: Grant) -> Arc<Self> {
        Arc::new(Self {
            grant,
            admission: Mutex::default(),
            answered: Mutex::default(),
            asked: Mutex::default(),
            heads: Mutex::default(),
            judged: Mutex::default(),
            fails: AtomicBool::new(false),
            recorded: Notify::new(),
        })
    }

    fn head(&self) -> AnswerHead {
        let heads = self.heads.lock().unwrap();
        assert_eq!(heads.len(), 1, "{heads:?}");
        heads[0].clone()
    }
}

fn trapped() -> Error {
    Error::Trapped { correlation_id: "c0ffee".into() }
}

#[async_trait]
impl Gatekeeper for Keeper {
    async fn admit(&self, request: &Asked) -> Result<Admission, Error> {
        self.asked.lock().unwrap().push(request.clone());
        let planned = self.admission.lock().unwrap().take();
        planned.unwrap_or_else(|| Ok(Admission::Forward(self.grant.clone())))
    }

    async fn answered(&self, handle: &str, head: &AnswerHead) -> Result<Result<Vec<Header>, Answered>, Error> {
        assert_eq!(handle, HANDLE);
        self.heads.lock().unwrap().push(head.clone());
        self.recorded.notify_one();
        self.answered.lock().unwrap().take().unwrap_or_else(|| Ok(Ok(Vec::new())))
    }

    async fn judge_answer(&self, handle: &str, message: &str) -> Result<String, Error> {
        assert_eq!(handle, HANDLE);
        if self.fails.load(Ordering::Relaxed) {
            return Err(trapped());
        }
        self.judged.lock().unwrap().push(message.to_owned());
        Ok(JUDGED.to_owned())
    }
}

const HANDLE: &str = "sealed";
const JUDGED: &str = r#"{"judged":true}"#;
/// An answer with a list.
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"delete"}]}}"#;

fn grant() -> Grant {
    Grant {
        server: "crm".to_owned(),
        caller: caller("alice"),
        handle: HANDLE.to_owned(),
        set_headers: Vec::new(),
        drop_headers: Vec::new(),
        judge_answer: false,
        note_answer: false,
        answer_may_stream: false,
        event_key: Vec::new(),
        report_answer: true,
    }
}

fn caller(object_id: &str) -> Caller {
    Caller {
        tenant_id: "tenant".to_owned(),
        object_id: object_id.to_owned(),
        client_id: "client".to_owned(),
        kind: PrincipalKind::User,
        scopes: Vec::new(),
        roles: Vec::new(),
        correlation_id: "c-1".to_owned(),
    }
}

type Answering = dyn Fn() -> Result<Response<AnswerBody>, BehindError> + Send + Sync;

/// A server behind.
struct Server {
    answer: Box<Answering>,
    seen: Mutex<Vec<Request<Bytes>>>,
    /// It never answers.
    silent: bool,
    has_begun: Notify,
    cancelled: Arc<Notify>,
}

impl Server {
    fn new(answer: impl Fn() -> Result<Response<AnswerBody>, BehindError> + Send + Sync + 'static) -> Arc<Self> {
        let answer: Box<Answering> = Box::new(answer);
        Arc::new(Self {
            answer,
            seen: Mutex::default(),
            silent: false,
            has_begun: Notify::new(),
            cancelled: Arc::default(),
        })
    }

    fn silent() -> Arc<Self> {
        let answer: Box<Answering> = Box::new(|| Err(BehindError::TimedOut));
        Arc::new(Self {
            answer,
            seen: Mutex::default(),
            silent: true,
            has_begun: Notify::new(),
            cancelled: Arc::default(),
        })
    }

    fn seen(&self) -> Request<Bytes> {
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.len(), 1);
        seen[0].clone()
    }
}

/// Notices that a request is given up.
struct Cancelled(Arc<Notify>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl Behind for Server {
    async fn send(&self, request: Request<Bytes>, sender: Sender) -> Result<Response<AnswerBody>, BehindError> {
        assert!(!format!("{sender:?}").contains(HANDLE), "the handle is redacted");
        self.seen.lock().unwrap().push(request);
        self.has_begun.notify_one();
        if self.silent {
            let _cancelled = Cancelled(Arc::clone(&self.cancelled));
            std::future::pending::<()>().await;
        }
        (self.answer)()
    }
}

fn gate_with(keeper: &Arc<Keeper>, server: &Arc<Server>, change: impl FnOnce(&mut GateOptions)) -> Gate {
    let servers = HashMap::from([("crm".to_owned(), Arc::clone(server) as Arc<dyn Behind>)]);
    let mut options = GateOptions::new(Arc::new(|| "c-0".to_owned()));
    options.host_fields = vec![HeaderName::from_static("x-client-address")];
    change(&mut options);
    Gate::new(Arc::clone(keeper) as Arc<dyn Gatekeeper>, servers, options)
}

fn gate(keeper: &Arc<Keeper>, server: &Arc<Server>) -> Gate {
    gate_with(keeper, server, |_| {})
}

fn full(text: &str) -> AnswerBody {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

fn frames(frames: Vec<Result<Frame<Bytes>, BehindError>>) -> AnswerBody {
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

fn chunks(chunks: &[&str]) -> AnswerBody {
    frames(chunks.iter().map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk.as_bytes())))).collect())
}

/// A body that a test writes while it is read.
fn written() -> (mpsc::Sender<&'static str>, AnswerBody) {
    let (sender, receiver) = mpsc::channel::<&'static str>(16);
    let frames = stream::unfold(receiver, |mut receiver| async move {
        let text = receiver.recv().await?;
        Some((Ok(Frame::data(Bytes::from_static(text.as_bytes()))), receiver))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

fn response(status: u16, fields: &[(&'static str, &str)], body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in fields {
        response.headers_mut().append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    response
}

fn json(text: &str) -> Response<AnswerBody> {
    response(200, &[("content-type", "application/json")], full(text))
}

fn events(body: AnswerBody) -> Response<AnswerBody> {
    response(200, &[("content-type", "text/event-stream")], body)
}

fn request(method: Method, fields: &[(&'static str, &str)]) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from_static(b"{}"));
    *request.method_mut() = method;
    *request.uri_mut() = "/crm/mcp?access_token=secret".parse().unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("gate.example"));
    for (name, value) in fields {
        request.headers_mut().append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request
}

fn post() -> Request<Bytes> {
    request(Method::POST, &[])
}

async fn ask(gate: &Gate, request: Request<Bytes>) -> Response<Body> {
    match gate.handle(request, || ()).await {
        GateOutcome::Answer(answer) => answer,
        GateOutcome::OwnPath(_) => panic!("the component serves it"),
    }
}

/// The whole body as text, or why it broke off.
async fn text(response: Response<Body>) -> Result<String, BehindError> {
    let bytes = match response.into_body() {
        Body::Whole(bytes, _) => bytes,
        Body::Message(body) | Body::Events(body) => {
            let collected = body.collect().await?;
            assert!(collected.trailers().is_none(), "trailers are dropped");
            collected.to_bytes()
        }
    };
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

fn field<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    let mut values = response.headers().get_all(name).iter();
    let value = values.next().map(|value| value.to_str().unwrap());
    assert!(values.next().is_none(), "{name} occurs several times");
    value
}

/// Refused in plain text that names the correlation id.
async fn refused(response: Response<Body>, status: u16, id: &str) {
    assert_eq!(response.status(), status);
    assert_eq!(field(&response, "content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(field(&response, "cache-control"), Some("no-store"));
    let text = text(response).await.unwrap();
    assert!(text.contains(id) && !text.contains("secret"), "{text}");
}
