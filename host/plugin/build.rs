//! Builds the component that the host bundles, so that `cargo run` and `cargo test` never use a stale one.
//!
//! The component comes, in this order, from
//! 1. `ENTRA_MCP_COMPONENT`, the path of a component that was built elsewhere (see `.ci/component-fallback`). A warning
//!    names its SHA-256: what is bundled then does not follow from the source;
//! 2. the package itself, if it is a published one: there is no workspace around it, and `.ci/package` has put
//!    the component into it;
//! 3. a nested cargo build for `wasm32-wasip2`, if that target is installed;
//! 4. the same after `rustup target add wasm32-wasip2`.
//!
//! Otherwise the build stops with one message that names the fix.
//!
//! This script itself downloads one thing, that target, which `rust-toolchain.toml` names, and says so. The nested build
//! downloads the packages that only the component needs, as every build downloads its own: those of `Cargo.lock`
//! (`--locked`), whose hashes cargo checks; nothing says so, because it is quiet. With `ENTRA_MCP_OFFLINE=1` nothing is
//! downloaded: the script stops with the instruction, and the nested build runs with `--offline`.
//!
//! Two flavours can be built from the one source. The bundled one (`target/component/entra_mcp.bundled.wasm`, if it is
//! optimised) uses the wide-arithmetic instructions of WebAssembly (a token is verified in a third of the time) and the SIMD ones (long
//! header fields are read many bytes at a time), leaves RS256 to this host (`wit/signatures.wit`), and is built for speed: for size, it is a megabyte smaller, and
//! calls take longer. Other hosts do not know them all, so `target/component/entra_mcp.wasm`, the
//! portable one to hand out, is built without, and for size: only with the feature `portable-component`, which releases
//! and `cargo bench --bench token_validation --features portable-component` set. Of a component that was built elsewhere
//! there are two files too: the portable one is `ENTRA_MCP_PORTABLE_COMPONENT`.
//!
//! Optimising the component costs minutes of processor time. All of it is done where this crate itself is built with
//! `opt-level = 3`, as in the profiles `dist` and `bench`, and with `ENTRA_MCP_OPTIMISED=1`, as `.ci/package` sets it. Tests
//! get the same flavour without link-time optimisation. A plain release build, with `opt-level = 1`, gets a component without
//! the special instructions and with little optimisation: its packages are then compiled once for it and for what
//! `host/compose` builds. All of them do the same, at different speeds.

#![allow(clippy::print_stdout, reason = "a build script speaks to cargo on standard output")]
#![allow(clippy::disallowed_methods, reason = "a build script reads the environment and runs cargo")]

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use sha2::{Digest as _, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The crates of the component.
const GUEST: [&str; 7] =
    ["guest/base", "guest/caller", "guest/component", "guest/entra", "guest/server", "guest/world", "host/boundary"];

const TARGET: &str = "wasm32-wasip2";

/// The portable component that was built elsewhere: `ENTRA_MCP_COMPONENT` imports `signatures`, which other hosts do not have.
const GIVEN_PORTABLE: &str = "ENTRA_MCP_PORTABLE_COMPONENT";

/// Set to `1`, this script downloads nothing.
const OFFLINE: &str = "ENTRA_MCP_OFFLINE";

/// Set to `1`, the component is built with all optimisations whatever the profile.
const OPTIMISED: &str = "ENTRA_MCP_OPTIMISED";

/// The component in a published package, and the `cfg` that says that the package holds the contract too.
const PACKAGED: &str = "component/entra_mcp.bundled.wasm";
const PACKAGED_CFG: &str = "entra_mcp_packaged";

/// One way to build the component.
struct Flavour {
    /// Folder of the nested build below the target directory.
    folder: &'static str,
    rustflags: &'static str,
    features: &'static str,
    /// What it changes about the profile `component`.
    profile: &'static [&'static str],
}

const PORTABLE: Flavour = Flavour {
    folder: "component-build",
    rustflags: "",
    features: "",
    profile: &["--config", "guest/component/portable.toml"],
};
const BUNDLED: Flavour = Flavour {
    folder: "component-build-wide",
    rustflags: "-Ctarget-feature=+wide-arithmetic,+simd128",
    features: "simd,host-signatures",
    profile: &["--config", "profile.component.opt-level=2"],
};
/// The bundled one of a plain release build. Folder, flags and profile are those of `host/compose/build.rs`.
const QUICK: Flavour = Flavour {
    folder: "component-build-quick",
    rustflags: "",
    features: "host-signatures",
    profile: &["--config", "profile.component.opt-level=1"],
};

