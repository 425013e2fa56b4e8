//! The programs of the documentation for clients that bring tokens of Entra ID, as their readers would have them.

use std::fs;
use std::path::{Path, PathBuf};

use entra_mcp_emulator::Endpoints;
use tempfile::TempDir;

use crate::support::tests_dir;

/// The page that has the programs.
const PAGE: &str = "docs/src/tutorials/bring-a-token.md";

/// What the documentation leaves to its reader.
const SERVER: &str = "https://mcp.example.com/mcp";
const AUTHORITY: &str = "https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000";
const CLIENT_ID: &str = "00000000-0000-0000-0000-000000000000";

/// A folder with the programs and the packages that they import.
pub(crate) struct Programs {
    folder: TempDir,
}

impl Programs {
    /// Takes the programs out of the documentation.
    pub(crate) fn write() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let page = read(PAGE);
        fs::write(folder.path().join("entra_auth.py"), block(&page, "python")).unwrap();
        fs::write(folder.path().join("entra-auth.mjs"), block(&page, "js")).unwrap();
        let modules = folder.path().join("node_modules");
        for (client, package) in [("msal-node", "@azure/msal-node"), ("mcp-client-2", "@modelcontextprotocol/client")] {
            let installed = tests_dir().join("clients").join(client).join("node_modules").join(package);
            let link = modules.join(package);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(installed, link).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The program of the page in Python, which prints what the tool says as a dictionary.
    pub(crate) fn python(&self, url: &str, at: &Endpoints) -> PathBuf {
        let authority = format!("authority=\"{}/{}\"", at.authority, at.tenant_id);
        let changes = [
            // MSAL would ask Microsoft about an authority that it does not know.
            (format!("authority=\"{AUTHORITY}\""), format!("{authority}, instance_discovery=False")),
            (CLIENT_ID.to_owned(), at.public_client_id.clone()),
            (SERVER.to_owned(), url.to_owned()),
        ];
        self.adapted("python", "program.py", &changes)
    }

    /// The program of the page in JavaScript.
    pub(crate) fn node(&self, url: &str, at: &Endpoints) -> PathBuf {
        let host = at.authority.split_once("://").unwrap().1;
        let authority = format!("authority: '{}/{}', knownAuthorities: ['{host}'],", at.authority, at.tenant_id);
        let changes = [
            (format!("authority: '{AUTHORITY}',"), authority),
            (CLIENT_ID.to_owned(), at.public_client_id.clone()),
            (SERVER.to_owned(), url.to_owned()),
        ];
        self.adapted("js", "program.mjs", &changes)
    }

    fn adapted(&self, language: &str, name: &str, changes: &[(String, String)]) -> PathBuf {
        let page = read(PAGE);
        let section = page.split_once("## Write the program\n").expect("the page has the section").1;
        let mut program = block(section, language);
        for (in_the_page, here) in changes {
            assert_eq!(program.matches(in_the_page).count(), 1, "{in_the_page} is there once\n{program}");
            program = program.replace(in_the_page, here);
        }
        let path = self.folder.path().join(name);
        fs::write(&path, program).unwrap();
        path
    }
}

fn read(name: &str) -> String {
    fs::read_to_string(tests_dir().join("..").join(name)).unwrap()
}

/// The first block in this language.
fn block(page: &str, language: &str) -> String {
    let start = format!("```{language}\n");
    let rest = page.split_once(&start).unwrap_or_else(|| panic!("the page has a block in {language}")).1;
    rest.split_once("```").expect("a block ends").0.to_owned()
}
