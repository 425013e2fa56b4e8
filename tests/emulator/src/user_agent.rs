//! A browser without a window: follows redirects, keeps cookies, fills in the sign-in forms.
//!
//! It stands in for the person and the browser in tests and in the demonstration. It runs no scripts and **talks to
//! loopback only**, so that a wrong address in a test can never carry a password elsewhere; a redirect to any other host
//! ends the walk and is reported unvisited.

mod forms;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use url::Url;

use forms::Form;

/// Requests in one sign-in; the longest real one (device code, MFA, consent, two redirects) takes about ten.
const STEPS_AT_MOST: usize = 40;
/// A page larger than this is no page.
const PAGE_AT_MOST: usize = 4 * 1024 * 1024;
/// How long one page may take; everything is on this machine.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a walk ended: the application's own page, or the last page of a device sign-in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Landing {
    /// The address, with the code or error in its query.
    pub url: String,
    /// The status of that page; `None` if it is not on loopback and was not visited.
    pub status: Option<u16>,
    /// The page.
    pub body: String,
    /// The titles of the pages on the way, in order.
    pub pages: Vec<String>,
}

impl Landing {
    /// A parameter of the address, such as `code` or `error`.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let url = Url::parse(&self.url).ok()?;
        let in_query = url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        in_query.or_else(|| {
            url::form_urlencoded::parse(url.fragment()?.as_bytes())
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        })
    }
}

/// Why a walk did not end at the application.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Not an address this browser can open.
    #[error("cannot open the address {0}")]
    Address(String),
    /// The address is not on this machine.
    #[error("refuses to open {0}, which is not on loopback")]
    NotLoopback(String),
    /// No server listens there, or TLS failed.
    #[error("cannot connect to {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server's answer broke off or was no HTTP.
    #[error("the server's answer cannot be read: {0}")]
    Answer(String),
    /// The certificate authority cannot be used.
    #[error("the certificate authority cannot be used: {0}")]
    Authority(String),
    /// The sign-in pages refused.
    #[error("the sign-in page \"{title}\" refuses: {message}")]
    Refused {
        /// The page's title.
        title: String,
        /// What it says.
        message: String,
        /// The AADSTS code in it.
        code: Option<u32>,
        /// The pages on the way, this one included.
        pages: Vec<String>,
    },
    /// The pages go round in circles.
    #[error("the sign-in did not end after {STEPS_AT_MOST} pages")]
    TooManySteps,
}

/// What the person does when a page asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Person {
    /// The account's name.
    pub username: String,
    /// Its password.
    pub password: String,
    /// The one-time code of the second factor.
    pub one_time_code: String,
    /// Accepts consent pages, and confirms devices.
    pub consents: bool,
    /// Goes back to the application from a page that refuses, instead of stopping there.
    pub goes_back: bool,
}

impl Person {
    /// Consents to everything, and stops at a page that refuses.
    pub fn new(username: &str, password: &str) -> Self {
        Self {
            username: username.to_owned(),
            password: password.to_owned(),
            one_time_code: "123456".to_owned(),
            consents: true,
            goes_back: false,
        }
    }

    /// Declines consent.
    pub fn declining(mut self) -> Self {
        self.consents = false;
        self
    }

    /// Goes back to the application when refused.
    pub fn going_back(mut self) -> Self {
        self.goes_back = true;
        self
    }
}

/// A browser with cookies of its own.
#[derive(Clone, Debug, Default)]
pub struct HeadlessBrowser {
    /// Host and port to cookies.
    cookies: BTreeMap<String, BTreeMap<String, String>>,
    tls: Option<Arc<rustls::ClientConfig>>,
    stays: bool,
}

struct Page {
    url: Url,
    status: StatusCode,
    location: Option<String>,
    body: String,
}

