//! Collections, which Graph answers in pages.
//!
//! Threat: the link to the next page comes with the answer, and the token would go wherever it leads. It is followed
//! only to the configured Graph, below its version, and only so often.

use std::error::Error;

use base::settings::Settings;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Source, get, get_eventual};
use super::error::{Evidence, GraphError};
use crate::entra_world::EntraWorld;

/// A longer link is none of Graph's; what it knows of the next page is in it.
const MAX_LINK_BYTES: usize = 4096;

/// What kind of query selects the items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    /// One that the directory itself answers.
    Plain,
    /// One that needs `ConsistencyLevel: eventual` and `$count`: it is answered from an index that may lag behind.
    Advanced,
}

/// How much of a collection is read at most.
#[derive(Debug, Clone, Copy)]
pub struct CollectionBounds {
    /// Items that are returned.
    pub items: usize,
    /// Pages that are asked for. Graph may answer with fewer items in a page than were asked for, even with none.
    pub pages: usize,
}

/// What was read of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// As Graph has them.
    pub items: Vec<Value>,
    /// There are more than were read.
    pub truncated: bool,
}

#[derive(Deserialize)]
struct GraphPage {
    value: Vec<Value>,
    #[serde(rename = "@odata.nextLink")]
    next: Option<String>,
}

/// Reads a collection, page after page. `path` starts with `/` and follows the version.
pub async fn read<E: Error + 'static>(
    env: &EntraWorld<'_>,
    tokens: &Source<'_, E>,
    path: &str,
    query: Query,
    bounds: CollectionBounds,
) -> Result<Collection, GraphError<E>> {
    let malformed = || GraphError::Malformed(Evidence::default());
    let mut items = Vec::new();
    let mut path = path.to_owned();
    for _ in 0..bounds.pages {
        let page = match query {
            Query::Plain => get(env, tokens, &path).await?,
            Query::Advanced => get_eventual(env, tokens, &path).await?,
        };
        let page = GraphPage::deserialize(page).map_err(|_| malformed())?;
        items.extend(page.value);
        let beyond = items.len() > bounds.items;
        items.truncate(bounds.items);
        let Some(link) = page.next else {
            return Ok(Collection { items, truncated: beyond });
        };
        if items.len() == bounds.items {
            break;
        }
        path = next_path(env.settings, &link).ok_or_else(malformed)?.to_owned();
    }
    Ok(Collection { items, truncated: true })
}

