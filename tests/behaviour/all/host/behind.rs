//! Servers behind the program, as its commands start and refuse them.

use serde_json::json;
use tempfile::TempDir;

use super::commands::Home;
use super::records::Site;
use super::serve::{Server, run, serve};

/// Exit code and message of a start that is refused.
pub(crate) async fn refusal(home: &Home, command: &str, arguments: &[&str], file: &str) -> String {
    let config = home.path().join("behind.toml");
    let own = std::fs::read_to_string(home.path().join(".config/entra-mcp/config.toml")).unwrap();
    std::fs::write(&config, format!("{own}{file}")).unwrap();
    let arguments = [&["--config", config.to_str().unwrap()], arguments].concat();
    let program = match command {
        "serve" => serve(home, &arguments),
        other => home.program(&[&[other], arguments.as_slice()].concat()),
    };
    let (code, output, log) = run(program, "").await;
    assert_eq!((code, output.as_str()), (Some(2), ""), "{log}");
    let line = log.lines().find(|line| line.starts_with("entra-mcp: ")).unwrap_or_else(|| panic!("{log}"));
    line.trim_start_matches("entra-mcp: ").to_owned()
}

#[tokio::test]
async fn a_start_is_refused_with_what_to_change() {
    let home = Home::new().await;
    let text = home.path().join("text.wasm");
    std::fs::write(&text, "no WebAssembly").unwrap();
    let text = text.to_str().unwrap();
    let crm = "[[upstream]]\nname = 'crm'\nurl = 'http://127.0.0.1:1/mcp'\n";
    for (command, arguments, file, expected) in [
        (
            "serve",
            vec!["--tools", "/does/not/exist.wasm"],
            "",
            "the tool component /does/not/exist.wasm cannot be read: ",
        ),
        (
            "stdio",
            vec!["--tools", "/does/not/exist.wasm"],
            "",
            "the tool component /does/not/exist.wasm cannot be read: ",
        ),
        (
            "serve",
            vec!["--tools", text],
            "",
            "the tools \"text\" cannot be loaded: it is not WebAssembly in binary form",
        ),
        (
            "stdio",
            vec!["--tools", text],
            "",
            "the tools \"text\" cannot be loaded: it is not WebAssembly in binary form",
        ),
        ("stdio", vec!["--upstream", "http://127.0.0.1:1/mcp"], "", "stdio serves tool components only"),
        ("stdio", vec![], crm, "stdio serves tool components only"),
        ("serve", vec!["--upstream-command", "'"], "", "upstream-command is \"'\", but a command is expected"),
        (
            "serve",
            vec!["--upstream-command", "no-such-program-anywhere"],
            "",
            "the upstream \"upstream\" cannot be started: no-such-program-anywhere: no such program",
        ),
        ("serve", vec!["--upstream", "http://192.0.2.1.nip.example:x/mcp"], "", "upstream.url is "),
        ("serve", vec!["--upstream", "http://8.8.8.8/mcp"], "", "the upstream \"upstream\": "),
        ("serve", vec!["--deny-unlisted"], "", "--deny-unlisted is about the tools of servers behind this one"),
        (
            "serve",
            vec![],
            "[[access]]\nserver = 'crm'\ntool = 'a'\n",
            "access.server is \"crm\", but no server is configured",
        ),
    ] {
        let refusal = refusal(&home, command, &arguments, file).await;
        assert!(refusal.starts_with(expected), "{arguments:?}: {refusal}");
    }
}

#[tokio::test]
async fn the_line_of_a_start_lists_the_servers_and_the_log_says_which_are_open() {
    let home = Home::new().await;
    let arguments = ["--upstream", "http://127.0.0.1:1/mcp", "--upstream-command", "sh -c 'exit 1'"];
    let server = Server::start(serve(&home, &arguments)).await;
    let listed = json!([
        { "name": "upstream", "path": "/upstream/mcp", "kind": "upstream" },
        { "name": "upstream-2", "path": "/upstream-2/mcp", "kind": "upstream" },
    ]);
    assert_eq!(server.ready["servers"], listed);
    let (code, _, log) = server.end().await;
    assert_eq!(code, Some(0), "{log}");
    for name in ["upstream", "upstream-2"] {
        let open = format!(
            "every admitted person and application, but no AI agent, may use every tool, every resource and every \
             prompt of {name}: write [[access]] rules, or set deny-unlisted"
        );
        assert_eq!(log.matches(&open).count(), 1, "{log}");
    }
}

/// An MCP server: it calls back nothing, and answers every request with the name of a file beside it.
pub(super) const SCRIPT: &str = r#"
while read -r line; do
    case $line in *'"id":'*) ;; *) continue ;; esac
    id=${line#*'"id":'}
    id=${id%%[,\}]*}
    for file in ./*.sh; do name=$file; done
    echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"resultType":"complete","content":[{"type":"text","text":"'"$name"'"}]}}'
done
"#;

#[tokio::test]
async fn a_command_finds_a_script_by_a_relative_path() {
    let of_the_file = |folder: &TempDir| {
        let file = folder.path().join("behind.toml");
        let table = "[[upstream]]\nname = 'crm'\ncommand = ['/bin/sh', 'server.sh']\nfolder = 'scripts'\n";
        std::fs::write(&file, table).unwrap();
        vec!["--config".to_owned(), file.display().to_string()]
    };
    let of_the_flag = |_: &TempDir| ["--upstream-command", "/bin/sh scripts/server.sh"].map(str::to_owned).to_vec();
    let arguments: [(&str, &dyn Fn(&TempDir) -> Vec<String>); 2] =
        [("./server.sh", &of_the_file), ("./start.sh", &of_the_flag)];
    for (found, arguments) in arguments {
        // The server works in its folder.
        let site = Site::new(|folder| {
            std::fs::create_dir(folder.path().join("scripts")).unwrap();
            std::fs::write(folder.path().join("scripts/server.sh"), SCRIPT).unwrap();
            std::fs::write(folder.path().join("start.sh"), "").unwrap();
            arguments(folder)
        })
        .await;
        let session = site.sign_in().await;
        let (status, answer) = site.call_tool("/mcp", Some(&session.access_token), "look", &[]).await;
        let text = &answer["result"]["content"][0]["text"];
        assert_eq!((status, text), (200, &json!(found)), "{answer}\n{}", site.server.log());
    }
}

#[tokio::test]
async fn without_servers_the_line_of_a_start_lists_none() {
    let home = Home::new().await;
    let server = Server::start(serve(&home, &[])).await;
    assert_eq!(server.ready.get("servers"), None);
    assert_eq!(server.end().await.0, Some(0));
}
