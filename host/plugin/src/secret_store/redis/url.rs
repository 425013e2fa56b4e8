//! The address of a Redis or Valkey server, as an operator writes it.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;
use zeroize::Zeroizing;

use crate::secret_store::SecretBytes;

/// The port of a server and of a node of a cluster.
const PORT: u16 = 6379;

/// The port of a sentinel.
const SENTINEL_PORT: u16 = 26379;

/// What the parts of the address have to be, for errors.
const EXPECTED: &str = "redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE] is expected, with rediss: for TLS, \
    redis-sentinel://HOST/DATABASE?master=NAME&node=HOST:PORT for sentinels, with \
    &sentinel-user=USER&sentinel-password=PASSWORD where they want that, or redis-cluster://HOST?node=HOST:PORT for a cluster; \
    without a cluster, wait-replicas=NUMBER in the query waits for replicas";

/// Most replicas that may be waited for. A server has a few.
const MAX_WAIT_REPLICAS: u8 = 9;

/// An address such as `rediss://server@redis.example.com:6380/0`. `Debug` and `Display` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) kind: RedisKind,
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<Zeroizing<String>>,
    /// What sentinels want themselves; user and password are those of the servers.
    pub(super) sentinel_user: Option<String>,
    pub(super) sentinel_password: Option<Zeroizing<String>>,
    /// At least one.
    pub(super) nodes: Vec<(String, u16)>,
    pub(super) database: i64,
    /// How many replicas have to have what is taken and what is swapped before it is answered.
    pub(super) wait_replicas: u8,
}

/// How servers belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RedisKind {
    /// One server.
    Server,
    /// The server that sentinels say is the master of this name.
    Sentinel(String),
    /// A cluster.
    Cluster,
}

impl RedisUrl {
    /// Whether a text is such an address, right or wrong, and not a file name.
    pub fn is_meant(text: &str) -> bool {
        scheme_of(text.split_once("://").map(|(scheme, _)| scheme).unwrap_or_default()).is_some()
    }

    /// Reads an address. The error says what is expected, and does not repeat the address.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        Self::read(text).ok_or(EXPECTED)
    }

    fn read(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let (kind, tls) = scheme_of(url.scheme())?;
        let default = if matches!(kind, RedisKind::Sentinel(_)) { SENTINEL_PORT } else { PORT };
        let host = url.host_str().filter(|host| !host.is_empty())?;
        let mut nodes = vec![(bare(host), url.port().unwrap_or(default))];
        let (mut master, cluster) = (None, kind == RedisKind::Cluster);
        let (mut sentinel_user, mut sentinel_password) = (None, None);
        let mut wait_replicas = 0;
        for (name, value) in url.query_pairs() {
            match (name.as_ref(), &kind) {
                ("node", RedisKind::Sentinel(_) | RedisKind::Cluster) => nodes.push(node(&value, default)?),
                ("master", RedisKind::Sentinel(_)) if !value.is_empty() => master = Some(value.into_owned()),
                ("sentinel-user", RedisKind::Sentinel(_)) if !value.is_empty() => {
                    sentinel_user = Some(value.into_owned());
                }
                ("sentinel-password", RedisKind::Sentinel(_)) if !value.is_empty() => {
                    sentinel_password = Some(Zeroizing::new(value.into_owned()));
                }
                ("wait-replicas", RedisKind::Server | RedisKind::Sentinel(_)) => {
                    wait_replicas =
                        value.parse::<u8>().ok().filter(|number| (1..=MAX_WAIT_REPLICAS).contains(number))?;
                }
                _ => return None,
            }
        }
        if sentinel_user.is_some() && sentinel_password.is_none() {
            return None;
        }
        let kind = match kind {
            RedisKind::Sentinel(_) => RedisKind::Sentinel(master?),
            kind => kind,
        };
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            // A cluster has no other.
            "0" => 0,
            number if !cluster => number.parse::<u16>().ok()?.into(),
            _ => return None,
        };
        let decoded = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
        let user = decoded(url.username())?;
        let password = match url.password() {
            Some(password) => Some(Zeroizing::new(decoded(password)?)),
            None => None,
        };
        let no_fragment = url.fragment().is_none();
        let user = Some(user).filter(|user| !user.is_empty());
        no_fragment.then_some(Self {
            kind,
            tls,
            user,
            password,
            sentinel_user,
            sentinel_password,
            nodes,
            database,
            wait_replicas,
        })
    }

    /// Whether the address has a password in it.
    pub fn has_password(&self) -> bool {
        self.password.is_some() || self.sentinel_password.is_some()
    }

    /// The same address with a password, which has to be UTF-8.
    #[must_use]
    pub fn with_password(self, password: &SecretBytes) -> Option<Self> {
        let password = Zeroizing::new(std::str::from_utf8(password.reveal()).ok()?.to_owned());
        Some(Self { password: Some(password), ..self })
    }
}

