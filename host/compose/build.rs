//! Builds what is composed with other components, so that the program has it inside: the adapter of `guest/standard`, the
//! keeper and the gate of `entra-mcp wrap`, and the tools of `guest/wassette`.
//!
//! A nested cargo builds them in the folder in which the component itself is built (`host/plugin/build.rs`). Where the target
//! `wasm32-wasip2` cannot be installed, `ENTRA_MCP_ADAPTERS` names a folder with those that `.ci/component-fallback adapters`
//! has built; a warning names the SHA-256 of each. This script downloads what `host/plugin/build.rs` does: the target, with a
//! warning, and by the nested cargo the packages of `Cargo.lock` that are missing, whose hashes cargo checks. With
//! `ENTRA_MCP_OFFLINE=1` nothing is downloaded.

#![allow(clippy::print_stdout, reason = "a build script speaks to cargo on standard output")]
#![allow(clippy::disallowed_methods, reason = "a build script reads the environment and runs cargo")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use sha2::{Digest as _, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TARGET: &str = "wasm32-wasip2";
/// Folders of the nested build below the target directory: the second is for a plain release build. Those of
/// `host/plugin/build.rs`.
const FOLDER: &str = "component-build-wide";
const QUICK_FOLDER: &str = "component-build-quick";
const GIVEN: &str = "ENTRA_MCP_ADAPTERS";
const OFFLINE: &str = "ENTRA_MCP_OFFLINE";
/// As in `host/plugin/build.rs`: with all optimisations whatever the profile, which else says how much is optimised.
const OPTIMISED: &str = "ENTRA_MCP_OPTIMISED";

/// Package, file, and the variable by which the library finds it.
const ADAPTERS: [(&str, &str, &str); 4] = [
    ("entra-mcp-guest-standard", "entra_mcp_standard.wasm", "ENTRA_MCP_PART_ADAPTER"),
    ("entra-mcp-guest-keeper", "entra_mcp_keeper.wasm", "ENTRA_MCP_PART_KEEPER"),
    ("entra-mcp-guest-gate", "entra_mcp_gate_component.wasm", "ENTRA_MCP_PART_GATE"),
    ("entra-mcp-guest-wassette", "entra_mcp_wassette.wasm", "ENTRA_MCP_PART_WASSETTE"),
];

fn main() {
    if let Err(error) = run() {
        println!("cargo::error={error}");
    }
}

fn run() -> Result<()> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={GIVEN}");
    println!("cargo::rerun-if-env-changed={OFFLINE}");
    println!("cargo::rerun-if-env-changed={OPTIMISED}");
    for source in [
        "guest/base",
        "guest/world",
        "guest/standard",
        "guest/keeper",
        "guest/gate",
        "guest/wassette",
        "host/boundary",
        "wit",
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let given = env::var_os(GIVEN).map(PathBuf::from);
    let folder = match &given {
        Some(given) => given.clone(),
        None => build(&workspace)?,
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    for (_, file, variable) in ADAPTERS {
        let (from, to) = (folder.join(file), out.join(file));
        let bytes = fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
        if given.is_some() {
            name_given(&from, &bytes);
        }
        fs::write(&to, bytes).map_err(|error| format!("{}: {error}", to.display()))?;
        println!("cargo::rerun-if-changed={}", from.display());
        println!("cargo::rustc-env={variable}={}", to.display());
    }
    Ok(())
}

/// Says which component is composed in place of the one that the source makes.
fn name_given(path: &Path, bytes: &[u8]) {
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::warning=the adapter is not built from this source: {} with the SHA-256 {hash}", path.display());
}

fn is_offline() -> bool {
    env::var_os(OFFLINE).is_some_and(|value| value == "1")
}

/// Builds them and returns the folder that they are in.
fn build(workspace: &Path) -> Result<PathBuf> {
    ensure_target(workspace)?;
    // `{target}/[{triple}/]{profile}/build/{package}/out`.
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let build = out.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "build"));
    let above =
        build.and_then(|build| build.ancestors().nth(2)).ok_or("OUT_DIR is not inside of a target directory")?;
    let triple = env::var_os("TARGET").ok_or("TARGET is not set")?;
    let above = if above.file_name() == Some(&triple) { above.parent().unwrap_or(above) } else { above };
    let level = env::var("OPT_LEVEL").unwrap_or_default();
    let is_optimised = level == "3" || env::var_os(OPTIMISED).is_some_and(|value| value == "1");
    let is_quick = !is_optimised && level == "1";
    let target = above.join(if is_quick { QUICK_FOLDER } else { FOLDER });
    let mut command = Command::new(env::var_os("CARGO").ok_or("CARGO is not set")?);
    command
        .current_dir(workspace)
        .args(["build", "--locked", "--quiet", "--lib"])
        .args(is_offline().then_some("--offline"));
    for (package, _, _) in ADAPTERS {
        command.args(["--package", package]);
    }
    command
        .args(["--target", TARGET, "--profile", "component", "--target-dir"])
        .arg(&target)
        .args(if is_quick { &["--config", "profile.component.opt-level=1"][..] } else { &[] })
        // Flags and wrappers of the outer build are for the native target (and for clippy).
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET");
    if !is_optimised {
        command.env("CARGO_PROFILE_COMPONENT_LTO", "off").env("CARGO_PROFILE_COMPONENT_CODEGEN_UNITS", "16");
    }
    if !command.status()?.success() {
        return Err("the adapters do not build (see the compiler's messages above)".into());
    }
    Ok(target.join(TARGET).join("component"))
}

/// Downloads the target only where `rust-toolchain.toml` names it.
fn ensure_target(workspace: &Path) -> Result<()> {
    if target_is_installed() {
        return Ok(());
    }
    let fix = format!(
        "Run `rustup target add {TARGET}`, or where that cannot download, build the adapters with \
         `.ci/component-fallback adapters` and set {GIVEN} to their folder."
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

fn target_is_installed() -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    output.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}
