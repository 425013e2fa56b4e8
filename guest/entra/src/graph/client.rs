//! Requests to Microsoft Graph that read: `GET`, and `POST` where an action is a question.

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response};
use serde_json::Value;
use world::random::random_uuid;
use world::{Clock, HttpError, Random, limits};

use super::error::{Evidence, GraphError};
use crate::acquire::AcquireError;
use crate::entra_world::EntraWorld;
use crate::oauth::retry_after;

/// Requests sent for one answer, the first included.
const MAX_ATTEMPTS: u32 = 4;
/// All retries together may take this long; a `Retry-After` beyond it is reported instead of waited for.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// The first pause where Graph names none; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Where a claims challenge is base64 in the header; a longer one is not one of Graph's.
const MAX_CHALLENGE: usize = 8 * 1024;

/// A token that the API refused, and the claims challenge it came back with.
#[derive(Debug, Clone)]
pub struct GraphChallenge {
    /// The refused token: whatever else is in the cache may be used.
    pub refused: Secret<String>,
    /// The challenge, as JSON. Absent when the API gave none.
    pub claims: Option<String>,
}

/// Gives the tokens to ask with.
#[async_trait(?Send)]
pub trait TokenSource {
    /// Why there is none.
    type Error: Error + 'static;

    /// A token; with a challenge, another one than the refused.
    async fn token(&self, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, GraphError<Self::Error>>;

    /// Graph wants claims that the token which answered its challenge does not have either: what that means for the
    /// caller, if more than that Graph has refused.
    async fn unsatisfied(&self, _challenge: &GraphChallenge) -> Option<GraphError<Self::Error>> {
        None
    }

    /// Graph does not allow what was asked with the token.
    async fn forbidden(&self) {}

    /// Counts a request to Graph, which is about to be sent; an error says why it must not be.
    async fn admit(&self) -> Result<(), GraphError<Self::Error>> {
        Ok(())
    }

    /// Waits before Graph is asked again. False if the caller has too many calls already that wait: then the answer
    /// stands that Graph has given.
    async fn wait(&self, clock: &dyn Clock, pause: Duration) -> bool {
        clock.sleep(pause).await;
        true
    }
}

/// A source of tokens, whatever it is. Without a person to ask, acquiring them fails with [`AcquireError`].
pub type Source<'a, E = AcquireError> = dyn TokenSource<Error = E> + 'a;

/// Gets a JSON document. `path` starts with `/` and follows the version.
pub async fn get<E: Error + 'static>(
    env: &EntraWorld<'_>,
    tokens: &Source<'_, E>,
    path: &str,
) -> Result<Value, GraphError<E>> {
    ask(env, tokens, GraphRequest { path, body: None, eventual: false }).await
}

/// Gets a JSON document by an advanced query of the directory, whose index may lag behind the directory.
pub(super) async fn get_eventual<E: Error + 'static>(
    env: &EntraWorld<'_>,
    tokens: &Source<'_, E>,
    path: &str,
) -> Result<Value, GraphError<E>> {
    ask(env, tokens, GraphRequest { path, body: None, eventual: true }).await
}

/// Posts to an action that only reads, and is therefore repeated like a `GET`. Not for anything that writes.
pub async fn post_read_only<E: Error + 'static>(
    env: &EntraWorld<'_>,
    tokens: &Source<'_, E>,
    path: &str,
    body: &Value,
) -> Result<Value, GraphError<E>> {
    ask(env, tokens, GraphRequest { path, body: Some(body), eventual: false }).await
}

/// What is asked, and can be asked again.
#[derive(Clone, Copy)]
struct GraphRequest<'a> {
    /// Starts with `/` and follows the version.
    path: &'a str,
    /// With a body it is a `POST`.
    body: Option<&'a Value>,
    /// Asks with `ConsistencyLevel: eventual`, which Graph wants to see for advanced queries.
    eventual: bool,
}

async fn ask<E: Error + 'static>(
    env: &EntraWorld<'_>,
    tokens: &Source<'_, E>,
    question: GraphRequest<'_>,
) -> Result<Value, GraphError<E>> {
    let token = tokens.token(None).await?;
    let response = exchange(env, tokens, &token, question).await?;
    if response.status().as_u16() != 401 {
        return finish(tokens, &response).await;
    }
    // Continuous access evaluation: the token was good by its date, but something has changed. One more try.
    let challenge = GraphChallenge { refused: token.clone(), claims: claims_challenge(&response) };
    let token = tokens.token(Some(&challenge)).await?;
    let response = exchange(env, tokens, &token, question).await?;
    if response.status().as_u16() == 401
        && let Some(claims) = claims_challenge(&response)
    {
        let challenge = GraphChallenge { refused: token.clone(), claims: Some(claims) };
        if let Some(error) = tokens.unsatisfied(&challenge).await {
            return Err(error);
        }
    }
    finish(tokens, &response).await
}

