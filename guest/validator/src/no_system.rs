//! Keeps the rest of WASI out of the component.
//!
//! The C library of the target imports variables, exit, standard streams and terminals, because the standard library names
//! them: a panic would look for `RUST_BACKTRACE` and write to standard error. A host would have to supply all of that for a
//! verdict. These are the symbols by which the C library imports them; defined here, they are no imports any more. Each of
//! them traps, which is what a panic comes to in this component anyway: with the text lost, and nothing granted.
//!
//! `tests/behaviour/all/verdict/artefacts.rs` compares the imports of the component with the list in `wit/world.wit`, so a
//! symbol that the C library renames is noticed.

/// Defines functions that trap.
macro_rules! traps {
    ($($symbol:ident($($kind:ty),*) $(-> $result:ty)?;)*) => {
        $(
            #[allow(unsafe_code, reason = "the linker finds the symbol by its name")]
            #[unsafe(no_mangle)]
            extern "C" fn $symbol($(_: $kind),*) $(-> $result)? {
                core::arch::wasm32::unreachable()
            }
        )*
    };
}

traps! {
    __wasm_import_environment_get_environment(*mut u8);
    __wasm_import_exit_exit(i32);
    __wasm_import_stdin_get_stdin() -> i32;
    __wasm_import_stdout_get_stdout() -> i32;
    __wasm_import_stderr_get_stderr() -> i32;
    __wasm_import_terminal_stdin_get_terminal_stdin(*mut u8);
    __wasm_import_terminal_stdout_get_terminal_stdout(*mut u8);
    __wasm_import_terminal_stderr_get_terminal_stderr(*mut u8);
    __wasm_import_terminal_input_terminal_input_drop(i32);
    __wasm_import_terminal_output_terminal_output_drop(i32);
    __wasm_import_io_error_error_drop(i32);
    __wasm_import_poll_pollable_drop(i32);
    __wasm_import_poll_method_pollable_block(i32);
    __wasm_import_streams_input_stream_drop(i32);
    __wasm_import_streams_output_stream_drop(i32);
    __wasm_import_streams_method_output_stream_check_write(i32, *mut u8);
    __wasm_import_streams_method_output_stream_write(i32, *mut u8, usize, *mut u8);
    __wasm_import_streams_method_output_stream_blocking_flush(i32, *mut u8);
    __wasm_import_streams_method_output_stream_subscribe(i32) -> i32;
}
