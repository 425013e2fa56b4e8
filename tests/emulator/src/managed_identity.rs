//! Managed identity: tokens for a machine, without any secret, in the three forms Azure offers.
//!
//! App Service gives each process an address and a header value of its own; a virtual machine has one well-known
//! address, for which this path stands in; the agent of Azure Arc answers programs that can read a file of its. All of them
//! answer with the claims of an app-only token.

use std::path::Path;

use http::StatusCode;
use serde_json::{Value, json};

use super::config::{Config, ManagedIdentity};
use super::http::{Incoming, Params, Reply};
use super::resources::{self, Target};
use super::tokens::{self, ClientProof, Form, Holder};
use super::world::World;

/// `IDENTITY_HEADER` of the emulated App Service; any process that knows it may ask.
pub const IDENTITY_HEADER: &str = "identity-header-of-the-emulator";

/// App Service: `X-IDENTITY-HEADER` and `api-version=2019-08-01`.
pub(crate) fn app_service(world: &World, incoming: &Incoming) -> Reply {
    let refuse = |status: StatusCode, message: &str| {
        Reply::json(status, &json!({ "statusCode": status.as_u16(), "message": message }))
    };
    if incoming.header("x-identity-header") != Some(IDENTITY_HEADER) {
        return refuse(
            StatusCode::UNAUTHORIZED,
            "The X-IDENTITY-HEADER header is missing or does not match IDENTITY_HEADER.",
        );
    }
    if incoming.query.get("api-version") != Some("2019-08-01") {
        return refuse(StatusCode::BAD_REQUEST, "The api-version is not supported.");
    }
    match issue(world, &incoming.query) {
        Ok(mut body) => {
            if let Some(object) = body.as_object_mut() {
                object.remove("expires_in");
                object.remove("ext_expires_in");
            }
            Reply::ok(&body)
        }
        Err(message) => refuse(StatusCode::BAD_REQUEST, message),
    }
}

/// Instance metadata service: `Metadata: true`, and no `X-Forwarded-For`, which would betray a proxied request.
pub(crate) fn instance_metadata(world: &World, incoming: &Incoming) -> Reply {
    let refuse = |status: StatusCode, error: &str, description: &str| {
        Reply::json(status, &json!({ "error": error, "error_description": description }))
    };
    if !incoming.header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return refuse(StatusCode::BAD_REQUEST, "bad_request_102", "Required metadata header not specified");
    }
    if incoming.header("x-forwarded-for").is_some() {
        return refuse(StatusCode::BAD_REQUEST, "bad_request", "Requests through a proxy are refused");
    }
    if incoming.query.get("api-version").is_none() {
        return refuse(StatusCode::BAD_REQUEST, "bad_request", "The api-version query parameter is missing");
    }
    match issue(world, &incoming.query) {
        Ok(body) => Reply::ok(&body),
        Err(message) => refuse(StatusCode::BAD_REQUEST, "invalid_request", message),
    }
}

/// The agent of Azure Arc: `Metadata: true`, and `Basic` with the content of the file that the refusal before has named, once.
pub(crate) fn arc(world: &World, incoming: &Incoming) -> Reply {
    let refuse = |status: StatusCode, error: &str| Reply::json(status, &json!({ "error": error }));
    let config = world.config();
    let Some(folder) = &config.arc_folder else { return Reply::empty(StatusCode::NOT_FOUND) };
    if !incoming.header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return refuse(StatusCode::BAD_REQUEST, "the Metadata header is missing");
    }
    if incoming.query.get("api-version") != Some("2020-06-01") {
        return refuse(StatusCode::BAD_REQUEST, "the api-version is not supported");
    }
    let user_assigned = ["client_id", "object_id", "principal_id", "mi_res_id", "msi_res_id"];
    if user_assigned.iter().any(|name| incoming.query.get(name).is_some()) {
        return refuse(StatusCode::BAD_REQUEST, "there are no user-assigned identities here");
    }
    let Some(proof) = incoming.header("authorization").and_then(|value| value.strip_prefix("Basic ")) else {
        let file = folder.join(format!("{}.key", world.random.guid()));
        if std::fs::write(&file, world.random.text::<64>()).is_err() {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be written");
        }
        let challenge = format!("Basic realm={}", file.display());
        return Reply::empty(StatusCode::UNAUTHORIZED).with("www-authenticate", &challenge);
    };
    if !is_content_of_a_file(folder, proof) {
        return refuse(StatusCode::UNAUTHORIZED, "this is not the content of the file");
    }
    match issue(world, &incoming.query) {
        Ok(body) => Reply::ok(&body),
        Err(message) => refuse(StatusCode::BAD_REQUEST, message),
    }
}

/// Whether a file of the agent has this content. The file is good once.
fn is_content_of_a_file(folder: &Path, proof: &str) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut keys = files.filter(|file| file.extension().is_some_and(|extension| extension == "key"));
    keys.any(|file| std::fs::read_to_string(&file).is_ok_and(|key| key == proof) && std::fs::remove_file(&file).is_ok())
}

fn issue(world: &World, query: &Params) -> Result<Value, &'static str> {
    let config = world.config();
    let written = query.get("resource").ok_or("The resource query parameter is missing")?;
    let resource = resources::resource(world, &config, written).or_else(|| exchange_audience(world, &config, written));
    let identity = identity(&config, query).ok_or("Identity not found")?;
    let Some(resource) = resource else {
        return Err("The resource principal was not found in the tenant");
    };
    let roles = identity.granted_roles.get(resource.id()).cloned().unwrap_or_default();
    let holder = Holder::Application {
        tenant: &identity.tenant,
        client: &identity.client_id,
        object: &identity.id,
        roles: &roles,
    };
    let target = Target { resource, written_as: written.to_owned(), permissions: Vec::new(), default: true };
    let form = Form { proof: ClientProof::Assertion, continuous: false, stepped_up: false };
    let token =
        tokens::access_token(world, &config, holder, &target, form).ok_or("The emulator could not sign a token")?;
    let now = world.clock.now();
    // Every number is a string here, as in Azure's own answers.
    Ok(json!({
        "access_token": token.value,
        "client_id": identity.client_id,
        "expires_in": token.expires_in.to_string(),
        "ext_expires_in": token.expires_in.to_string(),
        "expires_on": (now + token.expires_in).to_string(),
        "not_before": now.to_string(),
        "resource": written,
        "token_type": "Bearer",
    }))
}

fn identity<'a>(config: &'a Config, query: &Params) -> Option<&'a ManagedIdentity> {
    let named = |value: Option<&str>, of: fn(&ManagedIdentity) -> &str| {
        value.map(|value| config.managed_identities.iter().find(|identity| of(identity).eq_ignore_ascii_case(value)))
    };
    named(query.get("client_id"), |identity| &identity.client_id)
        .or_else(|| named(query.get("object_id").or_else(|| query.get("principal_id")), |identity| &identity.id))
        .or_else(|| named(query.get("mi_res_id").or_else(|| query.get("msi_res_id")), |identity| &identity.resource_id))
        .unwrap_or_else(|| config.managed_identities.iter().find(|identity| identity.system_assigned))
}

/// The audience of federated credentials: a token for it is exchanged at the token endpoint, so it must be a v2 one whose
/// `aud` is this very text.
fn exchange_audience(_world: &World, config: &Config, written: &str) -> Option<resources::Resource> {
    if written != "api://AzureADTokenExchange" {
        return None;
    }
    let mut application = config.applications.first()?.clone();
    application.id = written.to_owned();
    application.access_token_version = 2;
    application.group_claims = false;
    Some(resources::Resource::Application(Box::new(application)))
}
