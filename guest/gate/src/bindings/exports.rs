//! The entry points of the component.

use super::{Gate, generated};

generated::export!(Gate with_types_in generated);
