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

    /// The scope that clients of the resource at `path` are told to ask for. Where clients may ask Entra ID, it is fully
    /// qualified, and the short form is said nowhere: Entra ID would take it for a permission of Microsoft Graph.
    pub fn requested_scope(&self, path: &str) -> String {
        if self.settings.token_mode.takes_entra_tokens() {
            self.qualified(path, &self.settings.required_scope)
        } else {
            SCOPE.to_owned()
        }
    }

    /// The scope that clients are told to ask for when a tool needs `scopes`, which are in the short form: that of the
    /// resource and all of these, in the form of [`Self::requested_scope`].
    pub fn scopes_with(&self, path: &str, scopes: &[Name]) -> String {
        let mut all = self.requested_scope(path);
        for scope in scopes.iter().filter(|scope| **scope != self.settings.required_scope && **scope != SCOPE) {
            all.push(' ');
            all.push_str(&self.clients_form(path, scope));
        }
        all
    }

    /// The form in which clients of the resource at `path` ask for a scope of a rule.
    pub fn clients_form(&self, path: &str, scope: &str) -> String {
        if self.settings.token_mode.takes_entra_tokens() { self.qualified(path, scope) } else { scope.to_owned() }
    }

    /// A scope of the server's application as Entra ID wants it: qualified with the App ID URI.
    ///
    /// Clients name the resource as well (RFC 8707), as its metadata has it, and Entra ID refuses a scope of another one
    /// (AADSTS9010010). So each server behind the component has its own URL as an App ID URI, unless one is set.
    pub fn qualified(&self, path: &str, scope: &str) -> String {
        match &self.settings.app_id_uri {
            Some(uri) => format!("{}/{scope}", uri.trim_end_matches('/')),
            None => format!("{}/{scope}", self.resource(self.application_path(path))),
        }
    }

    /// The path whose URL is the App ID URI. The server as a whole is no application of its own, and neither is the event
    /// stream of HTTP+SSE.
    fn application_path(&self, path: &str) -> &'a str {
        let server = self.server_at(path).or_else(|| self.servers.first());
        server.map_or(MCP_PATH, |server| server.path.as_str())
    }

    /// The paths of the resources whose URLs differ as App ID URIs.
    pub fn application_paths(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let own = std::iter::once(MCP_PATH).filter({
            let is_own = self.servers.is_empty();
            move |_| is_own
        });
        own.chain(self.servers.iter().map(|server| server.path.as_str()))
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
    use base::settings::{ServerIdentity, TokenMode};
    use world::testing::http_settings;

    use super::*;

    fn server(name: &str, path: &str) -> ServerSettings {
        ServerSettings {
            name: name.to_owned(),
            path: path.to_owned(),
            kind: ServerKind::Upstream,
            title: None,
            tools: Vec::new(),
            permissions: Vec::new(),
            identity: ServerIdentity::None,
        }
    }

    #[test]
    fn a_scope_is_of_the_resource_that_the_metadata_of_its_path_names() {
        let settings = HttpSettings { token_mode: TokenMode::Bearer, ..http_settings() };
        let servers = [server("crm", "/crm/mcp"), server("wiki", "/wiki/mcp")];
        let site = Site::of(&settings).with_servers(&servers);
        for path in ["/crm/mcp", "/wiki/mcp"] {
            let resource = site.resource(path);
            assert_eq!(site.requested_scope(path), format!("{resource}/access_as_user"));
            let scopes = [Name::from("Mail")];
            assert_eq!(site.scopes_with(path, &scopes), format!("{resource}/access_as_user {resource}/Mail"));
        }
        assert_eq!(site.requested_scope(""), site.requested_scope("/crm/mcp"));
        let own = Site::of(&settings);
        for path in ["", MCP_PATH, SSE_PATH] {
            assert_eq!(own.requested_scope(path), "https://mcp.example.com/mcp/access_as_user");
        }
        let settings = HttpSettings { app_id_uri: Some("api://mcp".to_owned()), ..settings };
        let site = Site::of(&settings).with_servers(&servers);
        assert_eq!(site.requested_scope("/wiki/mcp"), "api://mcp/access_as_user");
    }

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
