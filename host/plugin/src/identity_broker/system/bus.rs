//! The Microsoft identity broker on the session bus: `com.microsoft.identity.broker1`.
//!
//! Its methods take a protocol version, a correlation id and a request in JSON, and return an answer in JSON
//! ([`message`](super::message)). The bus starts the broker where it is installed. The interface is not introspected: newer
//! brokers do not describe it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dbus::Message;
use dbus::blocking::Proxy;
use dbus::channel::{BusType, Channel};
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

/// How long the thread that waits for a person reads from the bus before it looks whether the answer is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// How many such looks the end of a window waits until the bus has its request. One is enough for a bus that reads. The thread
/// that waits may be one of the runtime, on which other calls depend.
const MAX_LOOKS: u32 = 2;

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
    // This future holds the window. Dropping the future closes it at once, even if the process ends afterwards.
    let (hand_over, _window) = oneshot::channel();
    on_a_thread(move |broker| {
        let account = broker.account(&request)?;
        let text = message::token_request(&request, account.as_ref());
        if hand_over.is_closed() {
            return Err(BrokerError::Declined);
        }
        let (window, awaited) = broker.open_window(&request.correlation_id, &text)?;
        // A window that is not wanted any more is closed here.
        let _ = hand_over.send(window);
        let answer = awaited.answer()?;
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
struct Broker(Arc<Channel>);

impl Broker {
    fn connect() -> Result<Self, BrokerError> {
        let bus = Channel::get_private(BusType::Session);
        bus.map(|bus| Self(Arc::new(bus)))
            .map_err(|error| BrokerError::Absent(format!("there is no session bus ({})", name(&error))))
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
        let broker = Proxy::new(NAME, PATH, within, &*self.0);
        let answer: Result<(String,), dbus::Error> =
            broker.method_call(INTERFACE, method, (PROTOCOL, correlation_id, request));
        not_too_long(answer.map_err(|error| failed(&error, Some(within)))?.0)
    }

    /// Lets the broker open a window, in which it asks the person.
    fn open_window(&self, correlation_id: &str, request: &str) -> Result<(Window, AwaitedAnswer), BrokerError> {
        let asked = method_call("acquireTokenInteractively", correlation_id, request)?;
        let serial =
            self.0.send(asked).map_err(|()| BrokerError::Unavailable("the bus takes no request".to_owned()))?;
        let over = Arc::new(AtomicBool::new(false));
        let awaited = AwaitedAnswer { bus: Arc::clone(&self.0), serial, over: Arc::clone(&over) };
        Ok((Window { bus: Arc::clone(&self.0), correlation_id: correlation_id.to_owned(), over }, awaited))
    }
}

/// The answer to a request in which the broker asks the person.
struct AwaitedAnswer {
    bus: Arc<Channel>,
    serial: u32,
    over: Arc<AtomicBool>,
}

impl AwaitedAnswer {
    /// Waits for the answer as long as the window is wanted.
    ///
    /// It reads for short times, and does not wait for a reply in libdbus: that would write no other message meanwhile.
    fn answer(self) -> Result<Zeroizing<String>, BrokerError> {
        while !self.over.load(Ordering::SeqCst) {
            let Ok(arrived) = self.bus.blocking_pop_message(LOOK) else {
                self.over.store(true, Ordering::SeqCst);
                return Err(BrokerError::Unavailable("the session bus has gone".to_owned()));
            };
            let is_answer = |message: &Message| message.get_reply_serial() == Some(self.serial);
            // The bus sends signals of its own.
            let Some(mut answer) = arrived.filter(is_answer) else { continue };
            self.over.store(true, Ordering::SeqCst);
            let answer = answer.as_result().map_err(|error| failed(&error, None))?;
            let text = answer.read1::<String>();
            return not_too_long(text.map_err(|_| BrokerError::Refused("its answer is no text".to_owned()))?);
        }
        Err(BrokerError::Declined)
    }
}

/// A window of the broker that asks the person. Dropping it closes the window, unless the broker has answered.
struct Window {
    bus: Arc<Channel>,
    correlation_id: String,
    over: Arc<AtomicBool>,
}

impl Drop for Window {
    /// Waits until the bus has the request, because the process may end next, and not for the answer of the broker.
    fn drop(&mut self) {
        if self.over.swap(true, Ordering::SeqCst) {
            return;
        }
        let Ok(mut cancel) = method_call("cancelInteractiveFlow", &self.correlation_id, message::CANCEL_REQUEST) else {
            return;
        };
        cancel.set_no_reply(true);
        // A broker that has ended has no window.
        cancel.set_auto_start(false);
        if self.bus.send(cancel).is_err() {
            return;
        }
        for _ in 0..MAX_LOOKS {
            if !self.bus.has_messages_to_send() || self.bus.read_write(Some(LOOK)).is_err() {
                return;
            }
        }
    }
}

fn method_call(method: &str, correlation_id: &str, request: &str) -> Result<Message, BrokerError> {
    let call = Message::new_method_call(NAME, PATH, INTERFACE, method).map_err(BrokerError::Unavailable)?;
    Ok(call.append3(PROTOCOL, correlation_id, request))
}

fn not_too_long(answer: String) -> Result<Zeroizing<String>, BrokerError> {
    let answer = Zeroizing::new(answer);
    if answer.len() > MAX_ANSWER_BYTES {
        return Err(BrokerError::Refused(format!("its answer has {} bytes", answer.len())));
    }
    Ok(answer)
}

/// Errors are named, and their texts left out: what a broker writes there may name the person.
fn name(error: &dbus::Error) -> &str {
    error.name().unwrap_or("an error without a name")
}

/// `within`: how long the answer was waited for, if there was a bound.
fn failed(error: &dbus::Error, within: Option<Duration>) -> BrokerError {
    match name(error) {
        name if ABSENT.contains(&name) => BrokerError::Absent("no Microsoft identity broker is installed".to_owned()),
        name if LATE.contains(&name) => BrokerError::Unavailable(match within {
            Some(within) => format!("no answer in {} s", within.as_secs()),
            None => "it has ended without an answer".to_owned(),
        }),
        name => BrokerError::Refused(name.to_owned()),
    }
}