/// Reads the answer; tells the source of the token if it does not permit enough.
async fn finish<E: Error + 'static>(
    tokens: &Source<'_, E>,
    response: &Response<Vec<u8>>,
) -> Result<Value, GraphError<E>> {
    let answer = read(response);
    if let Err(GraphError::Forbidden(_)) = answer {
        tokens.forbidden().await;
    }
    answer
}

/// Sends until there is an answer that is not worth repeating the question.
async fn exchange<E: Error + 'static>(
    env: &EntraWorld<'_>,
    tokens: &Source<'_, E>,
    token: &Secret<String>,
    question: GraphRequest<'_>,
) -> Result<Response<Vec<u8>>, GraphError<E>> {
    let began = env.clock.monotonic();
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        tokens.admit().await?;
        let answer = env.http.send(request(env, token, question)?).await;
        let asked = match &answer {
            Ok(response) if matches!(response.status().as_u16(), 429 | 503 | 504) => {
                if response.status().as_u16() == 429 {
                    limits::throttled(env.trail, "graph", None).await;
                }
                response.headers().get(http::header::RETRY_AFTER).and_then(retry_after)
            }
            Ok(_) => return answer.map_err(GraphError::Unreachable),
            // A question changes nothing, so it may be repeated even if it was perhaps answered.
            Err(HttpError::Connect(_) | HttpError::Broken(_)) => None,
            Err(_) => return answer.map_err(GraphError::Unreachable),
        };
        let wait = asked.unwrap_or_else(|| jittered(env.random, pause));
        let spent = env.clock.monotonic().saturating_sub(began);
        if attempt >= MAX_ATTEMPTS || spent + wait > MAX_WAIT || !tokens.wait(env.clock, wait).await {
            return answer.map_err(GraphError::Unreachable);
        }
        pause *= 2;
        attempt += 1;
    }
}

/// Between a half and the whole of the pause, so that many clients do not come back in the same moment.
fn jittered(random: &dyn Random, pause: Duration) -> Duration {
    let mut byte = [0];
    random.fill(&mut byte);
    pause / 2 + pause / 2 * u32::from(byte[0]) / 256
}

fn request<E: Error + 'static>(
    env: &EntraWorld<'_>,
    token: &Secret<String>,
    question: GraphRequest<'_>,
) -> Result<Request<Vec<u8>>, GraphError<E>> {
    let malformed = |_| GraphError::Malformed(Evidence::default());
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).map_err(|_| malformed(()))?;
    bearer.set_sensitive(true);
    let url = format!("{}/v1.0{}", env.settings.graph, question.path);
    let builder = match question.body {
        None => Request::get(url),
        Some(_) => Request::post(url).header(CONTENT_TYPE, "application/json"),
    };
    let builder = if question.eventual { builder.header("consistencylevel", "eventual") } else { builder };
    let mut request = builder
        .header(ACCEPT, "application/json")
        .header("client-request-id", random_uuid(env.random))
        .body(question.body.map_or_else(Vec::new, |body| body.to_string().into_bytes()))
        .map_err(|_| malformed(()))?;
    request.headers_mut().insert(AUTHORIZATION, bearer);
    Ok(request)
}

fn read<E: Error + 'static>(response: &Response<Vec<u8>>) -> Result<Value, GraphError<E>> {
    let evidence = Evidence::of(response);
    match response.status().as_u16() {
        200 => match serde_json::from_slice(response.body()) {
            Ok(value @ Value::Object(_)) => Ok(value),
            _ => Err(GraphError::Malformed(evidence)),
        },
        401 => Err(GraphError::Unauthorised(evidence)),
        403 => Err(GraphError::Forbidden(evidence)),
        404 => Err(GraphError::NotFound(evidence)),
        429 => {
            let after = response.headers().get(http::header::RETRY_AFTER).and_then(retry_after);
            Err(GraphError::Throttled { after, evidence })
        }
        status if status >= 500 => Err(GraphError::Unavailable { status, evidence }),
        status => Err(GraphError::Refused { status, evidence }),
    }
}

/// The claims of `WWW-Authenticate: Bearer …, error="insufficient_claims", claims="<base64>"`, as JSON.
fn claims_challenge(response: &Response<Vec<u8>>) -> Option<String> {
    use base64::Engine;
    use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
    use base64::{alphabet, engine::DecodePaddingMode};
    const INDIFFERENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, INDIFFERENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, INDIFFERENT);

    let header = response.headers().get(WWW_AUTHENTICATE)?.to_str().ok()?;
    let (_, rest) = header.split_once("claims=\"")?;
    let (encoded, _) = rest.split_once('"')?;
    if encoded.len() > MAX_CHALLENGE {
        return None;
    }
    let decoded = STANDARD.decode(encoded).or_else(|_| URL_SAFE.decode(encoded)).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    serde_json::from_str::<serde_json::Map<String, Value>>(&text).ok()?;
    Some(text)
}
