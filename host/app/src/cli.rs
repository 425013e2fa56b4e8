//! The command line: argument parsing only.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::commands::account_list::Scope;
#[cfg(feature = "demo")]
use crate::commands::headless_browser::HeadlessBrowserArgs;
use crate::commands::store::RotationStep;
use crate::commands::{self, CommandError};
use crate::config::{BehindLayer, Environment, HostLayer, Layer, ServeConfig, ServeLayer, Sources};
use crate::service_manager::ServiceManager;
use crate::{compiler, console, logging, process_memory};

/// An MCP server that signs people in with Microsoft Entra ID, in a WebAssembly sandbox
#[derive(Parser)]
#[command(name = "entra-mcp", bin_name = "entra-mcp", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 the arguments or the configuration have to be changed";

const SETUP_HELP: &str = "Shows what it will do, and asks. It removes nothing, and a second run changes nothing.\n\n\
    Permissions of Microsoft Graph (delegated): Application.ReadWrite.All, and with --grant-admin-consent also \
    DelegatedPermissionGrant.ReadWrite.All (and AppRoleAssignment.ReadWrite.All for --graph-app-permission). The account may be any that the tenant lets register applications; consent for \
    the organisation takes an administrator.\n\nExamples:\n  entra-mcp setup\n  entra-mcp setup --tenant-id contoso.com \
    --dry-run\n  entra-mcp setup --public-url https://mcp.example.com --certificate-file server.pem\n  entra-mcp setup \
    --public-url https://mcp.example.com --managed-identity 00001111-aaaa-2222-bbbb-3333cccc4444 \
    --grant-admin-consent\n  entra-mcp setup --public-url https://mcp.example.com --federated-issuer \
    https://oidc.example.com/ --federated-subject system:serviceaccount:mcp:entra-mcp --yes\n  entra-mcp setup --app-id \
    00001111-aaaa-2222-bbbb-3333cccc4444 --sign-in device-code";

/// Settings of the remote server
#[derive(Args)]
struct ServeSettings {
    #[command(flatten)]
    serve: ServeLayer,
    #[command(flatten)]
    flags: Layer,
}

#[derive(Subcommand)]
enum ClientSecretCommand {
    /// Read the client secret from standard input, and keep it encrypted in the server's store
    #[command(after_help = "Examples:\n  entra-mcp client-secret set\n  az ad app credential reset --id … --query \
        password -o tsv | entra-mcp client-secret set")]
    Set {
        #[command(flatten)]
        settings: ServeSettings,
    },
    /// Forget the client secret
    #[command(after_help = "Example:\n  entra-mcp client-secret delete")]
    Delete {
        #[command(flatten)]
        settings: ServeSettings,
    },
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Open every record, and count the records and the damaged ones; changes nothing
    #[command(after_help = "Without --store, it checks the default files. Exit codes: 0 all is \
        well, 1 something is damaged or cannot be read\n\nExamples:\n  entra-mcp store check\n  entra-mcp store check \
        --json --store /var/lib/entra-mcp/server.db")]
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Layer,
    },
    /// Seal records with a new data key from now on; sealed records stay readable. Servers go on meanwhile
    #[command(after_help = "Examples:\n  entra-mcp store rotate-key\n  entra-mcp store rotate-key --store \
        /var/lib/entra-mcp/server.db\n  ENTRA_MCP_STORE_KEY=… entra-mcp store rotate-key --print --store \
        redis://redis.example.com\n  entra-mcp store rotate-key --announce --store-key-file KEY --store \
        redis://redis.example.com")]
    RotateKey {
        /// Print the keys, two lines for two steps, if they come from a variable or a credential
        #[arg(long)]
        print: bool,
        /// The first of two steps for a Redis store whose key is in a file: put the new key behind the present ones, so that
        /// servers with a copy of the file can open records that it seals later
        #[arg(long, conflicts_with_all = ["print", "promote"])]
        announce: bool,
        /// The second step, when all servers have a copy of the file: seal with the new key
        #[arg(long, conflicts_with = "print")]
        promote: bool,
        #[command(flatten)]
        settings: Layer,
    },
    /// Wrap the data key of a Redis store by a key in Azure Key Vault, into a file that you copy to all servers
    #[command(
        after_help = "A store in a file has its key wrapped at the first start with --store-key-vault.\n\nExample:\n  \
        entra-mcp store wrap-key --from KEY --store redis://redis.example.com --store-key-vault \
        https://contoso.vault.azure.net/keys/store --store-key-file KEY.wrapped"
    )]
    WrapKey {
        /// File with the store's data key; without it, the command makes a new key, for a store without records
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        #[command(flatten)]
        settings: Layer,
    },
}

