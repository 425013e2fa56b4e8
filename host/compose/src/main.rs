//! `entra-mcp-compose COMPONENT ADAPTER OUTPUT`: see the library.

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
    if let [tool, component, adapter, keeper, gate, output] = arguments.as_slice() {
        let read = |path| fs::read(path).map_err(|error| format!("{}: {error}", std::path::Path::new(path).display()));
        let parts = entra_mcp_compose::Parts {
            component: &read(component)?,
            adapter: &read(adapter)?,
            keeper: &read(keeper)?,
            gate: &read(gate)?,
        };
        fs::write(output, entra_mcp_compose::wrap(&read(tool)?, &parts)?)?;
        return Ok(());
    }
    let [component, adapter, output] = arguments.as_slice() else {
        return Err("usage: entra-mcp-compose COMPONENT ADAPTER OUTPUT".into());
    };
    let read = |path| fs::read(path).map_err(|error| format!("{}: {error}", std::path::Path::new(path).display()));
    fs::write(output, entra_mcp_compose::plug(&read(component)?, &read(adapter)?)?)?;
    Ok(())
}
