//! The component's part of a call, where it is of WASI 0.3 (`wasi:http/handler`).
//!
//! Its tasks run beside each other, but all of them belong to one request of one caller: the instance gets no other.

use std::pin::Pin;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::{Error, WasiHttpView as _, p3};

use super::DEFAULT_HOST;
use crate::http_call::OutgoingHead;
use crate::tool_components::state::ToolState;

/// The component answers with an error instead of a response.
#[derive(Debug, thiserror::Error)]
#[error("it answers with the error {0:?}")]
struct Refused(p3::bindings::http::types::ErrorCode);

/// Runs the component for one request. It goes on after the head of the answer is sent, because the component writes the
/// body while it runs: the end of the body ends the call. A component that neither ends the body nor fails runs into its
/// time limit, so that no answer looks whole that is not.
pub(super) async fn run(
    store: &mut Store<ToolState>,
    pre: &ServicePre<ToolState>,
    request: Request<Bytes>,
    sender: oneshot::Sender<OutgoingHead>,
) -> wasmtime::Result<()> {
    let service = pre.instantiate_async(&mut *store).await?;
    store.run_concurrent(async |accessor| answer(accessor, &service, request, sender).await).await?
}

async fn answer(
    accessor: &Accessor<ToolState>,
    service: &Service,
    request: Request<Bytes>,
    sender: oneshot::Sender<OutgoingHead>,
) -> wasmtime::Result<()> {
    let request = absolute(request)?.map(|body| Full::new(body).map_err(|never| -> Error { match never {} }));
    let (request, transmitted) = accessor.with(|mut access| {
        let (request, transmitted) = p3::Request::from_http(access.data_mut().http().hooks, request);
        let transmitted: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> = Box::pin(transmitted);
        (request, transmitted)
    });
    let response = service.handle(accessor, request).await?.map_err(Refused)?;
    let response = accessor.with(|mut access| response.into_http(&mut access, transmitted))?;
    // Without a receiver, the caller has left.
    if sender.send(Ok(response)).is_ok() {
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// The request with scheme and authority, of which WASI 0.3 has no other source: it has no field `Host`.
fn absolute(mut request: Request<Bytes>) -> wasmtime::Result<Request<Bytes>> {
    let mut parts = request.uri().clone().into_parts();
    parts.scheme.get_or_insert(Scheme::HTTP);
    if parts.authority.is_none() {
        let host = request.headers().get(header::HOST).cloned().unwrap_or(DEFAULT_HOST);
        parts.authority = Some(Authority::try_from(host.as_bytes())?);
    }
    parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts)?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(target: &str, host: Option<&str>) -> String {
        let mut request = Request::post(target);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        absolute(request.body(Bytes::new()).unwrap()).unwrap().uri().to_string()
    }

    #[test]
    fn a_request_gets_the_scheme_and_the_authority_that_it_lacks() {
        assert_eq!(uri("/mcp?a=b", Some("mcp.example:8443")), "http://mcp.example:8443/mcp?a=b");
        assert_eq!(uri("https://mcp.example/mcp", Some("other.example")), "https://mcp.example/mcp");
        assert_eq!(uri("/mcp", None), "http://localhost/mcp");
    }
}