/// The path and query behind the version, if the link leads to the configured Graph.
fn next_path<'l>(settings: &Settings, link: &'l str) -> Option<&'l str> {
    let rest = link.strip_prefix(settings.graph.as_str())?.strip_prefix("/v1.0")?;
    let (path, _) = rest.split_once('?')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_$()'".contains(&byte);
    let is_path = path.starts_with('/') && path.bytes().all(plain) && !path.split('/').any(|segment| segment == "..");
    let is_text = link.len() <= MAX_LINK_BYTES && link.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    (is_path && is_text).then_some(rest)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use base::Secret;
    use serde_json::json;
    use world::testing::{self, World, run};

    use super::*;
    use crate::acquire::AcquireError;
    use crate::graph::{GraphChallenge, TokenSource};
    use crate::testing::EntraWorlds as _;

    const GRAPH: &str = "https://graph.microsoft.com/v1.0";
    const BOUNDS: CollectionBounds = CollectionBounds { items: 4, pages: 3 };

    struct Tokens;

    #[async_trait(?Send)]
    impl TokenSource for Tokens {
        type Error = AcquireError;

        async fn token(&self, _: Option<&GraphChallenge>) -> Result<Secret<String>, GraphError> {
            Ok(Secret::from("token"))
        }
    }

    /// Answers with pages of these sizes, each but the last with a link to the next.
    fn pages(sizes: &[usize], more: bool) -> World {
        let world = World::default();
        for (index, size) in sizes.iter().enumerate() {
            let mut page = json!({ "value": vec![index; *size] });
            if more || index + 1 < sizes.len() {
                page["@odata.nextLink"] = json!(format!("{GRAPH}/me/things?$skiptoken={index}"));
            }
            world.once(move |request| {
                assert_eq!(request.headers()["consistencylevel"], "eventual");
                Ok(testing::json(200, &page))
            });
        }
        world
    }

    fn read_all(world: &World) -> Result<Collection, GraphError> {
        run(read(&world.entra(), &Tokens, "/me/things?$top=2", Query::Advanced, BOUNDS))
    }

    #[test]
    fn pages_are_read_until_there_are_none_or_the_bound_is_reached() {
        for (sizes, more, expected, truncated) in [
            (&[0][..], false, 0, false),
            (&[2], false, 2, false),
            (&[2, 2], false, 4, false),
            (&[2, 0, 2], false, 4, false),
            (&[5], false, 4, true),
            (&[2, 2], true, 4, true),
            (&[3, 2], false, 4, true),
            (&[1, 1, 1], true, 3, true),
            (&[0, 0, 0], true, 0, true),
        ] {
            let world = pages(sizes, more);
            let found = read_all(&world).unwrap();
            assert_eq!((found.items.len(), found.truncated), (expected, truncated), "{sizes:?} {more}");
            assert_eq!(world.sent().len(), sizes.len(), "{sizes:?} {more}");
        }
        let world = pages(&[1, 1], false);
        read_all(&world).unwrap();
        let asked = ["/me/things?$top=2", "/me/things?$skiptoken=0"].map(|path| format!("GET {GRAPH}{path}"));
        assert_eq!(world.sent(), asked);
    }

    #[test]
    fn a_link_to_anywhere_else_is_not_followed() {
        for link in [
            "https://attacker.example/v1.0/me/things?$skiptoken=1",
            "http://graph.microsoft.com/v1.0/me/things?$skiptoken=1",
            "https://graph.microsoft.com.attacker.example/v1.0/me/things?$skiptoken=1",
            "https://graph.microsoft.com@attacker.example/v1.0/me/things?$skiptoken=1",
            "https://graph.microsoft.com/beta/me/things?$skiptoken=1",
            "https://graph.microsoft.com/v1.0.attacker/me/things?$skiptoken=1",
            "https://graph.microsoft.com/v1.0/../beta/me?$skiptoken=1",
            "https://graph.microsoft.com/v1.0/%2e%2e/beta/me?$skiptoken=1",
            "https://graph.microsoft.com/v1.0/me\\things?$skiptoken=1",
            "https://graph.microsoft.com/v1.0/me/things?$skiptoken=1#x",
            "https://graph.microsoft.com/v1.0/me/things?a b",
            "https://graph.microsoft.com/v1.0/me/things?\u{e9}",
            "https://graph.microsoft.com/v1.0/me/things?a\r\nb",
            "https://graph.microsoft.com/v1.0/me/things",
            "/me/things?$skiptoken=1",
            "",
        ] {
            let world = World::default();
            let page = json!({ "value": [1], "@odata.nextLink": link });
            world.once(move |_| Ok(testing::json(200, &page)));
            assert_eq!(read_all(&world), Err(GraphError::Malformed(Evidence::default())), "{link}");
            assert_eq!(world.sent().len(), 1, "{link}");
        }
        let long = format!("{GRAPH}/me/things?{}", "a".repeat(MAX_LINK_BYTES));
        assert_eq!(next_path(World::default().entra().settings, &long), None);
    }

    #[test]
    fn a_plain_query_asks_the_directory_itself() {
        let world = World::default();
        world.once(|request| {
            assert!(!request.headers().contains_key("consistencylevel"));
            Ok(testing::json(200, &json!({ "value": [] })))
        });
        assert!(run(read(&world.entra(), &Tokens, "/users?$top=2", Query::Plain, BOUNDS)).is_ok());
    }

    #[test]
    fn what_is_no_collection_is_malformed() {
        for body in [json!({}), json!({ "value": {} }), json!({ "value": [], "@odata.nextLink": 1 })] {
            let world = World::default();
            world.once(move |_| Ok(testing::json(200, &body)));
            assert_eq!(read_all(&world), Err(GraphError::Malformed(Evidence::default())));
        }
    }
}
