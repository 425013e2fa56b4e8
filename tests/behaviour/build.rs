//! Tells the tests which tools this machine has for them, and builds the components that are there for tests or in other
//! artefacts than the program: the tool components of `tests/tools`, the validators of `guest/validator`, the middleware of
//! `guest/middleware`, the components of `guest/wasmcp`, and, where jco is there to run it, the component without the
//! instructions that other hosts do not know.
//!
//! They are built as the component itself is (`host/plugin/build.rs`): by a nested cargo, in the folder of
//! packages that its build compiles anyway, so that a stale one cannot be tested. Where the target `wasm32-wasip2` is
//! missing, `ENTRA_MCP_TEST_TOOLS` names a folder with components that were built elsewhere (see
//! `.ci/component-fallback`).

#![allow(clippy::print_stdout, reason = "a build script speaks to cargo on standard output")]
#![allow(clippy::disallowed_methods, reason = "a build script reads the environment and runs cargo")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[path = "../clients/probe.rs"]
mod probe;

const TARGET: &str = "wasm32-wasip2";
/// Folder of the nested build below the target directory: the one of the component.
const FOLDER: &str = "component-build-wide";
/// The same for components that every host can run: that of the portable component.
const PORTABLE_FOLDER: &str = "component-build";
/// A folder with the tool components, instead of a build.
const GIVEN: &str = "ENTRA_MCP_TEST_TOOLS";
/// The portable component, instead of a build.
const GIVEN_PORTABLE: &str = "ENTRA_MCP_PORTABLE_COMPONENT";
/// The middleware, instead of a build.
const GIVEN_MIDDLEWARE: &str = "ENTRA_MCP_MIDDLEWARE";
/// A folder with the components for wasmcp, instead of a build.
const GIVEN_WASMCP: &str = "ENTRA_MCP_WASMCP";
/// A folder with the validators, instead of a build.
const GIVEN_VALIDATORS: &str = "ENTRA_MCP_VALIDATORS";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    probe::probe(&workspace)?;
    let components = match env::var_os(GIVEN) {
        Some(given) => {
            println!("cargo::rustc-cfg=given_test_tools");
            PathBuf::from(given)
        }
        None => build(&workspace)?,
    };
    println!("cargo::rustc-check-cfg=cfg(given_test_tools)");
    println!("cargo::rerun-if-env-changed={GIVEN}");
    println!("cargo::rerun-if-env-changed=ENTRA_MCP_OFFLINE");
    println!("cargo::rustc-env=ENTRA_MCP_TEST_TOOLS={}", components.display());
    println!("cargo::rerun-if-env-changed={GIVEN_PORTABLE}");
    for source in ["base", "caller", "component", "entra", "server", "world"] {
        println!("cargo::rerun-if-changed={}", workspace.join("guest").join(source).display());
    }
    if probe::has_client(&workspace, "jco") {
        let portable = match env::var_os(GIVEN_PORTABLE) {
            Some(given) => PathBuf::from(given),
            None => {
                nested(&workspace, PORTABLE_FOLDER, &["--package", "entra-mcp-guest", "--lib"])?.join("entra_mcp.wasm")
            }
        };
        println!("cargo::rustc-env={GIVEN_PORTABLE}={}", portable.display());
    }
    println!("cargo::rerun-if-env-changed={GIVEN_MIDDLEWARE}");
    println!("cargo::rerun-if-changed={}", workspace.join("guest/middleware").display());
    let middleware = match env::var_os(GIVEN_MIDDLEWARE) {
        Some(given) => PathBuf::from(given),
        None => nested(&workspace, FOLDER, &["--package", "entra-mcp-guest-middleware", "--lib"])?
            .join("entra_mcp_middleware.wasm"),
    };
    println!("cargo::rustc-env={GIVEN_MIDDLEWARE}={}", middleware.display());
    println!("cargo::rerun-if-env-changed={GIVEN_WASMCP}");
    println!("cargo::rerun-if-changed={}", workspace.join("guest/wasmcp").display());
    let wasmcp = match env::var_os(GIVEN_WASMCP) {
        Some(given) => PathBuf::from(given),
        None => {
            let packages = [
                "--package",
                "entra-mcp-guest-wasmcp-authorization",
                "--package",
                "entra-mcp-guest-wasmcp-tools",
                "--lib",
            ];
            nested(&workspace, FOLDER, &packages)?
        }
    };
    println!("cargo::rustc-env={GIVEN_WASMCP}={}", wasmcp.display());
    println!("cargo::rerun-if-env-changed={GIVEN_VALIDATORS}");
    let validators = match env::var_os(GIVEN_VALIDATORS) {
        Some(given) => PathBuf::from(given),
        None => build_validators(&workspace)?,
    };
    println!("cargo::rustc-env={GIVEN_VALIDATORS}={}", validators.display());
    Ok(())
}

