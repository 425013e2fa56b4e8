//! Checks of URLs, and where Entra ID and Graph are.

use url::{Host, Url};

use super::layer::Values;
use super::{Cloud, ConfigError, invalid};

/// Where Entra ID and Graph are.
pub(super) struct Endpoints {
    pub(super) authority: String,
    pub(super) tenant_of_authority: Option<String>,
    pub(super) graph: String,
    pub(super) graph_resource: String,
}

impl Endpoints {
    pub(super) fn new(values: &Values) -> Result<Self, ConfigError> {
        let given = values.authority.as_deref().map(|text| endpoint("authority", text)).transpose()?;
        let (authority, tenant_of_authority) = match &given {
            None => (None, None),
            Some(url) => (Some(url.origin().ascii_serialization()), tenant_in_path(url)?),
        };
        // An authority that is a cloud's own tells which cloud it is.
        let implied = Cloud::ALL.into_iter().find(|cloud| Some(cloud.authority()) == authority.as_deref());
        let cloud = values.cloud.or(implied).unwrap_or(Cloud::Public);
        if let (Some(implied), true) = (implied, implied.is_some_and(|implied| implied != cloud)) {
            let authority = implied.authority();
            return Err(ConfigError::Conflict(format!("the authority {authority} is not of the configured cloud")));
        }
        let graph = values.graph_url.as_deref().map(|text| endpoint("graph-url", text)).transpose()?;
        let resource = values.graph_resource.as_deref().map(|text| endpoint("graph-resource", text)).transpose()?;
        let graph_resource = match (&resource, &graph) {
            (Some(resource), _) => base(resource),
            // An emulated Graph takes the tokens of the real one.
            (None, Some(graph)) if !is_loopback(graph) => base(graph),
            _ => cloud.graph().to_owned(),
        };
        Ok(Self {
            authority: authority.unwrap_or_else(|| cloud.authority().to_owned()),
            tenant_of_authority,
            graph: graph.as_ref().map_or_else(|| cloud.graph().to_owned(), base),
            graph_resource,
        })
    }
}

/// A URL of an endpoint: https, or http on loopback.
pub(super) fn endpoint(name: &'static str, text: &str) -> Result<Url, ConfigError> {
    let invalid = |expected: &str| invalid(name, text, expected);
    let url = Url::parse(text).map_err(|_| invalid("an https URL is expected"))?;
    if !url.username().is_empty() || url.password().is_some() {
        // The value is not repeated: it may hold a password.
        let expected = "a URL without user name and password is expected".to_owned();
        return Err(ConfigError::Invalid { name, value: "…".into(), expected });
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("a URL without query and fragment is expected"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(invalid("http is accepted on loopback only, an https URL is expected")),
        _ => Err(invalid("an https URL is expected")),
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The URL without a version and a slash at its end.
pub(super) fn base(url: &Url) -> String {
    let text = url.as_str().trim_end_matches('/');
    let text = text.strip_suffix("/v1.0").or_else(|| text.strip_suffix("/beta")).unwrap_or(text);
    text.trim_end_matches('/').to_owned()
}

/// The tenant in an authority that was copied with it: `https://login.microsoftonline.com/{tenant}/v2.0`.
fn tenant_in_path(url: &Url) -> Result<Option<String>, ConfigError> {
    let segments: Vec<_> = url.path().split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.as_slice() {
        [] => Ok(None),
        [tenant] | [tenant, "v2.0"] => Ok(Some((*tenant).to_owned())),
        _ => Err(ConfigError::Invalid {
            name: "authority",
            value: url.to_string(),
            expected: "scheme and host are expected, at most with the tenant: https://login.microsoftonline.com".into(),
        }),
    }
}

pub(super) fn one_tenant(set: Option<String>, of_authority: Option<String>) -> Result<Option<String>, ConfigError> {
    match (set, of_authority) {
        (Some(set), Some(other)) if set != other => Err(ConfigError::Conflict(format!(
            "the tenant id is {set:?}, but the authority names the tenant {other:?}: remove one of them"
        ))),
        (set, other) => Ok(set.or(other)),
    }
}
