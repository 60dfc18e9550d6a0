//! libsmudge behind a trait in the shape of cloud-hypervisor's `ExternalDmaMapping`: the device
//! model of virtio-iommu calls `map` and `unmap` of whoever is behind it, from any thread.

mod sys;

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::raw::{c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex};
use std::thread;

const PAGE: u64 = 4096;

/// cloud-hypervisor's trait, without what has to do with its own types.
pub trait ExternalDmaMapping: Send + Sync {
    fn map(&self, iova: u64, gpa: u64, size: u64) -> io::Result<()>;
    fn unmap(&self, iova: u64, size: u64) -> io::Result<()>;
}

/// The library's codes are Linux' own numbers; the sentence says more than their names.
fn check(result: c_int) -> io::Result<c_int> {
    if result >= 0 {
        return Ok(result);
    }
    let sentence = unsafe { CStr::from_ptr(sys::smudge_last_error()) }.to_string_lossy();
    let kind = io::Error::from_raw_os_error(-result).kind();
    Err(io::Error::new(kind, format!("{sentence} ({result})")))
}

/// Pages the device wrote, by IOVA. The query takes them out.
type Written = Mutex<BTreeSet<u64>>;

unsafe extern "C" fn query(
    iova: u64,
    byte_count: u64,
    page_size: u64,
    words: *mut u64,
    opaque: *mut c_void,
) -> c_int {
    let written = &*(opaque as *const Written);
    let Ok(mut pages) = written.lock() else { return -5 };
    let last = iova + (byte_count - 1);
    let found: Vec<u64> = pages.range(iova..=last).copied().collect();
    for page in found {
        pages.remove(&page);
        let bit = (page - iova) / page_size;
        *words.add((bit / 64) as usize) |= 1 << (bit % 64);
    }
    0
}

struct Tracker(*mut sys::smudge_tracker);

struct Reader(*mut sys::smudge_reader);

struct Device {
    container: *mut sys::smudge_container,
    written: Box<Written>,
}

// Any function of the library may be called from any thread, at the same time as any other.
unsafe impl Send for Device {}
unsafe impl Sync for Device {}

impl Tracker {
    fn new(ram_byte_count: u64) -> io::Result<Self> {
        let mut tracker = null_mut();
        check(unsafe { sys::smudge_tracker_create(null(), &mut tracker) })?;
        let ram = sys::smudge_ram {
            size: size_of::<sys::smudge_ram>() as u32,
            flags: 0,
            gpa: 0,
            byte_count: ram_byte_count,
            host: null_mut(),
            name: c"ram".as_ptr(),
            node_plus_one: 0,
            reserved: 0,
        };
        check(unsafe { sys::smudge_region_add(tracker, &ram) })?;
        Ok(Self(tracker))
    }

    fn device(&self, name: &CStr) -> io::Result<Device> {
        let written = Box::new(Written::default());
        let params = sys::smudge_container_params {
            size: size_of::<sys::smudge_container_params>() as u32,
            flags: 0,
            name: name.as_ptr(),
            query: Some(query),
            log_start: None,
            log_stop: None,
            opaque: &*written as *const Written as *mut c_void,
            query_flags: 0,
            reserved: 0,
            query_byte_count_max: 0,
            mapping_count_max: 0,
        };
        let mut container = null_mut();
        check(unsafe { sys::smudge_container_add(self.0, &params, &mut container) })?;
        Ok(Device { container, written })
    }

    fn reader(&self) -> io::Result<Reader> {
        let mut reader = null_mut();
        check(unsafe { sys::smudge_reader_add(self.0, c"migration".as_ptr(), 0, &mut reader) })?;
        Ok(Reader(reader))
    }

    fn start(&self) -> io::Result<()> {
        check(unsafe { sys::smudge_log_start(self.0, null_mut()) }).map(|_| ())
    }

    fn sync(&self, flags: u32) -> io::Result<()> {
        check(unsafe { sys::smudge_log_sync(self.0, flags, null_mut()) }).map(|_| ())
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        if let Err(error) = check(unsafe { sys::smudge_tracker_destroy(self.0) }) {
            eprintln!("{error}");
        }
    }
}

impl Drop for Device {
    // The callback's memory goes with the device.
    fn drop(&mut self) {
        if let Err(error) = check(unsafe { sys::smudge_container_remove(self.container) }) {
            eprintln!("{error}");
        }
    }
}

impl ExternalDmaMapping for Device {
    fn map(&self, iova: u64, gpa: u64, size: u64) -> io::Result<()> {
        let flags = sys::SMUDGE_MAP_READ | sys::SMUDGE_MAP_WRITE | sys::SMUDGE_MAP_AHEAD;
        check(unsafe { sys::smudge_map(self.container, iova, gpa, size, flags) }).map(|_| ())
    }

    fn unmap(&self, iova: u64, size: u64) -> io::Result<()> {
        check(unsafe { sys::smudge_unmap(self.container, iova, size, null()) }).map(|_| ())
    }
}

unsafe extern "C" fn take(gpa: u64, byte_count: u64, opaque: *mut c_void) -> c_int {
    let pages = &mut *(opaque as *mut BTreeSet<u64>);
    pages.extend((gpa..gpa + byte_count).step_by(PAGE as usize));
    0
}

impl Reader {
    fn harvest(&self, pages: &mut BTreeSet<u64>) -> io::Result<()> {
        let opaque = pages as *mut BTreeSet<u64> as *mut c_void;
        while check(unsafe {
            sys::smudge_harvest_runs(self.0, u64::MAX, Some(take), opaque, null_mut())
        })? > 0
        {}
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let tracker = Tracker::new(64 << 20)?;
    let reader = tracker.reader()?;
    tracker.start()?;

    // Two threads of the VMM, each with a device whose mappings the guest changes all the time.
    let mut expected = BTreeSet::new();
    let mut devices: Vec<Arc<Device>> = Vec::new();
    for name in [c"nic", c"disk"] {
        devices.push(Arc::new(tracker.device(name)?));
    }
    let mut threads = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let device = Arc::clone(device);
        let first = index as u64 * (32 << 20);
        expected.extend((0..500).map(|i| first + i * 4 * PAGE + PAGE));
        threads.push(thread::spawn(move || -> io::Result<()> {
            let mapping: &dyn ExternalDmaMapping = &*device;
            for i in 0..500u64 {
                let iova = i % 16 * 0x10000;
                mapping.map(iova, first + i * 4 * PAGE, 2 * PAGE)?;
                device.written.lock().unwrap().insert(iova + PAGE);
                mapping.unmap(iova, 2 * PAGE)?;
            }
            Ok(())
        }));
    }
    for _ in 0..50 {
        tracker.sync(0)?;
    }
    for thread in threads {
        thread.join().expect("no thread panics")?;
    }
    tracker.sync(sys::SMUDGE_SYNC_FINAL)?;
    let mut found = BTreeSet::new();
    reader.harvest(&mut found)?;
    assert_eq!(found, expected, "the dirty pages are those that were written");

    let error = devices[0].map(u64::MAX - PAGE + 1, 0, 2 * PAGE).expect_err("past 2^64-1");
    let code = format!("({})", sys::SMUDGE_EOVERFLOW);
    assert!(error.to_string().ends_with(&code), "{error}");
    println!("{} pages, none lost, none too many", found.len());
    Ok(())
}
