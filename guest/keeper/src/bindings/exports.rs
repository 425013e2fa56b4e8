//! The entry points of the component.

use super::{Keeper, generated};

generated::export!(Keeper with_types_in generated);
