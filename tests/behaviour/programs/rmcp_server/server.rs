//! A server of the Rust SDK, rmcp, which speaks both eras, over whatever transport it is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rmcp::ErrorData;
use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult,
    GetPromptRequestParams, GetPromptResponse, GetPromptResult, InputRequiredResult, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ProgressNotificationParam, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ServerCapabilities,
    ServerConfig, SubscriptionFilter,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

#[allow(dead_code, clippy::duplicate_mod, reason = "a program of its own, which the tests have inside as well")]
#[path = "../../all/support/patience.rs"]
mod patience;

/// The server.
#[derive(Clone, Default)]
pub(crate) struct Server {
    /// Calls that were cancelled.
    cancelled: Arc<AtomicUsize>,
}

/// A result as the protocol writes it.
fn of<T: DeserializeOwned>(mut value: Value) -> Result<T, ErrorData> {
    if let Some(result) = value.as_object_mut() {
        result.entry("resultType").or_insert_with(|| json!("complete"));
    }
    serde_json::from_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn text(text: &str) -> Result<CallToolResponse, ErrorData> {
    let result: CallToolResult = of(json!({ "content": [{ "type": "text", "text": text }] }))?;
    Ok(result.into())
}

impl Server {
    async fn progress(&self, context: &RequestContext<RoleServer>, progress: f64) {
        if let Some(token) = context.meta.get_progress_token() {
            let _ = context.peer.notify_progress(ProgressNotificationParam::new(token, progress)).await;
        }
    }

    /// Reports progress until the request is cancelled, explicitly or because its stream is gone.
    async fn wait(&self, context: &RequestContext<RoleServer>) {
        struct Cancelled(Arc<AtomicUsize>);
        impl Drop for Cancelled {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let _cancelled = Cancelled(Arc::clone(&self.cancelled));
        for step in 0_u32.. {
            self.progress(context, step.into()).await;
            if context.ct.run_until_cancelled(patience::pause()).await.is_none() {
                return;
            }
        }
    }
}

/// The token that the gate has left for this program.
#[allow(clippy::disallowed_methods, reason = "a server that reads its own environment")]
fn token() -> Option<String> {
    std::fs::read_to_string(std::env::var_os("ENTRA_MCP_TOKEN_FILE")?).ok()
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_resources()
            .enable_prompts()
            .enable_completions();
        ServerConfig::new(capabilities.build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let names = ["add", "count", "large", "logo", "greet", "wait", "cancellations", "delete_record"];
        let tool = |name| json!({ "name": name, "inputSchema": { "type": "object" } });
        of(json!({ "tools": names.map(tool) }))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::from(request.arguments.unwrap_or_default());
        match &*request.name {
            "add" => {
                let number = |name: &str| arguments.get(name).and_then(Value::as_i64).unwrap_or_default();
                text(&number("a").saturating_add(number("b")).to_string())
            }
            "count" => {
                for progress in 1..=3_u32 {
                    self.progress(&context, progress.into()).await;
                    patience::pause().await;
                }
                text("counted")
            }
            "large" => text(&"0123456789abcdef".repeat(32 * 1024)),
            "logo" => {
                let result: CallToolResult =
                    of(json!({ "content": [{ "type": "image", "data": "iVBORw0KGgo=", "mimeType": "image/png" }] }))?;
                Ok(result.into())
            }
            "greet" => match request.input_responses.as_ref().and_then(|responses| responses.get("name")) {
                Some(answered) => text(&format!(
                    "hello {}",
                    answered.pointer("/content/name").and_then(Value::as_str).unwrap_or("no name")
                )),
                None => {
                    let schema = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
                    let params = json!({ "mode": "form", "message": "Name?", "requestedSchema": schema });
                    let asked: InputRequiredResult = of(json!({
                        "resultType": "input_required",
                        "inputRequests": { "name": { "method": "elicitation/create", "params": params } },
                        "requestState": "asked",
                    }))?;
                    Ok(asked.into())
                }
            },
            "wait" => {
                self.wait(&context).await;
                text("not cancelled")
            }
            "cancellations" => {
                while self.cancelled.load(Ordering::SeqCst) == 0 {
                    patience::pause().await;
                }
                text("some")
            }
            "delete_record" => text("deleted"),
            "token" => text(&token().unwrap_or_else(|| "there is no file".to_owned())),
            _ => Err(ErrorData::invalid_params("Unknown tool", None)),
        }
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        of(json!({ "resources": [{ "uri": "crm://notes", "name": "notes", "mimeType": "text/plain" }] }))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        of(json!({ "resourceTemplates": [{ "uriTemplate": "crm://records/{id}", "name": "record" }] }))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let text = format!("This is {}", request.uri);
        let result: ReadResourceResult = of(json!({ "contents": [{ "uri": request.uri, "text": text }] }))?;
        Ok(result.into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        of(json!({ "prompts": [{ "name": "plan", "arguments": [{ "name": "goal", "required": true }] }] }))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let goal = request.arguments.unwrap_or_default().get("goal").cloned().unwrap_or_default();
        let content = json!({ "type": "text", "text": format!("Plan {goal}") });
        let result: GetPromptResult = of(json!({ "messages": [{ "role": "user", "content": content }] }))?;
        Ok(result.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        of(json!({ "completion": { "values": [format!("{}!", request.argument.value)] } }))
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let _ = context.sink().notify_tool_list_changed().await;
        context.cancelled().await;
        Ok(())
    }
}
