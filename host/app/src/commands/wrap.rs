//! `entra-mcp wrap`: puts the component in front of a tool, so that any host of `wasi:http` serves the tool protected.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use entra_mcp_compose::{parts, wrap};

use super::CommandError;
use crate::console;

/// The arguments of `entra-mcp wrap`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The tool: a component that exports wasi:http/incoming-handler 0.2
    #[arg(value_name = "TOOL")]
    tool: PathBuf,
    /// Where to write the protected component
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Use this component in front of the tool, such as entra_mcp.wasm of a release; without it, the one in this program
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
}

/// The component in this program that most hosts run, and what a host of it needs.
#[cfg(feature = "portable-component")]
const OWN: (&[u8], Option<&str>) = (entra_mcp_plugin::PORTABLE_COMPONENT, None);
#[cfg(not(feature = "portable-component"))]
const OWN: (&[u8], Option<&str>) = (
    entra_mcp_plugin::BUNDLED_COMPONENT,
    Some(
        "its host needs the wide-arithmetic and SIMD instructions of WebAssembly (`wasmtime serve -W wide-arithmetic`); for \
         jco and other hosts, pass --component with entra_mcp.wasm of a release",
    ),
);

/// Writes the protected component.
pub fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let Arguments { tool, output, component } = arguments;
    if fs::canonicalize(output).is_ok_and(|output| fs::canonicalize(tool).is_ok_and(|tool| tool == output)) {
        return Err(CommandError::Usage(format!(
            "{} is the tool itself: name another file with --output",
            output.display()
        )));
    }
    let bytes = read(tool)?;
    let (given, needs) = match component {
        Some(path) => (Some(read(path)?), None),
        None => (None, OWN.1),
    };
    let protected = wrap(&bytes, &parts(given.as_deref().unwrap_or(OWN.0)))
        .map_err(|reason| CommandError::NotWrapped { path: tool.display().to_string(), reason })?;
    write(output, &protected)
        .map_err(|error| CommandError::NotWritten { path: output.display().to_string(), reason: error.to_string() })?;
    console::result(&format!("{} has {} bytes", output.display(), protected.len()));
    if let Some(needs) = needs {
        console::notice(&format!("{} runs in hosts of WASI 0.2: {needs}", output.display()));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    fs::read(path).map_err(|error| CommandError::File { path: path.display().to_string(), reason: error.to_string() })
}

/// Writes the file beside its place and renames it: a host that reads it never sees a part of it.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}
