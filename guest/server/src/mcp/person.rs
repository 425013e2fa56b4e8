//! How the person behind an MCP client learns that they have to act: elicitation in URL mode, progress.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use async_trait::async_trait;
use base::settings::Settings;
use caller::local::interactive::{Alive, Presentation, Presenter, SLICE};
use caller::local::{Account, Instruction, PersonWorld, SignInError};
use serde_json::{Value, json};
use world::ChannelError;
use world::random::random_uuid;

use super::version::Era;

/// Pause between two progress notifications.
const PROGRESS_PAUSE: Duration = Duration::from_secs(2);

/// Most accounts that a form offers. With more, the setting `account` chooses.
const MAX_OFFERED: usize = 50;

/// The name of the one field of that form, and of what is asked for with it.
pub(super) const ACCOUNT: &str = "account";

/// The client of one call.
pub(super) struct ClientPresenter<'a> {
    pub(super) person: &'a PersonWorld<'a>,
    pub(super) era: &'a Era,
    /// The token of the call's progress notifications, if the client wants any.
    pub(super) progress_token: Option<Value>,
    pub(super) state: ClientState,
}

/// What is remembered while a call runs.
#[derive(Default)]
pub(super) struct ClientState {
    /// The elicitation that was accepted and has not been completed.
    elicitation: RefCell<Option<String>>,
    /// Progress last reported: it has to grow with every notification.
    progress: Cell<Option<Duration>>,
}

/// The parameters of an elicitation in URL mode.
pub(super) fn elicitation(instruction: &Instruction, settings: &Settings) -> Value {
    let message = match &instruction.user_code {
        Some(code) => format!("Sign in to Microsoft Entra ID: open the page and enter the code {code}."),
        None if settings.servers.is_empty() => {
            "Sign in to Microsoft Entra ID to let this server read your profile.".to_owned()
        }
        None => "Sign in to Microsoft Entra ID to use the tools of this server.".to_owned(),
    };
    json!({ "mode": "url", "message": message, "url": instruction.url })
}

/// The parameters of an elicitation in form mode: which of these accounts is meant.
pub(super) fn account_form(accounts: &[Account], era: &Era) -> Value {
    let offered = accounts.get(..MAX_OFFERED.min(accounts.len())).unwrap_or_default();
    let titled = |account: &Account| match (account.username.as_str(), account.name.as_str()) {
        ("", _) => account.home_account_id.clone(),
        // Two accounts may have one user name.
        (name, _) if accounts.iter().filter(|other| other.username == name).count() > 1 => {
            format!("{name} ({})", account.home_account_id)
        }
        (username, "") => username.to_owned(),
        (username, name) => format!("{username} ({name})"),
    };
    let choice = if era.has_titled_choices() {
        let options =
            offered.iter().map(|account| json!({ "const": account.home_account_id, "title": titled(account) }));
        json!({ "type": "string", "title": "Account", "oneOf": options.collect::<Vec<_>>() })
    } else {
        let (ids, names): (Vec<_>, Vec<_>) =
            offered.iter().map(|account| (account.home_account_id.as_str(), titled(account))).unzip();
        json!({ "type": "string", "title": "Account", "enum": ids, "enumNames": names })
    };
    json!({
        "message": "Several accounts are signed in. Choose the one whose data this server may use on this connection.",
        "requestedSchema": { "type": "object", "properties": { ACCOUNT: choice }, "required": [ACCOUNT] },
    })
}

/// The account that the answer to an elicitation names, if it is one of these.
pub(super) fn chosen_account<'a>(answer: &Value, accounts: &'a [Account]) -> Option<&'a Account> {
    let accepted = answer.get("action").and_then(Value::as_str) == Some("accept");
    let id = answer.get("content")?.get(ACCOUNT)?.as_str().filter(|_| accepted)?;
    accounts.iter().find(|account| account.home_account_id == id)
}

impl ClientPresenter<'_> {
    /// Asks the client's user which of these accounts is meant. `None`: the user has not said.
    pub(super) fn ask_account<'a>(&self, accounts: &'a [Account]) -> Option<&'a Account> {
        let (clock, timeout) = (self.person.entra.clock, self.person.settings.timeout);
        let began = clock.monotonic();
        let pending = self.person.channel.request("elicitation/create", &account_form(accounts, self.era), timeout);
        loop {
            if let Some(answer) = pending.wait(SLICE) {
                return chosen_account(&answer.ok()?, accounts);
            }
            if clock.monotonic().saturating_sub(began) >= timeout {
                return None;
            }
        }
    }
}

#[async_trait(?Send)]
impl Presenter for ClientPresenter<'_> {
    async fn present(
        &self,
        instruction: &Instruction,
        timeout: Duration,
        alive: &dyn Alive,
    ) -> Result<Presentation, SignInError> {
        if !self.era.can_show_url() {
            return Ok(Presentation::Unsupported);
        }
        if self.era.is_modern() {
            return Ok(Presentation::Deferred);
        }
        let id = random_uuid(self.person.entra.random);
        let mut params = elicitation(instruction, self.person.entra.settings);
        if let Some(params) = params.as_object_mut() {
            params.insert("elicitationId".to_owned(), json!(id));
        }
        let began = self.person.entra.clock.monotonic();
        let pending = self.person.channel.request("elicitation/create", &params, timeout);
        let answer = loop {
            alive.alive().await?;
            let waited = self.person.entra.clock.monotonic().saturating_sub(began);
            if waited >= timeout {
                break Err(ChannelError::TimedOut);
            }
            self.waiting(instruction, waited);
            if let Some(answer) = pending.wait(SLICE) {
                break answer;
            }
        };
        Ok(match answer {
            Ok(result) if result.get("action").and_then(Value::as_str) == Some("accept") => {
                *self.state.elicitation.borrow_mut() = Some(id);
                Presentation::ByClient
            }
            Ok(_) => Presentation::Declined,
            Err(ChannelError::TimedOut) => return Err(SignInError::TimedOut(Some(instruction.clone()))),
            // No client is left to sign in for.
            Err(ChannelError::Closed) => return Err(SignInError::ClientGone),
            // The client has promised more than it does: the user agent is still there.
            Err(_) => Presentation::Unsupported,
        })
    }

    fn waiting(&self, instruction: &Instruction, waited: Duration) {
        let Some(token) = &self.progress_token else { return };
        if self.state.progress.get().is_some_and(|last| waited < last + PROGRESS_PAUSE) {
            return;
        }
        self.state.progress.set(Some(waited));
        let params = json!({
            "progressToken": token,
            "progress": waited.as_secs_f64(),
            "total": self.person.settings.timeout.as_secs_f64(),
            "message": instruction.sentence(),
        });
        self.person.channel.notify("notifications/progress", &params);
    }

    fn ended(&self) {
        if let Some(id) = self.state.elicitation.borrow_mut().take() {
            self.person.channel.notify("notifications/elicitation/complete", &json!({ "elicitationId": id }));
        }
    }
}
