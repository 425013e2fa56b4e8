//! Where the requests of a tool may go, and with which permissions of its caller: `egress` of a `[[tools]]`, or `--egress`.

use std::collections::HashSet;

use clap::parser::MatchesError;
use clap::{Arg, ArgAction, ArgMatches};
use entra_mcp_plugin::outbound_http::OutboundPolicy;
use serde::Deserialize;
use url::Url;

use super::Context;
use crate::config::endpoints::endpoint;
use crate::config::serve::token_mode::check_scope;
use crate::config::setting::SettingValue;
use crate::config::{ConfigError, invalid};

/// What tools call Microsoft Graph, in every cloud.
const GRAPH: &str = "https://graph.microsoft.com";

/// Characters of the longest identifier of a resource: Entra ID's own bound of an App ID URI.
const MAX_RESOURCE: usize = 255;

/// One entry of `egress`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EgressEntry {
    /// Scheme, host, port and the beginning of the path.
    pub to: String,
    /// The API that the token is for, by its identifier; left out: Microsoft Graph.
    pub resource: Option<String>,
    /// Permissions of that API, in the short form.
    pub scopes: Option<Vec<String>>,
    /// Whether requests get a token; left out: they do.
    pub token: Option<TokenChoice>,
}

/// Whether requests get a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenChoice {
    /// In the caller's name.
    Caller,
    /// None.
    None,
}

/// The destinations of the only tool component: each flag is one, and the variable is a JSON list of entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct GivenEgress(pub Vec<EgressEntry>);

/// `URL=Scope[,Scope]`: permissions of Microsoft Graph in the short form, those of another API after its identifier and a
/// slash.
fn of_flag(text: &str) -> Result<EgressEntry, String> {
    let form = || {
        "URL=SCOPE[,SCOPE] is expected, such as https://graph.microsoft.com=Mail.Read, or \
         https://api.contoso.com/v1/=api://contoso/Orders.Read"
            .to_owned()
    };
    let (to, permissions) = text.rsplit_once('=').ok_or_else(form)?;
    let permissions = permissions.split(',').map(str::trim).map(|permission| match permission.rsplit_once('/') {
        Some((resource, scope)) => (Some(resource.to_owned()), scope.to_owned()),
        None => (None, permission.to_owned()),
    });
    let (mut resources, scopes): (Vec<_>, Vec<_>) = permissions.unzip();
    if to.is_empty() || scopes.iter().any(String::is_empty) {
        return Err(form());
    }
    resources.dedup();
    match resources.as_slice() {
        [resource] => {
            Ok(EgressEntry { to: to.to_owned(), resource: resource.clone(), scopes: Some(scopes), token: None })
        }
        _ => Err("a request gets one token, for one API: permissions of one API are expected".to_owned()),
    }
}

impl SettingValue for GivenEgress {
    fn argument(argument: Arg) -> Arg {
        argument.value_parser(of_flag).action(ArgAction::Append)
    }

    fn of_matches(matches: &ArgMatches, name: &str) -> Result<Option<Self>, MatchesError> {
        Ok(matches.try_get_many::<EgressEntry>(name)?.map(|entries| Self(entries.cloned().collect())))
    }

    fn of_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn expected(_: &str) -> String {
        "a JSON list is expected, such as [{\"to\": \"https://graph.microsoft.com\", \"scopes\": [\"Mail.Read\"]}]"
            .to_owned()
    }

