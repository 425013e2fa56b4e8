//! The clients of the authorization server: pre-registered, described by a document, or registered by themselves.

use base::settings::HttpSettings;
use world::StoreError;

use super::client::{Client, ClientError, ClientOrigin, MAX_CLIENT_ID};
use super::redirect_uri::RedirectUriError;
use super::redirect_uri::private_use::{self, AdmittedSchemes};
use super::{client_metadata_document as document, registration};
use crate::client_documents::KeptDocument;
use crate::server_world::ServerWorld;

#[cfg(test)]
mod tests;

/// Finds a client: in the settings, by its document, or among the registrations. What is turned off finds none. A document
/// is fetched: only for requests that begin a sign-in.
pub async fn find(env: &ServerWorld<'_>, client_id: &str) -> Result<Client, ClientError> {
    let settings = env.site.settings;
    if client_id.len() > MAX_CLIENT_ID {
        return Err(ClientError::Unknown);
    }
    if let Some(client) = preregistered(settings, client_id) {
        return Ok(client);
    }
    if settings.client_id_metadata_documents && document::is_client_id(client_id) {
        return document::client(env, client_id).await;
    }
    if settings.dynamic_registration {
        return registration::client(env, client_id).await?.ok_or(ClientError::Unknown);
    }
    Err(ClientError::Unknown)
}

/// The client of a sign-in that is going on, which was found before. `document` is what it had published then.
pub(super) async fn known(
    env: &ServerWorld<'_>,
    client_id: &str,
    document: Option<&KeptDocument>,
) -> Result<Client, ClientError> {
    match document {
        Some(document) if env.site.settings.client_id_metadata_documents => Ok(document.clone().into()),
        _ => find(env, client_id).await,
    }
}

/// The client that a request to the token or revocation endpoint names. Nothing is fetched: what the client presents says
/// that it was known when the person signed in.
pub(super) async fn recognize(env: &ServerWorld<'_>, client_id: &str) -> Result<Client, ClientError> {
    let settings = env.site.settings;
    let by_document = settings.client_id_metadata_documents
        && client_id.len() <= MAX_CLIENT_ID
        && document::is_client_id(client_id)
        && preregistered(settings, client_id).is_none();
    if by_document { document::by_id(env, client_id) } else { find(env, client_id).await }
}

/// Notes that a client is in use: a dynamic registration lives on for 90 days from now. Call it when a person has signed in
/// with the client, and when a code or a refresh token was exchanged.
pub async fn touch(env: &ServerWorld<'_>, client: &Client) -> Result<(), StoreError> {
    match client.origin {
        ClientOrigin::Registration => registration::touch(env, &client.client_id).await,
        ClientOrigin::Settings | ClientOrigin::Document => Ok(()),
    }
}

fn preregistered(settings: &HttpSettings, client_id: &str) -> Option<Client> {
    let client = settings.clients.iter().find(|client| client.client_id == client_id)?;
    Some(Client {
        client_id: client.client_id.clone(),
        name: Some(client.name.clone()),
        origin: ClientOrigin::Settings,
        // A setting does not make a redirect safe that is not.
        redirect_uris: client.redirect_uris.iter().filter(|uri| may_be_set(uri).is_ok()).cloned().collect(),
        secret_hash: client.secret_hash.clone(),
    })
}

/// What is wrong with the clients in the settings, in a sentence each. The same check as for what clients register.
pub fn problems(settings: &HttpSettings) -> Vec<String> {
    let schemes = settings.allowed_redirect_schemes.iter().filter(|scheme| private_use::check_scheme(scheme).is_err());
    let schemes = schemes.map(|scheme| {
        format!(
            "the redirect scheme {scheme:?} cannot be let in: the name of a scheme that a program has claimed is expected, \
             in lower case and without a colon, such as `cursor`"
        )
    });
    let clients = settings.clients.iter().flat_map(|client| {
        let refused = client.redirect_uris.iter().filter_map(|uri| Some((uri, may_be_set(uri).err()?)));
        refused.map(|(uri, error)| {
            format!("the client {:?} in [[clients]] has the redirect URI {uri:?}: {error}", client.client_id)
        })
    });
    let without = settings.clients.iter().filter(|client| client.redirect_uris.is_empty());
    let without = without.map(|client| format!("the client {:?} in [[clients]] has no redirect URI", client.client_id));
    schemes.chain(clients).chain(without).collect()
}

/// Whether the operator may write the redirect URI into the settings.
fn may_be_set(uri: &str) -> Result<(), RedirectUriError> {
    private_use::check(uri, AdmittedSchemes::Any)
}
