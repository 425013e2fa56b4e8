//! npm `@modelcontextprotocol/sdk`: the TypeScript SDK of the first generation.

use super::scenarios::{Client, LEGACY, every_scenario};
use crate::support::tools;

fn client() -> Client {
    Client { program: tools::client("mcp-sdk-1"), script: "mcp-sdk-1/client.mjs", era: None, revision: LEGACY }
}

every_scenario! {
    #[cfg_attr(not(client = "mcp-sdk-1"), ignore = "needs the client mcp-sdk-1: use tests/run")]
    by_default: client();
}
