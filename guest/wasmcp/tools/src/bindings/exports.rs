//! The entry points of the component.

use super::{Tools, generated};

generated::export!(Tools with_types_in generated);
