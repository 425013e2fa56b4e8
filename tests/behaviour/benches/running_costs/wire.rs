//! Connections from many addresses of this machine: a server gives one address a part of its places only.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Bytes of an answer that are read at a time.
const BUFFER: usize = 4096;

/// Connects from one of so many addresses, by turns. `None`: the server does not accept it.
pub(crate) async fn connect(to: SocketAddr, number: usize, addresses: usize) -> Option<TcpStream> {
    let last = u8::try_from(number % addresses).unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 7, last), 0))).unwrap();
    socket.connect(to).await.ok()
}

/// Sends a request, and reads the whole answer. Returns its status; `None`: there is none.
pub(crate) async fn ask(stream: &mut TcpStream, request: &[u8]) -> Option<u16> {
    stream.write_all(request).await.ok()?;
    let (mut answer, mut buffer) = (Vec::new(), [0; BUFFER]);
    loop {
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        answer.extend_from_slice(&buffer[..read]);
        if let Some(status) = whole(&answer) {
            return Some(status);
        }
    }
}

/// The status of an answer that has come as a whole.
fn whole(answer: &[u8]) -> Option<u16> {
    let start = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..start]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    (answer.len() >= start + length).then(|| head.split(' ').nth(1).unwrap().parse().unwrap())
}
