//! Authorization code with PKCE (RFC 6749 section 4.1, RFC 7636, OpenID Connect Core section 3.1).

use base::Secret;
use oauth2::{AuthorizationCode, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope};
use serde::{Deserialize, Serialize};
use world::random::random_token;

use super::error::Refusal;
use super::{OAuthError, TokenSet, client};
use crate::entra_world::EntraWorld;

/// What has to be remembered between sending a person to Entra and their return.
#[derive(Serialize, Deserialize)]
pub struct AuthorizationRequest {
    /// Where Entra sends the person back to. Repeated at the token endpoint.
    pub redirect_uri: String,
    /// Binds the response to this request.
    pub state: String,
    /// Binds the ID token to this request.
    pub nonce: String,
    /// PKCE: proves that whoever redeems the code also began the flow.
    verifier: String,
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
    pub fn new(env: &EntraWorld<'_>, redirect_uri: String, scopes: Vec<String>, claims: Option<String>) -> Self {
        Self {
            redirect_uri,
            state: random_token(env.random),
            nonce: random_token(env.random),
            verifier: random_token(env.random),
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
        let prepared = client::prepare(env)?;
        let redirect = self.redirect()?;
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(self.verifier.clone()));
        let mut request = prepared
            .client
            .authorize_url(|| CsrfToken::new(self.state.clone()))
            .set_redirect_uri(std::borrow::Cow::Borrowed(&redirect))
            .set_pkce_challenge(challenge)
            .add_extra_param("response_mode", "query")
            .add_extra_param("nonce", &self.nonce)
            .add_extra_param("claims", client::claims(self.claims.as_deref()));
        for scope in &self.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        if let Some(hint) = prompt.login_hint {
            request = request.add_extra_param("login_hint", hint);
        }
        if prompt.login {
            request = request.add_extra_param("prompt", "login");
        } else if prompt.select_account {
            request = request.add_extra_param("prompt", "select_account");
        }
        Ok(request.url().0.into())
    }

    /// Reads the redirect's query and redeems the code.
    pub async fn redeem(&self, env: &EntraWorld<'_>, query: &str) -> Result<TokenSet, RedeemError> {
        let code = self.code_of(query)?;
        let prepared = client::prepare(env)?;
        let redirect = self.redirect()?;
        let mut request = prepared
            .client
            .exchange_code(AuthorizationCode::new(code.reveal().clone()))
            .set_redirect_uri(std::borrow::Cow::Borrowed(&redirect))
            .set_pkce_verifier(PkceCodeVerifier::new(self.verifier.clone()))
            // Entra wants the scopes again: an authorization may be for several APIs, a token for one only.
            .add_extra_param("scope", self.scopes.join(" "))
            .add_extra_param("claims", client::claims(self.claims.as_deref()));
        for (name, value) in prepared.extra {
            request = request.add_extra_param(name, value);
        }
        let answer = request.request_async(&|request| client::send(env, request)).await;
        Ok(client::token_set(env, answer)?)
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
            if slot.replace(value.into_owned()).is_some() {
                return Err(RedeemError::Untrusted("a parameter of the response is repeated"));
            }
        }
        if state.as_deref() != Some(self.state.as_str()) {
            return Err(RedeemError::Untrusted("its state is not the one that was sent"));
        }
        if let Some(error) = error {
            return Err(OAuthError::Refused(Refusal::new(&error, &[], description.as_deref())).into());
        }
        code.map(Secret::new).ok_or(RedeemError::Untrusted("it has neither a code nor an error"))
    }

    fn redirect(&self) -> Result<RedirectUrl, OAuthError> {
        RedirectUrl::new(self.redirect_uri.clone()).map_err(|_| OAuthError::Misconfigured("redirect URI"))
    }
}

/// Why a code was not redeemed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedeemError {
    /// The response does not belong to the request.
    #[error("the answer did not belong to this sign-in: {0}")]
    Untrusted(&'static str),
    /// Entra refused, or could not be reached.
    #[error(transparent)]
    OAuth(#[from] OAuthError),
}
