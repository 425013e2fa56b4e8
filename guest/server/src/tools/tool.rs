//! What a tool is, and how the server sees all of them alike.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::OnceLock;

use async_trait::async_trait;
use base::policy::{Rule, Terms};
use entra::graph::GraphError;
use entra::graph::error::Evidence;
use rmcp::model::{JsonObject, Tool as Description, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::{Permission, ToolContext};
use super::error::ToolError;
use super::{arguments, schema};

/// One MCP tool, which reads and changes nothing. The same code serves every caller that the list of tools offers it to.
pub(crate) trait Tool: 'static {
    /// The name that clients call it by.
    const NAME: &'static str;
    /// What it is called where people read it.
    const TITLE: &'static str;
    /// What `tools/list` says about it.
    const DESCRIPTION: &'static str;
    /// Whether guests of a tenant may call it. No rule and no role opens it to them. There is no default.
    const GUESTS: bool;
    /// What it may ask Microsoft Graph with. It gets tokens for nothing else.
    const NEEDS: &'static [Permission];
    /// What it takes. Where that has fields, every other argument is refused.
    type Args: DeserializeOwned + JsonSchema;
    /// What it answers with: an object.
    type Answer: JsonSchema;

    /// The callers that may call it, unless the settings have rules. There is no default: every tool has to say.
    fn rule() -> Rule;

    /// Does the work.
    async fn call(arguments: Self::Args, ctx: &ToolContext<'_>) -> Result<Content<Self::Answer>, ToolError>;
}

/// The arguments of a tool that takes none. It looks at none, because some clients send a placeholder.
#[derive(serde::Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct NoArguments {}

/// The answer of a tool, as JSON.
pub(crate) struct Content<T> {
    json: String,
    answer: PhantomData<fn() -> T>,
}

impl<T> Content<T> {
    /// An answer that is JSON already, and fits the schema of `T`.
    pub(crate) fn from_json(json: String) -> Self {
        Self { json, answer: PhantomData }
    }
}

impl<T: Serialize> Content<T> {
    /// This answer.
    pub(crate) fn of(answer: &T) -> Result<Self, ToolError> {
        let json = serde_json::to_string(answer);
        json.map(Self::from_json).map_err(|_| ToolError::Graph(GraphError::Malformed(Evidence::default())))
    }
}

/// Any tool of the list.
#[async_trait(?Send)]
pub trait AnyTool: Sync {
    /// The name that clients call it by.
    fn name(&self) -> &'static str;
    /// What it is called where people read it.
    fn title(&self) -> &'static str;
    /// The callers that may call it, unless the settings have rules.
    fn rule(&self) -> Rule;
    /// What it says itself about its callers.
    fn terms(&self) -> Terms;
    /// What it may ask Microsoft Graph with.
    fn needs(&self) -> &'static [Permission];
    /// What `tools/list` says about it. It is made once.
    fn describe(&'static self) -> &'static Description;
    /// Reads the arguments and does the work. The answer is an object that fits the output schema, as JSON.
    async fn call(&'static self, arguments: JsonObject, ctx: &ToolContext<'_>) -> Result<String, ToolError>;
}

/// A place in the list of tools.
pub(super) struct Listed<T> {
    description: OnceLock<Description>,
    tool: PhantomData<fn() -> T>,
}

impl<T> Listed<T> {
    pub(super) const fn new() -> Self {
        Self { description: OnceLock::new(), tool: PhantomData }
    }
}

#[async_trait(?Send)]
impl<T: Tool> AnyTool for Listed<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn title(&self) -> &'static str {
        T::TITLE
    }

    fn rule(&self) -> Rule {
        T::rule()
    }

    fn terms(&self) -> Terms {
        Terms { tool: T::NAME, guests: T::GUESTS, rule: T::rule }
    }

    fn needs(&self) -> &'static [Permission] {
        T::NEEDS
    }

    fn describe(&'static self) -> &'static Description {
        self.description.get_or_init(|| {
            let annotations = ToolAnnotations::with_title(T::TITLE);
            Description::new(T::NAME, Cow::Borrowed(T::DESCRIPTION), schema::of_arguments::<T::Args>())
                .with_title(T::TITLE)
                .with_raw_output_schema(schema::of_answer::<T::Answer>())
                .with_annotations(annotations.read_only(true).destructive(false).idempotent(true).open_world(true))
        })
    }

    async fn call(&'static self, arguments: JsonObject, ctx: &ToolContext<'_>) -> Result<String, ToolError> {
        let arguments = arguments::read(arguments, || &self.describe().input_schema)?;
        Ok(T::call(arguments, ctx).await?.json)
    }
}
