//! Checks of URLs.

use std::net::Ipv4Addr;

use http::Uri;

use super::{SettingsError, Variables, invalid};

/// Microsoft's clouds: name, authority and Microsoft Graph. The program has them too, in `host/app/src/config/layer.rs`: a
/// component depends on no crate of the program. The behaviour test `the_artefact_and_the_program_know_the_same_clouds` compares
/// the two.
const CLOUDS: [(&str, &str, &str); 3] = [
    ("public", "https://login.microsoftonline.com", "https://graph.microsoft.com"),
    ("us-government", "https://login.microsoftonline.us", "https://graph.microsoft.us"),
    ("china", "https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn"),
];

/// Where Entra ID and Microsoft Graph are.
pub(super) struct Clouds {
    pub(super) authority: String,
    pub(super) graph: String,
    pub(super) graph_resource: String,
}

/// A URL in its parts.
pub(super) struct Url<'t> {
    text: &'t str,
    pub(super) host: String,
    pub(super) path: String,
    is_loopback: bool,
}

/// https, or http on loopback, without user, query and fragment.
pub(super) fn url<'t>(setting: &'static str, text: &'t str) -> Result<Url<'t>, SettingsError> {
    let expected = || invalid(setting, "an https URL is expected; http is accepted on loopback only".to_owned());
    let uri: Uri = text.parse().map_err(|_| expected())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(expected()) };
    if authority.as_str().contains('@') || uri.query().is_some() || text.contains('#') {
        return Err(invalid(setting, "a URL without user name, password, query and fragment is expected".to_owned()));
    }
    let is_address = authority.host().parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    let is_loopback = is_address || matches!(authority.host(), "localhost" | "[::1]");
    match scheme {
        "https" => {}
        "http" if is_loopback => {}
        _ => return Err(expected()),
    }
    Ok(Url { text, host: authority.as_str().to_owned(), path: uri.path().to_owned(), is_loopback })
}

/// The cloud that is named, or implied by the authority; and what is set in its place.
pub(super) fn clouds(variables: &Variables<'_>) -> Result<Clouds, SettingsError> {
    let authority = variables.text("authority").map(|text| url("authority", text)).transpose()?;
    if authority.as_ref().is_some_and(|url| url.path != "/" && !url.path.is_empty()) {
        return Err(invalid("authority", "scheme and host are expected: https://login.microsoftonline.com".to_owned()));
    }
    let authority = authority.map(|url| url.text.trim_end_matches('/').to_owned());
    let named = match variables.text("cloud") {
        Some(_) => Some(variables.choice("cloud")?),
        None => None,
    };
    let implied = CLOUDS.iter().find(|(_, of, _)| authority.as_deref() == Some(of));
    let of_name = |name: &str| CLOUDS.iter().find(|(cloud, _, _)| *cloud == name);
    if let (Some((implied, _, _)), Some(named)) = (implied, named)
        && *implied != named
    {
        return Err(SettingsError::Conflict("ENTRA_MCP_AUTHORITY is not of the cloud of ENTRA_MCP_CLOUD".to_owned()));
    }
    let (_, of_cloud, graph_of_cloud) =
        named.and_then(of_name).or(implied).or_else(|| of_name("public")).copied().unwrap_or_default();
    let graph = variables.text("graph-url").map(|text| url("graph-url", text)).transpose()?;
    let resource = variables.text("graph-resource").map(|text| url("graph-resource", text)).transpose()?;
    let graph_resource = match (&resource, &graph) {
        (Some(resource), _) => base(resource.text),
        // An emulated Graph takes the tokens of the real one.
        (None, Some(graph)) if !graph.is_loopback => base(graph.text),
        _ => graph_of_cloud.to_owned(),
    };
    Ok(Clouds {
        authority: authority.unwrap_or_else(|| of_cloud.to_owned()),
        graph: graph.map_or_else(|| graph_of_cloud.to_owned(), |url| base(url.text)),
        graph_resource,
    })
}

/// The URL without a version and a slash at its end.
fn base(text: &str) -> String {
    let text = text.trim_end_matches('/');
    let text = text.strip_suffix("/v1.0").or_else(|| text.strip_suffix("/beta")).unwrap_or(text);
    text.trim_end_matches('/').to_owned()
}

/// Where clients reach the server.
pub(super) struct PublicUrl {
    pub(super) text: String,
    /// With the port, if it is not the scheme's.
    pub(super) host: String,
}

/// Clients compare the issuer character for character, so there is one way to write it.
pub(super) fn public_url(text: &str) -> Result<PublicUrl, SettingsError> {
    const NAME: &str = "public-url";
    let Url { host, path, .. } = url(NAME, text)?;
    let own = |expected: &str| Err(invalid(NAME, expected.to_owned()));
    let port_is_implied = (text.starts_with("https://") && host.ends_with(":443"))
        || (text.starts_with("http://") && host.ends_with(":80"));
    if text.ends_with('/') || host.bytes().any(|byte| byte.is_ascii_uppercase()) || port_is_implied {
        return own(
            "the host is expected in lower case, without the port that the scheme implies, and no slash at the end",
        );
    }
    // Clients look for metadata there.
    let first = path.split('/').nth(1).unwrap_or_default();
    let segments = path.split('/').skip(1);
    let is_plain = |segment: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
    };
    if path != "/" && !path.is_empty() && (!segments.into_iter().all(is_plain) || first == ".well-known") {
        return own("a path of plain segments is expected that does not begin with .well-known");
    }
    Ok(PublicUrl { text: text.to_owned(), host })
}
