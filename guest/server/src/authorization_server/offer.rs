//! What a client may do with the tools here in a person's name: what the consent page lists, and what a consent is for.

use base::policy::EVERYTHING;
use base::settings::{HttpSettings, ServerKind, ServerSettings};

use super::text::{truncated, visible};
use crate::access;
use crate::server_world::ServerWorld;
use crate::tools;

/// Characters of what a tool says about itself, which is written for models: enough to recognise what it does.
const MAX_ABOUT: usize = 120;

/// One line of the consent page. Texts are as the operator and the authors of tools wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// What it is called.
    pub title: String,
    /// More about it.
    pub about: Option<String>,
    /// Names it within this server.
    name: String,
}

impl Offered {
    /// A line of these texts.
    pub fn new(title: &str, about: Option<&str>) -> Self {
        Self { title: title.to_owned(), about: about.map(str::to_owned), name: title.to_owned() }
    }

    /// What a consent to it is remembered by.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// What people may be let do at this resource, whatever else it takes. A resource that is no path of a server behind the
/// component stands for all of them.
pub(super) async fn of(env: &ServerWorld<'_>, resource: &str) -> Vec<Offered> {
    let servers = &env.entra.settings.servers;
    if servers.is_empty() {
        let own = tools::of_users(env.site.settings).into_iter();
        return own.map(|tool| Offered { name: tool.name().to_owned(), ..Offered::new(tool.title(), None) }).collect();
    }
    let meant = |server: &&ServerSettings| env.site.resource(&server.path) == resource;
    let all = !servers.iter().any(|server| meant(&server));
    let mut offered = Vec::new();
    for server in servers.iter().filter(|server| all || meant(server)) {
        offered.extend(of_server(env, server).await);
    }
    offered
}

/// The tools of a server. Of one whose tools cannot be listed now, the server.
async fn of_server(env: &ServerWorld<'_>, server: &ServerSettings) -> Vec<Offered> {
    let settings: &HttpSettings = env.site.settings;
    let listed = match server.kind {
        ServerKind::Tools => env.provided.list(&server.name, env.entra.trail).await.ok(),
        ServerKind::Upstream => return of_upstream(settings, server),
    };
    let Some(tools) = listed else { return vec![whole(server)] };
    let tools = tools.iter().filter(|tool| access::lets_people(settings, &server.name, &tool.name));
    let offered = tools.map(|tool| {
        let about = tool.description.as_deref().map(|text| truncated(&visible(text), MAX_ABOUT));
        let title = tool.title.as_deref().map(visible).filter(|title| !title.is_empty());
        Offered {
            title: title.unwrap_or_else(|| tool.name.to_string()),
            about: about.filter(|about| !about.is_empty()),
            name: within(server, &tool.name),
        }
    });
    offered.collect()
}

/// The server as a whole, unless people may call no other tools than those that rules or the operator name; and the tools that
/// the operator names. What the server says of itself is not asked: it could write on the page.
fn of_upstream(settings: &HttpSettings, server: &ServerSettings) -> Vec<Offered> {
    let named: Vec<_> = server.tools.iter().filter(|tool| access::lets_people(settings, &server.name, tool)).collect();
    let is_closed = !access::lets_people(settings, &server.name, EVERYTHING);
    let whole = (named.is_empty() || !is_closed).then(|| whole(server));
    let tool = |tool: &String| Offered { name: within(server, tool), ..Offered::new(tool, None) };
    whole.into_iter().chain(named.into_iter().map(tool)).collect()
}

/// The line of a server, whatever its tools are.
fn whole(server: &ServerSettings) -> Offered {
    let title = server.title.as_deref().unwrap_or(&server.name);
    let about = format!("all tools at {}", server.path);
    Offered { name: server.name.clone(), ..Offered::new(title, Some(&about)) }
}

fn within(server: &ServerSettings, tool: &str) -> String {
    [&server.name, "/", tool].concat()
}

#[cfg(test)]
mod tests {
    use base::policy::{Rule, ToolRule};
    use base::settings::ServerIdentity;
    use world::provided_tools::{ProvidedTool, ProviderError};
    use world::testing::{PUBLIC_URL, World, provided_tool, run};

    use super::*;
    use crate::testing::{ServerWorlds as _, change, configure};

    fn server(name: &str, kind: ServerKind) -> ServerSettings {
        ServerSettings {
            name: name.to_owned(),
            path: format!("/{name}/mcp"),
            kind,
            title: (kind == ServerKind::Upstream).then(|| "Customers".to_owned()),
            tools: Vec::new(),
            permissions: Vec::new(),
            identity: ServerIdentity::None,
        }
    }

    fn remote(world: &World) -> ServerWorld<'static> {
        let mut env = world.remote();
        change(&mut env, |settings| {
            settings.servers = vec![server("mail", ServerKind::Tools), server("crm", ServerKind::Upstream)];
        });
        env
    }

