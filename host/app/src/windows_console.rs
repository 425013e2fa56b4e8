//! What the console of Windows can do and the standard library cannot ask of it.

#![allow(unsafe_code, reason = "each call takes a handle of this process, or numbers only")]

use std::io;
use std::os::windows::io::AsRawHandle as _;

use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, ENABLE_ECHO_INPUT, GenerateConsoleCtrlEvent, GetConsoleMode, SetConsoleMode,
};

/// A process that is started with it can be asked to end by itself ([`ask_to_end`]).
pub(crate) const GROUP_OF_ITS_OWN: u32 = windows_sys::Win32::System::Threading::CREATE_NEW_PROCESS_GROUP;

/// Stops showing what is typed. Returns the mode before, if standard input is a console.
pub(crate) fn hide_input() -> Option<u32> {
    let mut before = 0;
    // SAFETY: the handle is that of standard input, and the pointer is where the mode is to be written to.
    let known = unsafe { GetConsoleMode(io::stdin().as_raw_handle(), &raw mut before) };
    if known == 0 {
        return None;
    }
    set_input_mode(before & !ENABLE_ECHO_INPUT);
    Some(before)
}

/// Sets what the console does with what is typed.
pub(crate) fn set_input_mode(mode: u32) {
    // SAFETY: the handle is that of standard input.
    unsafe { SetConsoleMode(io::stdin().as_raw_handle(), mode) };
}

/// Sends Ctrl-Break to a process that was started with [`GROUP_OF_ITS_OWN`], and shares the console with this one.
pub(crate) fn ask_to_end(process: u32) -> io::Result<()> {
    // SAFETY: there are only numbers.
    match unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, process) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
