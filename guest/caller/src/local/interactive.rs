//! Asking the person: through the browser, or with a code to enter on another device.

use std::cell::Cell;
use std::time::Duration;

use async_trait::async_trait;
use base::audit::Outcome;
use base::settings::SignInMethod;
use entra::EntraWorld;
use entra::oauth::authorization_code::{AuthorizationRequest, Prompt};
use entra::oauth::device_code::DeviceCode;
use entra::oauth::with_openid;
use entra::token;
use world::records::Records;
use world::{BodyOnce, LoopbackListener, Page, StoreError, UserAgent, UserAgentError};

use super::accounts::{self, Account};
use super::attempt::{self, BUSY, Current, Ended, Instruction, SIGN_OF_LIFE, SignInAttempt, SignInGrant, SignInTurn};
use super::{PersonWorld, SignInError, Untrusted};

mod by_broker;
mod presenter;
#[cfg(test)]
mod tests;

pub use presenter::{Alive, NoClient, Presentation, Presenter};

/// The longest wait without a sign of life and a look at the deadline.
pub const SLICE: Duration = Duration::from_secs(1);
/// Pause between two looks at a sign-in that another call leads.
const JOIN_POLL: Duration = Duration::from_millis(200);

/// What a sign-in is for.
#[derive(Default)]
pub struct SignInRequest<'a> {
    /// Scopes of the API that the token is for.
    pub scopes: Vec<String>,
    /// The user name to fill in.
    pub login_hint: Option<&'a str>,
    /// A claims challenge to answer.
    pub claims: Option<String>,
    /// Lets the person choose the account.
    pub select_account: bool,
    /// The attempt that the client has presented before.
    pub resumes: Option<&'a str>,
}

/// Signs a person in. Waits at most as long as the settings say.
#[inline(never)]
pub fn sign_in<'f>(
    person: &'f PersonWorld<'_>,
    request: &'f SignInRequest<'_>,
    presenter: &'f dyn Presenter,
) -> BodyOnce<'f, Result<Account, SignInError>> {
    Box::pin(async move {
        let env = &person.entra;
        let deadline = env.clock.monotonic() + person.settings.timeout;
        let me = attempt::fresh_id(env.random);
        loop {
            let result = match attempt::take_turn(env, &me).await? {
                SignInTurn::Join => match join(person, deadline, presenter).await? {
                    Some(account) => return Ok(account),
                    None => continue,
                },
                SignInTurn::Lead if request.resumes.is_some() => {
                    // What the client has shown its user is over: by success of another call, or by time.
                    if let Some(account) = signed_in_meanwhile(person, request).await? {
                        finish(&env.records, &me, Ended::SignedIn(account.home_account_id.clone())).await?;
                        return Ok(account);
                    }
                    Leader { person, env, request, presenter, me: &me, deadline }.begin().await
                }
                SignInTurn::Lead => Leader { person, env, request, presenter, me: &me, deadline }.begin().await,
                SignInTurn::Resume(attempt) => {
                    let resumed_by_client = request.resumes == Some(attempt.id.as_str());
                    Leader { person, env, request, presenter, me: &me, deadline }
                        .resume(*attempt, resumed_by_client)
                        .await
                }
            };
            presenter.ended();
            let result = result.map_err(|error| error.naming_ids(env.settings));
            // Another call took this one for dead and leads now: this one waits for its outcome.
            if matches!(result, Err(SignInError::TakenOver)) {
                continue;
            }
            match &result {
                Ok(account) => finish(&env.records, &me, Ended::SignedIn(account.home_account_id.clone())).await?,
                // No other call has to fail because this one's client has gone.
                Err(SignInError::ClientGone) => attempt::abandon(&env.records, &me).await?,
                // The attempt goes on without this call.
                Err(SignInError::Deferred { .. } | SignInError::TimedOut(Some(_))) => {}
                Err(error) => finish(&env.records, &me, Ended::Failed(error.to_string())).await?,
            }
            if let Err(error) = &result {
                let outcome =
                    if matches!(error, SignInError::Deferred { .. }) { Outcome::Started } else { Outcome::Failure };
                let event = env.trail.event("sign-in.ended", outcome);
                env.trail.record(event.because(error.reason())).await?;
            }
            return result;
        }
    })
}