    fn titles(env: &ServerWorld<'_>, path: &str) -> Vec<String> {
        run(of(env, &format!("{PUBLIC_URL}{path}"))).into_iter().map(|offered| offered.title).collect()
    }

    #[test]
    fn a_resource_offers_what_is_behind_its_path_and_the_server_as_a_whole_everything() {
        let world = World::default();
        let send = ProvidedTool { title: Some("Send a mail".to_owned()), ..provided_tool("send") };
        world.provide("mail", Ok(vec![send, provided_tool("read")]));
        let env = remote(&world);
        assert_eq!(titles(&env, "/mail/mcp"), ["Send a mail", "read"]);
        assert_eq!(titles(&env, "/crm/mcp"), ["Customers"]);
        assert_eq!(titles(&env, ""), ["Send a mail", "read", "Customers"]);
        let offered = run(of(&env, &format!("{PUBLIC_URL}/mail/mcp")));
        assert_eq!(offered[1].about.as_deref(), Some("Does read."));
        let names = run(of(&env, PUBLIC_URL)).into_iter().map(|offered| offered.name).collect::<Vec<_>>();
        assert_eq!(names, ["mail/send", "mail/read", "crm"]);
    }

    #[test]
    fn tools_that_no_person_may_call_are_not_offered() {
        let world = World::default();
        world.provide("mail", Ok(vec![provided_tool("read"), provided_tool("sync")]));
        let mut env = remote(&world);
        let apps = Rule { users: false, ..Rule::users_and_apps() };
        configure(&mut env, |http| http.access = Some(vec![ToolRule::for_tool("sync", apps)]));
        assert_eq!(titles(&env, "/mail/mcp"), ["read"]);
    }

    #[test]
    fn of_a_whole_server_the_tools_that_the_operator_names_are_offered_and_whether_there_are_others() {
        let mut env = remote(&World::default());
        let crm = |env: &ServerWorld<'_>| {
            let offered = run(of(env, &format!("{PUBLIC_URL}/crm/mcp"))).into_iter();
            offered.map(|offered| (offered.title, offered.about, offered.name)).collect::<Vec<_>>()
        };
        let line = |title: &str, about: Option<&str>, name: &str| {
            (title.to_owned(), about.map(str::to_owned), name.to_owned())
        };
        let whole = line("Customers", Some("all tools at /crm/mcp"), "crm");
        assert_eq!(crm(&env), std::slice::from_ref(&whole));
        change(&mut env, |settings| settings.servers[1].tools = ["list", "sync"].map(str::to_owned).into());
        let (list, sync) = (line("list", None, "crm/list"), line("sync", None, "crm/sync"));
        assert_eq!(crm(&env), [whole.clone(), list.clone(), sync.clone()]);
        let apps = Rule { users: false, ..Rule::users_and_apps() };
        let about =
            |tool: &'static str, rule| ToolRule { server: Some("crm".into()), ..ToolRule::for_tool(tool, rule) };
        configure(&mut env, |http| http.access = Some(vec![about("sync", apps.clone())]));
        assert_eq!(crm(&env), [whole.clone(), list.clone()], "no person may call it");
        configure(&mut env, |http| http.access = Some(vec![about("list", Rule::users()), about("*", apps)]));
        assert_eq!(crm(&env), std::slice::from_ref(&list), "there are no others");
        configure(&mut env, |http| {
            (http.access, http.deny_unlisted) = (Some(vec![about("list", Rule::users())]), true);
        });
        assert_eq!(crm(&env), [list]);
        change(&mut env, |settings| settings.servers[1].tools = Vec::new());
        assert_eq!(crm(&env), [whole], "which ones is in rules, and not for people");
    }

    #[test]
    fn a_server_whose_tools_cannot_be_listed_is_named_itself() {
        let world = World::default();
        world.provide("mail", Err(ProviderError::TimedOut));
        let env = remote(&world);
        assert_eq!(
            run(of(&env, &format!("{PUBLIC_URL}/mail/mcp"))),
            [Offered::new("mail", Some("all tools at /mail/mcp"))]
        );
    }

    #[test]
    fn a_description_is_shortened_and_shows_what_cannot_be_seen_to_nobody() {
        let world = World::default();
        let long = ProvidedTool {
            title: Some("\u{202e}\u{200b}".to_owned()),
            description: format!("\u{e0041}Reads\n{}", "x".repeat(1000)),
            ..provided_tool("read")
        };
        world.provide("mail", Ok(vec![long]));
        let [offered] = run(of(&remote(&world), &format!("{PUBLIC_URL}/mail/mcp"))).try_into().unwrap();
        assert_eq!(offered.title, "read", "a title of which nothing can be seen is none");
        let about = offered.about.unwrap();
        assert!(about.starts_with("Reads xxx") && about.chars().count() == MAX_ABOUT + 1, "{about}");
    }
}
