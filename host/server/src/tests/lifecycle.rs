//! How a server ends.

use super::*;

async fn waiting(server: &Running) -> TcpStream {
    let mut stream = server.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.component.has_begun().await;
    stream
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_end_and_new_connections_are_refused() {
    let mut server = Running::new().await;
    let idle = server.connect().await;
    let mut stream = waiting(&server).await;

    server.stop();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.component.go_on.notify_one();

    let reply = Reply::read(&mut stream).await;
    assert_eq!((reply.status(), reply.header("connection")), (200, Some("close")));
    drop(idle);
    server.ended().await;
}

#[tokio::test]
async fn a_request_that_outlasts_the_grace_is_cancelled() {
    let mut server = Running::limited(Limits { request_time: PATIENCE, ..short() }).await;
    let mut stream = waiting(&server).await;
    server.stop();
    let component = Arc::clone(&server.component);
    server.ended().await;
    component.was_cancelled().await;
    assert_eq!(Reply::read(&mut stream).await.text, "");
}

#[tokio::test]
async fn a_second_request_to_end_does_not_wait() {
    let mut server = Running::limited(Limits { grace: PATIENCE * 2, ..Limits::default() }).await;
    let _stream = waiting(&server).await;
    server.stop();
    server.cancel.take().unwrap().send(()).unwrap();
    server.ended().await;
}

#[tokio::test]
async fn event_streams_do_not_hold_up_the_end() {
    let mut server = Running::limited(Limits { grace: PATIENCE * 2, ..Limits::default() }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /sse HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.component.has_begun().await;
    server.stop();
    let component = Arc::clone(&server.component);
    server.ended().await;
    component.was_cancelled().await;
}
