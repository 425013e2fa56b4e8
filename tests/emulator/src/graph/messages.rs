//! The mailbox of a user: a few messages, made from the user's id and name, so that a test can tell the mailboxes of two
//! users apart.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::directory::{is_own, unknown_property};
use super::{GraphCaller, GraphError, context, pages};
use crate::config::User;
use crate::http::{Incoming, Reply};
use crate::world::World;

/// Messages in each mailbox.
const MESSAGES: usize = 12;
/// What Graph returns of a message that is asked for without `$select`, as far as the emulator has it.
const PROPERTIES: [&str; 7] = ["id", "subject", "bodyPreview", "from", "toRecipients", "isRead", "hasAttachments"];

/// The messages of a user, for that user only.
pub(super) fn list(world: &World, caller: &GraphCaller, user: &User, incoming: &Incoming) -> Result<Reply, GraphError> {
    if !is_own(caller, user) || !caller.may(&["Mail.Read"]) {
        return Err(GraphError::new(
            StatusCode::FORBIDDEN,
            "ErrorAccessDenied",
            "Access is denied. Check credentials and try again.",
        ));
    }
    let names = selected(incoming)?;
    let messages = (1..=MESSAGES).map(|number| {
        let property = |name: &&'static str| ((*name).to_owned(), property(user, number, name));
        Value::Object(names.as_deref().unwrap_or(&PROPERTIES).iter().map(property).collect::<Map<_, _>>())
    });
    let of = match &names {
        None => "users('me')/messages".to_owned(),
        Some(names) => format!("users('me')/messages({})", names.join(",")),
    };
    pages::answer(world, incoming, context(world, &of), messages.collect())
}

fn selected(incoming: &Incoming) -> Result<Option<Vec<&'static str>>, GraphError> {
    let Some(select) = incoming.query.get("$select") else { return Ok(None) };
    let names = select.split(',').map(str::trim).filter(|name| !name.is_empty());
    let known = |name| PROPERTIES.iter().find(|known| known.eq_ignore_ascii_case(name)).copied();
    let known = names.map(|name| known(name).ok_or_else(|| unknown_property(name, "message")));
    known.collect::<Result<_, _>>().map(Some)
}

fn property(user: &User, number: usize, name: &str) -> Value {
    let person = |name: &str, address: &str| json!({ "emailAddress": { "name": name, "address": address } });
    match name {
        "id" => json!(format!("{}-{number}", user.id)),
        "subject" => json!(format!("Message {number} for {}", user.display_name())),
        "bodyPreview" => json!(format!("This is message {number}.")),
        "from" => person(&format!("Colleague {number}"), &format!("colleague-{number}@contoso.example")),
        "toRecipients" => json!([person(user.display_name(), &user.username)]),
        "isRead" | "hasAttachments" => json!(false),
        _ => Value::Null,
    }
}