/// How much the component is optimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// For a person who waits for the compiler.
    Least,
    /// For tests.
    NoLinkTime,
    /// For those who run or measure it.
    All,
}

impl Effort {
    /// What the profile of this build asks for.
    fn wanted() -> Self {
        if env::var_os(OPTIMISED).is_some_and(|value| value == "1") {
            return Self::All;
        }
        match env::var("OPT_LEVEL").as_deref() {
            Ok("3") => Self::All,
            Ok("1") => Self::Least,
            _ => Self::NoLinkTime,
        }
    }
}

fn main() {
    if let Err(error) = run() {
        println!("cargo::error={error}");
    }
}

fn run() -> Result<()> {
    let package = variable("CARGO_MANIFEST_DIR").map(PathBuf::from)?;
    println!("cargo::rustc-check-cfg=cfg({PACKAGED_CFG})");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ENTRA_MCP_COMPONENT");
    println!("cargo::rerun-if-env-changed={GIVEN_PORTABLE}");
    println!("cargo::rerun-if-env-changed={OFFLINE}");
    println!("cargo::rerun-if-env-changed={OPTIMISED}");
    let workspace = package.ancestors().nth(2).filter(|folder| folder.join("guest/component").is_dir());
    let Some(workspace) = workspace else { return use_packaged(&package) };
    for source in GUEST.into_iter().chain(["wit", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"]) {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }

    let effort = Effort::wanted();
    let out = target_directory()?.join("component");
    fs::create_dir_all(&out)?;
    // Only on request.
    let portable = env::var_os("CARGO_FEATURE_PORTABLE_COMPONENT").map(|_| out.join("entra_mcp.wasm"));
    // Each profile has its own, so that no benchmark measures the one of the tests.
    let bundled = PathBuf::from(variable("OUT_DIR")?).join("entra_mcp.bundled.wasm");

    if let Some(given) = env::var_os("ENTRA_MCP_COMPONENT") {
        let given = PathBuf::from(given);
        println!("cargo::rerun-if-changed={}", given.display());
        let bytes = fs::read(&given).map_err(|error| format!("ENTRA_MCP_COMPONENT: {}: {error}", given.display()))?;
        name_given(&given, &bytes);
        replace(&bundled, &bytes)?;
        if let Some(portable) = &portable {
            replace(portable, &given_portable()?)?;
        }
    } else {
        ensure_target(workspace)?;
        let flavour = if effort == Effort::Least { &QUICK } else { &BUNDLED };
        replace(&bundled, &fs::read(build(workspace, flavour, effort)?)?)?;
        if let Some(portable) = &portable {
            replace(portable, &fs::read(build(workspace, &PORTABLE, effort)?)?)?;
        }
    }
    if effort == Effort::All {
        replace(&out.join("entra_mcp.bundled.wasm"), &fs::read(&bundled)?)?;
    }
    println!("cargo::rustc-env=ENTRA_MCP_BUNDLED_COMPONENT={}", bundled.display());
    if let Some(portable) = portable {
        println!("cargo::rustc-env=ENTRA_MCP_PORTABLE_COMPONENT={}", portable.display());
    }
    Ok(())
}

/// The portable component that was built elsewhere.
fn given_portable() -> Result<Vec<u8>> {
    let given = env::var_os(GIVEN_PORTABLE).map(PathBuf::from).ok_or_else(|| {
        format!(
            "the feature portable-component needs {GIVEN_PORTABLE} beside ENTRA_MCP_COMPONENT: \
             `.ci/component-fallback portable` builds it"
        )
    })?;
    println!("cargo::rerun-if-changed={}", given.display());
    let bytes = fs::read(&given).map_err(|error| format!("{GIVEN_PORTABLE}: {}: {error}", given.display()))?;
    name_given(&given, &bytes);
    Ok(bytes)
}

/// Takes the component that is in the package. Builds nothing, and writes nothing outside `OUT_DIR`.
fn use_packaged(package: &Path) -> Result<()> {
    if env::var_os("CARGO_FEATURE_PORTABLE_COMPONENT").is_some() {
        return Err("the feature portable-component needs a checkout of the repository".into());
    }
    let component = match env::var_os("ENTRA_MCP_COMPONENT") {
        Some(given) => PathBuf::from(given),
        None => package.join(PACKAGED),
    };
    if !component.is_file() {
        return Err(format!("{} is missing: the package was not made by `.ci/package`", component.display()).into());
    }
    if env::var_os("ENTRA_MCP_COMPONENT").is_some() {
        name_given(&component, &fs::read(&component)?);
    }
    println!("cargo::rerun-if-changed={}", component.display());
    println!("cargo::rustc-cfg={PACKAGED_CFG}");
    println!("cargo::rustc-env=ENTRA_MCP_BUNDLED_COMPONENT={}", component.display());
    Ok(())
}

fn variable(name: &str) -> Result<OsString> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: this script is run by cargo").into())
}

/// The target directory of the outer build: what stands above `{profile}/build/{package}/out`, without the
/// folder of a cross-compilation.
fn target_directory() -> Result<PathBuf> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let build = out
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "build"))
        .ok_or("OUT_DIR is not inside of a target directory")?;
    let above = build.ancestors().nth(2).ok_or("OUT_DIR is not inside of a target directory")?;
    let triple = variable("TARGET")?;
    if above.file_name() == Some(triple.as_os_str()) {
        return Ok(above.parent().unwrap_or(above).to_owned());
    }
    Ok(above.to_owned())
}

