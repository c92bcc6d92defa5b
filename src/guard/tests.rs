//! Readers that panic, grow and loop, in place of the libraries that do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// A library: what it does depends on the first byte of the file.
fn reader(bytes: &[u8]) -> Result<usize> {
    match bytes {
        [b'p', ..] => panic!("index out of bounds: the len is {} but the index is 9", bytes.len()),
        [b's', ..] => panic!("a text"),
        [b'o', ..] => std::panic::panic_any(9u8),
        [b'e', ..] => Err(error!(Decode, "it says so itself")),
        [b'n', ..] => Ok(catch("inner", || reader(b"p")).map_or_else(|failure| failure.to_string().len(), |_| 0)),
        _ => Ok(bytes.len()),
    }
}

#[test]
fn a_panic_is_an_error_that_names_file_library_and_reason() {
    let error = read("reader", &"a/b.bin", || reader(b"pages")).unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Decode);
    let text = error.message();
    assert!(text.starts_with("`a/b.bin`: the library reader broke off (tests.rs:"), "{text}");
    assert!(text.ends_with("): index out of bounds: the len is 5 but the index is 9"), "{text}");
    assert!(error.help_text().is_some_and(|help| help.contains("fetch it again")), "{error}");
    let said = |bytes: &[u8]| catch("reader", || reader(bytes)).unwrap_err().said().map(str::to_string);
    assert_eq!(said(b"s").as_deref(), Some("a text"));
    assert_eq!(said(b"o"), None);
    let other = catch("reader", || reader(b"o")).unwrap_err().to_string();
    assert!(other.ends_with("and did not say why"), "{other}");
}

#[test]
fn what_does_not_panic_goes_through_as_it_is() {
    assert_eq!(read("reader", &"x", || reader(b"whole")).unwrap(), 5);
    assert_eq!(read("reader", &"x", || reader(b"e")).unwrap_err().message(), "it says so itself");
}

#[test]
fn guards_nest_and_the_inner_one_answers() {
    let inner = read("outer", &"x", || reader(b"n")).unwrap();
    assert!(inner > 0);
    // After the inner one the outer one still holds.
    let outer = catch("outer", || {
        let inner = catch("inner", || reader(b"p"));
        assert!(inner.is_err());
        panic!("afterwards")
    });
    let outer: std::result::Result<(), Failure> = outer;
    assert_eq!(outer.unwrap_err().said(), Some("afterwards"));
    assert_eq!(DEPTH.get(), 0);
}

#[test]
fn only_guarded_panics_are_silent() {
    static PRINTED: AtomicUsize = AtomicUsize::new(0);
    silence();
    let before = std::panic::take_hook();
    std::panic::set_hook(quiet(Box::new(|info| {
        if info.payload().downcast_ref::<&str>().is_some_and(|text| text.starts_with("counted")) {
            PRINTED.fetch_add(1, Ordering::Relaxed);
        }
    })));
    let guarded = catch("reader", || -> usize { panic!("counted: guarded") });
    let there = PRINTED.load(Ordering::Relaxed);
    // Another thread panics while this one is inside a guard.
    let beside = catch("reader", || std::thread::spawn(|| panic!("counted: beside")).join().is_err());
    let other = PRINTED.load(Ordering::Relaxed);
    let open = catch_unwind(AssertUnwindSafe(|| panic!("counted: not guarded")));
    let after = PRINTED.load(Ordering::Relaxed);
    std::panic::set_hook(before);
    assert!(guarded.is_err() && open.is_err());
    assert_eq!((there, beside, other, after), (0, Ok(true), 1, 2));
}

#[test]
fn what_does_not_end_is_given_up_on() {
    let stop = Arc::new(AtomicBool::new(false));
    let looping = stop.clone();
    let limit = Duration::from_millis(50);
    let start = Instant::now();
    let failure = within("reader", limit, move || {
        while !looping.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let took = start.elapsed();
    stop.store(true, Ordering::Relaxed);
    let error = failure.unwrap_err().error(&"x.parquet");
    assert_eq!(error.message(), "`x.parquet`: the library reader was not done with it after 50ms");
    assert!(took >= limit && took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_thread_of_its_own_answers_and_panics_as_here() {
    let limit = Duration::from_secs(60);
    assert_eq!(within("reader", limit, || reader(b"whole").unwrap()), Ok(5));
    let failure = within("reader", limit, || reader(b"pages").is_ok()).unwrap_err();
    assert_eq!(failure.said(), Some("index out of bounds: the len is 5 but the index is 9"));
}

/// A reader that takes the memory a file asks for.
fn grow(bytes: &[u8], taken: &mut usize) -> Result<Vec<u8>> {
    let declared = bytes.iter().take(8).fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    check(&"x.bin", "entries", declared, bytes.len() as u64)?;
    *taken = declared as usize;
    Ok(vec![0; *taken])
}

#[test]
fn a_declared_number_is_checked_before_memory_is_taken() {
    let mut taken = 0;
    let error = grow(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], &mut taken).unwrap_err();
    assert_eq!(taken, 0);
    assert_eq!(error.message(), "`x.bin` declares 281474976710655 entries, where 9 are the most there can be");
    assert_eq!(grow(&[0, 0, 0, 0, 0, 0, 0, 9, 1], &mut taken).unwrap().len(), 9);
}