#[derive(Subcommand)]
enum ToolsCommand {
    /// Write a project for a tool component into a new folder: a tool that reads Graph as its caller, with tests
    #[command(
        after_help = "Examples:\n  entra-mcp tools new mail --language rust\n  entra-mcp tools new mail --language \
        python"
    )]
    New {
        /// Name of the project and of its folder
        name: String,
        /// Language of the tools
        #[arg(long)]
        language: commands::tools::Language,
    },
}

#[derive(Subcommand)]
enum Command {
    /// Serve one MCP client on standard input and output
    #[command(after_help = "Examples:\n  entra-mcp stdio --tenant-id contoso.com --client-id \
        00001111-aaaa-2222-bbbb-3333cccc4444\n  ENTRA_MCP_TENANT_ID=… ENTRA_MCP_CLIENT_ID=… entra-mcp stdio \
        --sign-in device-code\n  entra-mcp stdio --tools ./mail.wasm --egress \
        'https://graph.microsoft.com=Mail.Read'\n\nTools of your own, in the configuration file:\n  \
        [[tools]]\n  file = \"./mail.wasm\"\n  egress = [{ to = \"https://graph.microsoft.com\", scopes = \
        [\"Mail.Read\"] }]")]
    Stdio {
        #[command(flatten)]
        settings: Box<Layer>,
        #[command(flatten)]
        behind: BehindLayer,
    },
    /// Serve MCP clients over HTTP, with an authorization server in front of Entra ID
    #[command(after_help = "Prints one JSON line with its address once it listens. The first SIGTERM or SIGINT lets \
        requests in flight finish (10 s), the second does not.\n\nExamples:\n  AZURE_CLIENT_SECRET=… entra-mcp serve \
        --tenant-id contoso.com --client-id 00001111-aaaa-2222-bbbb-3333cccc4444\n  entra-mcp serve --listen \
        0.0.0.0:443 --public-url https://mcp.example.com --tls-cert chain.pem --tls-key key.pem \
        --client-secret-file secret\n  entra-mcp serve --listen 0.0.0.0:8080 --public-url https://mcp.example.com \
        --trusted-proxy 10.0.0.0/8\n  entra-mcp serve --tools ./mail.wasm --egress \
        'https://graph.microsoft.com=Mail.Read'\n  entra-mcp serve --upstream \
        http://127.0.0.1:8000/mcp\n  entra-mcp serve --upstream-command 'python server.py' --deny-unlisted\n\n\
        Servers to protect, in the configuration file:\n  [[tools]]\n  name = \"mail\"\n  file = \"./mail.wasm\"\n  \
        egress = [{ to = \"https://graph.microsoft.com\", scopes = [\"Mail.Read\"] }]\n  [[upstream]]\n  name = \
        \"crm\"\n  url = \"http://127.0.0.1:8000/mcp\"\n  identity = \"assertion\"\n  [[access]]\n  server = \"crm\"\n  \
        tool = \"delete_record\"\n  roles = [\"Crm.Admin\"]\n\nA client in the configuration file:\n  [[clients]]\n  client-id = \"my-client\"\n  \
        name = \"My client\"\n  redirect-uris = [\"http://127.0.0.1/callback\"]\n  secret-file = \
        \"/run/secrets/my-client\"   # or secret-hash, or neither for a public client\n\nTelemetry \
        (OTLP over HTTP) is sent if OTEL_EXPORTER_OTLP_ENDPOINT is set, and as the other OTEL_… variables say.")]
    Serve {
        #[command(flatten)]
        settings: Box<ServeSettings>,
        #[command(flatten)]
        behind: Box<BehindLayer>,
    },
    /// Keep the client secret of the remote server in its encrypted store
    ClientSecret {
        #[command(subcommand)]
        command: Box<ClientSecretCommand>,
    },
    /// Make or repair the app registration in Entra ID, and write the configuration file
    #[command(after_help = SETUP_HELP)]
    Setup {
        #[command(flatten)]
        arguments: Box<commands::setup::Arguments>,
    },
    /// Sign a person in, so that the server starts silently
    #[command(after_help = "Examples:\n  entra-mcp login\n  entra-mcp login --sign-in device-code\n  entra-mcp login \
        --account meganb@contoso.com\n  entra-mcp login --tenant contoso.com")]
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
    /// List the accounts that are signed in
    #[command(
        after_help = "Each tenant, cloud and application has a list of its own. All of the store are shown, unless a \
        flag names one.\n\nExamples:\n  entra-mcp accounts\n  entra-mcp accounts --tenant contoso.com\n  entra-mcp accounts --json"
    )]
    Accounts {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Layer,
    },
    /// Check the store of sign-ins, sessions and the client secret, or change its key
    Store {
        #[command(subcommand)]
        command: Box<StoreCommand>,
    },
    /// Name the account that calls use, if its sign-in is still good
    #[command(after_help = "Examples:\n  entra-mcp whoami\n  entra-mcp whoami --account meganb@contoso.com --json")]
    Whoami {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Layer,
    },
    /// Test every layer live, and say of each fault what to change and where
    #[command(
        after_help = "It takes the settings of `serve`, and changes nothing. Exit codes: 0 all is well, 1 something may \
        not work for every client, 2 something does not work\n\nExamples:\n  entra-mcp doctor\n  entra-mcp doctor --url \
        https://mcp.example.com\n  entra-mcp doctor --token token.txt --json"
    )]
    Doctor {
        #[command(flatten)]
        arguments: commands::doctor::Arguments,
        #[command(flatten)]
        settings: Box<ServeSettings>,
        #[command(flatten)]
        behind: Box<BehindLayer>,
    },
    /// Judge access tokens as the server would, and say why it refuses one
    #[command(after_help = "Prints a line per token, in order. Exit codes: 0 all are valid, 1 some are refused, 2 it \
        could not be decided\n\nExamples:\n  entra-mcp validate --tenant-id contoso.com --audience \
        00001111-aaaa-2222-bbbb-3333cccc4444 < tokens.txt\n  entra-mcp validate --tenant-id … --audience … \
        --require-scope User.Read --json --token-file tokens.txt")]
    Validate {
        #[command(flatten)]
        arguments: commands::validate::Arguments,
    },
    /// Show a component's imports, exports, size and hash, and what the host grants it; for a component with tools also
    /// the tools, and what to write into the configuration for it
    #[command(
        after_help = "Examples:\n  entra-mcp inspect\n  entra-mcp inspect mail.wasm\n  entra-mcp inspect mail.wasm --config \
        entra-mcp.toml\n  entra-mcp inspect --json target/component/entra_mcp.wasm"
    )]
    Inspect {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Show what the [[tools]] for the component in this configuration file grant it
        #[arg(long, value_name = "FILE", requires = "path")]
        config: Option<PathBuf>,
        /// A component; without it, the bundled one
        path: Option<PathBuf>,
    },
    /// Put sign-in in front of a component that serves HTTP, so that any host of wasi:http can run it: the result
    /// checks every call, and adds the caller's tokens to its requests
    #[command(after_help = "The result reads its settings from variables, as entra_mcp.standard.wasm does, and from \
        ENTRA_MCP_EGRESS (where requests of the tool may go) and ENTRA_MCP_ACCESS (which callers may call what)\n\nExamples:\n  entra-mcp wrap crm.wasm -o protected.wasm\n  wasmtime serve -S cli --dir records::/records --env \
        ENTRA_MCP_STORE=/records … protected.wasm")]
    Wrap {
        #[command(flatten)]
        arguments: commands::wrap::Arguments,
    },
    /// Make tools of your own, which run in a sandbox
    Tools {
        #[command(subcommand)]
        command: ToolsCommand,
    },
    /// Run Entra ID and Microsoft Graph on this machine, for development without a tenant
    #[cfg(feature = "demo")]
    #[command(after_help = "Prints one JSON line with its addresses and ids, and runs until it is interrupted.\n\n\
        Examples:\n  entra-mcp emulator\n  entra-mcp emulator --listen 127.0.0.1:8400 --tls\n  \
        entra-mcp emulator --config directories.toml")]
    Emulator {
        #[command(flatten)]
        arguments: entra_mcp_emulator::Arguments,
    },
    /// Show a whole MCP conversation with sign-in, on this machine alone
    #[cfg(feature = "demo")]
    #[command(after_help = "Examples:\n  entra-mcp demo\n  entra-mcp demo --http\n  entra-mcp demo --setup")]
    Demo {
        #[command(flatten)]
        arguments: commands::demo::DemoArgs,
    },
    /// List all settings: as JSON, or as the reference page of the documentation
    #[command(hide = true)]
    Settings {
        /// Print the reference page
        #[arg(long)]
        markdown: bool,
    },
    #[command(hide = true, name = compiler::COMMAND)]
    Compile { folder: PathBuf, tools: Option<PathBuf> },
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    HeadlessBrowser {
        #[command(flatten)]
        arguments: HeadlessBrowserArgs,
    },
}