/// The account, if there is one that needs no sign-in.
async fn signed_in_meanwhile(
    person: &PersonWorld<'_>,
    request: &SignInRequest<'_>,
) -> Result<Option<Account>, SignInError> {
    let Ok(account) = accounts::choose(person, None).await else {
        return Ok(None);
    };
    let tokens = match accounts::tokens(&person.entra.records, &account.home_account_id).await {
        // The sign-in replaces them.
        Err(StoreError::Unreadable) => return Ok(None),
        tokens => tokens?,
    };
    let has_session = tokens.refresh_token.is_some() || tokens.by_broker;
    Ok((has_session && request.claims.is_none()).then_some(account))
}

async fn finish(records: &Records<'_>, me: &str, outcome: Ended) -> Result<(), SignInError> {
    attempt::as_leader(records, me, |current| {
        current.outcome = Some(outcome);
        current.leader = None;
    })
    .await?;
    Ok(())
}

/// Waits for the sign-in that another call leads. `None` when that call is gone and the turn is open again.
async fn join(
    person: &PersonWorld<'_>,
    deadline: Duration,
    presenter: &dyn Presenter,
) -> Result<Option<Account>, SignInError> {
    let env = &person.entra;
    let began = env.clock.monotonic();
    let mut alive_until = None;
    loop {
        let Some(current) = attempt::current(&env.records).await? else {
            return Ok(None);
        };
        match current.outcome {
            Some(Ended::SignedIn(id)) => return Ok(Some(accounts::choose(person, Some(&id)).await?)),
            Some(Ended::Failed(message)) => return Err(SignInError::JoinedFailed(message)),
            None if !current.is_led(env.clock.now()) => return Ok(None),
            None => {}
        }
        let instruction = SignInAttempt::load(&env.records, &current.attempt).await?.map(|attempt| attempt.instruction);
        let now = env.clock.monotonic();
        if now >= deadline {
            return Err(SignInError::TimedOut(instruction));
        }
        // The link of a leader that has shown no sign of life since may lead to a listener that is gone.
        let lives = alive_until.is_some_and(|seen| current.alive_until != seen);
        alive_until = alive_until.or(Some(current.alive_until));
        if let Some(instruction) = instruction.as_ref().filter(|_| lives) {
            presenter.waiting(instruction, now.saturating_sub(began));
        }
        env.clock.sleep(JOIN_POLL).await;
    }
}

/// The call that leads a sign-in.
struct Leader<'a> {
    person: &'a PersonWorld<'a>,
    env: &'a EntraWorld<'a>,
    request: &'a SignInRequest<'a>,
    presenter: &'a dyn Presenter,
    me: &'a str,
    deadline: Duration,
}

