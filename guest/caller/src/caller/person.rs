//! The person at this machine: on a local transport nothing else can send messages.

use std::cell::RefCell;

use async_trait::async_trait;
use base::Secret;
use base::decision::Facts;
use entra::EntraWorld;
use entra::graph::{GraphChallenge, GraphError, Source};

use super::{Caller, CallerAuthentication, CallerReference, NoToken};
use crate::local::interactive::{self, Presenter, SignInRequest};
use crate::local::{AccessToken, PersonWorld, SignInError, accounts, profile, silent};
use crate::session::{Membership, Unconfirmed};

/// The person at this machine. A token may require asking them.
pub struct PersonCaller<'a> {
    person: &'a PersonWorld<'a>,
    presenter: &'a dyn Presenter,
    resumes: Option<&'a str>,
    /// The home account id of the latest token.
    account: RefCell<Option<String>>,
}

impl<'a> PersonCaller<'a> {
    /// The person is asked through `presenter`. `resumes` is the sign-in attempt that the client has shown its user before
    /// it repeated the call.
    pub fn new(person: &'a PersonWorld<'a>, presenter: &'a dyn Presenter, resumes: Option<&'a str>) -> Self {
        Self { person, presenter, resumes, account: RefCell::default() }
    }

    /// A token for these scopes of one resource by whichever way works: silently, else by asking the person.
    pub async fn acquire(
        &self,
        scopes: &[String],
        challenge: Option<&GraphChallenge>,
    ) -> Result<AccessToken, SignInError> {
        let Self { person, presenter, resumes, .. } = *self;
        let used = accounts::choose(person, None).await;
        let silent = match &used {
            Ok(account) => silent::for_call(person, account, scopes, challenge).await,
            Err(error) => Err(error.clone()),
        };
        let Err(SignInError::InteractionRequired { claims, .. }) = silent else {
            return silent;
        };
        // What the person has chosen for this connection holds, whichever account the browser is signed in with.
        let chosen = used.ok().filter(|account| person.chosen == Some(account.home_account_id.as_str()));
        let request = SignInRequest {
            scopes: scopes.to_vec(),
            login_hint: chosen.as_ref().map(|account| account.username.as_str()).filter(|name| !name.is_empty()),
            claims,
            select_account: false,
            resumes,
        };
        let account = interactive::sign_in(person, &request, presenter).await?;
        if let Some(wanted) = person.settings.account.as_deref()
            && wanted != account.home_account_id
            && wanted != account.username
        {
            return Err(SignInError::AccountSelection(
                "Another account than the one in the setting `account` signed in: sign in with that one, or change \
                 the setting."
                    .to_owned(),
            ));
        }
        if let Some(chosen) = chosen
            && chosen.home_account_id != account.home_account_id
        {
            return Err(SignInError::AccountSelection(format!(
                "Another account than the one that was chosen for this connection signed in: call again, and sign in as \
                 {}.",
                accounts::listed(&[chosen])
            )));
        }
        silent::for_call(person, &account, scopes, challenge).await
    }
}

#[async_trait(?Send)]
impl Caller for PersonCaller<'_> {
    fn kind(&self) -> CallerAuthentication {
        CallerAuthentication::Person
    }

    fn reference(&self) -> CallerReference {
        CallerReference::Person
    }

    fn facts(&self) -> Option<Facts<'_>> {
        None
    }

    async fn confirm(&self) -> Result<Membership, Unconfirmed> {
        let reason = "no rule is about the person at this machine".to_owned();
        Err(Unconfirmed::Unavailable { reason, retry_at: None })
    }

    async fn delegated(&self, scope: &str, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, NoToken> {
        let AccessToken { token, account, .. } = self.acquire(&[scope.to_owned()], challenge).await?;
        *self.account.borrow_mut() = Some(account.home_account_id);
        Ok(token)
    }

    async fn profile(&self, env: &EntraWorld<'_>, tokens: &Source<'_, NoToken>) -> Result<String, GraphError<NoToken>> {
        // The account that a token would be for, if that is clear without asking.
        let account = accounts::choose(self.person, None).await.ok().map(|account| account.home_account_id);
        let owner = || self.account.borrow().clone();
        Ok(profile::me(env, tokens, account.as_deref(), owner).await?.to_string())
    }
}

#[cfg(test)]
mod tests;
