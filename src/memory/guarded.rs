//! Canaries for unit tests: the counting allocator with guard bytes before and behind every piece. A helper that writes
//! outside its buffer ends the test run when the buffer is freed. Fresh memory is filled, so what reads it before it was
//! written computes with NaN. `LLMORE_MEMCHECK` turns both off: under valgrind they would hide what memcheck is to see.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU8, Ordering};

use super::Counting;

/// Bytes on either side; a piece of a larger alignment has as many before it as that takes.
const GUARD: usize = 64;
const CANARY: u8 = 0xA5;
/// As f32, f16, bf16 and f64: NaN.
const FRESH: u8 = 0xFF;

#[global_allocator]
static ALLOCATOR: Guarded = Guarded;

struct Guarded;

/// 0: not looked up yet, 1: guards, 2: none.
static MODE: AtomicU8 = AtomicU8::new(0);

fn is_on() -> bool {
    match MODE.load(Ordering::Relaxed) {
        0 => {
            // The first piece of a process is allocated before it has a second thread. `std::env` would allocate.
            // SAFETY: the name is a C string, and the result is compared with null and not read.
            let off = !unsafe { libc::getenv(c"LLMORE_MEMCHECK".as_ptr()) }.is_null();
            MODE.store(if off { 2 } else { 1 }, Ordering::Relaxed);
            !off
        }
        mode => mode == 1,
    }
}

/// The layout with its guards, and where the piece begins in it; `None` where that is more than can be allocated.
fn around(layout: Layout) -> Option<(Layout, usize)> {
    let front = GUARD.max(layout.align());
    let size = layout.size().checked_add(front + GUARD)?;
    Some((Layout::from_size_align(size, layout.align()).ok()?, front))
}

/// Whether both guards of a piece are as they were written.
///
/// # Safety
/// `pointer` is what [`Guarded`] with guards gave out for `layout`.
unsafe fn is_intact(pointer: *const u8, layout: Layout) -> bool {
    // SAFETY: guards lie within the piece that was allocated around this one, and were written when it was.
    let guards = unsafe {
        [
            std::slice::from_raw_parts(pointer.sub(GUARD), GUARD),
            std::slice::from_raw_parts(pointer.add(layout.size()), GUARD),
        ]
    };
    guards.iter().all(|guard| guard.iter().all(|byte| *byte == CANARY))
}

// SAFETY: pieces lie within larger ones of `Counting`, at an offset that is a multiple of their alignment (`front` is the
// larger of two powers of two), so they are aligned, disjoint, and as long as asked for. `dealloc` computes the same layout
// and offset from the same arguments. `realloc` is the trait's own, by `alloc`, a copy and `dealloc`.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_on() {
            // SAFETY: the caller's promise.
            return unsafe { Counting.alloc(layout) };
        }
        let Some((whole, front)) = around(layout) else { return std::ptr::null_mut() };
        // SAFETY: `whole` is not empty; the writes stay within its size.
        unsafe {
            let start = Counting.alloc(whole);
            if start.is_null() {
                return start;
            }
            start.write_bytes(CANARY, front);
            let pointer = start.add(front);
            pointer.write_bytes(FRESH, layout.size());
            pointer.add(layout.size()).write_bytes(CANARY, GUARD);
            pointer
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !is_on() {
            // SAFETY: the caller's promise.
            return unsafe { Counting.alloc_zeroed(layout) };
        }
        let Some((whole, front)) = around(layout) else { return std::ptr::null_mut() };
        // SAFETY: as in `alloc`.
        unsafe {
            let start = Counting.alloc_zeroed(whole);
            if start.is_null() {
                return start;
            }
            start.write_bytes(CANARY, front);
            start.add(front + layout.size()).write_bytes(CANARY, GUARD);
            start.add(front)
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if !is_on() {
            // SAFETY: the caller's promise, and without guards all pieces are Counting's.
            return unsafe { Counting.dealloc(pointer, layout) };
        }
        // SAFETY: `alloc` gave out `pointer` for `layout`, `front` bytes behind the start of `whole`.
        unsafe {
            if !is_intact(pointer, layout) {
                // An allocator must not unwind.
                let text = b"guard bytes beside a buffer were overwritten: see src/memory/guarded.rs\n";
                libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
                std::process::abort();
            }
            let Some((whole, front)) = around(layout) else { return };
            Counting.dealloc(pointer.sub(front), whole);
        }
    }
}

#[test]
fn a_write_outside_a_buffer_is_seen() {
    if !is_on() {
        return;
    }
    for (size, align) in [(1, 1), (24, 8), (100, 32), (4096, 128), (10, 4096)] {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the piece is this test's own, what lies beside it the allocator's guards, which are put back.
        unsafe {
            let pointer = ALLOCATOR.alloc(layout);
            assert!((pointer as usize).is_multiple_of(align) && is_intact(pointer, layout), "{size} {align}");
            assert_eq!(*pointer.add(size - 1), FRESH);
            for beside in [pointer.sub(1), pointer.add(size)] {
                *beside = 0;
                assert!(!is_intact(pointer, layout), "{size} {align}");
                *beside = CANARY;
            }
            pointer.write_bytes(0, size);
            ALLOCATOR.dealloc(pointer, layout);
        }
    }
}
