//! An allocator that counts: the system's, with the larger pieces that are held added up. A program that wants counted
//! figures installs it; the library does not, so that a program or a notebook with an allocator of its own can use it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the larger pieces of memory that are held: what tensors take, whatever the process took before and kept. To be
/// installed in a program's `main.rs`: `#[global_allocator] static ALLOCATOR: Counting = Counting;`.
pub struct Counting;

/// Pieces from this size on are counted.
const COUNTED: usize = 4096;
static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

impl Counting {
    fn grow(size: usize) {
        if size >= COUNTED {
            let live = LIVE.fetch_add(size as u64, Ordering::Relaxed) + size as u64;
            PEAK.fetch_max(live, Ordering::Relaxed);
        }
    }

    fn shrink(size: usize) {
        if size >= COUNTED {
            LIVE.fetch_sub(size as u64, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call goes to the system's allocator with the arguments it came with, and its answer goes back as it is, so
// the contract of GlobalAlloc holds because it holds for System. Counting is two atomic additions: it neither allocates nor
// unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::grow(layout.size());
        // SAFETY: the caller promises System what it promises us: a layout whose size is not zero.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::grow(layout.size());
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Counting::shrink(layout.size());
        // SAFETY: the caller promises that this allocator gave out `pointer` for `layout`, and all it gives out is System's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::shrink(layout.size());
        Counting::grow(size);
        // SAFETY: as for `dealloc`; that `size` is not zero and fits a layout is the caller's promise as well.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Whether the program installed it.
pub(super) fn is_installed() -> bool {
    // Every piece of this size that was ever counted left a peak; without any, one is made to see.
    PEAK.load(Ordering::Relaxed) > 0 || {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(COUNTED)));
        PEAK.load(Ordering::Relaxed) > 0
    }
}

/// Bytes in larger pieces of memory that are held now.
pub(super) fn live() -> u64 {
    LIVE.load(Ordering::Relaxed)
}

/// Begins to look for the most that [`live`] comes to.
pub(super) fn watch() {
    PEAK.store(live(), Ordering::Relaxed);
}

/// The most that [`live`] came to since it is watched.
pub(super) fn peak() -> u64 {
    PEAK.load(Ordering::Relaxed)
}
