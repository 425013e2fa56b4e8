//! Keeps the memory of this process, in which tokens and keys are, from ending up elsewhere.
//!
//! A core dump would write it to a disk, or hand it to a program that collects dumps. And on Linux a program of the same
//! user may otherwise read it (`ptrace`, `/proc/…/mem`), and the environment that the process was started with
//! (`/proc/…/environ`).

/// Forbids core dumps, and on Linux the access of other programs. Programs that this one starts cannot dump either, but
/// are otherwise as usual.
#[cfg(unix)]
pub(crate) fn keep_private() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let limited = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // A dump that a program collects does not heed that limit, but is not made of a process with this mark. A system that
    // refuses one of the two may allow the other.
    #[cfg(target_os = "linux")]
    let limited = both(limited, rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable));
    limited.map_err(std::io::Error::from)
}

/// The first failure of two attempts that have both been made.
#[cfg(target_os = "linux")]
fn both<E>(one: Result<(), E>, other: Result<(), E>) -> Result<(), E> {
    one.and(other)
}

#[cfg(not(unix))]
pub(crate) fn keep_private() -> std::io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit};

    #[test]
    fn neither_failure_hides_that_of_the_other_attempt() {
        for (one, other, expected) in [(Ok(()), Err(2), Err(2)), (Err(1), Ok(()), Err(1)), (Ok(()), Ok(()), Ok(()))] {
            assert_eq!(super::both(one, other), expected);
        }
    }

    #[test]
    fn a_process_that_keeps_its_memory_private_is_not_dumped() {
        super::keep_private().unwrap();
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
