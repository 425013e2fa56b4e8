//! Where the figures are written: beside what was built, and into the book.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::plot;
use crate::report::Report;
use crate::servers::workspace;

const TABLE: &str = "running-costs.md";
const PLOT: &str = "running-costs.svg";
/// Where page and plot are in the book, and after which page.
const FOLDER: &str = "docs/src/explanation";
const SUMMARY: &str = "docs/src/SUMMARY.md";
const ENTRY: &str = "- [What it costs to run](explanation/running-costs.md)";
const BEFORE: &str = "- [Credentials](explanation/credentials.md)";
/// What is between these lines is written anew; the rest of the page is for people to change.
const BEGIN: &str = "<!-- Measured: `cargo bench --bench running_costs -- --write-docs` writes what follows. -->";
const END: &str = "<!-- Here ends what was measured. -->";

/// The page as it is at first, but for what was measured.
const PAGE: &str = "# What it costs to run

`cargo bench --bench running_costs -- --write-docs` has measured the figures below in one run, and has written the table
and the plot. Figures of another machine differ; the ratios between the servers differ less. A run without
`--write-docs` leaves this page as it is, and puts its figures into `target/running-costs`.

The servers beside `entra-mcp` are what a team would write with a library of MCP: stateless, behind a check of the
caller's token, with one tool that answers without asking Graph. `rmcp` stands behind axum and verifies each token with
jsonwebtoken; with memory, it verifies only those that it has not accepted before. The TypeScript SDK verifies with
jose. FastMCP has either its `JWTVerifier`, or its `AzureProvider`, at which people sign in as they do at `entra-mcp`.
`entra-mcp` has a session, rules, rate limits and audit records as it has them by default, except that it refuses no
caller for the number of its calls, and writes a record of every call.

- *calls*: 32 connections call a tool again and again. *Requests/s of one core* are those of a second of processor time.
- *memory*: of the server and its children: resident (RSS), and with shared pages divided (PSS). The callers of
  `entra-mcp` have sessions in its store, those of the others have tokens of Entra ID; each has called once.
- *waiting*: calls that wait for ten seconds at the same time: for Graph in `entra-mcp`, in the tool itself in the
  others.
- *idle*: connections that clients keep, each of which has carried one request.
- *growth*: one connection calls a server with one session in its store, and a server with many.
- *starts*: from the start of the program, which is in the memory of the machine, to the first answer; of a server, until
  `/readyz` of `entra-mcp` says 200, and until the others listen.
- *soak*: the slope of the resident memory while people sign in, call, refresh and sign out.

";

/// Writes table and plot beside what was built. Returns the folder.
pub(crate) fn write_to_target(report: &Report) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("running-costs");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(TABLE), measured(report)).unwrap();
    fs::write(folder.join(PLOT), plot::svg(report)).unwrap();
    folder
}

/// Writes the plot and the generated part of its page; at the first time, the page and its place in the book as well.
pub(crate) fn write_to_book(report: &Report) {
    let (folder, summary) = (workspace().join(FOLDER), workspace().join(SUMMARY));
    let page = folder.join(TABLE);
    let text = fs::read_to_string(&page).unwrap_or_else(|_| format!("{PAGE}{BEGIN}\n{END}\n"));
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    fs::write(&page, format!("{before}{BEGIN}\n\n{}\n{END}{after}", measured(report))).unwrap();
    fs::write(folder.join(PLOT), plot::svg(report)).unwrap();
    let entries = fs::read_to_string(&summary).unwrap();
    if !entries.contains(ENTRY) {
        assert!(entries.contains(BEFORE), "{SUMMARY} has no line {BEFORE:?}");
        fs::write(&summary, entries.replace(BEFORE, &format!("{BEFORE}\n{ENTRY}"))).unwrap();
    }
    println!("Written: {} and {PLOT} beside it", page.display());
}

/// The table, the plot, and where they come from.
fn measured(report: &Report) -> String {
    let notes: String = report.notes().iter().map(|note| format!("{note}\n")).collect();
    format!("{}\n{notes}\n{}\n![The same figures as bars]({PLOT})\n", machine(), report.markdown())
}

/// The machine, and the versions of the libraries.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processors = info.lines().filter(|line| line.starts_with("processor")).count();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("of an unknown model", |(_, model)| model.trim());
    format!(
        "entra-mcp {}, rmcp {}, TypeScript SDK {}, FastMCP {}. {processors} processors ({model}), Linux.",
        env!("CARGO_PKG_VERSION"),
        locked("rmcp"),
        typescript(),
        fastmcp(),
    )
}

/// The version of a crate in the lock file.
fn locked(name: &str) -> String {
    let lock: toml::Table = fs::read_to_string(workspace().join("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"].as_str() == Some(name)).unwrap();
    package["version"].as_str().unwrap().to_owned()
}

fn typescript() -> String {
    let text = fs::read_to_string(workspace().join("tests/clients/mcp-sdk-1/package.json")).unwrap();
    let package: Value = serde_json::from_str(&text).unwrap();
    package["dependencies"]["@modelcontextprotocol/sdk"].as_str().unwrap().to_owned()
}

fn fastmcp() -> String {
    let text = fs::read_to_string(workspace().join("tests/clients/fastmcp/requirements.txt")).unwrap();
    let version = text.lines().find_map(|line| line.strip_prefix("fastmcp==")).unwrap();
    version.trim_end_matches(" \\").to_owned()
}
