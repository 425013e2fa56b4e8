//! Names of records, byte for byte, so that a store which an earlier version has written stays readable.
//!
//! The names were printed by a store under the unit tests of the last version without typed records (a00e13e). Where one
//! has a hash in it, what was hashed is in those tests. The namespaces here say nothing of what the records hold.

use super::super::{Holder, Key, Namespace, Partition, Partitions, Records, Ttl};
use crate::testing::simulation::Simulation;
use base::encoding::digest;

const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const OBJECT: &str = "11112222-bbbb-3333-cccc-4444dddd5555";
const AUTHORITY: &str = "https://login.microsoftonline.com";
const GRAPH: &str = "https://graph.microsoft.com";

const ACCOUNT: &str = "account/https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/\
                       00001111-aaaa-2222-bbbb-3333cccc4444/";
const SERVER: &str = "authorization-server/SQ8gxFfI5xOHZuc6hUYwAyGHBhwc-kN--dYhWISxyAs/";

const fn application(prefix: &'static str) -> Namespace<()> {
    Namespace::marks(Partition::Application, prefix, Ttl::Kept)
}

const fn server(prefix: &'static str) -> Namespace<()> {
    Namespace::marks(Partition::AuthorizationServer, prefix, Ttl::Kept)
}

const fn store(prefix: &'static str) -> Namespace<()> {
    Namespace::marks(Partition::Store, prefix, Ttl::Kept)
}

fn world() -> Simulation {
    Simulation::new(Partitions::new(AUTHORITY, TENANT, CLIENT, "https://mcp.example.com"))
}

fn assert_named<T>(records: &Records<'_>, namespace: &Namespace<T>, key: Key<'_>, name: &str) {
    assert_eq!(records.raw_key(namespace, key), name);
}

