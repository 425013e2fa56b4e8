//! A client secret that stays in the host. The component gets a stand-in, which is worthless elsewhere. The host
//! replaces the stand-in with the secret in the component's requests to the token endpoints of the configured
//! authority.
//!
//! In no other request, no other field, and no answer: the component cannot have the secret sent to a place that would
//! show it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, Uri};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use url::Url;
use url::form_urlencoded::byte_serialize;
use wasmtime_wasi_http::{Error, RequestOptions};
use zeroize::Zeroizing;

use super::{ClientCredential, Credential, CredentialError};
use crate::outbound::{BoxFuture, Outbound, RequestBody, ResponseBody};
use crate::random::{Random, unguessable_id};

/// Secrets that are known at once. There are two while one is replaced.
const MAX_KNOWN: usize = 8;

/// Longest form in bytes. The largest, with the token of a caller, is under 20 KiB.
const MAX_FORM_BYTES: usize = 1024 * 1024;

/// The field with the secret, before its value.
const FIELD: &str = "client_secret=";

/// The shortest secret, as a form has it, whose stand-in is as long as it is. Those of Entra ID have 40 characters and more.
const MIN_FITTED: usize = 24;

/// A secret, and what the component has of it.
struct Known {
    /// Of characters that a form encodes as they are.
    stand_in: String,
    secret: Zeroizing<String>,
}

/// Credentials of which a secret is replaced by a stand-in.
pub(crate) struct StandIns {
    source: Arc<dyn ClientCredential>,
    random: Arc<dyn Random>,
    /// As URLs begin with it.
    authority: String,
    /// The newest at the end.
    known: Mutex<Vec<Known>>,
}

impl StandIns {
    /// The credentials of `source`. `authority` is where requests for tokens go.
    pub(crate) fn new(source: Arc<dyn ClientCredential>, authority: &str, random: Arc<dyn Random>) -> Self {
        // The component writes URLs in this form.
        let authority = Url::parse(authority).map_or_else(|_| authority.to_owned(), String::from);
        let authority = authority.trim_end_matches('/').to_owned();
        Self { source, random, authority, known: Mutex::default() }
    }

    /// Carries requests over `http`, with the secret in the place of its stand-in.
    pub(crate) fn filled_in(self: &Arc<Self>, http: Arc<dyn Outbound>) -> Arc<dyn Outbound> {
        Arc::new(FillsIn { stand_ins: Arc::clone(self), http })
    }

    /// What was poisoned was left whole: every change of it is one step.
    fn known<T>(&self, look: impl FnOnce(&mut Vec<Known>) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the component gets.
    fn hidden(&self, credential: Credential) -> Result<Credential, CredentialError> {
        let Credential::Secret(secret) = credential else { return Ok(credential) };
        let new = unguessable_id(&*self.random).map_err(|error| CredentialError::Unavailable(error.to_string()))?;
        let stand_in = self.known(|known| {
            if let Some(known) = known.iter().find(|known| known.secret == secret) {
                return known.stand_in.clone();
            }
            if known.len() >= MAX_KNOWN {
                known.remove(0);
            }
            let stand_in = fitted(format!("stand-in-{new}"), encoded_length(&secret));
            known.push(Known { stand_in: stand_in.clone(), secret });
            stand_in
        });
        Ok(Credential::Secret(Zeroizing::new(stand_in)))
    }

    /// Whether a form stays as long as it is, whichever secret is put into it.
    fn keeps_length(&self) -> bool {
        self.known(|known| known.iter().all(|known| known.stand_in.len() == encoded_length(&known.secret)))
    }

    fn secret_of(&self, stand_in: &str) -> Option<Zeroizing<String>> {
        self.known(|known| known.iter().find(|known| known.stand_in == stand_in).map(|known| known.secret.clone()))
    }

    /// Whether a request is one for tokens: to `{authority}/{tenant}/oauth2/v2.0/token`.
    fn is_for_tokens(&self, method: &Method, uri: &Uri) -> bool {
        let uri = uri.to_string();
        let tenant = uri
            .strip_prefix(&self.authority)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_suffix("/oauth2/v2.0/token"));
        *method == Method::POST && tenant.is_some_and(|tenant| !tenant.is_empty() && !tenant.contains(['/', '?']))
    }

