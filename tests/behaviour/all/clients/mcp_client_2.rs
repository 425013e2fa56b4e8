//! npm `@modelcontextprotocol/client`: the TypeScript SDK of the second generation.

use super::scenarios::{Client, LEGACY, MODERN, every_scenario};
use crate::support::tools;

fn client(era: Option<&'static str>, revision: &'static str) -> Option<Client> {
    let program = tools::node("mcp-client-2")?;
    Some(Client { program, script: "mcp-client-2/client.mjs", era, revision })
}

every_scenario! {
    by_default: client(None, LEGACY);
    automatically: client(Some("auto"), MODERN);
    insisting: client(Some(MODERN), MODERN);
}
