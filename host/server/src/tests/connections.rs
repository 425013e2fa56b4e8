//! The table of connections when it is full: which clients get in, and which give way.

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
const KEPT: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// A connection from another address of this machine.
async fn from(server: &Running, last: u8) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    socket.connect(server.address).await.unwrap()
}

/// Asks once on a connection that is kept.
async fn used(mut stream: TcpStream) -> TcpStream {
    stream.write_all(KEPT).await.unwrap();
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
    stream
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(soon(stream.read(&mut [0; 1])).await.expect("it is closed"), Ok(0) | Err(_))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_new_client_gets_in_when_two_addresses_hold_all_connections_and_the_longest_idle_gives_way() {
    let server = Running::limited(Limits { connections: 4, ..Limits::default() }).await;
    let mut held = Vec::new();
    for last in [2, 3, 2, 3] {
        held.push(used(from(&server, last).await).await);
        pass(Duration::from_secs(1)).await;
    }
    let mut newcomer = from(&server, 4).await;
    newcomer.write_all(GET).await.unwrap();
    assert_eq!(Reply::read(&mut newcomer).await.status(), 200);
    assert!(is_closed(&mut held[0]).await);
    // The others are as they were.
    for kept in held.drain(1..) {
        used(kept).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_that_is_in_use_does_not_give_way() {
    let server = Running::limited(Limits { connections: 4, ..Limits::default() }).await;
    let mut busy = Vec::new();
    for last in [2, 2, 3] {
        let mut stream = from(&server, last).await;
        stream.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        server.component.has_begun().await;
        busy.push(stream);
    }
    let mut idle = used(from(&server, 3).await).await;
    let mut newcomer = from(&server, 4).await;
    newcomer.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    server.component.has_begun().await;
    assert!(is_closed(&mut idle).await);
    // Now all are in use.
    let mut refused = from(&server, 5).await;
    assert_eq!(Reply::read(&mut refused).await.status(), 503);
    server.component.go_on.notify_waiters();
    for mut stream in busy {
        assert_eq!(Reply::read(&mut stream).await.status(), 200);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_flood_of_idle_connections_from_four_addresses_refuses_no_new_client() {
    let server = Running::limited(Limits { connections: 64, ..Limits::default() }).await;
    let mut held = Vec::new();
    for number in 0..400_u16 {
        held.push(from(&server, 2 + u8::try_from(number % 4).unwrap()).await);
        if number % 10 == 9 {
            let mut good = from(&server, 9).await;
            good.write_all(GET).await.unwrap();
            assert_eq!(Reply::read(&mut good).await.status(), 200, "after {number}");
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_that_has_not_sent_a_whole_header_gives_way_too() {
    let server = Running::limited(Limits { connections: 2, header_time: PATIENCE, ..Limits::default() }).await;
    let mut silent = from(&server, 2).await;
    let mut slow = from(&server, 3).await;
    slow.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    let mut newcomer = from(&server, 4).await;
    newcomer.write_all(GET).await.unwrap();
    assert_eq!(Reply::read(&mut newcomer).await.status(), 200);
    let mut one_more = from(&server, 5).await;
    let mut another = from(&server, 6).await;
    assert!(is_closed(&mut silent).await && is_closed(&mut slow).await);
    for stream in [&mut one_more, &mut another] {
        stream.write_all(GET).await.unwrap();
        assert_eq!(Reply::read(stream).await.status(), 200);
    }
}
