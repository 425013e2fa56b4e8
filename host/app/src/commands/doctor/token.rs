//! Explains one token, and never shows it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_mcp_plugin::environment::Settings;
use entra_mcp_plugin::token_validator::Requirements;
use entra_mcp_plugin::{Error, Plugin};
use serde_json::Value;
use zeroize::Zeroizing;

use super::report::Finding;
use crate::commands::CommandError;

/// Longest file in bytes. A token has at most 16 KiB.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// Microsoft Graph's application id, the same in every tenant.
const GRAPH: &str = "00000003-0000-0000-c000-000000000000";

/// The token in a file.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, CommandError> {
    let failed =
        |error: std::io::Error| CommandError::File { path: path.display().to_string(), reason: error.to_string() };
    // It does not grow, which would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES.saturating_add(1)));
    let most = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    File::open(path).and_then(|file| file.take(most).read_to_string(&mut text)).map_err(failed)?;
    let text = text.trim();
    let token = text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("bearer ")).unwrap_or(text).trim();
    Ok(Zeroizing::new(token.to_owned()))
}

/// The claims of a token, whether they are true or not. Without its signature they are no token.
fn claims(token: &str) -> Option<Value> {
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?);
    serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
}

/// What the token says, as far as it says it, whether it is true or not. It is shown for people to compare: ids, times and
/// permissions, and no name.
pub(super) fn described(token: &str, now: u64) -> Vec<Finding> {
    let Some(claims) = claims(token) else {
        let what = "it is no signed JSON Web Token whose claims can be read";
        let change = "take the access token (not the refresh token, a code, or an encrypted token) that the client sends \
                      after `Authorization: Bearer`";
        return vec![Finding::failure("token-form", what, change)];
    };
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(plain);
    let list = |name: &str| -> Vec<String> {
        let each = |values: &Vec<Value>| values.iter().filter_map(Value::as_str).map(plain).collect();
        claims.get(name).and_then(Value::as_array).map(each).unwrap_or_default()
    };
    let mut findings = Vec::new();
    let mut say = |what: String| findings.push(Finding::skipped("claims", what));
    say(format!("version {}, issued by {}", text("ver").unwrap_or_default(), text("iss").unwrap_or_default()));
    say(format!("for the audience {}", text("aud").unwrap_or_default()));
    say(format!("to the client {}", text("azp").or_else(|| text("appid")).unwrap_or_default()));
    match text("scp") {
        Some(scopes) => say(format!("in the name of a person, with the scopes {scopes}")),
        None => say(format!("for an application itself, with the roles {}", list("roles").join(" "))),
    }
    if let Some(expires) = claims.get("exp").and_then(Value::as_u64) {
        let minutes = expires.abs_diff(now) / 60;
        say(if expires > now {
            format!("it expires in {minutes} minutes")
        } else {
            format!("it expired {minutes} minutes ago")
        });
    }
    findings
}

/// Whether this server accepts it, and what to change if not.
pub(super) async fn judged(token: &str, plugin: &Plugin, settings: &Settings) -> Finding {
    let mut needs = Requirements::default();
    if !claim(token, "scp").is_empty() {
        needs.all_scopes = settings.http.iter().map(|http| http.required_scope.clone()).collect();
    }
    let refused = match plugin.validate_token(token, &needs).await {
        Ok(_) => return Finding::good("token", "this server accepts the token"),
        Err(Error::Token(refused)) => refused,
        Err(error) => return Finding::failure("token", error.to_string(), "report it with the log"),
    };
    let text = |name: &str| refused.text(name).map(plain).unwrap_or_default();
    let audience = claim(token, "aud");
    let (what, change) = match refused.code.as_str() {
        // Graph has tokens of a form of its own, which nothing else can verify.
        _ if [GRAPH, "https://graph.microsoft.com"].contains(&audience.as_str()) => (
            "it is a token for Microsoft Graph, not for this server".to_owned(),
            format!("let the client ask for the scope of this server, such as {}, instead of User.Read", own_scope(settings)),
        ),
        "audience-mismatch" => (
            format!("it is for {audience}, and this server accepts {}", settings.token.audiences.join(", ")),
            "correct the resource that the client asks for; if the audience is an App ID URI of this application, set \
             requestedAccessTokenVersion to 2 (App registrations > your app > Manifest), or name it with --app-id-uri"
                .to_owned(),
        ),
        "issuer-mismatch" if claim(token, "ver") == "1.0" => (
            format!("it is a version 1 token, issued by {}", claim(token, "iss")),
            "set requestedAccessTokenVersion to 2 (App registrations > your app > Manifest), and get a new token".to_owned(),
        ),
        "issuer-mismatch" | "tenant-not-allowed" => (
            format!("it comes from another issuer or tenant, {}", claim(token, "iss")),
            "sign in with an account of the tenant in the settings, or correct --tenant-id or --allow-tenant".to_owned(),
        ),
        "expired" => (
            "it has expired".to_owned(),
            "get a new one; if it is new, correct the date and time of this machine".to_owned(),
        ),
        "not-yet-valid" => ("it is not valid yet".to_owned(), "correct the date and time of this machine".to_owned()),
        "key-unknown" | "signature-invalid" => (
            "its signature is by no key of the tenant".to_owned(),
            "see that the authority and the cloud in the settings are those that the client signs in at".to_owned(),
        ),
        "scopes-missing" => (
            format!("it has not the scope {}", needs.all_scopes.join(" ")),
            format!(
                "let the client ask for {}; the scope is added under App registrations > your app > Expose an API, and \
                 granted under API permissions of the client",
                own_scope(settings)
            ),
        ),
        "no-permissions" => (
            "it has neither scopes nor roles".to_owned(),
            "add a scope under App registrations > your app > Expose an API, or a role under App roles, and grant it to the \
             client"
                .to_owned(),
        ),
        "key-bound" => (
            "it is bound to a key of the client's, so it is no bearer token".to_owned(),
            "let the client ask for a plain bearer token, without a broker that binds it".to_owned(),
        ),
        code => {
            let evidence = text("reason");
            (format!("it is refused: {code} {evidence}").trim_end().to_owned(), plain(&refused.message))
        }
    };
    Finding::failure("token", what, change)
}

fn own_scope(settings: &Settings) -> String {
    let http = settings.http.as_ref();
    let scope = http.map(|http| http.required_scope.as_str()).unwrap_or_default();
    let uri = http.and_then(|http| http.app_id_uri.clone());
    let uri = uri.or_else(|| http.map(|http| format!("{}/mcp", http.public_url)));
    format!("{}/{scope}", uri.unwrap_or_default())
}

fn claim(token: &str, name: &str) -> String {
    claims(token).unwrap_or_default().get(name).and_then(Value::as_str).map(plain).unwrap_or_default()
}

/// Text of a token in a terminal: short, and without control characters.
fn plain(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}
