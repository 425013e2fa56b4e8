//! Unmodified MCP servers of others behind `entra-mcp serve`, with unmodified clients in front.
//!
//! A client's program signs its person in and takes the steps of a tour (see `tests/clients/typescript/behind.mjs`). The
//! assertions are here, on what came of each step. Where the server can be met without the gate, the same client takes the
//! same tour there too, and has to see the same, except for what a rule denies. No server may see a token of a client.

mod conformance;
mod everything;
mod fastmcp;
mod rmcp_server;
mod servers;
mod tour;

/// A test for each client: every generation of each SDK, in each era that it has.
///
/// `$server` says what has to be installed for the server, as in `cfg`.
macro_rules! with_every_client {
    ($server:meta, $tour:expr) => {
        #[tokio::test]
        #[cfg_attr(not(all(client = "mcp-sdk-1", $server)), ignore = "needs mcp-sdk-1 and the server: use tests/run")]
        async fn typescript_1() {
            $tour($crate::clients::behind::tour::Client::typescript_1()).await;
        }

        #[tokio::test]
        #[cfg_attr(
            not(all(client = "mcp-client-2", $server)),
            ignore = "needs mcp-client-2 and the server: use tests/run"
        )]
        async fn typescript_2_by_default() {
            $tour($crate::clients::behind::tour::Client::typescript_2(None)).await;
        }

        #[tokio::test]
        #[cfg_attr(
            not(all(client = "mcp-client-2", $server)),
            ignore = "needs mcp-client-2 and the server: use tests/run"
        )]
        async fn typescript_2_automatically() {
            $tour($crate::clients::behind::tour::Client::typescript_2(Some("auto"))).await;
        }

        #[tokio::test]
        #[cfg_attr(not(all(client = "mcp-python", $server)), ignore = "needs mcp-python and the server: use tests/run")]
        async fn python_by_default() {
            $tour($crate::clients::behind::tour::Client::python(None)).await;
        }

        #[tokio::test]
        #[cfg_attr(not(all(client = "mcp-python", $server)), ignore = "needs mcp-python and the server: use tests/run")]
        async fn python_with_initialize() {
            $tour($crate::clients::behind::tour::Client::python(Some("legacy"))).await;
        }
    };
}

use with_every_client;