/// Runs the program: what it is told stands on the command line of the process.
pub fn main() -> ExitCode {
    // First of all, and before any thread is there.
    let environment = Environment::take_from_process();
    if let Err(error) = process_memory::keep_private() {
        console::notice(&format!("entra-mcp: a crash may write this process's memory to a disk: {error}"));
    }
    let cli = Cli::parse();
    let exit_code = match run(cli, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::notice(&format!("entra-mcp: {error}"));
            ExitCode::from(error.exit_code())
        }
    };
    console::flush();
    exit_code
}

fn run(cli: Cli, environment: Environment) -> Result<(), CommandError> {
    let notify_socket = environment.get("NOTIFY_SOCKET");
    let public_client = |settings: Layer, environment: Environment| -> Result<_, CommandError> {
        let config = Sources::read(settings, environment)?.public_client()?;
        logging::start(&config.host);
        Ok(config)
    };
    let of_accounts = |settings: Layer, environment: Environment| -> Result<_, CommandError> {
        let sources = Sources::read(settings, environment)?;
        let config = sources.public_client()?;
        logging::start(&config.host);
        Ok((config, sources))
    };
    let remote_server = |settings: ServeSettings, behind: BehindLayer, environment: Environment| {
        let sources = Sources::read_serve(settings.flags, settings.serve, behind, environment)?;
        let config = sources.serve()?;
        logging::start(&config.common.host);
        Ok::<ServeConfig, CommandError>(config)
    };
    match cli.command {
        Command::Serve { settings, behind } => {
            let manager = ServiceManager::new(notify_socket);
            commands::block_on(commands::serve::run(&remote_server(*settings, *behind, environment)?, manager))
        }
        Command::ClientSecret { command } => {
            match *command {
                ClientSecretCommand::Set { settings } => commands::block_on(commands::client_secret::set(
                    &remote_server(settings, BehindLayer::default(), environment)?,
                )),
                ClientSecretCommand::Delete { settings } => commands::block_on(commands::client_secret::delete(
                    &remote_server(settings, BehindLayer::default(), environment)?,
                )),
            }
        }
        Command::Stdio { settings, behind } => {
            let config = Sources::read_stdio(*settings, behind, environment)?.local_server()?;
            logging::start(&config.host);
            commands::block_on(commands::stdio::run(&config))
        }
        Command::Setup { arguments } => {
            let (flags, serve) = arguments.layers();
            let sources = Sources::read_setup(flags, serve, environment)?;
            commands::block_on(commands::setup::run(&arguments, &sources))
        }
        Command::Login { settings } => commands::block_on(commands::login::run(&public_client(settings, environment)?)),
        Command::Logout { all, settings } => {
            let (config, sources) = of_accounts(settings, environment)?;
            commands::block_on(commands::logout::run(&config, Scope::of_sign_out(&sources, all), all))
        }
        Command::Accounts { json, settings } => {
            let (config, sources) = of_accounts(settings, environment)?;
            commands::block_on(commands::accounts::run(&config, Scope::of(&sources), json))
        }
        Command::Store { command } => {
            let stores = |settings: Layer, environment: Environment| -> Result<_, CommandError> {
                let sources = Sources::read(settings, environment)?;
                logging::start(&sources.host()?);
                Ok(sources.stores()?)
            };
            match *command {
                StoreCommand::Check { json, settings } => {
                    commands::block_on(commands::store::check(&stores(settings, environment)?, json))
                }
                StoreCommand::RotateKey { print, announce, promote, settings } => {
                    let step = match (print, announce, promote) {
                        (true, _, _) => RotationStep::Print,
                        (_, true, _) => RotationStep::Announce,
                        (_, _, true) => RotationStep::Promote,
                        _ => RotationStep::All,
                    };
                    commands::block_on(commands::store::rotate_key(&stores(settings, environment)?, step))
                }
                StoreCommand::WrapKey { from, settings } => {
                    let stores = stores(settings, environment)?;
                    commands::block_on(commands::store::wrap_key(&stores, from.as_deref()))
                }
            }
        }
        Command::Whoami { json, settings } => {
            commands::block_on(commands::whoami::run(&public_client(settings, environment)?, json))
        }
        Command::Doctor { arguments, settings, behind } => {
            let ServeSettings { serve, flags } = *settings;
            let sources = Sources::read_usable(flags, serve, *behind, environment);
            commands::block_on(commands::doctor::run(&arguments, sources))
        }
        Command::Validate { arguments } => {
            let own = commands::validate::SETTINGS;
            let sources = Sources::read_some(arguments.layer(), &own, environment)?;
            let config = sources.validator(arguments.token_settings())?;
            logging::start(&config.host);
            commands::block_on(commands::validate::run(&config, &arguments))
        }
        Command::Inspect { json, config, path } => {
            let is_configured = config.is_some();
            let flags = Layer { host: HostLayer { config, ..HostLayer::default() }, ..Layer::default() };
            let sources = match is_configured {
                true => Sources::read_serve(flags, ServeLayer::default(), BehindLayer::default(), environment)?,
                false => Sources::read(flags, environment)?,
            };
            let host = sources.host()?;
            logging::start(&host);
            let file = path.as_deref().filter(|_| is_configured);
            let granted = file.map(|file| sources.tools_of(file)).transpose()?;
            commands::block_on(commands::inspect::run(path.as_deref(), granted, json, &host.code_cache))
        }
        Command::Tools { command: ToolsCommand::New { name, language } } => commands::tools::new(&name, language),
        Command::Wrap { arguments } => commands::wrap::run(&arguments),
        Command::Settings { markdown } => {
            commands::settings::run(&Cli::command(), markdown);
            Ok(())
        }
        #[cfg(feature = "demo")]
        Command::Emulator { arguments } => commands::block_on(commands::emulator::run(&arguments)),
        #[cfg(feature = "demo")]
        Command::Demo { arguments } => commands::block_on(commands::demo::run(&arguments, &environment)),
        Command::Compile { folder, tools } => commands::compile::run(folder, tools.as_deref()),
        #[cfg(feature = "demo")]
        Command::HeadlessBrowser { arguments } => commands::block_on(commands::headless_browser::run(&arguments)),
    }
}
