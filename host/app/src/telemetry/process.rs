//! What the operating system reports about this process.

/// Bytes of memory in use; `None` where the operating system does not tell.
pub(super) fn resident_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        // Pages: in total, resident, shared …
        let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
        let resident: u64 = pages.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(resident.saturating_mul(u64::try_from(rustix::param::page_size()).ok()?))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn a_process_takes_some_memory() {
        assert!((100_000..100_000_000_000).contains(&super::resident_bytes().unwrap()));
    }
}
