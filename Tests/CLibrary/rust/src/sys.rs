//! What bindgen makes of the part of smudge.h that is used here, written by hand.
#![allow(non_camel_case_types)]

use std::os::raw::{c_char, c_int, c_void};

#[repr(C)]
pub struct smudge_tracker {
    _private: [u8; 0],
}
#[repr(C)]
pub struct smudge_container {
    _private: [u8; 0],
}
#[repr(C)]
pub struct smudge_reader {
    _private: [u8; 0],
}
#[repr(C)]
pub struct smudge_tracker_params {
    _private: [u8; 0],
}
#[repr(C)]
pub struct smudge_report {
    _private: [u8; 0],
}

#[repr(C)]
pub struct smudge_ram {
    pub size: u32,
    pub flags: u32,
    pub gpa: u64,
    pub byte_count: u64,
    pub host: *mut c_void,
    pub name: *const c_char,
    pub node_plus_one: u32,
    pub reserved: u32,
}

pub type smudge_query = Option<
    unsafe extern "C" fn(
        iova: u64,
        byte_count: u64,
        page_size: u64,
        words: *mut u64,
        opaque: *mut c_void,
    ) -> c_int,
>;
pub type smudge_log_switch = Option<unsafe extern "C" fn(opaque: *mut c_void) -> c_int>;
pub type smudge_run =
    Option<unsafe extern "C" fn(gpa: u64, byte_count: u64, opaque: *mut c_void) -> c_int>;

#[repr(C)]
pub struct smudge_container_params {
    pub size: u32,
    pub flags: u32,
    pub name: *const c_char,
    pub query: smudge_query,
    pub log_start: smudge_log_switch,
    pub log_stop: smudge_log_switch,
    pub opaque: *mut c_void,
    pub query_flags: u32,
    pub reserved: u32,
    pub query_byte_count_max: u64,
    pub mapping_count_max: u64,
}

pub const SMUDGE_EOVERFLOW: c_int = -75;
pub const SMUDGE_MAP_READ: u32 = 1;
pub const SMUDGE_MAP_WRITE: u32 = 2;
pub const SMUDGE_MAP_AHEAD: u32 = 4;
pub const SMUDGE_SYNC_FINAL: u32 = 1;

extern "C" {
    pub fn smudge_last_error() -> *const c_char;
    pub fn smudge_tracker_create(
        params: *const smudge_tracker_params,
        out: *mut *mut smudge_tracker,
    ) -> c_int;
    pub fn smudge_tracker_destroy(tracker: *mut smudge_tracker) -> c_int;
    pub fn smudge_region_add(tracker: *mut smudge_tracker, ram: *const smudge_ram) -> c_int;
    pub fn smudge_container_add(
        tracker: *mut smudge_tracker,
        params: *const smudge_container_params,
        out: *mut *mut smudge_container,
    ) -> c_int;
    pub fn smudge_container_remove(container: *mut smudge_container) -> c_int;
    pub fn smudge_map(
        container: *mut smudge_container,
        iova: u64,
        gpa: u64,
        size: u64,
        flags: u32,
    ) -> c_int;
    pub fn smudge_unmap(
        container: *mut smudge_container,
        iova: u64,
        size: u64,
        dirty: *const u64,
    ) -> c_int;
    pub fn smudge_log_start(tracker: *mut smudge_tracker, report: *mut smudge_report) -> c_int;
    pub fn smudge_log_sync(
        tracker: *mut smudge_tracker,
        flags: u32,
        report: *mut smudge_report,
    ) -> c_int;
    pub fn smudge_reader_add(
        tracker: *mut smudge_tracker,
        name: *const c_char,
        flags: u32,
        out: *mut *mut smudge_reader,
    ) -> c_int;
    pub fn smudge_harvest_runs(
        reader: *mut smudge_reader,
        page_count_max: u64,
        run: smudge_run,
        opaque: *mut c_void,
        harvest: *mut u64,
    ) -> c_int;
}