/// Builds the tool components and returns their folder.
fn build(workspace: &Path) -> Result<PathBuf, Box<dyn Error>> {
    for source in ["tests/tools", "wit", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let built = nested(workspace, FOLDER, &["--package", "entra-mcp-test-tools", "--examples"])?.join("examples");
    fs::read_dir(&built)?;
    Ok(built)
}

/// Builds components in a folder of the target directory and returns the folder that they are in.
fn nested(workspace: &Path, folder: &str, package: &[&str]) -> Result<PathBuf, Box<dyn Error>> {
    // `{target}/{profile}/build/{package}/out`.
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let target = out.ancestors().nth(4).ok_or("OUT_DIR is not inside of a target directory")?.join(folder);
    let offline = env::var_os("ENTRA_MCP_OFFLINE").is_some_and(|value| value == "1");
    let status = Command::new(env::var_os("CARGO").ok_or("CARGO is not set")?)
        .current_dir(workspace)
        .args(["build", "--locked", "--quiet"])
        .args(package)
        .args(offline.then_some("--offline"))
        .args(["--target", TARGET, "--profile", "component", "--target-dir"])
        .arg(&target)
        // Flags and wrappers of the outer build are for the native target (and for clippy).
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        // Small programs, which run for a moment.
        .env("CARGO_PROFILE_COMPONENT_LTO", "off")
        .env("CARGO_PROFILE_COMPONENT_CODEGEN_UNITS", "16")
        .status()?;
    if !status.success() {
        return Err(format!(
            "components of the tests do not build ({}). If the target is missing, run `rustup target add {TARGET}`, or \
             build them with `.ci/component-fallback` and set {GIVEN} to the folder of the tool components and \
             {GIVEN_PORTABLE} to the component",
            package.join(" ")
        )
        .into());
    }
    Ok(target.join(TARGET).join("component"))
}

/// Builds the validators by the script that users run, and returns their folder.
fn build_validators(workspace: &Path) -> Result<PathBuf, Box<dyn Error>> {
    for source in [
        "guest/base",
        "guest/world",
        "guest/entra",
        "guest/validator",
        "wit",
        ".ci/validators",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let target = out.ancestors().nth(4).ok_or("OUT_DIR is not inside of a target directory")?;
    let artefacts = target.join("artefacts");
    let status = Command::new(workspace.join(".ci/validators"))
        .arg(&artefacts)
        .env("ENTRA_MCP_BUILD_DIR", target.join(PORTABLE_FOLDER))
        // As for the tools.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        // Their size is tested.
        .env_remove("CARGO_PROFILE_COMPONENT_LTO")
        .env_remove("CARGO_PROFILE_COMPONENT_CODEGEN_UNITS")
        .status()?;
    if !status.success() {
        return Err(format!(
            "the validators do not build. If the target is missing, run `rustup target add {TARGET}`, or build them with \
             `.ci/component-fallback validators` and set {GIVEN_VALIDATORS} to their folder"
        )
        .into());
    }
    Ok(artefacts)
}