#[test]
fn records_of_the_application_are_named_after_cloud_tenant_and_client() {
    let world = world();
    let records = world.records();
    let session = "r80dezmoIOL0Zbmhap54bg";
    let groups = format!("{GRAPH}/GroupMember.Read.All");
    for (namespace, key, name) in [
        (application("list"), Key::Only, "list"),
        (application("sign-in"), Key::Only, "sign-in"),
        (application("request-state-key"), Key::Only, "request-state-key"),
        (application("audit/session-key"), Key::Only, "audit/session-key"),
        (application("entra-out-of-reach"), Key::Only, "entra-out-of-reach"),
        (application("entra-out-of-reach/asking"), Key::Only, "entra-out-of-reach/asking"),
        (application("profile"), Key::One("o.t"), "profile/o.t"),
        (application("tokens"), Key::One("o.t"), "tokens/o.t"),
        (application("refreshing"), Key::One("o.t"), "refreshing/o.t"),
        (application("attempt"), Key::One("an-id"), "attempt/an-id"),
        (application("session"), Key::One(session), "session/r80dezmoIOL0Zbmhap54bg"),
        (application("session-entra"), Key::One(session), "session-entra/r80dezmoIOL0Zbmhap54bg"),
        (application("session-refreshing"), Key::One(session), "session-refreshing/r80dezmoIOL0Zbmhap54bg"),
        (application("session-confirmed"), Key::One(session), "session-confirmed/r80dezmoIOL0Zbmhap54bg"),
        (
            application("session-refused").last_part_hashed(),
            Key::Parts(&[session, &groups]),
            "session-refused/r80dezmoIOL0Zbmhap54bg/b80HvyspUoK1kboUC_O3og1JtsL2IDSXf95GKiU5NBg",
        ),
        (
            application("claims").hashed(),
            Key::One(r#""t" "alice" "client""#),
            "claims/ZiV9_nGd_p9saauL0yZIoP_I3aAvl5NM6LoFjhqhVbk",
        ),
    ] {
        assert_named(&records, &namespace, key, &format!("{ACCOUNT}{name}"));
    }
    let refreshing: Namespace<Holder> = Namespace::leases(Partition::Application, "refreshing");
    assert_named(&records, &refreshing, Key::One("o.t"), &format!("{ACCOUNT}refreshing/o.t"));
}

#[test]
fn records_of_the_authorization_server_are_named_after_its_issuer() {
    let world = world();
    let records = world.records();
    let document = "https://app.example.com/oauth/client.json";
    let client = "r80dezmoIOL0Zbmhap54bk9FCYAYXcQG7IFMcqi4i_g";
    for (namespace, key, name) in [
        (server("browser-key"), Key::Only, "browser-key"),
        (server("registration"), Key::One(client), "registration/r80dezmoIOL0Zbmhap54bk9FCYAYXcQG7IFMcqi4i_g"),
        (
            server("client-document").hashed(),
            Key::One(document),
            "client-document/Z0AaT5P2HF1n4OuDSA4nTHXD_4GUZprFqper48-rrRE",
        ),
        (server("code").hashed(), Key::One("another"), "code/rkSKyGxOjk3sZFcpcI70GHOuecbf-E7_czYJiUh_COU"),
        (server("leg").hashed(), Key::One("another"), "leg/rkSKyGxOjk3sZFcpcI70GHOuecbf-E7_czYJiUh_COU"),
        (server("pending").hashed(), Key::One("another"), "pending/rkSKyGxOjk3sZFcpcI70GHOuecbf-E7_czYJiUh_COU"),
    ] {
        assert_named(&records, &namespace, key, &format!("{SERVER}{name}"));
    }
    let (user, what) = (format!(r#"["{TENANT}","{OBJECT}"]"#), r#"["client",["User.Read"],"https://a.example/"]"#);
    let name = format!("{SERVER}consent/hAG-D4BDY8AQhO4zRqoUNTa5Y11zNnKxwPCvxZk3QZ4/{}", digest(what.as_bytes()));
    assert_named(&records, &server("consent").hashed(), Key::Parts(&[&user, what]), &name);
    let other = Simulation::new(Partitions::new(AUTHORITY, TENANT, CLIENT, "https://other.example.com"));
    let name = "authorization-server/wY7tE9VRD2T2M1GEnrNQZNom38dXkxhTbfu8ltwd3rk/browser-key";
    assert_named(&other.records(), &server("browser-key"), Key::Only, name);
}

#[test]
fn records_of_the_store_are_named_after_what_they_depend_on() {
    let world = world();
    let records = world.records();
    let scope = format!("{GRAPH}/.default");
    let metadata = format!("{AUTHORITY}/{TENANT}\n{AUTHORITY}/{TENANT}/v2.0/.well-known/openid-configuration");
    let keys = format!("{AUTHORITY}/{TENANT}\n{AUTHORITY}/{TENANT}/discovery/v2.0/keys");
    let (app_token, groups): (&[&str], &[&str]) =
        (&[AUTHORITY, TENANT, CLIENT, &scope], &[GRAPH, CLIENT, TENANT, OBJECT]);
    let app_token_name = format!("app-token/{AUTHORITY}/{TENANT}/{CLIENT}/{GRAPH}/.default");
    let groups_name = format!("groups/{GRAPH}/{CLIENT}/{TENANT}/{OBJECT}");
    let contact = "displayName,mail,userPrincipalName";
    for (namespace, key, name) in [
        (store("ready"), Key::Only, "ready".to_owned()),
        (
            store("throttled"),
            Key::Parts(&[AUTHORITY, TENANT, CLIENT]),
            format!("throttled/{AUTHORITY}/{TENANT}/{CLIENT}"),
        ),
        (store("app-token"), Key::Parts(app_token), app_token_name.clone()),
        (store("app-token").ending_with("/asking"), Key::Parts(app_token), format!("{app_token_name}/asking")),
        (store("app-token").ending_with("/failed"), Key::Parts(app_token), format!("{app_token_name}/failed")),
        (store("app-token").ending_with("/forgotten"), Key::Parts(app_token), format!("{app_token_name}/forgotten")),
        (store("groups"), Key::Parts(groups), groups_name.clone()),
        (store("groups").ending_with("/asking"), Key::Parts(groups), format!("{groups_name}/asking")),
        (
            store("groups-throttled"),
            Key::Parts(&[GRAPH, CLIENT, TENANT, OBJECT]),
            format!("groups-throttled/{GRAPH}/{CLIENT}/{TENANT}/{OBJECT}"),
        ),
        (
            store("contact"),
            Key::Parts(&[GRAPH, CLIENT, TENANT, "alice-object", contact]),
            format!("contact/{GRAPH}/{CLIENT}/{TENANT}/alice-object/{contact}"),
        ),
        (
            store("openid-metadata").hashed(),
            Key::One(&metadata),
            "openid-metadata/pHcZhkekEiIJ3oietQ-jwwILtafTqvEb7sYMYNTYp5U".to_owned(),
        ),
        (
            store("openid-metadata-attempt").hashed(),
            Key::One(&metadata),
            "openid-metadata-attempt/pHcZhkekEiIJ3oietQ-jwwILtafTqvEb7sYMYNTYp5U".to_owned(),
        ),
        (store("jwks").hashed(), Key::One(&keys), "jwks/fFc1QiOUFzY96LjvpTovyX0VxD1nIiuYcc95Ez3fssw".to_owned()),
        (store("sse-of"), Key::Parts(&[TENANT, "alice-object"]), format!("sse-of/{TENANT}/alice-object")),
        (store("sse"), Key::One("an-id"), "sse/an-id".to_owned()),
        (store("sse").ending_with("/queue"), Key::One("an-id"), "sse/an-id/queue".to_owned()),
    ] {
        assert_named(&records, &namespace, key, &name);
    }
}

#[test]
fn keys_are_written_as_they_read() {
    let world = world();
    let (records, owned) = (world.records(), "a".to_owned());
    let notes = store("note");
    assert_eq!(records.raw_key(&notes, ()), "note");
    assert_eq!(records.raw_key(&notes, "a"), "note/a");
    assert_eq!(records.raw_key(&notes, &owned), "note/a");
    assert_eq!(records.raw_key(&notes, &["a", "b"]), "note/a/b");
}

#[test]
fn a_server_without_an_issuer_has_a_partition_of_its_own() {
    let world = Simulation::new(Partitions::new(AUTHORITY, TENANT, CLIENT, ""));
    let name = format!("authorization-server/{}/browser-key", digest(b""));
    assert_named(&world.records(), &server("browser-key"), Key::Only, &name);
}
