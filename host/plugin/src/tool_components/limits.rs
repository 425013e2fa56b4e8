//! The limits of one instance of a tool component.

use wasmtime::ResourceLimiter;

/// Most elements of all tables of an instance: interpreters have some ten thousand functions.
const MAX_TABLE_ELEMENTS: usize = 200_000;

/// Most core instances, tables and memories. A component of Python has one core instance for each shared library.
const MAX_CORE_INSTANCES: usize = 200;
const MAX_TABLES: usize = 100;
const MAX_MEMORIES: usize = 50;

/// The bounds of an instance, and what it has taken. Neither memories nor tables ever shrink.
pub(super) struct ToolLimits {
    max_memory_bytes: usize,
    memory_bytes: usize,
    table_elements: usize,
    /// The instance asked for more than it may have.
    pub(super) refused: bool,
}

impl ToolLimits {
    pub(super) fn new(max_memory_bytes: usize) -> Self {
        Self { max_memory_bytes, memory_bytes: 0, table_elements: 0, refused: false }
    }

    /// Adds the growth to what is taken, if the bound allows it.
    fn grow(taken: &mut usize, bound: usize, current: usize, desired: usize) -> bool {
        let total = taken.saturating_add(desired.saturating_sub(current));
        let granted = total <= bound;
        if granted {
            *taken = total;
        }
        granted
    }
}

impl ResourceLimiter for ToolLimits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        let granted = possible && Self::grow(&mut self.memory_bytes, self.max_memory_bytes, current, desired);
        self.refused |= possible && !granted;
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        let granted = possible && Self::grow(&mut self.table_elements, MAX_TABLE_ELEMENTS, current, desired);
        self.refused |= possible && !granted;
        Ok(granted)
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_together_are_bounded() {
        let mut limits = ToolLimits::new(100);
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(!limits.refused);
        assert!(!limits.memory_growing(0, 50, None).unwrap());
        assert!(limits.refused);
        assert!(limits.memory_growing(60, 100, None).unwrap());
    }

    #[test]
    fn all_tables_together_are_bounded() {
        let mut limits = ToolLimits::new(0);
        assert!(limits.table_growing(0, MAX_TABLE_ELEMENTS, None).unwrap());
        assert!(!limits.table_growing(0, 1, None).unwrap());
        assert!(limits.refused);
    }
}
