//! The version of WASI that a tool component is written for, which is known before it is compiled.
//!
//! A component of WASI 0.3 has tasks that run beside each other, which takes an engine that supports them. All others run
//! in an engine without: what is new there, and still changes much, is no part of the sandbox that they are in.

use wasmtime::wasmparser::{Parser, Payload};

// What a tool component exports, up to the last number of the version.
pub(super) const TOOL_PROVIDER: &str = "entra-mcp:plugin/tool-provider@0.2.";
pub(super) const INCOMING_HANDLER: &str = "wasi:http/incoming-handler@0.2.";
pub(super) const HANDLER: &str = "wasi:http/handler@0.3.";

/// A version of WASI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WasiVersion {
    /// WASI 0.2: one task at a time.
    V0_2,
    /// WASI 0.3: tasks beside each other.
    V0_3,
}

impl WasiVersion {
    /// The version that a component in its binary form needs. A component with exports for both is taken as one of the older
    /// version. Bytes that are no component need no version; the compiler refuses them.
    pub(super) fn of(component: &[u8]) -> Self {
        let exports = exports(component);
        let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
        if has(HANDLER) && !has(TOOL_PROVIDER) && !has(INCOMING_HANDLER) { Self::V0_3 } else { Self::V0_2 }
    }

    /// The imports of WASI 0.3 that a component of WASI 0.2 has. Its exports are functions of WASI 0.2, which return without
    /// an await, so none of these imports could wait for anything; and its engine has no tasks.
    pub(super) fn imports_beyond(component: &[u8]) -> Vec<String> {
        let is_function = |name: &&str| !TYPES_ONLY.iter().any(|types| name.starts_with(types));
        match Self::of(component) {
            Self::V0_3 => Vec::new(),
            Self::V0_2 => {
                let imports = names(component, |payload| match payload {
                    Payload::ComponentImportSection(section) => {
                        section.into_iter().filter_map(|import| Some(import.ok()?.name.name)).collect()
                    }
                    _ => Vec::new(),
                });
                imports.into_iter().filter(|name| is_of_wasi_0_3(name)).filter(is_function).map(str::to_owned).collect()
            }
        }
    }

    /// As it is written: `0.2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_2 => "0.2",
            Self::V0_3 => "0.3",
        }
    }
}

/// Interfaces of WASI 0.3 without functions and resources, which give nothing.
const TYPES_ONLY: [&str; 2] = ["wasi:cli/types@0.3.", "wasi:clocks/types@0.3."];

/// Whether this is the name of an interface of WASI 0.3.
pub(super) fn is_of_wasi_0_3(interface: &str) -> bool {
    interface.starts_with("wasi:") && interface.contains("@0.3")
}

/// The names that a component exports, as far as they can be read.
fn exports(component: &[u8]) -> Vec<&str> {
    names(component, |payload| match payload {
        Payload::ComponentExportSection(section) => {
            section.into_iter().filter_map(|export| Some(export.ok()?.name.name)).collect()
        }
        _ => Vec::new(),
    })
}

/// The names in the outer sections of a component, as far as they can be read.
fn names<'c>(component: &'c [u8], of: impl Fn(Payload<'c>) -> Vec<&'c str>) -> Vec<&'c str> {
    let (mut names, mut depth) = (Vec::new(), 0_usize);
    for payload in Parser::new(0).parse_all(component) {
        match payload {
            // What is inside of these has exports and imports of its own.
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth = depth.saturating_add(1),
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(payload) if depth == 0 => names.extend(of(payload)),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component that exports an empty instance by this name.
    fn exporting(names: &[&str], inner: &str) -> Vec<u8> {
        let exports: String = names.iter().map(|name| format!("(export \"{name}\" (instance $empty))")).collect();
        wat::parse_str(format!("(component {inner} (instance $empty) {exports})")).unwrap()
    }

    #[test]
    fn only_a_component_with_a_handler_of_wasi_0_3_needs_wasi_0_3() {
        for (names, expected) in [
            (&["wasi:http/handler@0.3.0"][..], WasiVersion::V0_3),
            (&["wasi:http/handler@0.3.2"], WasiVersion::V0_3),
            (&["wasi:http/incoming-handler@0.2.12"], WasiVersion::V0_2),
            (&["wasi:http/incoming-handler@0.2.12", "wasi:http/handler@0.3.0"], WasiVersion::V0_2),
            (&["entra-mcp:plugin/tool-provider@0.2.0", "wasi:http/handler@0.3.0"], WasiVersion::V0_2),
            (&[], WasiVersion::V0_2),
        ] {
            assert_eq!(WasiVersion::of(&exporting(names, "")), expected, "{names:?}");
        }
    }

    #[test]
    fn what_a_component_has_inside_does_not_count() {
        let inner = r#"(component (instance $in) (export "wasi:http/handler@0.3.0" (instance $in)))
            (core module (func (export "f")))"#;
        assert_eq!(WasiVersion::of(&exporting(&["wasi:http/incoming-handler@0.2.0"], inner)), WasiVersion::V0_2);
        assert_eq!(WasiVersion::of(&exporting(&["other:thing/a@0.1.0"], inner)), WasiVersion::V0_2);
        assert_eq!(WasiVersion::of(&exporting(&["wasi:http/handler@0.3.0"], inner)), WasiVersion::V0_3);
    }

    #[test]
    fn the_imports_of_wasi_0_3_count_where_the_exports_are_of_wasi_0_2() {
        let import = |name: &str| format!("(import \"{name}\" (instance))");
        let (client, types) = (import("wasi:http/client@0.3.0"), import("wasi:clocks/types@0.3.0"));
        let inner = [client.clone(), types, import("wasi:http/types@0.2.12")].concat();
        for (export, expected) in [
            ("entra-mcp:plugin/tool-provider@0.2.0", &["wasi:http/client@0.3.0"][..]),
            ("wasi:http/incoming-handler@0.2.12", &["wasi:http/client@0.3.0"]),
            ("wasi:http/handler@0.3.0", &[]),
        ] {
            assert_eq!(WasiVersion::imports_beyond(&exporting(&[export], &inner)), expected, "{export}");
        }
        let inside = format!("(component {client})");
        assert_eq!(WasiVersion::imports_beyond(&exporting(&["wasi:http/incoming-handler@0.2.12"], &inside)), [""; 0]);
    }

    #[test]
    fn bytes_that_are_no_component_need_no_version() {
        for bytes in [&b""[..], b"no WebAssembly", b"\0asm\x0d\0\x01\0\xff\xff"] {
            assert_eq!(WasiVersion::of(bytes), WasiVersion::V0_2);
        }
    }
}
