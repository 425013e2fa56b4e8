//! The one way to the public Internet, with a component that always tries it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use entra_mcp_plugin::audit::MemoryAudit;
use entra_mcp_plugin::client_channel::NoChannel;
use entra_mcp_plugin::client_metadata::{ClientMetadata, Document, FetchError};
use entra_mcp_plugin::environment::{Settings, TokenMode};
use entra_mcp_plugin::{MessageContext, Plugin};

use super::hostile::component_with;

const IMPORT: &str = r#"(import "entra-mcp:plugin/client-metadata@0.2.0" "fetch"
    (func $fetch (param i32 i32 i32 i32 i32 i32)))"#;

/// Fetches, and answers with the number of the error in `wit/client-metadata.wit`.
const FETCH: &str = "
    (call $fetch (i32.const 1024) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256))
    (i32.store8 (i32.const 64) (i32.add (i32.const 47) (i32.load8_u (i32.const 260))))
    (call $count)";
const DENIED: &str = "0";
const TOO_LARGE: &str = "2";

/// Finds every document too large, and counts.
#[derive(Default)]
struct Internet(AtomicUsize);

#[async_trait]
impl ClientMetadata for Internet {
    async fn fetch(&self, _: &str, _: Option<IpAddr>) -> Result<Document, FetchError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(FetchError::TooLarge)
    }
}

#[tokio::test]
async fn a_component_that_tries_to_reach_the_public_internet_is_denied_where_documents_are_of_no_use() {
    let id = "00000000-0000-0000-0000-000000000001";
    let hostile = component_with("", IMPORT, FETCH);
    for (documents, mode, answer, reached) in [
        (true, TokenMode::Session, TOO_LARGE, 1),
        (true, TokenMode::Both, TOO_LARGE, 1),
        (true, TokenMode::Bearer, DENIED, 0),
        (false, TokenMode::Session, DENIED, 0),
        (false, TokenMode::Both, DENIED, 0),
    ] {
        let mut settings = Settings::remote(id, id, "https://mcp.example.com").unwrap();
        let http = settings.http.as_mut().unwrap();
        (http.client_id_metadata_documents, http.token_mode) = (documents, mode);
        let internet = Arc::new(Internet::default());
        let builder = Plugin::builder(settings).component(hostile.clone()).audit(Arc::new(MemoryAudit::default()));
        let plugin = builder.client_metadata(Arc::clone(&internet) as _).build().unwrap();
        let message = r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#;
        let answered = plugin.handle(message, &MessageContext::new("test"), Arc::new(NoChannel)).await;
        assert_eq!(answered.as_deref(), Some(answer), "{documents} {mode:?}");
        assert_eq!(internet.0.load(Ordering::Relaxed), reached, "{documents} {mode:?}");
    }
}
