//! The entry points of the component.

use super::{Authorization, generated};

generated::export!(Authorization with_types_in generated);
