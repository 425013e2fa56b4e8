//! Where the server is, as its public URL says.

use crate::environment::HttpSettings;

/// The parts of the public URL.
pub(super) struct Site<'a> {
    pub(super) settings: &'a HttpSettings,
    /// Scheme and host, perhaps with a port.
    pub(super) origin: &'a str,
    /// The path that stands before every path of ours; empty, or it starts with a slash and ends without one.
    pub(super) prefix: &'a str,
}

impl<'a> Site<'a> {
    pub(super) fn of(settings: &'a HttpSettings) -> Self {
        let url = settings.public_url.as_str();
        let host = url.find("://").map_or(0, |at| at + "://".len());
        let path = url.get(host..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| host + at);
        let (origin, prefix) = url.split_at(path);
        Self { settings, origin, prefix }
    }

    pub(super) fn is_https(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// The URL of the metadata of the resource at `path`: the well-known name stands between the host and the path
    /// (RFC 9728 section 3.1).
    pub(super) fn resource_metadata(&self, path: &str) -> String {
        format!("{}{}{}{path}", self.origin, super::routes::PROTECTED_RESOURCE, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::fake::remote_settings;

    fn site(public_url: &str) -> (String, String, String) {
        let settings = HttpSettings { public_url: public_url.to_owned(), ..remote_settings().http.unwrap() };
        let site = Site::of(&settings);
        (site.origin.to_owned(), site.prefix.to_owned(), site.resource_metadata("/mcp"))
    }

    #[test]
    fn the_well_known_name_stands_between_host_and_path() {
        let own = |text: &str| text.to_owned();
        assert_eq!(
            site("https://mcp.example.com"),
            (
                own("https://mcp.example.com"),
                own(""),
                own("https://mcp.example.com/.well-known/oauth-protected-resource/mcp")
            )
        );
        assert_eq!(
            site("http://localhost:3001/a/b"),
            (
                own("http://localhost:3001"),
                own("/a/b"),
                own("http://localhost:3001/.well-known/oauth-protected-resource/a/b/mcp")
            )
        );
    }
}
