//! npm `@modelcontextprotocol/client`: the TypeScript SDK of the second generation.

use super::scenarios::{Client, LEGACY, MODERN, every_scenario};
use crate::support::tools;

fn client(era: Option<&'static str>, revision: &'static str) -> Client {
    Client { program: tools::client("mcp-client-2"), script: "mcp-client-2/client.mjs", era, revision }
}

every_scenario! {
    #[cfg_attr(not(client = "mcp-client-2"), ignore = "needs the client mcp-client-2: use tests/run")]
    by_default: client(None, LEGACY);
    #[cfg_attr(not(client = "mcp-client-2"), ignore = "needs the client mcp-client-2: use tests/run")]
    automatically: client(Some("auto"), MODERN);
    #[cfg_attr(not(client = "mcp-client-2"), ignore = "needs the client mcp-client-2: use tests/run")]
    insisting: client(Some(MODERN), MODERN);
}