impl Leader<'_> {
    async fn begin(&self) -> Result<Account, SignInError> {
        self.started().await?;
        if let Some(ended) = self.by_broker_if_used().await? {
            return ended;
        }
        match self.person.settings.method {
            SignInMethod::DeviceCode => self.by_device_code().await,
            SignInMethod::Browser => self.by_browser().await,
            SignInMethod::Automatic => match self.by_browser().await {
                Err(SignInError::NoBrowser(_)) => self.by_device_code().await,
                other => other,
            },
        }
    }

    async fn started(&self) -> Result<(), SignInError> {
        let event = self.env.trail.event("sign-in.started", Outcome::Started);
        Ok(self.env.trail.record(event).await?)
    }

    /// Goes on with an attempt that an earlier call has left behind.
    async fn resume(&self, attempt: SignInAttempt, presented: bool) -> Result<Account, SignInError> {
        let SignInGrant::AuthorizationCode { listener, .. } = &attempt.grant else {
            return self.resume_code(attempt, presented).await;
        };
        match listener.as_deref().map(|id| self.person.agent.attach(id)) {
            Some(Ok(listener)) => self.resume_browser(attempt, listener, presented).await,
            // The listener was in a process that has ended, or its time is up.
            _ => self.begin().await,
        }
    }

    /// Goes on with a code that an earlier call has shown. One of a process that could open no browser is not handed to a
    /// person whose browser can be opened.
    async fn resume_code(&self, attempt: SignInAttempt, presented: bool) -> Result<Account, SignInError> {
        if presented || self.person.settings.method == SignInMethod::DeviceCode {
            return self.go_on_with_code(attempt, presented).await;
        }
        match self.by_browser().await {
            Err(SignInError::NoBrowser(_)) if self.person.settings.method == SignInMethod::Automatic => {
                self.announce(&attempt).await?;
                self.go_on_with_code(attempt, presented).await
            }
            other => other,
        }
    }

    async fn by_browser(&self) -> Result<Account, SignInError> {
        let env = self.env;
        let listener = self.person.agent.listen().map_err(no_browser)?;
        // Entra ID shows what is wrong with the tenant on its own page, and redirects no browser back: this call would wait in
        // vain.
        self.alive_for(BUSY).await?;
        token::check_authority(env).await?;
        let scopes = with_openid(&self.request.scopes);
        let request =
            AuthorizationRequest::new(env.random, listener.redirect_uri(), scopes, self.request.claims.clone());
        let prompt = Prompt {
            login_hint: self
                .request
                .login_hint
                .or(self.person.settings.account.as_deref())
                .filter(|hint| hint.contains('@')),
            select_account: self.request.select_account,
            login: false,
        };
        let url = request.url(env, prompt)?;
        let attempt = SignInAttempt {
            id: attempt::fresh_id(env.random),
            instruction: Instruction { url, user_code: None },
            grant: SignInGrant::AuthorizationCode {
                request,
                listener: Some(listener.detach(attempt::BROWSER_LIFETIME)),
            },
            scopes: self.request.scopes.clone(),
            expires_at: env.clock.now() + attempt::BROWSER_LIFETIME.as_secs(),
        };
        self.announce(&attempt).await?;
        self.go_on_with_browser(attempt, listener, false).await
    }

    /// Goes on with a page that an earlier call has opened. The person may have been faster than this call.
    async fn resume_browser(
        &self,
        mut attempt: SignInAttempt,
        listener: Box<dyn LoopbackListener>,
        presented: bool,
    ) -> Result<Account, SignInError> {
        if let SignInGrant::AuthorizationCode { listener: id, .. } = &mut attempt.grant {
            let left = attempt.expires_at.saturating_sub(self.env.clock.now());
            *id = Some(listener.detach(Duration::from_secs(left)));
        }
        attempt.save(&self.env.records).await?;
        if let Some(query) = listener.wait(Duration::ZERO) {
            return self.redirected(&attempt, listener.as_ref(), &query).await;
        }
        self.go_on_with_browser(attempt, listener, presented).await
    }

    /// Presents the page unless the client has done so, and waits for the redirect.
    async fn go_on_with_browser(
        &self,
        attempt: SignInAttempt,
        listener: Box<dyn LoopbackListener>,
        presented: bool,
    ) -> Result<Account, SignInError> {
        let shown = if presented { Ok(()) } else { self.present(&attempt).await };
        match shown {
            Ok(()) => self.await_redirect(attempt, listener).await,
            Err(error) => {
                match error {
                    SignInError::Deferred { .. } | SignInError::TimedOut(_) => self.release().await?,
                    SignInError::TakenOver => {}
                    _ => close(self.person.agent, &attempt),
                }
                Err(error)
            }
        }
    }

    /// Presents the code unless the client has done so, and polls for the tokens.
    async fn go_on_with_code(&self, attempt: SignInAttempt, presented: bool) -> Result<Account, SignInError> {
        let shown = if presented { Ok(()) } else { self.present(&attempt).await };
        match shown {
            Ok(()) => self.poll(attempt).await,
            Err(error) => {
                if matches!(error, SignInError::Deferred { .. }) {
                    self.release().await?;
                }
                Err(error)
            }
        }
    }

    async fn by_device_code(&self) -> Result<Account, SignInError> {
        let env = self.env;
        self.alive_for(BUSY).await?;
        let code = DeviceCode::request(env, &with_openid(&self.request.scopes)).await?;
        let attempt = SignInAttempt {
            id: attempt::fresh_id(env.random),
            instruction: Instruction {
                url: code.verification_uri().to_owned(),
                user_code: Some(code.user_code().to_owned()),
            },
            expires_at: code.expires_at,
            grant: SignInGrant::DeviceCode(code),
            scopes: self.request.scopes.clone(),
        };
        self.announce(&attempt).await?;
        self.go_on_with_code(attempt, false).await
    }

    /// Makes the attempt known to other calls, before the person sees it.
    async fn announce(&self, attempt: &SignInAttempt) -> Result<(), SignInError> {
        attempt.save(&self.env.records).await?;
        self.lead(|current| {
            current.attempt.clone_from(&attempt.id);
            current.expires_at = attempt.expires_at;
        })
        .await
    }

    /// Shows the person what to do: by the client if it can, else by the user agent.
    async fn present(&self, attempt: &SignInAttempt) -> Result<(), SignInError> {
        let timeout = self.deadline.saturating_sub(self.env.clock.monotonic());
        let instruction = &attempt.instruction;
        match self.presenter.present(instruction, timeout, self).await? {
            Presentation::ByClient => Ok(()),
            Presentation::Declined => Err(SignInError::Declined),
            Presentation::Deferred => {
                Err(SignInError::Deferred { attempt: attempt.id.clone(), instruction: instruction.clone() })
            }
            Presentation::Unsupported => {
                if instruction.user_code.is_some() {
                    self.person.agent.prompt(&instruction.sentence());
                    return Ok(());
                }
                self.person.agent.open_browser(&instruction.url).map_err(no_browser)
            }
        }
    }

    async fn await_redirect(
        &self,
        attempt: SignInAttempt,
        listener: Box<dyn LoopbackListener>,
    ) -> Result<Account, SignInError> {
        let env = self.env;
        let began = env.clock.monotonic();
        loop {
            let now = env.clock.monotonic();
            if now >= self.deadline {
                // The page stays open: the next call goes on with it.
                self.release().await?;
                return Err(SignInError::TimedOut(Some(attempt.instruction)));
            }
            self.alive_for(SIGN_OF_LIFE).await?;
            self.presenter.waiting(&attempt.instruction, now.saturating_sub(began));
            if let Some(query) = listener.wait(SLICE.min(self.deadline.saturating_sub(now))) {
                return self.redirected(&attempt, listener.as_ref(), &query).await;
            }
        }
    }

    /// The person has come back: redeems the code, tells the browser how it went, and closes the listener.
    async fn redirected(
        &self,
        attempt: &SignInAttempt,
        listener: &dyn LoopbackListener,
        query: &str,
    ) -> Result<Account, SignInError> {
        self.alive_for(BUSY).await?;
        let result = redeem(self.env, &attempt.id, query).await;
        listener.respond(page(&result));
        close(self.person.agent, attempt);
        result
    }

    async fn poll(&self, attempt: SignInAttempt) -> Result<Account, SignInError> {
        let env = self.env;
        let SignInGrant::DeviceCode(code) = &attempt.grant else {
            return Err(SignInError::Untrusted(Untrusted::UnknownAttempt));
        };
        let began = env.clock.monotonic();
        let lost: Cell<Option<SignInError>> = Cell::new(None);
        // Returns whether to go on polling.
        let pause = |duration: Duration| {
            let (lost, instruction) = (&lost, &attempt.instruction);
            async move {
                // Whatever pause Entra ID asks for: not shorter than a slice, and not beyond the deadline.
                let now = env.clock.monotonic();
                let end = now.saturating_add(duration).min(self.deadline).max(now + SLICE);
                loop {
                    let now = env.clock.monotonic();
                    // The poll that follows may take long.
                    let alive = self.alive_for(if now >= end { BUSY } else { SIGN_OF_LIFE + SLICE }).await;
                    if let Err(error) = alive {
                        lost.set(Some(error));
                        return false;
                    }
                    self.presenter.waiting(instruction, now.saturating_sub(began));
                    if now >= end {
                        return true;
                    }
                    env.clock.sleep(SLICE.min(end.saturating_sub(now))).await;
                }
            }
        };
        self.alive_for(BUSY).await?;
        let timeout = self.deadline.saturating_sub(began);
        let answer = code.poll(env, timeout, pause).await;
        if let Some(error) = lost.take() {
            return Err(error);
        }
        let tokens = match answer {
            Ok(tokens) => tokens,
            Err(entra::oauth::OAuthError::Expired) if env.clock.now() < attempt.expires_at => {
                // The code still stands; only this call has run out of time.
                self.release().await?;
                return Err(SignInError::TimedOut(Some(attempt.instruction.clone())));
            }
            Err(error) => {
                SignInAttempt::take(&env.records, &attempt.id).await?;
                return Err(error.into());
            }
        };
        // Another call may lead by now: the code is used up all the same, and these are the tokens.
        let _ = self.alive_for(BUSY).await;
        SignInAttempt::take(&env.records, &attempt.id).await?;
        attempt::admit(env, tokens, &attempt.scopes, None).await
    }

    /// Stops leading; the attempt stays.
    async fn release(&self) -> Result<(), SignInError> {
        attempt::as_leader(&self.env.records, self.me, |current| current.leader = None).await?;
        Ok(())
    }

    /// Shows the other calls that this one is still there.
    async fn alive_for(&self, duration: Duration) -> Result<(), SignInError> {
        let until = self.env.clock.now() + duration.as_secs();
        self.lead(|current| current.alive_until = until).await
    }

    async fn lead(&self, change: impl FnOnce(&mut Current)) -> Result<(), SignInError> {
        if attempt::as_leader(&self.env.records, self.me, change).await? { Ok(()) } else { Err(SignInError::TakenOver) }
    }
}

