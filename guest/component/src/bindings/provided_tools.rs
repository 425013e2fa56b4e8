//! Implements [`ProvidedTools`] on the import of that name.

use async_trait::async_trait;
use world::provided_tools::{ProvidedTool, ProvidedTools, ProviderError, ToolCall, ToolContent, ToolHints};

use super::generated::entra_mcp::plugin::{provided_tools as wit, tool_types};
use super::imports::HostImports;

#[async_trait(?Send)]
impl ProvidedTools for HostImports {
    async fn list(&self, server: &str) -> Result<Vec<ProvidedTool>, ProviderError> {
        let tools = wit::list_tools(server).map_err(ProviderError::from)?;
        Ok(tools.into_iter().map(ProvidedTool::from).collect())
    }

    async fn call(&self, call: ToolCall<'_>) -> Result<ToolContent, ProviderError> {
        let ToolCall { server, name, arguments, caller, handle } = call;
        Ok(match wit::call(server, name, arguments, &caller.into(), handle)? {
            tool_types::Content::Text(text) => ToolContent::Text(text),
            tool_types::Content::Json(json) => ToolContent::Json(json),
            tool_types::Content::Blocks(blocks) => ToolContent::Blocks(blocks),
        })
    }
}

impl From<tool_types::Tool> for ProvidedTool {
    fn from(from: tool_types::Tool) -> Self {
        let tool_types::Tool { name, title, description, input_schema, output_schema, hints } = from;
        let has = |hint| hints.contains(hint);
        let hints = ToolHints {
            read_only: has(tool_types::Hints::READ_ONLY),
            destructive: has(tool_types::Hints::DESTRUCTIVE),
            idempotent: has(tool_types::Hints::IDEMPOTENT),
            open_world: has(tool_types::Hints::OPEN_WORLD),
        };
        Self { name, title, description, input_schema, output_schema, hints }
    }
}

impl From<wit::ProviderError> for ProviderError {
    fn from(from: wit::ProviderError) -> Self {
        match from {
            wit::ProviderError::Tool(tool_types::ToolError::InvalidArguments(text)) => Self::InvalidArguments(text),
            wit::ProviderError::Tool(tool_types::ToolError::Failed(text)) => Self::Failed(text),
            wit::ProviderError::Ended(reason) => Self::Ended(reason),
            wit::ProviderError::TimedOut => Self::TimedOut,
            wit::ProviderError::OverBytes(bytes) => Self::TooLarge(bytes),
            wit::ProviderError::Delegation(error) => Self::Delegation(error.into()),
            wit::ProviderError::Unavailable(reason) => Self::Unavailable(reason),
        }
    }
}
