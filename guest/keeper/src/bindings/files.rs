//! Files: there are none. No folder is granted, so no descriptor is ever made.

use std::convert::Infallible;

use super::Keeper;
use super::generated::exports::seen::filesystem::{preopens, types as wit};

/// Never made.
pub(super) struct NoFile(Infallible);

/// Never made.
pub(super) struct NoEntries(Infallible);

impl wit::Guest for Keeper {
    type Descriptor = NoFile;
    type DirectoryEntryStream = NoEntries;

    fn filesystem_error_code(_err: &wasip2::io::error::Error) -> Option<wit::ErrorCode> {
        None
    }
}

impl preopens::Guest for Keeper {
    fn get_directories() -> Vec<(preopens::Descriptor, String)> {
        Vec::new()
    }
}

impl wit::GuestDescriptor for NoFile {
    fn read_via_stream(&self, _offset: wit::Filesize) -> Result<wit::InputStream, wit::ErrorCode> {
        match self.0 {}
    }
    fn write_via_stream(&self, _offset: wit::Filesize) -> Result<wit::OutputStream, wit::ErrorCode> {
        match self.0 {}
    }
    fn append_via_stream(&self) -> Result<wit::OutputStream, wit::ErrorCode> {
        match self.0 {}
    }
    fn advise(
        &self,
        _offset: wit::Filesize,
        _length: wit::Filesize,
        _advice: wit::Advice,
    ) -> Result<(), wit::ErrorCode> {
        match self.0 {}
    }
    fn sync_data(&self) -> Result<(), wit::ErrorCode> {
        match self.0 {}
    }
    fn get_flags(&self) -> Result<wit::DescriptorFlags, wit::ErrorCode> {
        match self.0 {}
    }
    fn get_type(&self) -> Result<wit::DescriptorType, wit::ErrorCode> {
        match self.0 {}
    }
    fn set_size(&self, _size: wit::Filesize) -> Result<(), wit::ErrorCode> {
        match self.0 {}
    }
    fn set_times(
        &self,
        _data_access_timestamp: wit::NewTimestamp,
        _data_modification_timestamp: wit::NewTimestamp,
    ) -> Result<(), wit::ErrorCode> {
        match self.0 {}
    }
    fn read(&self, _length: wit::Filesize, _offset: wit::Filesize) -> Result<(Vec<u8>, bool), wit::ErrorCode> {
        match self.0 {}
    }
    fn write(&self, _buffer: Vec<u8>, _offset: wit::Filesize) -> Result<wit::Filesize, wit::ErrorCode> {
        match self.0 {}
    }
    fn read_directory(&self) -> Result<wit::DirectoryEntryStream, wit::ErrorCode> {
        match self.0 {}
    }
    fn sync(&self) -> Result<(), wit::ErrorCode> {
        match self.0 {}
    }
    fn create_directory_at(&self, _path: String) -> Result<(), wit::ErrorCode> {
        match self.0 {}
    }
    fn stat(&self) -> Result<wit::DescriptorStat, wit::ErrorCode> {
        match self.0 {}
    }
    fn stat_at(&self, _path_flags: wit::PathFlags, _path: String) -> Result<wit::DescriptorStat, wit::ErrorCode> {
        match self.0 {}
    }
    fn set_times_at(
        &self,
        _path_flags: wit::PathFlags,
        _path: String,
        _data_access_timestamp: wit::NewTimestamp,
        _data_modification_timestamp: wit::NewTimestamp,
    ) -> Result<(), wit::ErrorCode> {
        match self.0 {}
    }
    fn link_at(
        &self,
        _old_path_flags: wit::PathFlags,
        _old_path: String,
        _new_descriptor: wit::DescriptorBorrow<'_>,
        _new_path: String,
    ) -> Result<(), wit::ErrorCode> {
        match self.0 {}
    }
    fn open_at(
        &self,
        _path_flags: wit::PathFlags,
        _path: String,
        _open_flags: wit::OpenFlags,
        _flags: wit::DescriptorFlags,
    ) -> Result<wit::Descriptor, wit::ErrorCode> {
        match self.0 {}
    }
    fn readlink_at(&self, _path: String) -> Result<String, wit::ErrorCode> {
        match self.0 {}
    }
    fn remove_directory_at(&self, _path: String) -> Result<(), wit::ErrorCode> {
        match self.0 {}
    }
    fn rename_at(
        &self,
        _old_path: String,
        _new_descriptor: wit::DescriptorBorrow<'_>,
        _new_path: String,
    ) -> Result<(), wit::ErrorCode> {
        match self.0 {}
    }
    fn symlink_at(&self, _old_path: String, _new_path: String) -> Result<(), wit::ErrorCode> {
        match self.0 {}
    }
    fn unlink_file_at(&self, _path: String) -> Result<(), wit::ErrorCode> {
        match self.0 {}
    }
    fn is_same_object(&self, _other: wit::DescriptorBorrow<'_>) -> bool {
        match self.0 {}
    }
    fn metadata_hash(&self) -> Result<wit::MetadataHashValue, wit::ErrorCode> {
        match self.0 {}
    }
    fn metadata_hash_at(
        &self,
        _path_flags: wit::PathFlags,
        _path: String,
    ) -> Result<wit::MetadataHashValue, wit::ErrorCode> {
        match self.0 {}
    }
}
impl wit::GuestDirectoryEntryStream for NoEntries {
    fn read_directory_entry(&self) -> Result<Option<wit::DirectoryEntry>, wit::ErrorCode> {
        match self.0 {}
    }
}
