//! The allow-list: which origins a request may go to.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use url::{Host, Url};

use super::addresses::is_public;

/// Why an endpoint cannot be on the allow-list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not an absolute URL with a host.
    #[error("{0:?} is not an absolute http or https URL")]
    NotAUrl(String),
    /// `http` to another machine.
    #[error("{0} is refused: http is accepted on loopback only, use https")]
    Insecure(String),
    /// The URL holds a user name or a password.
    #[error("an endpoint must not contain a user name or a password")]
    Credentials,
    /// An address of a private or special network.
    #[error("{0} is refused: it is an address of a private or special network")]
    ProhibitedAddress(String),
}

/// One allowed origin.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    https: bool,
    host: Host<String>,
    port: u16,
}

impl Origin {
    fn parse(text: &str) -> Result<Self, PolicyError> {
        let not_a_url = || PolicyError::NotAUrl(text.to_owned());
        let url = Url::parse(text).map_err(|_| not_a_url())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(PolicyError::Credentials);
        }
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(not_a_url()),
        };
        let host = url.host().ok_or_else(not_a_url)?.to_owned();
        let port = url.port_or_known_default().ok_or_else(not_a_url)?;
        let origin = Self { https, host, port };
        if origin.is_loopback() {
            return Ok(origin);
        }
        if !https {
            return Err(PolicyError::Insecure(text.to_owned()));
        }
        match origin.host {
            Host::Ipv4(address) if !is_public(address.into()) => Err(PolicyError::ProhibitedAddress(text.to_owned())),
            Host::Ipv6(address) if !is_public(address.into()) => Err(PolicyError::ProhibitedAddress(text.to_owned())),
            _ => Ok(origin),
        }
    }

    fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        }
    }
}

/// The allow-list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundPolicy {
    origins: Vec<Origin>,
}

impl OutboundPolicy {
    /// Allows the origins of the given URLs; their paths do not matter.
    pub fn new<'a>(endpoints: impl IntoIterator<Item = &'a str>) -> Result<Self, PolicyError> {
        let origins = endpoints.into_iter().map(Origin::parse).collect::<Result<_, _>>()?;
        Ok(Self { origins })
    }

    /// Allows nothing.
    pub(super) fn nothing() -> Self {
        Self { origins: Vec::new() }
    }

    /// Whether a request to `uri` may be sent. Its addresses are checked when the connection is made.
    pub(super) fn admits(&self, uri: &Uri) -> bool {
        // Parsers disagree about a user name in the authority.
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return false;
        }
        // The configured endpoints went through the same parser, so that both mean the same.
        Origin::parse(&uri.to_string()).is_ok_and(|origin| self.origins.contains(&origin))
    }

    /// Whether a connection for `host` may go to `address`.
    pub(super) fn admits_address(&self, host: &str, address: IpAddr) -> bool {
        let loopback = self.origins.iter().any(|origin| {
            origin.is_loopback() && matches!(&origin.host, Host::Domain(name) if name.eq_ignore_ascii_case(host))
        });
        if loopback { address.is_loopback() } else { is_public(address) }
    }
}

impl fmt::Display for OutboundPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, origin) in self.origins.iter().enumerate() {
            let scheme = if origin.https { "https" } else { "http" };
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{scheme}://{}:{}", origin.host, origin.port)?;
        }
        Ok(())
    }
}
