//! Refusals as Entra ID answers with them, and the ids that every answer has.

use serde_json::{Value, json};

use super::clock::entra_timestamp;
use super::errors::{self, Refusal};
use super::http::{Incoming, Reply};
use super::world::World;

impl Refusal {
    /// What Entra ID writes into `error_description`.
    pub(crate) fn description(&self, ids: &Ids) -> String {
        format!(
            "AADSTS{}: {}\r\nTrace ID: {}\r\nCorrelation ID: {}\r\nTimestamp: {}",
            self.code.number, self.message, ids.trace, ids.correlation, ids.timestamp
        )
    }

    /// The JSON answer of the token and device-code endpoints.
    pub(crate) fn reply(&self, world: &World, incoming: &Incoming) -> Reply {
        let ids = Ids::new(world, incoming);
        let mut body = json!({
            "error": self.code.error,
            "error_description": self.description(&ids),
            "error_codes": [self.code.number],
            "timestamp": ids.timestamp,
            "trace_id": ids.trace,
            "correlation_id": ids.correlation,
            "error_uri": format!("{}/error?code={}", world.base, self.code.number),
        });
        if let Some(object) = body.as_object_mut() {
            if let Some(suberror) = self.code.suberror {
                object.insert("suberror".to_owned(), Value::from(suberror));
            }
            if let Some(claims) = &self.claims {
                object.insert("claims".to_owned(), Value::from(claims.clone()));
            }
        }
        ids.label(Reply::json(self.code.status, &body))
            .with("cache-control", "no-store, no-cache")
            .with("pragma", "no-cache")
    }
}

/// Ids that tie an answer to the logs of Entra ID.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    pub(crate) trace: String,
    pub(crate) correlation: String,
    pub(crate) timestamp: String,
}

impl Ids {
    pub(crate) fn new(world: &World, incoming: &Incoming) -> Self {
        Self {
            trace: world.random.guid(),
            correlation: incoming.correlation_id().map_or_else(|| world.random.guid(), str::to_owned),
            timestamp: entra_timestamp(world.clock.now()),
        }
    }

    /// Adds the headers by which Microsoft's support finds a request again.
    pub(crate) fn label(&self, reply: Reply) -> Reply {
        reply.with("x-ms-request-id", &self.trace).with("client-request-id", &self.correlation)
    }
}

/// The refusal of a `GET` where only `POST` is served.
pub(crate) fn only_post(world: &World, incoming: &Incoming) -> Reply {
    errors::NOT_POST
        .because(format!("The endpoint only accepts POST requests. Received a {} request.", incoming.method))
        .reply(world, incoming)
}