impl HeadlessBrowser {
    /// A browser that opens http pages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also opens https pages whose certificates this authority (a PEM file) signed.
    pub fn trusting(mut self, authority: &Path) -> Result<Self, AgentError> {
        let refused = |reason: String| AgentError::Authority(reason);
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(authority).map_err(|error| refused(error.to_string()))? {
            let certificate = certificate.map_err(|error| refused(error.to_string()))?;
            roots.add(certificate).map_err(|error| refused(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        self.tls = Some(Arc::new(config));
        Ok(self)
    }

    /// Reports the application's address when the sign-in leads there, instead of opening it: for tests that have no
    /// application listening.
    pub fn staying(mut self) -> Self {
        self.stays = true;
        self
    }

    /// Forgets every cookie.
    pub fn clear_cookies(&mut self) {
        self.cookies.clear();
    }

    /// Opens an address, signs in on the way, and ends where the application's redirect URI leads.
    pub async fn sign_in(&mut self, url: &str, username: &str, password: &str) -> Result<Landing, AgentError> {
        self.sign_in_as(url, &Person::new(username, password)).await
    }

    /// As [`Self::sign_in`], with every choice of the person.
    pub async fn sign_in_as(&mut self, url: &str, person: &Person) -> Result<Landing, AgentError> {
        let start = Url::parse(url).map_err(|_| AgentError::Address(url.to_owned()))?;
        self.walk(Method::GET, start, Vec::new(), person).await
    }

    /// Opens the page of a device sign-in, enters the code, signs in and confirms.
    pub async fn approve_device_code(
        &mut self,
        verification_uri: &str,
        user_code: &str,
        username: &str,
        password: &str,
    ) -> Result<Landing, AgentError> {
        self.approve_device_code_as(verification_uri, user_code, &Person::new(username, password)).await
    }

    /// As [`Self::approve_device_code`], with every choice of the person. A person who does not consent declines.
    pub async fn approve_device_code_as(
        &mut self,
        verification_uri: &str,
        user_code: &str,
        person: &Person,
    ) -> Result<Landing, AgentError> {
        let start = Url::parse(verification_uri).map_err(|_| AgentError::Address(verification_uri.to_owned()))?;
        let page = self.open(Method::GET, start, None).await?;
        let form = Form::all(&page.body).into_iter().find(|form| form.has_input("user_code"));
        let Some(form) = form else {
            return Err(AgentError::Answer("the device page has no field for the code".to_owned()));
        };
        let action = target(&page.url, &form)?;
        self.walk(Method::POST, action, vec![("user_code".to_owned(), user_code.to_owned())], person).await
    }

    /// Opens one page, without following anything.
    pub async fn get(&mut self, url: &str) -> Result<Landing, AgentError> {
        let url = Url::parse(url).map_err(|_| AgentError::Address(url.to_owned()))?;
        let page = self.open(Method::GET, url, None).await?;
        let status = Some(page.status.as_u16());
        Ok(Landing {
            url: page.location.unwrap_or_else(|| page.url.into()),
            status,
            body: page.body,
            pages: Vec::new(),
        })
    }

    async fn walk(
        &mut self,
        method: Method,
        start: Url,
        fields: Vec<(String, String)>,
        person: &Person,
    ) -> Result<Landing, AgentError> {
        let mut next = (method, start, fields);
        let mut pages: Vec<String> = Vec::new();
        let mut passwords_given = 0_u8;
        let origin = next.1.origin();
        for _ in 0..STEPS_AT_MOST {
            let (method, url, fields) = next;
            if !is_loopback(&url) || (self.stays && url.origin() != origin) {
                return Ok(Landing { url: url.into(), status: None, body: String::new(), pages });
            }
            let page = self.open(method, url, Some(&fields)).await?;
            if let Some(location) = page.location.as_deref().filter(|_| page.status.is_redirection()) {
                let url = page.url.join(location).map_err(|_| AgentError::Address(location.to_owned()))?;
                next = (Method::GET, url, Vec::new());
                continue;
            }
            let title = forms::title(&page.body);
            let alert = forms::alert(&page.body);
            let all = Form::all(&page.body);
            let sign_in = all.iter().find(|form| form.has_input("ctx") && form.has_input("canary"));
            let Some(form) = sign_in else {
                // The answer to the application in a form that submits itself.
                let answer = all.iter().find(|form| {
                    (form.has_input("code") || form.has_input("error")) && form.is_posted() && title == "Working"
                });
                if let Some(form) = answer {
                    next = (Method::POST, target(&page.url, form)?, form.hidden());
                    continue;
                }
                // The consent page of the MCP server, which asks before it sends the person to Entra ID.
                if let Some(form) = all.iter().find(|form| form.offers("decision", "allow")) {
                    pages.push(title);
                    let mut answer = form.hidden();
                    let decision = if person.consents { "allow" } else { "deny" };
                    answer.push(("decision".to_owned(), decision.to_owned()));
                    next = (Method::POST, target(&page.url, form)?, answer);
                    continue;
                }
                if let Some((message, code)) = alert
                    && (page.body.contains("Entra ID emulator"))
                {
                    pages.push(title.clone());
                    return Err(AgentError::Refused { title, message, code, pages });
                }
                return Ok(Landing {
                    url: page.url.into(),
                    status: Some(page.status.as_u16()),
                    body: page.body,
                    pages,
                });
            };
            pages.push(title.clone());
            let mut answer = form.hidden();
            let mut put = |name: &str, value: &str| answer.push((name.to_owned(), value.to_owned()));
            if form.offers("action", "return") {
                let Some((message, code)) = alert.filter(|_| !person.goes_back) else {
                    put("action", "return");
                    next = (Method::POST, target(&page.url, form)?, answer);
                    continue;
                };
                return Err(AgentError::Refused { title, message, code, pages });
            }
            if let Some((message, code)) = alert {
                return Err(AgentError::Refused { title, message, code, pages });
            }
            if form.has_input("loginfmt") {
                put("loginfmt", &person.username);
                put("action", "username");
            } else if form.has_input("passwd") {
                passwords_given += 1;
                // The page is for another person: a login hint or a single session chose that account.
                if !forms::unescape(&page.body).contains(&person.username) && passwords_given == 1 {
                    put("action", "other");
                } else {
                    put("passwd", &person.password);
                    put("action", "password");
                }
            } else if form.has_input("otc") {
                put("otc", &person.one_time_code);
                put("action", "mfa");
            } else if form.offers("action", "enrol") {
                put("action", "enrol");
            } else if form.offers("action", "accept") {
                put("action", if person.consents { "accept" } else { "decline" });
            } else if form.offers("action", "confirm") {
                put("action", if person.consents { "confirm" } else { "cancel" });
            } else if form.offers("account", &person.username) {
                put("account", &person.username);
            } else {
                put("action", "other");
            }
            next = (Method::POST, target(&page.url, form)?, answer);
        }
        Err(AgentError::TooManySteps)
    }

    async fn open(
        &mut self,
        method: Method,
        url: Url,
        fields: Option<&[(String, String)]>,
    ) -> Result<Page, AgentError> {
        let address = url.as_str().to_owned();
        tokio::time::timeout(PAGE_TIMEOUT, self.exchange(method, url, fields.unwrap_or_default()))
            .await
            .unwrap_or_else(|_| Err(AgentError::Answer(format!("no answer from {address} in time"))))
    }

    async fn exchange(&mut self, method: Method, url: Url, fields: &[(String, String)]) -> Result<Page, AgentError> {
        if !is_loopback(&url) {
            return Err(AgentError::NotLoopback(url.into()));
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(AgentError::Address(url.into()));
        };
        let address = format!("{host}:{port}");
        let unreachable = |source| AgentError::Connect { address: address.clone(), source };
        let stream = TcpStream::connect(&address).await.map_err(unreachable)?;
        let site = address.clone();
        let request = self.request(&method, &url, &site, fields)?;
        let (status, headers, body) = match url.scheme() {
            "http" => send(TokioIo::new(stream), request).await?,
            "https" => {
                let config = self.tls.clone().ok_or_else(|| AgentError::Authority("none is trusted".to_owned()))?;
                let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(bare).map_err(|_| AgentError::Address(url.to_string()))?;
                let stream =
                    tokio_rustls::TlsConnector::from(config).connect(name, stream).await.map_err(unreachable)?;
                send(TokioIo::new(stream), request).await?
            }
            _ => return Err(AgentError::Address(url.into())),
        };
        let jar = self.cookies.entry(site).or_default();
        for cookie in headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            let pair = cookie.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                if value.is_empty() || cookie.contains("Max-Age=0") {
                    jar.remove(name.trim());
                } else {
                    jar.insert(name.trim().to_owned(), value.trim().to_owned());
                }
            }
        }
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Page { url, status, location, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn request(
        &self,
        method: &Method,
        url: &Url,
        site: &str,
        fields: &[(String, String)],
    ) -> Result<Request<Full<Bytes>>, AgentError> {
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, site)
            .header(CONNECTION, "close")
            .header("user-agent", "entra-mcp headless browser")
            .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        if let Some(jar) = self.cookies.get(site).filter(|jar| !jar.is_empty()) {
            let cookies: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(COOKIE, cookies.join("; "));
        }
        let body = if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            request = request.header("origin", url.origin().ascii_serialization());
            Bytes::from(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish())
        } else {
            Bytes::new()
        };
        request.body(Full::new(body)).map_err(|error| AgentError::Answer(error.to_string()))
    }
}

async fn send<I>(io: I, request: Request<Full<Bytes>>) -> Result<(StatusCode, http::HeaderMap, Bytes), AgentError>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| AgentError::Answer(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, PAGE_AT_MOST)
        .collect()
        .await
        .map_err(|error| AgentError::Answer(error.to_string()))?
        .to_bytes();
    driver.abort();
    Ok((parts.status, parts.headers, body))
}

fn target(page: &Url, form: &Form) -> Result<Url, AgentError> {
    page.join(&form.action).map_err(|_| AgentError::Address(form.action.clone()))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
