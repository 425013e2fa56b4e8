//! Where the server is, as its public URL says.

use base::policy::Name;
use base::settings::{HttpSettings, ServerKind, ServerSettings};

/// The path of the MCP endpoint.
pub const MCP_PATH: &str = "/mcp";
/// The path of the event stream of HTTP+SSE.
pub const SSE_PATH: &str = "/sse";
/// Where a proxy asks. Requests of Envoy have the original path behind it.
pub const FORWARD_AUTH: &str = "/auth";
/// The scope of a session, in the short form.
pub const SCOPE: &str = "User.Read";

/// RFC 9728 section 3.1.
pub const PROTECTED_RESOURCE: &str = "/.well-known/oauth-protected-resource";
/// RFC 8414 section 3.
pub const AUTHORIZATION_SERVER: &str = "/.well-known/oauth-authorization-server";

/// The server as its clients see it: URLs, paths and scopes. Clients compare them character for character, with each
/// other and with what they asked for, so all of them are made of the configured public URL and of nothing that a request
/// says.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// How it is reached.
    pub settings: &'a HttpSettings,
    /// The servers behind the component. Where there are some, its own tools are not served.
    pub servers: &'a [ServerSettings],
    /// Scheme and host, perhaps with a port.
    pub origin: &'a str,
    /// The path that stands before every path of this server; empty, or it starts with a slash and ends without one.
    pub prefix: &'a str,
}

impl<'a> Site<'a> {
    /// That of these settings.
    pub fn of(settings: &'a HttpSettings) -> Self {
        let url = settings.public_url.as_str();
        // The scheme ends with the first colon. To look for one byte costs less than for three, and every request does it.
        let host = url.find(':').map_or(0, |at| at + "://".len());
        let path = url.get(host..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| host + at);
        let (origin, prefix) = url.split_at(path);
        Self { settings, servers: &[], origin, prefix }
    }

    /// The same with servers behind the component.
    #[must_use]
    pub fn with_servers(self, servers: &'a [ServerSettings]) -> Self {
        Self { servers, ..self }
    }

    /// The server behind the component at a path.
    pub fn server_at(&self, path: &str) -> Option<&'a ServerSettings> {
        self.servers.iter().find(|server| server.path == path)
    }

    /// The one server behind the component whose tools the component itself speaks for, where a message does not say to
    /// which path it was sent.
    pub fn only_tools(&self) -> Option<&'a ServerSettings> {
        let mut tools = self.servers.iter().filter(|server| server.kind == ServerKind::Tools);
        tools.next().filter(|_| tools.next().is_none())
    }

    /// The paths of all protected resources, the server as a whole (which has the empty path) not among them.
    pub fn resource_paths(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let is_own = self.servers.is_empty();
        let sse = self.settings.legacy_sse.then_some(SSE_PATH);
        let own = std::iter::once(MCP_PATH).chain(sse).filter(move |_| is_own);
        own.chain(self.servers.iter().map(|server| server.path.as_str()))
    }

    /// The same path as [`Self::resource_paths`] has it, if it is one of them, or empty.
    pub fn resource_path(&self, path: &str) -> Option<&'a str> {
        std::iter::once("").chain(self.resource_paths()).find(|known| *known == path)
    }

    /// Whether the server is reached over TLS.
    pub fn is_https(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// The URL of something that is served at `path`.
    pub fn url(&self, path: &str) -> String {
        [&self.settings.public_url, path].concat()
    }

    /// The resource identifier (RFC 8707) of the endpoint at `path`; an empty path is the server as a whole.
    pub fn resource(&self, path: &str) -> String {
        [&self.settings.public_url, path].concat()
    }

    /// The scope that clients are told to ask for. Where clients may ask Entra ID, it is fully qualified, and the short
    /// form is said nowhere: Entra ID would take it for a permission of Microsoft Graph.
    pub fn requested_scope(&self) -> String {
        if self.settings.token_mode.takes_entra_tokens() {
            self.qualified(&self.settings.required_scope)
        } else {
            SCOPE.to_owned()
        }
    }

    /// The scope that clients are told to ask for when a tool needs `scopes`, which are in the short form: that of the
    /// server and all of these, in the form of [`Self::requested_scope`].
    pub fn scopes_with(&self, scopes: &[Name]) -> String {
        let mut all = self.requested_scope();
        for scope in scopes.iter().filter(|scope| **scope != self.settings.required_scope && **scope != SCOPE) {
            all.push(' ');
            all.push_str(&self.clients_form(scope));
        }
        all
    }

    /// The form in which clients ask for a scope of a rule.
    pub fn clients_form(&self, scope: &str) -> String {
        if self.settings.token_mode.takes_entra_tokens() { self.qualified(scope) } else { scope.to_owned() }
    }

    /// A scope of the server's application as Entra ID wants it: qualified with the App ID URI.
    pub fn qualified(&self, scope: &str) -> String {
        match &self.settings.app_id_uri {
            Some(uri) => format!("{}/{scope}", uri.trim_end_matches('/')),
            None => format!("{}/{scope}", self.resource(MCP_PATH)),
        }
    }

    /// The URL of the metadata of the resource at `path` (RFC 9728 section 3.1), for `resource_metadata` in challenges.
    pub fn resource_metadata_url(&self, path: &str) -> String {
        format!("{}{}", self.origin, self.resource_metadata_path(path))
    }

    /// The path on the host at which the metadata of the resource at `path` is found: the well-known name stands before
    /// the path prefix of the public URL, so compare it with the path of a request before the prefix is taken off.
    pub fn resource_metadata_path(&self, path: &str) -> String {
        format!("{PROTECTED_RESOURCE}{}{path}", self.prefix)
    }

    /// The same for the metadata of the authorization server (RFC 8414 section 3.1).
    pub fn authorization_server_metadata_path(&self) -> String {
        format!("{AUTHORIZATION_SERVER}{}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use world::testing::http_settings;

    use super::*;

    #[test]
    fn a_public_url_is_an_origin_and_a_path_prefix() {
        for (public_url, origin, prefix, is_https) in [
            ("https://mcp.example.com", "https://mcp.example.com", "", true),
            ("http://localhost:3001/a/b", "http://localhost:3001", "/a/b", false),
        ] {
            let settings = HttpSettings { public_url: public_url.to_owned(), ..http_settings() };
            let site = Site::of(&settings);
            assert_eq!((site.origin, site.prefix, site.is_https()), (origin, prefix, is_https));
        }
    }
}
