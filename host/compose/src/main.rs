//! `entra-mcp-compose COMPONENT OUTPUT`: the component with its adapter, which runs in hosts of WASI alone.
//! `entra-mcp-compose --wassette COMPONENT OUTPUT`: the same as functions, for wassette.
//! `entra-mcp-compose MIDDLEWARE COMPONENT OUTPUT`: a component of `wasi:http` 0.3 with middleware in front of it.

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
    let read = |path| fs::read(path).map_err(|error| format!("{}: {error}", std::path::Path::new(path).display()));
    let (composed, output) = match arguments.as_slice() {
        [component, output] => (entra_mcp_compose::plug(&read(component)?, entra_mcp_compose::ADAPTER)?, output),
        [option, component, output] if option == "--wassette" => (
            entra_mcp_compose::functions(&read(component)?, entra_mcp_compose::ADAPTER, entra_mcp_compose::WASSETTE)?,
            output,
        ),
        [middleware, component, output] => {
            (entra_mcp_compose::in_front(&read(middleware)?, &read(component)?)?, output)
        }
        _ => return Err("usage: entra-mcp-compose [MIDDLEWARE | --wassette] COMPONENT OUTPUT".into()),
    };
    fs::write(output, composed)?;
    Ok(())
}