#[async_trait(?Send)]
impl Alive for Leader<'_> {
    async fn alive(&self) -> Result<(), SignInError> {
        self.alive_for(SIGN_OF_LIFE).await
    }
}

/// Closes the listener of an attempt that is over: a listener that was left running is closed by attaching to it.
fn close(agent: &dyn UserAgent, attempt: &SignInAttempt) {
    if let SignInGrant::AuthorizationCode { listener: Some(id), .. } = &attempt.grant {
        drop(agent.attach(id));
    }
}

/// Redeems what came back through the browser. The attempt ends here, whatever the result.
#[inline(never)]
pub fn redeem<'f>(
    env: &'f EntraWorld<'_>,
    attempt: &'f str,
    query: &'f str,
) -> BodyOnce<'f, Result<Account, SignInError>> {
    Box::pin(async move {
        let attempt = SignInAttempt::take(&env.records, attempt)
            .await?
            .ok_or(SignInError::Untrusted(Untrusted::UnknownAttempt))?;
        let SignInGrant::AuthorizationCode { request, .. } = &attempt.grant else {
            return Err(SignInError::Untrusted(Untrusted::UnknownAttempt));
        };
        let tokens =
            request.redeem(env, query).await.map_err(|error| SignInError::from(error).naming_ids(env.settings))?;
        attempt::admit(env, tokens, &attempt.scopes, Some(&request.nonce)).await
    })
}

