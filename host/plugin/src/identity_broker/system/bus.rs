//! The Microsoft identity broker on the session bus: `com.microsoft.identity.broker1`.
//!
//! Its methods take a protocol version, a correlation id and a request in JSON, and return an answer in JSON
//! ([`message`](super::message)). The bus starts the broker where it is installed. The interface is not introspected: newer
//! brokers do not describe it.

use std::time::Duration;

use dbus::blocking::{Connection, Proxy};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::message;
use crate::identity_broker::{BrokerAccount, BrokerError, BrokerRequest, BrokerTokens};

const NAME: &str = "com.microsoft.identity.broker1";
const PATH: &str = "/com/microsoft/identity/broker1";
const INTERFACE: &str = "com.microsoft.identity.Broker1";

/// The version of the protocol that Microsoft's libraries name.
const PROTOCOL: &str = "0.0";

/// How long the broker may take to answer without the person: a request to Entra ID, and starting it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long the broker may take to ask the person. The component gives up earlier.
const PERSON_WITHIN: Duration = Duration::from_secs(3_600);

/// Longest answer in bytes. Tokens have 1 to 4 KiB each.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// How the bus says that no broker runs and none can be started.
const ABSENT: [&str; 4] = [
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Spawn.ServiceNotFound",
    "org.freedesktop.DBus.Error.Spawn.ExecFailed",
];

/// How it says that there was no answer.
const LATE: [&str; 3] =
    ["org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Timeout", "org.freedesktop.DBus.Error.TimedOut"];

pub(super) async fn accounts(client_id: &str, correlation_id: &str) -> Result<Vec<BrokerAccount>, BrokerError> {
    let (client_id, correlation_id) = (client_id.to_owned(), correlation_id.to_owned());
    let known = on_a_thread(move |broker| broker.accounts(&client_id, None, &correlation_id)).await?;
    Ok(known.iter().filter_map(message::Known::account).collect())
}

pub(super) async fn acquire_silently(request: BrokerRequest) -> Result<BrokerTokens, BrokerError> {
    on_a_thread(move |broker| {
        // The broker wants the whole account that it has listed.
        let account = broker.account(&request)?.ok_or(BrokerError::InteractionRequired)?;
        let text = message::token_request(&request, Some(&account));
        broker
            .call("acquireTokenSilently", &request.correlation_id, &text, ANSWER_WITHIN)
            .and_then(|answer| message::tokens(&answer))
    })
    .await
}

pub(super) async fn ask_person(request: BrokerRequest) -> Result<BrokerTokens, BrokerError> {
    on_a_thread(move |broker| {
        let account = broker.account(&request)?;
        let text = message::token_request(&request, account.as_ref());
        let answer = broker.call("acquireTokenInteractively", &request.correlation_id, &text, PERSON_WITHIN)?;
        message::tokens(&answer)
    })
    .await
}

/// Asks on a thread of its own, because libdbus blocks. The answer of a broker that is too late is dropped; the thread does not
/// keep the process from ending.
async fn on_a_thread<T: Send + 'static>(
    ask: impl FnOnce(&Broker) -> Result<T, BrokerError> + Send + 'static,
) -> Result<T, BrokerError> {
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new().name("identity-broker".to_owned());
    let asking = thread.spawn(move || {
        let answer = Broker::connect().and_then(|broker| ask(&broker));
        // Where it is too late, nothing receives it.
        let _ = sender.send(answer);
    });
    asking.map_err(|error| BrokerError::Unavailable(error.to_string()))?;
    receiver.await.unwrap_or_else(|_| Err(BrokerError::Unavailable("the question has failed".to_owned())))
}

/// A connection to the bus.
struct Broker(Connection);

impl Broker {
    fn connect() -> Result<Self, BrokerError> {
        let connection = Connection::new_session();
        connection.map(Self).map_err(|error| BrokerError::Absent(format!("there is no session bus ({})", name(&error))))
    }

    fn accounts(
        &self,
        client_id: &str,
        authority: Option<&str>,
        correlation_id: &str,
    ) -> Result<Vec<message::Known>, BrokerError> {
        let text = message::accounts_request(client_id, authority);
        self.call("getAccounts", correlation_id, &text, ANSWER_WITHIN).and_then(|answer| message::accounts(&answer))
    }

    /// The account that a request is for.
    fn account(&self, request: &BrokerRequest) -> Result<Option<message::Known>, BrokerError> {
        let Some(wanted) = &request.account else { return Ok(None) };
        let known = self.accounts(&request.client_id, Some(&request.authority), &request.correlation_id)?;
        let is_wanted =
            |known: &message::Known| known.account().is_some_and(|account| account.home_account_id == *wanted);
        Ok(known.into_iter().find(is_wanted))
    }

    fn call(
        &self,
        method: &str,
        correlation_id: &str,
        request: &str,
        within: Duration,
    ) -> Result<Zeroizing<String>, BrokerError> {
        let broker = Proxy::new(NAME, PATH, within, &self.0);
        let answer: Result<(String,), dbus::Error> =
            broker.method_call(INTERFACE, method, (PROTOCOL, correlation_id, request));
        let answer = Zeroizing::new(answer.map_err(|error| failed(&error, within))?.0);
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(BrokerError::Refused(format!("its answer has {} bytes", answer.len())));
        }
        Ok(answer)
    }
}

/// Errors are named, and their texts left out: what a broker writes there may name the person.
fn name(error: &dbus::Error) -> &str {
    error.name().unwrap_or("an error without a name")
}

fn failed(error: &dbus::Error, within: Duration) -> BrokerError {
    match name(error) {
        name if ABSENT.contains(&name) => BrokerError::Absent("no Microsoft identity broker is installed".to_owned()),
        name if LATE.contains(&name) => BrokerError::Unavailable(format!("no answer in {} s", within.as_secs())),
        name => BrokerError::Refused(name.to_owned()),
    }
}
