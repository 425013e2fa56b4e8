//! npm `@modelcontextprotocol/sdk`: the TypeScript SDK of the first generation.

use super::scenarios::{Client, LEGACY, every_scenario};
use crate::support::tools;

fn client() -> Option<Client> {
    let program = tools::node("mcp-sdk-1")?;
    Some(Client { program, script: "mcp-sdk-1/client.mjs", era: None, revision: LEGACY })
}

every_scenario! {
    by_default: client();
}
