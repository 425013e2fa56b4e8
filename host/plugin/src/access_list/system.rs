//! The calls of Windows that access lists take. Each is one step, and hands out nothing that is not safe.

#![allow(unsafe_code, reason = "the standard library has no access lists")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_SUCCESS, HANDLE, INVALID_HANDLE_VALUE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW, ConvertSidToStringSidW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1, SE_FILE_OBJECT,
};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, GetTokenInformation, OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR,
    SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateDirectoryW, CreateFileW, FILE_APPEND_DATA, FILE_ATTRIBUTE_NORMAL, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_GENERIC_READ, FILE_GENERIC_WRITE, FILE_SHARE_DELETE, FILE_SHARE_READ,
    FILE_SHARE_WRITE, FILE_WRITE_DATA, OPEN_ALWAYS,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};
use windows_sys::core::{BOOL, PWSTR};

/// Opens a link itself, and not what it leads to.
pub(crate) const NO_LINKS: u32 = FILE_FLAG_OPEN_REPARSE_POINT;

/// Opens folders as well.
pub(super) const FOLDERS_TOO: u32 = FILE_FLAG_BACKUP_SEMANTICS;

/// Memory that the system has allocated for this program.
struct Allocated(*mut c_void);

impl Drop for Allocated {
    fn drop(&mut self) {
        // SAFETY: all that is wrapped comes from calls that say that `LocalFree` frees it.
        unsafe { LocalFree(self.0) };
    }
}

/// The number of the user that this process runs as.
pub(super) fn user_of_process() -> io::Result<String> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the pointer is where the system is to write the handle to.
    done(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) })?;
    // SAFETY: the handle is open, and has no other owner.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    // More than the structure and the longest number of a user take, and aligned as the structure.
    let mut buffer = [0_u64; 32];
    let mut length = 0;
    let bytes = u32::try_from(size_of_val(&buffer)).unwrap_or_default();
    let buffer = buffer.as_mut_ptr().cast::<c_void>();
    // SAFETY: the buffer has as many bytes as the call is told.
    done(unsafe { GetTokenInformation(token.as_raw_handle(), TokenUser, buffer, bytes, &raw mut length) })?;
    let mut text: PWSTR = ptr::null_mut();
    // SAFETY: the call has written the structure to the buffer, and the number of the user behind it.
    done(unsafe { ConvertSidToStringSidW((*buffer.cast::<TOKEN_USER>()).User.Sid, &raw mut text) })?;
    let text = Allocated(text.cast());
    Ok(string(&text))
}

/// The owner and the access list of a file.
pub(super) struct Descriptor(Allocated);

impl Descriptor {
    /// The one that is written as text.
    pub(super) fn of_text(text: &str) -> io::Result<Self> {
        let text: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let mut found: PSECURITY_DESCRIPTOR = ptr::null_mut();
        let to = &raw mut found;
        // SAFETY: the text ends with a zero, and the pointer is where the system is to write to.
        done(unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(text.as_ptr(), SDDL_REVISION_1, to, ptr::null_mut())
        })?;
        Ok(Self(Allocated(found)))
    }

    /// That of an open file or folder.
    pub(super) fn of_file(file: &File) -> io::Result<Self> {
        let mut found: PSECURITY_DESCRIPTOR = ptr::null_mut();
        let (parts, none) = (OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION, ptr::null_mut());
        // SAFETY: the handle is open, and what is not asked for has no place to be written to.
        let code = unsafe {
            let (handle, group, audit) = (file.as_raw_handle(), ptr::null_mut(), ptr::null_mut());
            GetSecurityInfo(handle, SE_FILE_OBJECT, parts, none, group, ptr::null_mut(), audit, &raw mut found)
        };
        match code {
            ERROR_SUCCESS => Ok(Self(Allocated(found))),
            code => Err(io::Error::from_raw_os_error(code.cast_signed())),
        }
    }

    /// It, written as text.
    pub(super) fn text(&self) -> io::Result<String> {
        let mut text: PWSTR = ptr::null_mut();
        let (parts, to) = (OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION, &raw mut text);
        // SAFETY: the descriptor is one that the system has made.
        done(unsafe {
            let (revision, length) = (SDDL_REVISION_1, ptr::null_mut());
            ConvertSecurityDescriptorToStringSecurityDescriptorW(self.0.0, revision, parts, to, length)
        })?;
        let text = Allocated(text.cast());
        Ok(string(&text))
    }

    fn attributes(&self) -> SECURITY_ATTRIBUTES {
        let length = u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).unwrap_or_default();
        SECURITY_ATTRIBUTES { nLength: length, lpSecurityDescriptor: self.0.0, bInheritHandle: 0 }
    }
}

pub(super) fn create_new(path: &Path, descriptor: &Descriptor) -> io::Result<File> {
    open(path, FILE_GENERIC_WRITE, CREATE_NEW, descriptor)
}

pub(super) fn open_append(path: &Path, descriptor: &Descriptor) -> io::Result<File> {
    let append = FILE_GENERIC_WRITE & !FILE_WRITE_DATA | FILE_APPEND_DATA;
    open(path, FILE_GENERIC_READ | append, OPEN_ALWAYS, descriptor)
}

fn open(path: &Path, access: u32, disposition: u32, descriptor: &Descriptor) -> io::Result<File> {
    let (path, attributes) = (wide(path)?, descriptor.attributes());
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    let flags = FILE_ATTRIBUTE_NORMAL | NO_LINKS;
    // SAFETY: the path ends with a zero, and the attributes and the descriptor in them outlive the call.
    let handle = unsafe {
        CreateFileW(path.as_ptr(), access, share, &raw const attributes, disposition, flags, ptr::null_mut())
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is open, and has no other owner.
    Ok(unsafe { File::from_raw_handle(handle) })
}

pub(super) fn create_folder(path: &Path, descriptor: &Descriptor) -> io::Result<()> {
    let (path, attributes) = (wide(path)?, descriptor.attributes());
    // SAFETY: as above.
    done(unsafe { CreateDirectoryW(path.as_ptr(), &raw const attributes) })
}

#[cfg(test)]
pub(super) fn set_list(path: &Path, descriptor: &Descriptor) -> io::Result<()> {
    use windows_sys::Win32::Security::SetFileSecurityW;

    let path = wide(path)?;
    // SAFETY: the path ends with a zero, and the descriptor is one that the system has made.
    done(unsafe { SetFileSecurityW(path.as_ptr(), DACL_SECURITY_INFORMATION, descriptor.0.0) })
}

/// A path that ends with a zero.
fn wide(path: &Path) -> io::Result<Vec<u16>> {
    let mut wide: Vec<u16> = path.as_os_str().encode_wide().collect();
    if wide.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    wide.push(0);
    Ok(wide)
}

/// Text that the system has written, which ends with a zero.
fn string(text: &Allocated) -> String {
    let start = text.0.cast::<u16>();
    // SAFETY: the calls that make such a text end it with a zero.
    let units = unsafe {
        let length = (0..).take_while(|&at| *start.add(at) != 0).count();
        std::slice::from_raw_parts(start, length)
    };
    String::from_utf16_lossy(units)
}

fn done(result: BOOL) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
