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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::fake::remote_settings;

    #[test]
    fn a_public_url_is_an_origin_and_a_path_prefix() {
        for (public_url, origin, prefix, is_https) in [
            ("https://mcp.example.com", "https://mcp.example.com", "", true),
            ("http://localhost:3001/a/b", "http://localhost:3001", "/a/b", false),
        ] {
            let settings = HttpSettings { public_url: public_url.to_owned(), ..remote_settings().http.unwrap() };
            let site = Site::of(&settings);
            assert_eq!((site.origin, site.prefix, site.is_https()), (origin, prefix, is_https));
        }
    }
}