/// What a scheme means. The name of the master is in the query.
fn scheme_of(scheme: &str) -> Option<(RedisKind, bool)> {
    let (name, kind) = scheme.split_once('-').map_or((scheme, None), |(name, kind)| (name, Some(kind)));
    let tls = match name {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    let kind = match kind {
        None => RedisKind::Server,
        Some("sentinel") => RedisKind::Sentinel(String::new()),
        Some("cluster") => RedisKind::Cluster,
        Some(_) => return None,
    };
    Some((kind, tls))
}

/// `host:port`, `host`, or the same with an address of IPv6 in brackets.
fn node(text: &str, default: u16) -> Option<(String, u16)> {
    let url = Url::parse(&format!("redis://{text}")).ok()?;
    let is_plain = url.path().is_empty() && url.username().is_empty() && url.query().is_none();
    let host = url.host_str().filter(|host| is_plain && !host.is_empty())?;
    Some((bare(host), url.port().unwrap_or(default)))
}

/// An address of IPv6 without its brackets.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RedisKind::Server => "",
            RedisKind::Sentinel(_) => "-sentinel",
            RedisKind::Cluster => "-cluster",
        };
        write!(f, "redis{}{kind}://", if self.tls { "s" } else { "" })?;
        for (place, (host, port)) in self.nodes.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match host.contains(':') {
                true => write!(f, "{comma}[{host}]:{port}")?,
                false => write!(f, "{comma}{host}:{port}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown_without_its_password() {
        for (text, shown, database, nodes) in [
            ("redis://localhost", "redis://localhost:6379", 0, 1),
            ("rediss://server:p%40ss@[::1]:6380/3", "rediss://[::1]:6380", 3, 1),
            ("redis://:pass@127.0.0.1/", "redis://127.0.0.1:6379", 0, 1),
            ("redis-sentinel://a/2?master=m&node=b:1", "redis-sentinel://a:26379,b:1", 2, 2),
            ("rediss-cluster://a?node=[::2]:7&node=c", "rediss-cluster://a:6379,[::2]:7,c:6379", 0, 3),
        ] {
            let url = RedisUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((url.to_string().as_str(), url.database, url.nodes.len()), (shown, database, nodes), "{text}");
            assert!(RedisUrl::is_meant(text) && !format!("{url:?}").contains("pass"), "{text}");
        }
        let url = RedisUrl::parse("rediss://server:p%40ss@[::1]:6380/3").unwrap();
        assert_eq!((url.user.as_deref(), url.password.as_deref().map(String::as_str)), (Some("server"), Some("p@ss")));
        assert_eq!(url.nodes, [("::1".to_owned(), 6380)]);
    }

    #[test]
    fn sentinels_have_a_user_and_a_password_of_their_own() {
        let text = "redis-sentinel://server@a?master=m&sentinel-user=watch&sentinel-password=p%40ss";
        let url = RedisUrl::parse(text).unwrap();
        let password = url.sentinel_password.as_deref().map(String::as_str);
        assert_eq!(
            (url.user.as_deref(), url.sentinel_user.as_deref(), password),
            (Some("server"), Some("watch"), Some("p@ss"))
        );
        assert!(url.password.is_none() && url.has_password(), "it is none for a command line");
        assert!(!format!("{url} {url:?}").contains("p@ss"));
    }

    #[test]
    fn replicas_are_waited_for_only_where_the_address_says_so() {
        for (text, replicas) in [
            ("redis://host", 0),
            ("redis://host?wait-replicas=1", 1),
            ("redis-sentinel://host?master=m&wait-replicas=9", 9),
        ] {
            assert_eq!(RedisUrl::parse(text).map(|url| url.wait_replicas), Ok(replicas), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "redis://",
            "redis:///0",
            "redis://host/x",
            "redis://host/70000",
            "redis://host?node=a",
            "redis://host#x",
            "redis-sentinel://host",
            "redis-sentinel://host?master=",
            "redis-sentinel://host?master=m&sentinel-user=watch",
            "redis-sentinel://host?master=m&sentinel-password=",
            "redis://host?sentinel-password=x",
            "redis-cluster://host/1",
            "redis-cluster://host?wait-replicas=1",
            "redis://host?wait-replicas=0",
            "redis://host?wait-replicas=10",
            "redis://host?wait-replicas=",
            "redis-cluster://host?node=a/b",
            "redis://host:99999",
        ] {
            assert_eq!(RedisUrl::parse(text), Err(EXPECTED), "{text}");
            assert!(RedisUrl::is_meant(text), "{text}");
        }
        for text in ["memory", "redis", "/var/lib/redis", "redis:", "rediss-x://host", "http://redis"] {
            assert!(!RedisUrl::is_meant(text), "{text}");
        }
    }
}
