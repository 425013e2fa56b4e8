//! The program, as the tests run it: its library, and one switch more.
//!
//! Where a variable names a file, and the file is there, the program panics when it reads a record with tokens. So a test sees
//! what a panic shows. The released program has no such switch: its `main.rs` puts nothing around its store.

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use entra_mcp_app::composition::store::put_around;
use entra_mcp_plugin::secret_store::{SecretBytes, SecretStore, StoreError};

/// Names the file.
const SWITCH: &str = "ENTRA_MCP_TESTED_PANICS_IF";

/// A record with tokens has this member.
const TOKENS: &[u8] = b"\"refresh_token\"";

fn main() -> ExitCode {
    #[allow(clippy::disallowed_methods, reason = "a switch of the tests, which is no setting of the program")]
    let file = std::env::var_os(SWITCH).map(PathBuf::from);
    if let Some(file) = file {
        put_around(move |records| Arc::new(Panicking { records, file: file.clone() }));
    }
    entra_mcp_app::main()
}

/// A store whose reads panic.
struct Panicking {
    records: Arc<dyn SecretStore>,
    file: PathBuf,
}

/// Panics with the tokens in its frame and behind it.
#[allow(clippy::panic, reason = "the switch is for this")]
#[inline(never)]
fn panic_with(record: &SecretBytes) -> ! {
    let on_the_heap = record.reveal().to_vec();
    let mut on_the_stack = [0; 1024];
    for (to, from) in on_the_stack.iter_mut().zip(&on_the_heap) {
        *to = *from;
    }
    let _ = black_box((&on_the_heap, &on_the_stack));
    panic!("a test asks for this panic: {record:?}")
}

#[async_trait]
impl SecretStore for Panicking {
    async fn get(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        let found = self.records.get(key).await?;
        if let Some(record) = &found
            && record.reveal().windows(TOKENS.len()).any(|part| part == TOKENS)
            && self.file.exists()
        {
            panic_with(record);
        }
        Ok(found)
    }

    async fn put(&self, key: &str, value: SecretBytes, ttl: Option<Duration>) -> Result<(), StoreError> {
        self.records.put(key, value, ttl).await
    }

    async fn take(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        self.records.take(key).await
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<SecretBytes>,
        value: SecretBytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        self.records.compare_and_swap(key, expected, value, ttl).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.records.delete(key).await
    }
}
