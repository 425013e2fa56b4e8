//! `entra-mcp-compose COMPONENT OUTPUT`: the component with its adapter, which runs in hosts of WASI alone.

use std::env;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "entra-mcp-compose: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [component, output] = arguments.as_slice() else {
        return Err("usage: entra-mcp-compose COMPONENT OUTPUT".into());
    };
    let read = |path| fs::read(path).map_err(|error| format!("{}: {error}", std::path::Path::new(path).display()));
    fs::write(output, entra_mcp_compose::plug(&read(component)?, entra_mcp_compose::ADAPTER)?)?;
    Ok(())
}