    /// The form with the secret in the place of its stand-in; as it is if it has none.
    fn fill_in(&self, form: Bytes) -> Bytes {
        let Ok(text) = std::str::from_utf8(&form) else { return form };
        let stand_in = text.split('&').find_map(|field| field.strip_prefix(FIELD));
        let Some((stand_in, secret)) = stand_in.and_then(|value| Some((value, self.secret_of(value)?))) else {
            return form;
        };
        // The room is reserved: growing would leave a copy behind.
        let mut filled = Zeroizing::new(Vec::with_capacity(form.len().saturating_add(encoded_length(&secret))));
        for (number, field) in text.split('&').enumerate() {
            if number > 0 {
                filled.push(b'&');
            }
            if field.strip_prefix(FIELD) == Some(stand_in) {
                filled.extend_from_slice(FIELD.as_bytes());
                byte_serialize(secret.as_bytes()).for_each(|part| filled.extend_from_slice(part.as_bytes()));
            } else {
                filled.extend_from_slice(field.as_bytes());
            }
        }
        Bytes::from_owner(filled)
    }
}

#[async_trait]
impl ClientCredential for StandIns {
    async fn obtain(&self, audience: &str) -> Result<Credential, CredentialError> {
        self.hidden(self.source.obtain(audience).await?)
    }

    async fn replacement(&self, audience: &str, refused: &Credential) -> Result<Credential, CredentialError> {
        let secret = match refused {
            // A stand-in that is not known any more is no secret that the source has.
            Credential::Secret(stand_in) => self.secret_of(stand_in).map(Credential::Secret),
            _ => None,
        };
        self.hidden(self.source.replacement(audience, secret.as_ref().unwrap_or(refused)).await?)
    }
}

struct FillsIn {
    stand_ins: Arc<StandIns>,
    http: Arc<dyn Outbound>,
}

impl Outbound for FillsIn {
    fn send(
        self: Arc<Self>,
        request: Request<RequestBody>,
        options: Option<RequestOptions>,
    ) -> BoxFuture<Result<Response<ResponseBody>, Error>> {
        let http = Arc::clone(&self.http);
        if !self.stand_ins.is_for_tokens(request.method(), request.uri()) {
            return http.send(request, options);
        }
        let (mut head, body) = request.into_parts();
        let declared = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        // A server or a proxy may want to know the length. Of a form that changes its length it is another one.
        if !self.stand_ins.keeps_length() {
            head.headers.remove(CONTENT_LENGTH);
        }
        let filled = FilledIn(Some(Box::pin(async move { Ok(self.stand_ins.fill_in(form(body, declared).await?)) })));
        http.send(Request::from_parts(head, filled.boxed_unsync()), options)
    }
}

/// Bytes of a secret, as a form has it.
fn encoded_length(secret: &str) -> usize {
    byte_serialize(secret.as_bytes()).map(str::len).sum()
}

/// A stand-in as long as the secret, so that the form with it declares the length of the form with the secret. Of a very
/// short secret it is longer: stand-ins differ.
fn fitted(mut stand_in: String, length: usize) -> String {
    if length >= MIN_FITTED {
        stand_in.truncate(length);
        stand_in.extend(std::iter::repeat_n('0', length.saturating_sub(stand_in.len())));
    }
    stand_in
}

/// The whole form, of which the head may declare a length.
async fn form(mut body: RequestBody, declared: Option<usize>) -> Result<Bytes, Error> {
    let mut form = Zeroizing::new(Vec::<u8>::with_capacity(declared.unwrap_or(0).min(MAX_FORM_BYTES)));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let length = form.len().saturating_add(data.len());
        if length > MAX_FORM_BYTES {
            return Err(Error::HttpRequestBodySize(length.try_into().ok()));
        }
        append(&mut form, &data);
    }
    Ok(Bytes::from_owner(form))
}

/// Tokens of callers and refresh tokens are in a form. A vector that grows by itself leaves a copy of them behind; one that a
/// larger one replaces is zeroed.
fn append(form: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    let length = form.len().saturating_add(data.len());
    if length > form.capacity() {
        let mut larger = Zeroizing::new(Vec::<u8>::with_capacity(length.saturating_mul(2)));
        larger.extend_from_slice(form);
        *form = larger;
    }
    form.extend_from_slice(data);
}

/// The body of a request for tokens, in one piece. `None`: it was sent.
struct FilledIn(Option<BoxFuture<Result<Bytes, Error>>>);

impl Body for FilledIn {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(form) = &mut self.0 else { return Poll::Ready(None) };
        let form = ready!(form.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(Some(form.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests;
