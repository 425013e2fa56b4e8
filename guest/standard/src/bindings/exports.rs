//! The entry points of the component.

use super::{Adapter, generated};

generated::export!(Adapter with_types_in generated);
