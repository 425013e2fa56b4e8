//! Argument parsing only.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use entra_mcp_host::commands::{self, CommandError};
use entra_mcp_host::config::{Environment, Layer, Sources};
use entra_mcp_host::{logging, report_error};

/// An MCP server that signs people in with Microsoft Entra ID, in a WebAssembly sandbox
#[derive(Parser)]
#[command(name = "entra-mcp", version, after_help = EXIT_CODES)]
struct Cli {
    /// Configuration file [default: config.toml in the user's configuration folder]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 the arguments or the configuration have to be changed";

#[derive(Subcommand)]
enum Command {
    /// Serve one MCP client on standard input and output
    #[command(after_help = "Examples:\n  entra-mcp stdio --tenant-id contoso.com --client-id \
        00001111-aaaa-2222-bbbb-3333cccc4444\n  ENTRA_MCP_TENANT_ID=… ENTRA_MCP_CLIENT_ID=… entra-mcp stdio \
        --sign-in device-code")]
    Stdio {
        #[command(flatten)]
        settings: Layer,
    },
    /// Sign a person in, so that the server starts silently
    #[command(after_help = "Examples:\n  entra-mcp login\n  entra-mcp login --sign-in device-code\n  entra-mcp login \
        --account meganb@contoso.com")]
    Login {
        #[command(flatten)]
        settings: Layer,
    },
    /// Sign out: forget an account and everything that was stored for it
    #[command(after_help = "Examples:\n  entra-mcp logout\n  entra-mcp logout --account meganb@contoso.com\n  \
        entra-mcp logout --all")]
    Logout {
        /// Sign out all accounts
        #[arg(long, conflicts_with = "account")]
        all: bool,
        #[command(flatten)]
        settings: Layer,
    },
    /// List who is signed in
    #[command(after_help = "Examples:\n  entra-mcp accounts\n  entra-mcp accounts --json")]
    Accounts {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Layer,
    },
    /// Judge access tokens as the server would, and say why one is refused
    #[command(after_help = "Prints a line per token, in order. Exit codes: 0 all are valid, 1 some are refused, 2 it \
        could not be decided\n\nExamples:\n  entra-mcp validate --tenant-id contoso.com --audience \
        00001111-aaaa-2222-bbbb-3333cccc4444 < tokens.txt\n  entra-mcp validate --tenant-id … --audience … \
        --require-scope User.Read --json --token-file tokens.txt")]
    Validate {
        #[command(flatten)]
        arguments: commands::validate::Arguments,
    },
    /// Show a component's imports, exports, size and hash, and what the host grants it
    #[command(after_help = "Examples:\n  entra-mcp inspect\n  entra-mcp inspect --json \
        target/component/entra_mcp.wasm")]
    Inspect {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// A component; without it, the bundled one
        path: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), CommandError> {
    let sources = |settings| Sources::read(settings, cli.config.clone(), Environment::of_process());
    let public_client = |settings| -> Result<_, CommandError> {
        let config = sources(settings)?.public_client()?;
        logging::start(&config.host);
        Ok(config)
    };
    match cli.command {
        Command::Stdio { settings } => commands::block_on(commands::stdio::run(&public_client(settings)?)),
        Command::Login { settings } => commands::block_on(commands::login::run(&public_client(settings)?)),
        Command::Logout { all, settings } => commands::block_on(commands::logout::run(&public_client(settings)?, all)),
        Command::Accounts { json, settings } => {
            commands::block_on(commands::accounts::run(&public_client(settings)?, json))
        }
        Command::Validate { arguments } => {
            let config = sources(arguments.layer())?.validator(arguments.token_settings())?;
            logging::start(&config.host);
            commands::block_on(commands::validate::run(&config, &arguments))
        }
        Command::Inspect { json, path } => {
            let host = sources(Layer::default())?.host();
            logging::start(&host);
            commands::inspect::run(path.as_deref(), json, &host.code_cache)
        }
    }
}
