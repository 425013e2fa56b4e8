//! What a client's program tells about a scenario.

use serde_json::{Value, json};

#[derive(Debug)]
pub(crate) struct Report(Value);

impl Report {
    /// Checks what holds in every scenario.
    pub(crate) fn new(report: Value) -> Self {
        assert_eq!(report["errors"], json!([]), "the client could not make sense of something");
        if let Some(exit) = report.get("exit") {
            assert_eq!(*exit, json!({ "code": 0, "signal": null }), "the server did not end by itself");
        }
        Self(report)
    }

    pub(crate) fn get(&self, name: &str) -> &Value {
        &self.0[name]
    }

    pub(crate) fn list(&self, name: &str) -> &[Value] {
        self.0[name].as_array().unwrap()
    }

    /// The messages of one side, in order.
    fn messages(&self, side: &'static str) -> impl Iterator<Item = &Value> {
        self.list("wire").iter().filter(move |entry| entry["from"] == side).map(|entry| &entry["message"])
    }

    /// The messages with this method that one side sent.
    pub(crate) fn sent(&self, side: &'static str, method: &str) -> Vec<&Value> {
        self.messages(side).filter(|message| message["method"] == method).collect()
    }

    /// The answers that one side gave to a request of the other.
    pub(crate) fn answers(&self, side: &'static str, id: &Value) -> Vec<&Value> {
        self.messages(side).filter(|message| message.get("method").is_none() && message["id"] == *id).collect()
    }

    /// The requests that the server made.
    pub(crate) fn server_requests(&self) -> Vec<&Value> {
        self.messages("server")
            .filter(|message| message.get("method").is_some() && message.get("id").is_some())
            .collect()
    }
}
