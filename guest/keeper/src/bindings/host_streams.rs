//! Streams of the host.

use wasip2::io::streams as host_streams;

use super::generated::exports::seen::io::streams as wit;

/// Bytes that a stream of the host takes in one call that blocks.
const HOST_CHUNK: usize = 4096;

/// Writes everything to a stream of the host.
pub(super) fn write_all(stream: &host_streams::OutputStream, bytes: &[u8]) -> Result<(), host_streams::StreamError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let permitted = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        let (now, after) = rest.split_at(rest.len().min(if permitted == 0 { HOST_CHUNK } else { permitted }));
        if permitted == 0 {
            stream.blocking_write_and_flush(now)?;
        } else {
            stream.write(now)?;
        }
        rest = after;
    }
    Ok(())
}

pub(super) fn error(error: host_streams::StreamError) -> wit::StreamError {
    match error {
        host_streams::StreamError::Closed => wit::StreamError::Closed,
        host_streams::StreamError::LastOperationFailed(error) => wit::StreamError::LastOperationFailed(error),
    }
}
