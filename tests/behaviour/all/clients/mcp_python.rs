//! PyPI `mcp`: the Python SDK.

use super::scenarios::{Client, LEGACY, MODERN, every_scenario};
use crate::support::tools;

fn client(era: Option<&'static str>, revision: &'static str) -> Option<Client> {
    let program = tools::python()?;
    Some(Client { program, script: "mcp-python/client.py", era, revision })
}

every_scenario! {
    by_default: client(None, MODERN);
    with_initialize: client(Some("legacy"), LEGACY);
    insisting: client(Some(MODERN), MODERN);
}
