//! Authorization code with PKCE (RFC 6749 section 4.1, RFC 7636, OpenID Connect Core section 3.1).

use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use super::client::{self, EntraClient};
use super::form::Form;
use super::{OAuthError, TokenSet, error::EntraRefusal};
use crate::entra_world::EntraWorld;
use base::Secret;
use base::encoding::digest;
use base::secret::reveal;
use world::Random;
use world::random::random_token;

/// What has to be remembered between sending a person to Entra ID and their return.
#[derive(Serialize, Deserialize)]
pub struct AuthorizationRequest {
    /// Where Entra ID sends the person back to. Repeated at the token endpoint.
    pub redirect_uri: String,
    /// Binds the response to this request.
    pub state: String,
    /// Binds the ID token to this request.
    pub nonce: String,
    /// PKCE: proves that the party that redeems the code also began the flow.
    #[serde(serialize_with = "reveal")]
    verifier: Secret<String>,
    /// Requested scopes.
    pub scopes: Vec<String>,
    /// A claims challenge that the sign-in has to answer.
    claims: Option<String>,
}

/// How to ask.
#[derive(Clone, Copy, Default)]
pub struct Prompt<'a> {
    /// The user name to fill in.
    pub login_hint: Option<&'a str>,
    /// Lets the person choose an account even if one is signed in.
    pub select_account: bool,
    /// Makes the person sign in again even if they are signed in.
    pub login: bool,
}

impl AuthorizationRequest {
    /// Makes a request with fresh `state`, `nonce` and PKCE verifier.
    pub fn new(random: &dyn Random, redirect_uri: String, scopes: Vec<String>, claims: Option<String>) -> Self {
        Self {
            redirect_uri,
            state: random_token(random),
            nonce: random_token(random),
            verifier: Secret::new(random_token(random)),
            scopes,
            claims,
        }
    }

    /// The claims challenge that the sign-in has to answer, a JSON object.
    pub fn claims(&self) -> Option<&str> {
        self.claims.as_deref()
    }

    /// The URL to send the person to.
    pub fn url(&self, env: &EntraWorld<'_>, prompt: Prompt<'_>) -> Result<String, OAuthError> {
        // A client that cannot obtain its credential fails here, before the person has signed in for nothing.
        let client = EntraClient::new(env)?;
        self.check_redirect()?;
        let mut url = client.authorize.clone();
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &env.settings.client_id)
            .append_pair("state", &self.state)
            // S256 of RFC 7636 section 4.2.
            .append_pair("code_challenge", &digest(self.verifier.reveal().as_bytes()))
            .append_pair("code_challenge_method", "S256")
            .append_pair("redirect_uri", &self.redirect_uri);
        if !self.scopes.is_empty() {
            query.append_pair("scope", &self.scopes.join(" "));
        }
        query
            .append_pair("response_mode", "query")
            .append_pair("nonce", &self.nonce)
            .append_pair("claims", &client::claims(self.claims.as_deref()));
        if let Some(hint) = prompt.login_hint {
            query.append_pair("login_hint", hint);
        }
        if prompt.login {
            query.append_pair("prompt", "login");
        } else if prompt.select_account {
            query.append_pair("prompt", "select_account");
        }
        drop(query);
        Ok(url.into())
    }

    /// Reads the redirect's query and redeems the code.
    pub async fn redeem(&self, env: &EntraWorld<'_>, query: &str) -> Result<TokenSet, RedeemError> {
        let code = self.code_of(query)?;
        let client = EntraClient::new(env)?;
        self.check_redirect()?;
        let form = Form::of_grant("authorization_code")
            .with_secret("code", &code)
            .with_secret("code_verifier", &self.verifier)
            .with("redirect_uri", self.redirect_uri.as_str())
            // Entra ID wants the scopes again: an authorization may be for several APIs, a token for one only.
            .with("scope", self.scopes.join(" "))
            .with("claims", client::claims(self.claims.as_deref()));
        Ok(client.tokens(form).await?)
    }

    /// Checks the authorization response (RFC 6749 section 4.1.2). `state` comes first: without it nothing in
    /// the response is believed, not even its error.
    fn code_of(&self, query: &str) -> Result<Secret<String>, RedeemError> {
        let (mut code, mut state, mut error, mut description) = (None, None, None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let slot = match name.as_ref() {
                "code" => &mut code,
                "state" => &mut state,
                "error" => &mut error,
                "error_description" => &mut description,
                _ => continue,
            };
            if slot.replace(Zeroizing::new(value.into_owned())).is_some() {
                return Err(RedeemError::Untrusted("a parameter of the response is repeated"));
            }
        }
        if state.as_deref() != Some(&self.state) {
            return Err(RedeemError::Untrusted("its state is not the one that was sent"));
        }
        if let Some(error) = error {
            return Err(OAuthError::Refused(EntraRefusal::new(
                &error,
                &[],
                description.as_deref().map(String::as_str),
            ))
            .into());
        }
        code.map(Secret::from).ok_or(RedeemError::Untrusted("it has neither a code nor an error"))
    }

    fn check_redirect(&self) -> Result<(), OAuthError> {
        Url::parse(&self.redirect_uri).map(drop).map_err(|_| OAuthError::Misconfigured("redirect URI"))
    }
}

/// Why a code was not redeemed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedeemError {
    /// The response does not belong to the request.
    #[error("the answer did not belong to this sign-in: {0}")]
    Untrusted(&'static str),
    /// Entra ID refused, or could not be reached.
    #[error(transparent)]
    OAuth(#[from] OAuthError),
}
