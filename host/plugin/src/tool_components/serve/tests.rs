//! Tests of `serve.rs`: how long a call holds its place.

use std::time::Duration;

use http_body_util::BodyExt as _;

use super::*;
use crate::clock::ManualClock;
use crate::tool_components::{ComponentSource, NoTokens, ToolComponentSettings, ToolComponents};

const MAX_TIME: Duration = Duration::from_secs(30);

/// A server with one place.
fn server(clock: ManualClock) -> Arc<Server> {
    let component = ComponentSource::Bytes(super::super::tests::echo().into());
    let settings = ToolComponentSettings {
        max_concurrent: 1,
        max_time: MAX_TIME,
        ..ToolComponentSettings::new("mail", component)
    };
    let tools = ToolComponents::builder(Arc::new(NoTokens)).clock(Arc::new(clock)).load(vec![settings]).unwrap();
    Arc::clone(&tools.servers["mail"])
}

/// A call that answers without an end, as fast as it is read, and tells when it is dropped.
async fn endless(server: &Arc<Server>) -> (Response<ToolBody>, oneshot::Receiver<()>) {
    let admitted = server.admit(None, "alice").unwrap();
    let (sender, head) = oneshot::channel();
    let (ended, is_dropped) = oneshot::channel::<()>();

    let call: CallFuture = Box::pin(async move {
        let _ended = ended;
        sender.send(Ok(Response::new(endless_body()))).unwrap();
        std::future::pending().await
    });
    (answered(server, admitted, call, head).await.unwrap(), is_dropped)
}

fn endless_body() -> HyperOutgoingBody {
    struct Endless;
    impl Body for Endless {
        type Data = Bytes;
        type Error = wasmtime_wasi_http::Error;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
        }
    }
    Endless.boxed_unsync()
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_neither_the_instance_nor_the_place_past_the_time_limit() {
    let clock = ManualClock::new(0);
    let server = server(clock.clone());
    let (answer, is_dropped) = endless(&server).await;
    assert!(matches!(server.admit(None, "bob"), Err(ServeError::Unavailable(_))));
    clock.next_wait().await;
    clock.advance(MAX_TIME);
    // Nothing reads the body.
    assert!(is_dropped.await.is_err());
    let mut body = answer.into_body();
    let mut parts = 0;
    let error = loop {
        match body.frame().await.unwrap() {
            Ok(_) => parts += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ServeError::TimedOut), "{error:?}");
    assert_eq!(parts, MAX_UNREAD_PARTS);
    assert!(body.frame().await.is_none());
    server.admit(None, "bob").unwrap();
}

#[tokio::test]
async fn a_body_that_is_dropped_ends_its_call() {
    let server = server(ManualClock::new(0));
    let (answer, is_dropped) = endless(&server).await;
    drop(answer);
    assert!(is_dropped.await.is_err());
}

#[tokio::test]
async fn an_answer_that_is_longer_than_its_bound_breaks_off() {
    let server = server(ManualClock::new(0));
    let (answer, _) = endless(&server).await;
    let error = answer.into_body().collect().await.unwrap_err();
    assert!(matches!(error, ServeError::TooLarge(1_048_576)), "{error:?}");
}
