//! Asking the person through the identity broker of the machine.

use base::audit::Outcome;
use base::settings::BrokerUse;
use world::random::random_uuid;
use world::{BrokerError, BrokerTokens};

use super::super::SignInError;
use super::super::accounts::{self, Account};
use super::super::attempt::{BUSY, Instruction, SIGN_OF_LIFE};
use super::super::broker::{self, Judged};
use super::{Leader, SLICE, SignInRequest};

impl Leader<'_> {
    /// How the sign-in by the broker ended. `None`: the method of the settings has its turn, because no broker is asked, or the
    /// one that was asked could not help.
    pub(super) async fn by_broker_if_used(&self) -> Result<Option<Result<Account, SignInError>>, SignInError> {
        if !broker::is_used(self.person) {
            return Ok(None);
        }
        let error = match self.by_broker().await {
            Err(error) if self.can_go_on_without(&error) => error,
            ended => return Ok(Some(ended)),
        };
        if !matches!(error, SignInError::Broker(BrokerError::Absent(_))) {
            let event = self.env.trail.event("sign-in.ended", Outcome::Failure);
            self.env.trail.record(event.because(error.reason())).await?;
            self.started().await?;
        }
        Ok(None)
    }

    /// Whether the person may sign in without the broker after it has failed in this way.
    fn can_go_on_without(&self, error: &SignInError) -> bool {
        let of_broker = matches!(error, SignInError::Broker(_) | SignInError::Untrusted(_));
        of_broker && self.person.settings.broker == BrokerUse::Automatic
    }

    /// Signs in with an account that the broker has, if that is clear without asking; else the broker asks the person.
    async fn by_broker(&self) -> Result<Account, SignInError> {
        let Self { env, person, request, .. } = *self;
        let SignInRequest { scopes, login_hint, claims, select_account, .. } = request;
        self.alive_for(BUSY).await?;
        let known = person.broker.accounts(&env.settings.client_id, &random_uuid(env.random));
        let known = known.map_err(SignInError::Broker)?;
        let wanted = login_hint.or(person.settings.account.as_deref());
        let account = if *select_account { None } else { broker::wanted(&known, wanted) };
        let id = account.map(|account| account.home_account_id.as_str());
        let hint = wanted.filter(|hint| hint.contains('@'));
        let of_account = broker::request(env, scopes, id, hint, claims.as_deref());
        // An account of another tenant has another object id in this one: the person sees which account it is.
        let comparable = id.filter(|id| broker::is_of_tenant(&env.settings.tenant, id));
        if let Some(id) = comparable
            && claims.is_none()
        {
            match person.broker.acquire_silently(&of_account) {
                Ok(answer) => return self.admit_from_broker(answer, Some(id)).await,
                Err(error) if broker::needs_person(&error) => {}
                Err(error) => return Err(SignInError::Broker(error)),
            }
        }
        let interaction = person.broker.ask_person(&of_account);
        let instruction = Instruction { url: String::new(), user_code: None };
        let began = env.clock.monotonic();
        loop {
            let now = env.clock.monotonic();
            if now >= self.deadline {
                return Err(SignInError::TimedOut(None));
            }
            self.alive_for(SIGN_OF_LIFE).await?;
            self.presenter.waiting(&instruction, now.saturating_sub(began));
            match interaction.wait(SLICE.min(self.deadline.saturating_sub(now))) {
                Some(Ok(answer)) => return self.admit_from_broker(answer, comparable).await,
                Some(Err(BrokerError::Declined)) => return Err(SignInError::Declined),
                Some(Err(error)) => return Err(SignInError::Broker(error)),
                None => {}
            }
        }
    }

    /// Stores account and tokens, once they are judged.
    async fn admit_from_broker(&self, answer: BrokerTokens, asked: Option<&str>) -> Result<Account, SignInError> {
        let Self { env, request, .. } = *self;
        self.alive_for(BUSY).await?;
        let Judged { account, id_token, tokens } = broker::judge(env, answer, asked, &request.scopes).await?;
        env.trail.record(account.event("sign-in.completed", Outcome::Success)).await?;
        let from = accounts::SignInSource { by_broker: true, login_hint: id_token.login_hint() };
        accounts::save_from(env, &account, &request.scopes, tokens, from).await?;
        Ok(account)
    }
}
