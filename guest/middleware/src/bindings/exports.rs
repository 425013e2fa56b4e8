//! The entry points of the component.

use super::{Middleware, generated};

generated::export!(Middleware with_types_in generated);
