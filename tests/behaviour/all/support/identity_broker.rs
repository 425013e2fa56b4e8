//! A session bus of its own, with a service that speaks the interface of the Microsoft identity broker.
//!
//! The service says what a test wants; its tokens are those of the emulator.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use dbus::Message;
use dbus::blocking::Connection;
use dbus::channel::{Channel, MatchingReceiver as _, Sender as _};
use dbus::message::MatchRule;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use super::process;

const NAME: &str = "com.microsoft.identity.broker1";
const PATH: &str = "/com/microsoft/identity/broker1";
const INTERFACE: &str = "com.microsoft.identity.Broker1";

/// Of a bus in this folder, as `session.conf` of D-Bus without the folders of services.
const CONFIGURATION: &str = r#"<busconfig>
  <type>session</type>
  <listen>unix:dir=FOLDER</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// How often the service looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// How long the bus may take to answer, on a machine that is busy.
const ANSWER: Duration = Duration::from_secs(60);

/// What the service does with a call.
pub(crate) enum Reply {
    Answer(Value),
    Nothing,
}

/// A call: the method, and the request.
pub(crate) type Call = (String, Value);

/// A session, which ends with this value.
pub(crate) struct Session {
    address: String,
    calls: Arc<Mutex<Vec<Call>>>,
    windows: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    service: Option<JoinHandle<()>>,
    _bus: Child,
    /// The configuration and the socket of the bus.
    _folder: TempDir,
}

impl Session {
    /// A bus on which nothing is. The services of the machine cannot be started on it: its broker would answer, and its keyring
    /// would read and write in the home of the person who runs the tests.
    pub(crate) async fn without_broker() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let configuration = folder.path().join("bus.conf");
        std::fs::write(&configuration, CONFIGURATION.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
        // Not in `dbus-run-session`, whose bus outlives it when it is killed.
        let mut command = process::command("dbus-daemon");
        command.args(["--nofork", "--print-address", "--config-file"]).arg(configuration);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut bus = command.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).await.unwrap();
        let address = address.trim_end().to_owned();
        let (calls, windows, ended) = (Arc::default(), Arc::default(), Arc::default());
        Self { address, calls, windows, ended, service: None, _bus: bus, _folder: folder }
    }

    /// A bus with a broker.
    pub(crate) async fn with_broker(mut script: impl FnMut(&str, &Value) -> Reply + Send + 'static) -> Self {
        let mut session = Self::without_broker().await;
        let mut channel = Channel::open_private(&session.address).unwrap();
        channel.register().unwrap();
        let connection = Connection::from(channel);
        connection.request_name(NAME, false, true, false).unwrap();
        let (calls, ended) = (Arc::clone(&session.calls), Arc::clone(&session.ended));
        let windows = Arc::clone(&session.windows);
        let answer = move |message: Message, connection: &Connection| {
            if let Some(answer) = answer_to(&message, &calls, &windows, &mut script) {
                connection.send(answer).unwrap();
            }
            true
        };
        connection.start_receive(MatchRule::new_method_call(), Box::new(answer));
        session.service = Some(std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                connection.process(LOOK).unwrap();
            }
        }));
        session
    }

    /// `DBUS_SESSION_BUS_ADDRESS`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The services that can be started on the bus.
    pub(crate) fn services(&self) -> Vec<String> {
        let mut channel = Channel::open_private(&self.address).unwrap();
        channel.register().unwrap();
        let connection = Connection::from(channel);
        let bus = connection.with_proxy("org.freedesktop.DBus", "/org/freedesktop/DBus", ANSWER);
        let (names,): (Vec<String>,) = bus.method_call("org.freedesktop.DBus", "ListActivatableNames", ()).unwrap();
        names
    }

    /// How many windows are open in which the broker asks the person: those of calls that have no answer, and were not
    /// cancelled.
    pub(crate) fn open_windows(&self) -> usize {
        self.windows.lock().unwrap().len()
    }

    /// The calls since the last time.
    pub(crate) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(service) = self.service.take() {
            let _ = service.join();
        }
    }
}

fn answer_to(
    message: &Message,
    calls: &Mutex<Vec<Call>>,
    windows: &Mutex<Vec<String>>,
    script: &mut impl FnMut(&str, &Value) -> Reply,
) -> Option<Message> {
    let (protocol, correlation_id, request): (&str, &str, &str) = message.read3().ok()?;
    let method = message.member()?.to_string();
    assert_eq!(
        (message.path()?.to_string(), message.interface()?.to_string()),
        (PATH.to_owned(), INTERFACE.to_owned())
    );
    assert_eq!((protocol, correlation_id.len()), ("0.0", 36), "{correlation_id} is a GUID");
    let request: Value = serde_json::from_str(request).unwrap();
    calls.lock().unwrap().push((method.clone(), request.clone()));
    if method == "cancelInteractiveFlow" {
        assert_eq!(request, serde_json::json!({}));
        windows.lock().unwrap().retain(|window| window != correlation_id);
        return (!message.get_no_reply()).then(|| message.method_return().append1("{}"));
    }
    match script(&method, &request) {
        Reply::Answer(answer) => Some(message.method_return().append1(answer.to_string())),
        Reply::Nothing => {
            if method == "acquireTokenInteractively" {
                windows.lock().unwrap().push(correlation_id.to_owned());
            }
            None
        }
    }
}
