//! `jco serve`, which runs components in Node.js.

use entra_mcp_compose::{parts, wrap};
use serde_json::json;

use super::{ALICE, BOB, EGRESS, call, mailbox, tool};
use crate::standard::jco::{Jco, portable};
use crate::support::session::sign_in;

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(client = "jco"), ignore = "needs the client jco: use tests/run")]
async fn a_wrapped_tool_reads_the_mail_of_its_callers_in_jco_serve() {
    let jco = Jco::serve(&wrap(&tool(), &parts(&portable())).expect("they fit"), &[EGRESS]).await;
    for username in [ALICE, BOB] {
        let session = sign_in(&jco.public_url, "/mcp", username).await;
        let graph = call(&jco.public_url, &session.access_token, "list_mail", json!({})).await;
        assert_eq!(mailbox(&graph), username, "{}", jco.log());
        let surroundings = call(&jco.public_url, &session.access_token, "surroundings", json!({})).await;
        assert_eq!((&surroundings["variables"], &surroundings["folders"]), (&json!([]), &json!(0)), "{surroundings}");
    }
    assert!(jco.emulator.control().request_count(entra_mcp_emulator::Endpoint::GraphMessages) >= 2);
}
