//! The members of a result that depend on the caller: one list, for the component that judges messages and for the host that
//! finds them in a stream.
//!
//! Threat: an answer that the component judges as JSON passes unjudged as an event, because the host did not look for a
//! member that the component acts on.

/// A list of tools.
pub const TOOLS: &str = "tools";
/// A list of resources.
pub const RESOURCES: &str = "resources";
/// A list of templates of resources.
pub const RESOURCE_TEMPLATES: &str = "resourceTemplates";
/// A list of prompts.
pub const PROMPTS: &str = "prompts";
/// A list of tasks.
pub const TASKS: &str = "tasks";
/// How far a result may be shared (2026-07-28).
pub const CACHE_SCOPE: &str = "cacheScope";
/// How long a client may keep it.
pub const TTL: &str = "ttlMs";
/// The member of an answer to `resources/read`.
pub const CONTENTS: &str = "contents";
/// The member of an answer to `server/discover`.
pub const SUPPORTED_VERSIONS: &str = "supportedVersions";
/// The id of a task, which belongs to one caller.
pub const TASK_ID: &str = "taskId";
/// The state of a request, which does too.
pub const REQUEST_STATE: &str = "requestState";

/// All of them. A message without any of these words passes as it is.
pub const CONCERNED: [&str; 11] = [
    TOOLS,
    RESOURCES,
    RESOURCE_TEMPLATES,
    PROMPTS,
    TASKS,
    CACHE_SCOPE,
    TTL,
    CONTENTS,
    SUPPORTED_VERSIONS,
    TASK_ID,
    REQUEST_STATE,
];

/// Whether a reader that ignores the case of names takes this name for that of a member. Some programs fold letters beyond
/// ASCII as well.
pub fn is_read_as(name: &str, member: &str) -> bool {
    let folded = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        '\u{130}' | '\u{131}' => 'i',
        letter => letter.to_ascii_lowercase(),
    };
    name.chars().map(folded).eq(member.chars().map(folded))
}
