//! What is wrong with an answer of a tool of a server behind the component.

/// How an answer breaks the contract (`wit/tool-types.wit`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// The structured answer is no JSON object.
    #[error("the structured answer is not a JSON object")]
    NoObject,
    /// The content is no JSON array of objects.
    #[error("the content is not a JSON array of objects with a type each")]
    NoBlocks,
    /// A part of the content is of a type that MCP does not have. As much of it as fits.
    #[error("the content has a part of the unknown type {0}")]
    UnknownBlock(String),
    /// It is nested deeper than clients read.
    #[error("the answer is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Depth of nesting of JSON in an answer. Parsers of clients stop at some depth, or use up their stack.
pub(super) const MAX_DEPTH: usize = 100;
