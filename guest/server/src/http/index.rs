//! `/`: says to a person what this is, and how to connect.

use base::encoding::escape_html;
use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, Response};

use crate::message::with_body;
use crate::site::{MCP_PATH, SSE_PATH, Site};

/// The page has a style of its own and nothing else.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'";

/// What servers behind the component are for.
const PROTECTED: &str = "Programs that speak the Model Context Protocol use tools for you here, after you have signed in and \
                         agreed.";

/// The page.
pub(super) fn page(site: &Site<'_>) -> Response<Vec<u8>> {
    let endpoints = site.servers.iter().map(|server| server.path.as_str());
    let own = site.servers.is_empty().then_some(MCP_PATH);
    let endpoints: Vec<_> = own.into_iter().chain(endpoints).collect();
    let code = |path: &&str| format!("<p><code>{}</code></p>\n", escape_html(&site.resource(path)));
    let mcp: String = endpoints.iter().map(code).collect();
    let metadata = escape_html(&site.resource_metadata_url(endpoints.first().copied().unwrap_or_default()));
    let (this, purpose) = match endpoints.as_slice() {
        [_] if site.servers.is_empty() => (
            "this address",
            "Programs that speak the Model Context Protocol ask Microsoft Graph for you here, after you have signed in \
             and agreed.",
        ),
        [_] => ("this address", PROTECTED),
        _ => ("one of these addresses", PROTECTED),
    };
    let sse = if site.settings.legacy_sse && site.servers.is_empty() {
        format!(
            "<p>Clients from before 2025 that know only the HTTP+SSE transport connect to <code>{}</code>.</p>\n",
            escape_html(&site.resource(SSE_PATH))
        )
    } else {
        String::new()
    };
    let html = format!(
        "<!doctype html>\n\
         <html lang=\"en\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>MCP server for Microsoft Entra ID</title>\n\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}}\
         code{{background:#eee;color:#111;padding:.2em .4em;border-radius:.2em;overflow-wrap:anywhere;\
         user-select:all}}</style>\n\
         </head>\n\
         <body>\n\
         <h1>MCP server for Microsoft Entra ID</h1>\n\
         <p>{purpose}</p>\n\
         <h2>Connect</h2>\n\
         <p>Give your MCP client {this}:</p>\n\
         {mcp}\
         <p>The client finds out how you sign in by itself, and opens your browser for it.</p>\n\
         {sse}\
         <p>For developers: <a href=\"{metadata}\">metadata of the protected resource</a>.</p>\n\
         </body>\n\
         </html>\n"
    );
    let mut response = with_body(200, "text/html; charset=utf-8", html.into_bytes());
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

#[cfg(test)]
mod tests {
    use base::settings::HttpSettings;
    use world::testing::http_settings;

    use super::*;

    #[test]
    fn the_page_says_where_to_connect_and_escapes_it() {
        let public_url = "https://mcp.example.com/\"><script>".to_owned();
        let settings = HttpSettings { public_url, ..http_settings() };
        let page = page(&Site::of(&settings));
        let html = String::from_utf8(page.into_body()).unwrap();
        assert!(html.contains("https://mcp.example.com/&quot;&gt;&lt;script&gt;/mcp"), "{html}");
        assert!(!html.contains("<script"));
    }
}
