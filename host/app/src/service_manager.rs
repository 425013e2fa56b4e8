//! Tells systemd the state of the server (`sd_notify(3)`), if systemd asks for it.
//!
//! Why this is not the crate `sd-notify`: it takes an abstract socket (`@…`) for a file name, waits while the service
//! manager's queue is full, and reads the process's variable by itself, so that no test could name a socket.

#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
#[cfg(unix)]
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The socket that `NOTIFY_SOCKET` names.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<String>,
}

impl ServiceManager {
    /// Without a socket, no state is sent.
    pub fn new(socket: Option<String>) -> Self {
        Self { socket }
    }

    /// Sends a state such as `READY=1`. A failure is logged; the server goes on.
    pub(crate) fn notify(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = send(socket, state) {
            tracing::warn!(%error, "the service manager cannot be told {state}");
        }
    }
}

#[cfg(unix)]
fn send(socket: &str, state: &str) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    #[cfg(not(target_os = "linux"))]
    let address = SocketAddr::from_pathname(socket)?;
    let ours = UnixDatagram::unbound()?;
    ours.set_nonblocking(true)?;
    ours.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(not(unix))]
fn send(_: &str, _: &str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_sent_to_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        ServiceManager::new(Some(path.to_str().unwrap().to_owned())).notify("READY=1");
        let mut buffer = [0; 64];
        let length = listener.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }

    #[test]
    fn a_manager_that_is_gone_is_not_waited_for() {
        ServiceManager::new(Some("/does/not/exist".to_owned())).notify("READY=1");
        ServiceManager::new(None).notify("READY=1");
    }
}