    fn text(&self) -> String {
        self.0.iter().map(|entry| entry.to.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// A destination, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressConfig {
    /// Scheme, host, port and the beginning of the path, in the canonical form.
    pub to: String,
    /// One combination of permissions of one resource, in the qualified form. Empty: requests get no token.
    pub permissions: Vec<String>,
}

/// Checks the destinations of the server `server`.
pub(super) fn checked(
    server: &str,
    entries: &[EgressEntry],
    context: &Context<'_>,
) -> Result<Vec<EgressConfig>, ConfigError> {
    let mut destinations = HashSet::new();
    let checked = entries.iter().map(|entry| {
        let egress = one(server, entry, context)?;
        if !destinations.insert(egress.to.clone()) {
            return Err(ConfigError::Conflict(format!(
                "the egress of {server:?} has two entries for {:?}: a request gets one token, for one resource, so write \
                 one entry, or entries for different paths",
                egress.to
            )));
        }
        Ok(egress)
    });
    checked.collect()
}

fn one(server: &str, entry: &EgressEntry, context: &Context<'_>) -> Result<EgressConfig, ConfigError> {
    let EgressEntry { to, resource, scopes, token } = entry;
    let conflict = |text: String| Err(ConfigError::Conflict(format!("the egress of {server:?} to {to:?} {text}")));
    let url = destination(to)?;
    if *token == Some(TokenChoice::None) {
        if resource.is_some() || scopes.is_some() {
            return conflict(
                "has token = \"none\", so resource and scopes have no effect: remove them, or remove token".into(),
            );
        }
        return Ok(EgressConfig { to: url.into(), permissions: Vec::new() });
    }
    let is_graph = is_graph(&url, context.graph);
    let resource = match resource {
        Some(resource) if is_graph && ![context.graph_resource, GRAPH].contains(&resource.as_str()) => {
            return conflict(format!(
                "goes to Microsoft Graph, which takes no token for {resource:?}: remove resource"
            ));
        }
        _ if is_graph => context.graph_resource,
        Some(resource) => check_resource("tools.egress.resource", resource)?,
        None => {
            return conflict(
                "needs the API that the token is for, such as resource = \"api://contoso\"; without a token, write \
                 token = \"none\""
                    .into(),
            );
        }
    };
    match scopes.as_deref() {
        None | Some([]) => conflict(
            "needs the permissions of the token, such as scopes = [\"Orders.Read\"]; without a token, write \
             token = \"none\""
                .into(),
        ),
        Some(scopes) => {
            Ok(EgressConfig { to: url.into(), permissions: qualified("tools.egress.scopes", resource, scopes)? })
        }
    }
}

/// The permissions of one resource, in the qualified form.
pub(super) fn qualified(key: &'static str, resource: &str, scopes: &[String]) -> Result<Vec<String>, ConfigError> {
    let qualified = scopes.iter().map(|scope| {
        check_scope(key, scope)?;
        Ok(format!("{resource}/{scope}"))
    });
    qualified.collect()
}

/// It becomes part of scopes, which are separated by spaces.
pub(super) fn check_resource<'a>(key: &'static str, resource: &'a str) -> Result<&'a str, ConfigError> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\,".contains(&byte);
    let is_plain = !resource.is_empty() && resource.len() <= MAX_RESOURCE && resource.bytes().all(plain);
    let is_identifier = Url::parse(resource).is_ok() || crate::config::ids::is_guid(resource);
    if is_plain && is_identifier && !resource.ends_with('/') {
        return Ok(resource);
    }
    let expected = "the App ID URI or the client id of one API is expected, without a slash at its end, such as \
                    api://contoso";
    Err(invalid(key, resource, expected))
}

/// A destination that requests may be sent to.
fn destination(text: &str) -> Result<Url, ConfigError> {
    const KEY: &str = "tools.egress.to";
    let url = endpoint(KEY, text)?;
    if url.host_str().is_some_and(|host| host.contains('*')) {
        return Err(invalid(KEY, text, "a host is expected, and not a pattern for hosts"));
    }
    // Only a path that says nothing may be written in two ways.
    if url.as_str() != text && url.as_str() != format!("{text}/") {
        return Err(invalid(KEY, text, format!("it is expected in the form {:?}", url.as_str())));
    }
    // The way out checks addresses again, when it connects.
    OutboundPolicy::new([text]).map_err(|error| invalid(KEY, text, error.to_string()))?;
    Ok(url)
}

/// Whether it is Microsoft Graph: by its name in the public cloud, or where it is configured to be.
fn is_graph(url: &Url, configured: &str) -> bool {
    let Ok(configured) = Url::parse(configured) else { return false };
    let public = url.origin().ascii_serialization() == GRAPH;
    let base = configured.path().trim_end_matches('/');
    let below = url.path().strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    public || (url.origin() == configured.origin() && below)
}