/// Says which component is bundled in place of the one that the source makes.
fn name_given(path: &Path, bytes: &[u8]) {
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::warning=the component is not built from this source: {} with the SHA-256 {hash}", path.display());
}

fn is_offline() -> bool {
    env::var_os(OFFLINE).is_some_and(|value| value == "1")
}

fn ensure_target(workspace: &Path) -> Result<()> {
    if target_is_installed() {
        return Ok(());
    }
    let fix = format!(
        "Run `rustup target add {TARGET}`, or where that cannot download, build the component with \
         `.ci/component-fallback` and set ENTRA_MCP_COMPONENT to it."
    );
    if is_offline() {
        return Err(
            format!("the Rust target {TARGET} is missing, and {OFFLINE}=1 forbids to download it. {fix}").into()
        );
    }
    if !fs::read_to_string(workspace.join("rust-toolchain.toml"))?.contains(TARGET) {
        return Err(
            format!("rust-toolchain.toml does not name the target {TARGET}: it is not downloaded. {fix}").into()
        );
    }
    println!("cargo::warning=downloading the Rust target {TARGET}, which rust-toolchain.toml names, with rustup");
    let added = Command::new("rustup").args(["target", "add", TARGET]).output();
    if added.is_ok_and(|output| output.status.success()) && target_is_installed() {
        return Ok(());
    }
    Err(format!("the Rust target {TARGET} is missing and could not be installed. {fix}").into())
}

/// Whether rustc has a standard library for the target.
fn target_is_installed() -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    output.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}

/// Runs the nested build and returns the component's path.
fn build(workspace: &Path, flavour: &Flavour, effort: Effort) -> Result<PathBuf> {
    // A folder of its own: cargo holds a lock on the outer one while this script runs.
    let target = target_directory()?.join(flavour.folder);
    let mut command = Command::new(variable("CARGO")?);
    if effort != Effort::All {
        command.env("CARGO_PROFILE_COMPONENT_LTO", "off").env("CARGO_PROFILE_COMPONENT_CODEGEN_UNITS", "16");
    }
    let status = command
        .current_dir(workspace)
        .args(["build", "--locked", "--quiet", "--package", "entra-mcp-guest", "--lib"])
        .args(is_offline().then_some("--offline"))
        .args(["--target", TARGET, "--profile", "component", "--target-dir"])
        .arg(&target)
        .args(["--features", flavour.features])
        .args(flavour.profile)
        // Flags and wrappers of the outer build are for the native target (and for clippy).
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        .env("RUSTFLAGS", flavour.rustflags)
        .status()?;
    if !status.success() {
        return Err("the component does not build (see the compiler's messages above)".into());
    }
    Ok(target.join(TARGET).join("component/entra_mcp.wasm"))
}

/// Writes a file beside the target and renames it, so that a process that reads the old component is not disturbed. An
/// unchanged component is left alone: its time stamp would rebuild everything that includes it.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|current| current == bytes) {
        return Ok(());
    }
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)?;
    Ok(())
}
