//! Client ID Metadata Documents: a client whose id is the URL of what it says of itself
//! (draft-ietf-oauth-client-id-metadata-document, as MCP 2025-11-25 and later require).
//!
//! Strangers choose the URL. The host fetches it and keeps it from reaching anything but the public Internet; what
//! comes back is checked here before any of it is used. The draft forbids to remember failures, so it is the rate
//! limit per host, and not a cache, that keeps requests from being turned into a flood of fetches.
//!
//! A document is read for `/authorize` only, and travels with the sign-in. It is stored when a person has signed in with
//! its client: before that it is in the memory of the instance, which is bounded. A document that was good is used for a
//! day longer than it is fresh while its site cannot be reached, so that a site that is down, or an attacker who uses up
//! the fetches, keeps no person from a client that is known.

use std::time::Duration;

use base::strict_json;
use serde_json::{Map, Value};
use url::{Host, Url};
use world::records::{Namespace, Next, Partition, Ttl};
use world::{Document, FetchError, StoreError, limits};

use super::client::{Client, ClientDocumentError, ClientError, ClientOrigin};
use super::redirect_uri;
use super::text::visible;
use super::unused::DOCUMENTS_RING;
use crate::client_documents::{KeptDocument, MAX_LIFETIME};
use crate::server_world::ServerWorld;

#[cfg(test)]
mod tests;

/// Fetches by the address of the client that causes them, as an operation of the rate limiter.
const BY_ADDRESS: &str = "client-metadata-by-address";
/// The longest document, in bytes. The draft recommends 5 KiB; some real documents hold many redirect URIs.
const MAX_DOCUMENT: usize = 16 * 1024;
/// The most redirect URIs of one client: bounds what every request is compared with.
pub(super) const MAX_REDIRECT_URIS: usize = 32;
/// The longest name of a client, in characters.
pub(super) const MAX_NAME: usize = 200;
/// A document is kept at least this long, whatever its server says: one authorization reads it several times.
const MIN_LIFETIME: Duration = Duration::from_secs(60);
/// How long it is kept if its server says nothing.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// Documents by URL, of clients that a person has signed in with. One that cannot be read is none: it is fetched anew.
const DOCUMENTS: Namespace<KeptDocument> =
    Namespace::json(Partition::AuthorizationServer, "client-document", Ttl::Computed(KeptDocument::ttl))
        .hashed()
        .absent_if_unreadable();

impl From<KeptDocument> for Client {
    fn from(kept: KeptDocument) -> Self {
        Self {
            client_id: kept.client_id,
            name: Some(kept.name),
            origin: ClientOrigin::Document,
            redirect_uris: kept.redirect_uris,
            secret_hash: None,
        }
    }
}

/// Whether a client id is meant to be the URL of a document. No other id that this server accepts looks like one.
pub(super) fn is_client_id(client_id: &str) -> bool {
    client_id.starts_with("https://")
}

/// The client whose document is at `client_id`.
pub(super) async fn client(env: &ServerWorld<'_>, client_id: &str) -> Result<Client, ClientError> {
    let url = check_url(env, client_id).map_err(ClientError::Metadata)?;
    let now = env.entra.clock.now();
    let mut known = env.documents.get(client_id);
    if known.as_ref().is_none_or(|kept| !kept.is_fresh(now)) {
        let stored = env.entra.records.get(&DOCUMENTS, client_id).await?;
        let stored = stored.filter(|kept| kept.client_id == client_id);
        known = known.into_iter().chain(stored).max_by_key(|kept| kept.fresh_until);
    }
    let kept = match known {
        Some(kept) if kept.is_fresh(now) => kept,
        known => match read(env, &url, client_id).await {
            Ok(kept) => kept,
            Err(error) if error.is_passing() => known.filter(|kept| kept.is_last_good(now)).ok_or(error)?,
            Err(error) => {
                // What its site has withdrawn is not used when the site is down later. What cannot be deleted expires.
                env.documents.remove(client_id);
                if known.is_some() {
                    let _ = env.entra.records.delete(&DOCUMENTS, client_id).await;
                }
                return Err(error);
            }
        },
    };
    env.documents.insert(kept.clone());
    Ok(kept.into())
}

