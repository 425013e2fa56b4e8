//! `/users`: the users of a directory, with the part of `$filter` that finding a user takes.
//!
//! A filter is `startswith(property,'text')` or `property eq 'text'`, joined by `or` or by `and`. The emulator refuses
//! every other filter of Graph in the words in which Graph refuses a filter that it does not serve.

use serde_json::{Map, Value};

use super::directory::{BASIC_PROPERTIES, DEFAULT_PROPERTIES, canonical, property, selected};
use super::{GraphCaller, GraphError, context, pages};
use crate::config::{Config, User};
use crate::http::{Incoming, Reply};
use crate::world::World;

/// What shows the whole profiles of a directory's people.
const FULL: [&str; 2] = ["User.Read.All", "Directory.Read.All"];
/// Properties that can be compared without an advanced query.
const FILTERABLE: [&str; 10] = [
    "department",
    "displayName",
    "employeeId",
    "givenName",
    "id",
    "jobTitle",
    "mail",
    "mailNickname",
    "surname",
    "userPrincipalName",
];
/// Clauses that one filter may have.
const CLAUSES_AT_MOST: usize = 15;

pub(super) fn list(
    world: &World,
    config: &Config,
    caller: &GraphCaller,
    incoming: &Incoming,
) -> Result<Reply, GraphError> {
    let basic_only = !caller.may(&FULL);
    // The basic permission is a delegated one only.
    let may = !basic_only || (caller.grant().is_some() && caller.may(&["User.ReadBasic.All"]));
    if !may || is_guest(config, caller) {
        return Err(GraphError::denied());
    }
    for name in ["$search", "$orderby", "$expand", "$skip"] {
        if incoming.query.get(name).is_some() {
            return Err(GraphError::bad_request(format!("The emulator does not serve '{name}' on this resource.")));
        }
    }
    if incoming.query.get("$count").is_some() && !pages::is_eventual(incoming) {
        return Err(GraphError::bad_request("$count is not currently supported."));
    }
    let names = selected(incoming)?;
    let filter = incoming.query.get("$filter").map(Filter::parse).transpose()?;
    let inhabitants = config.users.iter().filter(|user| user.id_in(caller.tenant()).is_some());
    let found = inhabitants.filter(|user| filter.as_ref().is_none_or(|filter| filter.admits(caller, user)));
    let users = found.map(|user| {
        let one = |name: &&'static str| {
            let hidden = basic_only && !BASIC_PROPERTIES.contains(name);
            ((*name).to_owned(), if hidden { Value::Null } else { property(caller, user, name) })
        };
        Value::Object(names.as_deref().unwrap_or(&DEFAULT_PROPERTIES).iter().map(one).collect::<Map<_, _>>())
    });
    let of = names.as_ref().map_or_else(|| "users".to_owned(), |names| format!("users({})", names.join(",")));
    pages::answer(world, incoming, context(world, &of), users.collect())
}

/// Guests may not list the people of the directory that they visit.
fn is_guest(config: &Config, caller: &GraphCaller) -> bool {
    let user = caller.grant().and_then(|grant| config.user(&grant.user));
    user.is_some_and(|user| user.tenant != caller.tenant())
}

#[derive(Debug, Eq, PartialEq)]
struct Filter {
    clauses: Vec<Clause>,
    /// Joined by `and`.
    all: bool,
}

#[derive(Debug, Eq, PartialEq)]
struct Clause {
    property: &'static str,
    begins: bool,
    text: String,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, GraphError> {
        let mut rest = text.trim();
        let mut clauses = Vec::new();
        let mut joined_by = None;
        loop {
            let (clause, after) = Clause::parse(rest, text)?;
            clauses.push(clause);
            rest = after.trim_start();
            if rest.is_empty() {
                break;
            }
            let joint = ["or ", "and "].into_iter().find(|joint| rest.starts_with(joint));
            let joint = joint.ok_or_else(|| syntax(text, rest))?;
            if joined_by.is_some_and(|other| other != joint) {
                return Err(GraphError::unsupported_query("The emulator does not serve 'and' beside 'or'."));
            }
            joined_by = Some(joint);
            rest = rest.get(joint.len()..).unwrap_or_default().trim_start();
        }
        if clauses.len() > CLAUSES_AT_MOST {
            return Err(GraphError::unsupported_query("Too many child clauses specified in search filter expression."));
        }
        Ok(Self { clauses, all: joined_by == Some("and ") })
    }

    fn admits(&self, caller: &GraphCaller, user: &User) -> bool {
        let fits = |clause: &Clause| clause.admits(property(caller, user, clause.property).as_str());
        if self.all { self.clauses.iter().all(fits) } else { self.clauses.iter().any(fits) }
    }
}

impl Clause {
    /// A clause, and what follows.
    fn parse<'t>(text: &'t str, whole: &str) -> Result<(Self, &'t str), GraphError> {
        let wrong = |at: &str| syntax(whole, at);
        let name_ends = text.find(|c: char| !c.is_ascii_alphanumeric()).ok_or_else(|| wrong(text))?;
        let (name, rest) = text.split_at(name_ends);
        if let Some(inner) = rest.strip_prefix('(') {
            if !name.eq_ignore_ascii_case("startswith") {
                return Err(GraphError::unsupported_query(format!("Operator '{name}' is not supported.")));
            }
            let (name, rest) = inner.split_once(',').ok_or_else(|| wrong(inner))?;
            let (text, rest) = literal(rest.trim_start()).ok_or_else(|| wrong(rest))?;
            let rest = rest.trim_start().strip_prefix(')').ok_or_else(|| wrong(rest))?;
            return Ok((Self { property: filterable(name.trim())?, begins: true, text }, rest));
        }
        let rest = rest.trim_start().strip_prefix("eq ").ok_or_else(|| wrong(rest))?;
        let (text, rest) = literal(rest.trim_start()).ok_or_else(|| wrong(rest))?;
        Ok((Self { property: filterable(name)?, begins: false, text }, rest))
    }

    fn admits(&self, value: Option<&str>) -> bool {
        let (Some(value), text) = (value.map(str::to_lowercase), self.text.to_lowercase()) else { return false };
        if self.begins { value.starts_with(&text) } else { value == text }
    }
}

/// A string literal, in which a quote is doubled, and what follows.
pub(super) fn literal(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('\'')?;
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('\'')?;
        value.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return Some((value, after)),
        }
    }
}

fn filterable(name: &str) -> Result<&'static str, GraphError> {
    let known = canonical(name).ok_or_else(|| {
        GraphError::bad_request(format!(
            "Invalid filter clause: Could not find a property named '{name}' on type 'microsoft.graph.user'."
        ))
    })?;
    if FILTERABLE.contains(&known) {
        return Ok(known);
    }
    Err(GraphError::unsupported_query(format!(
        "Unsupported or invalid query filter clause specified for property '{known}' of resource 'User'."
    )))
}

fn syntax(whole: &str, at: &str) -> GraphError {
    let position = whole.len().saturating_sub(at.len());
    GraphError::bad_request(format!("Invalid filter clause: Syntax error at position {position} in '{whole}'."))
}
