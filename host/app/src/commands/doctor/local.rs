//! What is on this machine: settings and where they come from, and the modes of files.

use super::report::Finding;
use crate::config::{ConfigError, Secrecy, SettingOrigin, Sources, UsedFile};

/// Where each setting comes from.
pub(super) fn settings(sources: &Sources) -> Vec<Finding> {
    let from = |origin: SettingOrigin| {
        let names: Vec<_> = sources.origins().iter().filter(|(_, of)| *of == origin).map(|(name, _)| *name).collect();
        names.join(", ")
    };
    let file = sources.file().map(|path| path.display().to_string()).unwrap_or_default();
    let place = |origin| match origin {
        SettingOrigin::Flag => "the command line".to_owned(),
        SettingOrigin::Environment => "the environment".to_owned(),
        SettingOrigin::File => format!("the file {file}"),
    };
    [SettingOrigin::Flag, SettingOrigin::Environment, SettingOrigin::File]
        .into_iter()
        .map(|origin| (from(origin), origin))
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, origin)| Finding::good("settings", format!("from {}: {names}", place(origin))))
        .collect()
}

/// What is wrong with the settings.
pub(super) fn unusable(error: &ConfigError) -> Finding {
    match error {
        ConfigError::Missing { names, file } => Finding::failure(
            "settings",
            format!("not set: {}", names.join(", ")),
            format!(
                "set --tenant-id and --client-id, or ENTRA_MCP_TENANT_ID and ENTRA_MCP_CLIENT_ID, or write them into {file}. \
                 They are in the portal under App registrations > your app > Overview"
            ),
        ),
        ConfigError::Invalid { name, value, expected } => {
            Finding::failure("settings", format!("{name} is {value:?}"), expected.clone())
        }
        ConfigError::Unreadable { .. } | ConfigError::ToolsFile { .. } => Finding::failure(
            "settings",
            error.to_string(),
            "correct the name of the file in the settings, or its owner and mode and those of its folder",
        ),
        ConfigError::File { path, .. } => Finding::failure(
            "settings",
            error.to_string(),
            format!("correct {} at that place; `entra-mcp settings` lists the keys that there are", path.display()),
        ),
        ConfigError::Conflict(_) | ConfigError::NoHome(..) => {
            Finding::of_sentence("settings", &error.to_string(), "change one of the settings that it names")
        }
    }
}

/// Files that other users may read or change although they must not.
pub(super) fn files(files: &[UsedFile]) -> Vec<Finding> {
    files.iter().filter_map(mode).collect()
}

/// What says that a file is not there, or cannot be looked at.
fn missing(UsedFile { role, path, is_required, .. }: &UsedFile, error: &std::io::Error) -> Option<Finding> {
    if !is_required && error.kind() == std::io::ErrorKind::NotFound {
        return None;
    }
    let what = format!("{role}, {}, cannot be read ({error})", path.display());
    let change = "correct the name in the settings, or the mode of the file and of its folder";
    Some(Finding::failure("files", what, change))
}

#[cfg(unix)]
fn mode(file: &UsedFile) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = match std::fs::metadata(&file.path) {
        Ok(metadata) => metadata,
        Err(error) => return missing(file, &error),
    };
    let (forbidden, verb, fix) = match file.secrecy {
        Secrecy::Secret => (0o077, "read", "chmod 600"),
        Secrecy::Projected => (0o007, "read", "chmod 600"),
        Secrecy::Unchangeable => (0o022, "changed", "chmod go-w"),
    };
    let (role, shown) = (file.role, file.path.display());
    Some(match metadata.permissions().mode() & forbidden {
        0 => Finding::good("files", format!("{role}, {shown}, cannot be {verb} by other users")),
        _ => Finding::warning(
            "files",
            format!("{role}, {shown}, can be {verb} by other users"),
            format!("{fix} {shown}"),
        ),
    })
}

#[cfg(windows)]
fn mode(file: &UsedFile) -> Option<Finding> {
    use entra_mcp_plugin::access_list::{is_changeable_by_others, is_readable_by_others};
    if let Err(error) = std::fs::metadata(&file.path) {
        return missing(file, &error);
    }
    let (exposed, verb, others) = match file.secrecy {
        Secrecy::Secret | Secrecy::Projected => (is_readable_by_others(&file.path), "read", ""),
        Secrecy::Unchangeable => (is_changeable_by_others(&file.path), "changed", " *S-1-5-32-545:RX"),
    };
    let (role, shown) = (file.role, file.path.display());
    Some(match exposed {
        Some(false) => Finding::good("files", format!("{role}, {shown}, cannot be {verb} by other users")),
        Some(true) => Finding::warning(
            "files",
            format!("{role}, {shown}, can be {verb} by other users"),
            format!("icacls \"{shown}\" /inheritance:r /grant:r \"%USERNAME%:F\" *S-1-5-18:F{others}"),
        ),
        None => Finding::skipped("files", format!("{role}, {shown}, has an access list that cannot be read")),
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::commands::doctor::report::Severity;

    #[test]
    fn a_file_is_judged_by_what_it_is_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        let found = |secrecy, mode: u32| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let file = UsedFile { role: "the file", path: path.clone(), secrecy, is_required: true };
            files(&[file]).remove(0)
        };
        for (secrecy, good, open, fix) in [
            (Secrecy::Secret, 0o600, 0o640, "chmod 600"),
            (Secrecy::Projected, 0o640, 0o644, "chmod 600"),
            (Secrecy::Unchangeable, 0o644, 0o664, "chmod go-w"),
        ] {
            assert_eq!(found(secrecy, good).severity, Severity::Good, "{secrecy:?}");
            let warning = found(secrecy, open);
            assert_eq!(warning.severity, Severity::Warning, "{secrecy:?}");
            assert_eq!(warning.change, Some(format!("{fix} {}", path.display())));
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_a_fault_where_it_has_to_be() {
        let of = |is_required| {
            let path = "/nonexistent/file".into();
            files(&[UsedFile { role: "the file", path, secrecy: Secrecy::Secret, is_required }])
        };
        assert_eq!(of(true).first().map(|found| found.severity), Some(Severity::Failure));
        assert_eq!(of(false), []);
    }
}