/// The client with this id, as far as the id tells it: for requests whose code or token says that the client was known
/// when the person signed in. Nothing is read.
pub(super) fn by_id(env: &ServerWorld<'_>, client_id: &str) -> Result<Client, ClientError> {
    check_url(env, client_id).map_err(ClientError::Metadata)?;
    Ok(Client {
        client_id: client_id.to_owned(),
        name: None,
        origin: ClientOrigin::Document,
        redirect_uris: Vec::new(),
        secret_hash: None,
    })
}

/// The document of a client that was found a moment ago.
pub(super) fn of(env: &ServerWorld<'_>, client: &Client) -> Option<KeptDocument> {
    if client.origin == ClientOrigin::Document { env.documents.get(&client.client_id) } else { None }
}

/// Stores a document: a person has signed in with its client. One that cannot be stored is read again. The sign-in may
/// have taken long: one that is not fresh any more is not stored, nor in the place of one that was read later.
pub(super) async fn keep(env: &ServerWorld<'_>, kept: &KeptDocument) -> Result<(), StoreError> {
    let (records, client_id) = (env.entra.records, kept.client_id.as_str());
    let now = env.entra.clock.now();
    if !kept.is_fresh(now) {
        return Ok(());
    }
    let replaced = records.update(&DOCUMENTS, client_id, |stored| match stored {
        None => Next::Leave(false),
        Some(stored) if stored.is_last_good(now) && stored.fresh_until >= kept.fresh_until => Next::Leave(true),
        Some(_) => Next::Write(kept.clone(), true),
    });
    if !replaced.await? {
        // A new one takes the room that it may need later, so that it can be replaced where it is.
        records.put_in(&DOCUMENTS_RING, MAX_DOCUMENT, &DOCUMENTS, client_id, kept).await?;
    }
    Ok(())
}

/// Fetches a document, and checks it.
async fn read(env: &ServerWorld<'_>, url: &Url, client_id: &str) -> Result<KeptDocument, ClientError> {
    let host = url.host_str().unwrap_or_default();
    // All fetches share a bound in the host: one client must not use it up, from whichever of its addresses.
    limits::admit_address(env.limiter, env.entra.trail, BY_ADDRESS).await.map_err(ClientError::TooManyRequests)?;
    limits::admit(env.limiter, env.entra.trail, "client-metadata", host, None)
        .await
        .map_err(ClientError::TooManyRequests)?;
    // A name that nothing is known of, and one that this network knows and the Internet does not, look the same: else a
    // stranger could ask for the names of this network. A port is denied before the name is looked up.
    let is_name =
        matches!(url.host(), Some(Host::Domain(_))) && url.port().is_none() && !redirect_uri::is_loopback(client_id);
    let address = env.entra.trail.address();
    let document = env.client_metadata.fetch(client_id, address.as_deref()).map_err(|error| match error {
        FetchError::Denied(_) if is_name => ClientError::Private,
        FetchError::Denied(_) => ClientError::Metadata(ClientDocumentError::Denied),
        FetchError::Status(status) => ClientError::Metadata(ClientDocumentError::Status(status)),
        FetchError::TooLarge => ClientError::Metadata(ClientDocumentError::TooLarge),
        FetchError::Unavailable(_) => ClientError::Unavailable,
    })?;
    let kept = parse(client_id, &document).map_err(ClientError::Metadata)?;
    let lifetime = document.max_age.unwrap_or(DEFAULT_LIFETIME).clamp(MIN_LIFETIME, MAX_LIFETIME);
    Ok(KeptDocument { fresh_until: env.entra.clock.now() + lifetime.as_secs(), ..kept })
}

