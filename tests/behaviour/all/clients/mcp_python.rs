//! PyPI `mcp`: the Python SDK.

use super::scenarios::{Client, LEGACY, MODERN, every_scenario};
use crate::support::tools;

fn client(era: Option<&'static str>, revision: &'static str) -> Client {
    Client { program: tools::client("mcp-python"), script: "mcp-python/client.py", era, revision }
}

every_scenario! {
    #[cfg_attr(not(client = "mcp-python"), ignore = "needs the client mcp-python: use tests/run")]
    by_default: client(None, MODERN);
    #[cfg_attr(not(client = "mcp-python"), ignore = "needs the client mcp-python: use tests/run")]
    with_initialize: client(Some("legacy"), LEGACY);
    #[cfg_attr(not(client = "mcp-python"), ignore = "needs the client mcp-python: use tests/run")]
    insisting: client(Some(MODERN), MODERN);
}
