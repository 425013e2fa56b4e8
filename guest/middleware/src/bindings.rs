//! The handler of requests, in front of the one that is imported.

use std::cell::OnceCell;
use std::io::Write as _;
use std::rc::Rc;

use base::principal::CallerKind;
use entra::EntraWorld;
use entra::token::{self, Requirements, TokenError};
use futures_util::lock::Mutex;
use world::records::{Partitions, Records};
use world::trail::Recorder;
use world::{NoAudit, NoCredential, NoStore, SessionNames, Trail};

use self::fetch::Fetch;
use self::generated::wasi::http::handler;
use self::generated::wasi::http::types::{ErrorCode, Fields, Method, Request, Response};
use self::generated::{wit_future, wit_stream};
use self::wasi::Wasi;
use crate::answers::{self, Refusal, WholeAnswer};
use crate::identity;
use crate::request::{self, Field};
use crate::settings::{self, Configuration};

#[allow(unsafe_code, unreachable_pub, reason = "the export macro defines the component's entry points")]
mod exports;
mod fetch;
mod wasi;

#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::restriction, reason = "generated code")]
mod generated {
    wit_bindgen::generate!({
        path: "wit",
        world: "entra-mcp:middleware/middleware",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "crate::bindings::generated",
    });
}

/// What the client is told that has no token.
const NO_TOKEN: &str = "sign in first: this request has no access token";

thread_local! {
    // A component instance has one thread, so these are the instance's.
    static CONFIGURATION: OnceCell<Option<Rc<Configuration>>> = const { OnceCell::new() };
    /// Held while a token is judged: what is shared by requests is the keys of the authority and nothing else, and no two of
    /// them look at those at the same time.
    static JUDGING: Rc<Mutex<()>> = Rc::default();
}

/// The settings. None: they are not valid, which was said.
fn configuration() -> Option<Rc<Configuration>> {
    CONFIGURATION.with(|known| {
        let read = || {
            #[allow(
                clippy::disallowed_methods,
                reason = "the settings of this artefact are variables, and are read here only"
            )]
            let variables: Vec<_> = std::env::vars().collect();
            match settings::read(&variables) {
                Ok(configuration) => Some(Rc::new(configuration)),
                Err(error) => {
                    let _ = writeln!(std::io::stderr(), "entra-mcp cannot start: {error}");
                    None
                }
            }
        };
        known.get_or_init(read).clone()
    })
}

struct Middleware;

impl generated::exports::wasi::http::handler::Guest for Middleware {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let Some(configuration) = configuration() else { return Err(ErrorCode::ConfigurationError) };
        let path = request.get_path_with_query().unwrap_or_default();
        if let Some(answer) = answers::metadata(&configuration, method(&request.get_method()), &path) {
            return Ok(response(answer));
        }
        let fields: Vec<Field> = request.get_headers().copy_all();
        match judged(&configuration, request::bearer(&fields)).await {
            Ok(identity) => handler::handle(onward(request, &fields, identity)?).await,
            Err(answer) => Ok(response(answer)),
        }
    }
}

/// Only what the answers of this component depend on.
fn method(method: &Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        _ => "",
    }
}

/// The fields that tell who calls, or the answer to a request that does not go on.
async fn judged(configuration: &Configuration, token: Option<&str>) -> Result<Vec<Field>, WholeAnswer> {
    let Some(token) = token else {
        return Err(answers::refused(configuration, Refusal { status: 401, error: None, text: NO_TOKEN }));
    };
    let needs = Requirements {
        all_scopes: vec![configuration.required_scope.clone()],
        kind: Some(CallerKind::User),
        ..Requirements::default()
    };
    let lock = JUDGING.with(Rc::clone);
    let judging = lock.lock().await;
    let partitions = Partitions::of(&configuration.verdict);
    let names = SessionNames::default();
    let records = Records::new(&NoStore, &Wasi, &Wasi, &partitions);
    let recorder =
        Recorder { audit: &NoAudit, records, random: &Wasi, settings: &configuration.verdict, names: &names };
    let trail = Trail::unnamed(recorder);
    let env = EntraWorld {
        settings: &configuration.verdict,
        http: &Fetch,
        records,
        clock: &Wasi,
        random: &Wasi,
        signatures: None,
        credential: &NoCredential,
        trail: &trail,
    };
    let verdict = token::validate_access_token_with(&env, token, &needs, None).await;
    drop(judging);
    let validated = verdict.map_err(|error| refused(configuration, &error))?;
    let principal = Rc::unwrap_or_clone(validated).into_principal();
    identity::fields(&principal)
        .map_err(|_| answers::refused(configuration, Refusal { status: 500, error: None, text: "internal error" }))
}

fn refused(configuration: &Configuration, error: &TokenError) -> WholeAnswer {
    if !error.is_refusal() {
        let _ = writeln!(std::io::stderr(), "entra-mcp: a token cannot be judged: {}", error.reason());
    }
    let challenge = error.challenge();
    let refusal = Refusal {
        status: error.status(),
        error: challenge.as_ref().and_then(|challenge| challenge.error),
        text: error.public_text(),
    };
    answers::refused(configuration, refusal)
}

/// The request with other fields. Its body is not read.
fn onward(request: Request, fields: &[Field], identity: Vec<Field>) -> Result<Request, ErrorCode> {
    let internal = |_| ErrorCode::InternalError(None);
    let headers = Fields::from_list(&request::onward(fields, identity)).map_err(|_| ErrorCode::InternalError(None))?;
    let (method, scheme, authority) = (request.get_method(), request.get_scheme(), request.get_authority());
    let (path, options) = (request.get_path_with_query(), request.get_options());
    let (_, processed) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, processed);
    let (onward, _transmitted) = Request::new(headers, Some(body), trailers, options);
    onward.set_method(&method).map_err(internal)?;
    onward.set_scheme(scheme.as_ref()).map_err(internal)?;
    onward.set_authority(authority.as_deref()).map_err(internal)?;
    onward.set_path_with_query(path.as_deref()).map_err(internal)?;
    Ok(onward)
}

/// An answer of this component.
fn response(answer: WholeAnswer) -> Response {
    let fields = Fields::from_list(&answer.fields).unwrap_or_else(|_| Fields::new());
    let (mut writer, reader) = wit_stream::new();
    let (trailers, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _transmitted) = Response::new(fields, Some(reader), no_trailers);
    let _ = response.set_status_code(answer.status);
    wit_bindgen::spawn_local(async move {
        let _ = writer.write_all(answer.body.into_bytes()).await;
        drop(writer);
        let _ = trailers.write(Ok(None)).await;
    });
    response
}