/// Checks the URL, which has to be in its normal form: then it has no dot segments, hidden or not, and its host is
/// what it seems to be.
fn check_url(env: &ServerWorld<'_>, client_id: &str) -> Result<Url, ClientDocumentError> {
    if !client_id.bytes().all(|byte| byte.is_ascii_graphic()) || redirect_uri::has_escaped_host(client_id) {
        return Err(ClientDocumentError::Url);
    }
    let url = Url::parse(client_id).map_err(|_| ClientDocumentError::Url)?;
    let plain = url.as_str() == client_id
        && url.scheme() == "https"
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
        && url.path() != "/";
    // Before anything is resolved: an address, or a name of this machine, names no party on the Internet. Only a server
    // that itself is on this machine may look there (section "Server Side Request Forgery").
    let local = redirect_uri::is_loopback(&env.site.settings.public_url);
    let public = match url.host() {
        Some(Host::Domain(domain)) => domain.contains('.') && !domain.ends_with('.') && !domain.ends_with(".localhost"),
        _ => false,
    };
    if !plain {
        return Err(ClientDocumentError::Url);
    }
    if public || (local && redirect_uri::is_loopback(client_id)) { Ok(url) } else { Err(ClientDocumentError::Denied) }
}

fn parse(client_id: &str, document: &Document) -> Result<KeptDocument, ClientDocumentError> {
    if document.body.len() > MAX_DOCUMENT {
        return Err(ClientDocumentError::TooLarge);
    }
    if !document.content_type.as_deref().is_some_and(is_json) {
        return Err(ClientDocumentError::ContentType);
    }
    let members = strict_json::parse_object(&document.body).map_err(|_| ClientDocumentError::Malformed)?;
    if members.get("client_id").and_then(Value::as_str) != Some(client_id) {
        return Err(ClientDocumentError::ClientId);
    }
    if members.contains_key("client_secret") || members.contains_key("client_secret_expires_at") {
        return Err(ClientDocumentError::Secret);
    }
    // The default of RFC 7591 is a shared secret, which a document cannot have.
    if members.get("token_endpoint_auth_method").is_some_and(|method| method != "none") {
        return Err(ClientDocumentError::AuthMethod);
    }
    if !includes(&members, "grant_types", "authorization_code") || !includes(&members, "response_types", "code") {
        return Err(ClientDocumentError::GrantTypes);
    }
    let name = members.get("client_name").and_then(Value::as_str).map(visible).unwrap_or_default();
    if name.is_empty() || name.chars().count() > MAX_NAME {
        return Err(ClientDocumentError::Name);
    }
    Ok(KeptDocument { client_id: client_id.to_owned(), name, redirect_uris: redirect_uris(&members)?, fresh_until: 0 })
}

/// The redirect URIs that may be used here. One document serves all authorization servers, so those that only others
/// accept (a scheme of the client's own) are passed over.
fn redirect_uris(members: &Map<String, Value>) -> Result<Vec<String>, ClientDocumentError> {
    let listed = members.get("redirect_uris").and_then(Value::as_array).ok_or(ClientDocumentError::RedirectUris)?;
    if listed.len() > MAX_REDIRECT_URIS {
        return Err(ClientDocumentError::RedirectUris);
    }
    let listed: Vec<&str> =
        listed.iter().map(Value::as_str).collect::<Option<_>>().ok_or(ClientDocumentError::RedirectUris)?;
    let usable: Vec<String> =
        listed.into_iter().filter(|uri| redirect_uri::check(uri).is_ok()).map(str::to_owned).collect();
    if usable.is_empty() { Err(ClientDocumentError::RedirectUris) } else { Ok(usable) }
}

/// Whether the list has `wanted`, as the list that is assumed where there is none does.
fn includes(members: &Map<String, Value>, list: &str, wanted: &str) -> bool {
    match members.get(list) {
        Some(Value::Array(values)) => values.iter().any(|value| value == wanted),
        Some(_) => false,
        None => true,
    }
}

/// `application/json` or `application/…+json`, with or without parameters.
pub(super) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}
