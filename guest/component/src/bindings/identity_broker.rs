//! The identity broker of the machine, on the import of that name.

use std::time::Duration;

use base::Secret;
use world::{Broker, BrokerAccount, BrokerError, BrokerInteraction, BrokerRequest, BrokerTokens};

use super::generated::entra_mcp::plugin::identity_broker as wit;
use super::imports::{HostImports, milliseconds};

fn error(error: wit::BrokerError) -> BrokerError {
    match error {
        wit::BrokerError::Absent(reason) => BrokerError::Absent(reason),
        wit::BrokerError::InteractionRequired => BrokerError::InteractionRequired,
        wit::BrokerError::Declined => BrokerError::Declined,
        wit::BrokerError::Unavailable(reason) => BrokerError::Unavailable(reason),
        wit::BrokerError::Refused(reason) => BrokerError::Refused(reason),
    }
}

fn tokens(tokens: wit::BrokerTokens) -> BrokerTokens {
    let wit::BrokerTokens { access_token, expires_at_unix_seconds, id_token } = tokens;
    BrokerTokens {
        access_token: Secret::new(access_token),
        expires_at: expires_at_unix_seconds,
        id_token: Secret::new(id_token),
    }
}

fn request(request: &BrokerRequest) -> wit::BrokerRequest {
    let BrokerRequest { client_id, authority, scopes, account, login_hint, claims, correlation_id } = request.clone();
    wit::BrokerRequest { client_id, authority, scopes, account, login_hint, claims, correlation_id }
}

impl Broker for HostImports {
    fn accounts(&self, client_id: &str, correlation_id: &str) -> Result<Vec<BrokerAccount>, BrokerError> {
        let known = wit::accounts(client_id, correlation_id).map_err(error)?;
        let account = |account: wit::BrokerAccount| {
            let wit::BrokerAccount { home_account_id, username } = account;
            BrokerAccount { home_account_id, username }
        };
        Ok(known.into_iter().map(account).collect())
    }

    fn acquire_silently(&self, asked: &BrokerRequest) -> Result<BrokerTokens, BrokerError> {
        wit::acquire_silently(&request(asked)).map(tokens).map_err(error)
    }

    fn ask_person(&self, asked: &BrokerRequest) -> Box<dyn BrokerInteraction> {
        Box::new(wit::InteractiveRequest::start(&request(asked)))
    }
}

impl BrokerInteraction for wit::InteractiveRequest {
    fn wait(&self, timeout: Duration) -> Option<Result<BrokerTokens, BrokerError>> {
        match self.wait(milliseconds(timeout)) {
            wit::BrokerAnswer::Pending => None,
            wit::BrokerAnswer::Received(answer) => Some(Ok(tokens(answer))),
            wit::BrokerAnswer::Failed(failure) => Some(Err(error(failure))),
        }
    }
}