/// Ends an attempt that the person has declined in the client, unless another call has taken it over.
#[inline(never)]
pub fn decline<'f>(person: &'f PersonWorld<'_>, attempt: &'f str) -> BodyOnce<'f, Result<(), SignInError>> {
    Box::pin(async move {
        let env = &person.entra;
        let now = env.clock.now();
        let taken_over = attempt::current(&env.records)
            .await?
            .is_some_and(|current| current.attempt == attempt && current.is_led(now));
        if !taken_over && let Some(attempt) = SignInAttempt::take(&env.records, attempt).await? {
            close(person.agent, &attempt);
        }
        let event = env.trail.event("sign-in.ended", Outcome::Failure);
        Ok(env.trail.record(event.because(SignInError::Declined.reason())).await?)
    })
}

/// Gives the sign-in up that a call of this process leads: the process ends, and with it the listener for the answer. A
/// device code stands by itself, and stays.
#[inline(never)]
pub fn give_up<'f>(person: &'f PersonWorld<'_>) -> BodyOnce<'f, Result<(), SignInError>> {
    Box::pin(async move {
        let env = &person.entra;
        let is_ours = |attempt: &SignInAttempt| match &attempt.grant {
            SignInGrant::AuthorizationCode { listener: Some(id), .. } => person.agent.attach(id).is_ok(),
            SignInGrant::AuthorizationCode { listener: None, .. } | SignInGrant::DeviceCode(_) => false,
        };
        Ok(attempt::give_up(&env.records, is_ours).await?)
    })
}

/// Begins a sign-in whose page is shown by the host itself.
#[inline(never)]
pub fn start<'f>(
    env: &'f EntraWorld<'_>,
    redirect_uri: String,
    scopes: Vec<String>,
    login_hint: Option<&'f str>,
) -> BodyOnce<'f, Result<SignInAttempt, SignInError>> {
    Box::pin(async move {
        env.trail.record(env.trail.event("sign-in.started", Outcome::Started)).await?;
        let request = AuthorizationRequest::new(env.random, redirect_uri, with_openid(&scopes), None);
        let url = request.url(env, Prompt { login_hint, ..Prompt::default() })?;
        let attempt = SignInAttempt {
            id: attempt::fresh_id(env.random),
            instruction: Instruction { url, user_code: None },
            grant: SignInGrant::AuthorizationCode { request, listener: None },
            scopes,
            expires_at: env.clock.now() + attempt::BROWSER_LIFETIME.as_secs(),
        };
        attempt.save(&env.records).await?;
        Ok(attempt)
    })
}

fn no_browser(error: UserAgentError) -> SignInError {
    SignInError::NoBrowser(error)
}

fn page(result: &Result<Account, SignInError>) -> Page {
    match result {
        Ok(_) => Page {
            success: true,
            title: "You are signed in".to_owned(),
            message: "You can close this window and go back to your application.".to_owned(),
        },
        Err(error) => Page {
            success: false,
            title: "The sign-in did not succeed".to_owned(),
            message: format!("{} Go back to your application to try again.", sentence(&error.to_string())),
        },
    }
}

/// The text of an error as a sentence of its own.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase()).into_iter().flatten();
    let end = if text.ends_with(['.', ')']) { "" } else { "." };
    first.chain(letters).chain(end.chars()).collect()
}
