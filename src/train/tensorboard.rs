//! TensorBoard event files beside `events.jsonl`, for people whose other runs are there: loss, rate, gradient norm
//! and speed per step. Format: TFRecord frames around `tensorflow.Event` messages (tensorflow 2.16, `event.proto`,
//! `summary.proto`, `lib/io/record_writer.h`), of which the few fields needed are written by hand.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};

use crate::error::{Error, Result};
use crate::events::{Event, Listener, Step};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// Added to a rotated checksum, so that a checksum of data with checksums stays useful.
const MASK: u32 = 0xa282_ead8;

/// Hears the steps of a run and writes them down.
pub struct TensorBoard {
    file: Mutex<File>,
}

impl TensorBoard {
    /// Opens a new event file in a run folder; TensorBoard reads all of a folder's files in order of their names.
    pub fn create(run: &Path) -> Result<Self> {
        let now = now();
        let path = run.join(format!("events.out.tfevents.{}.llmore.{}", now as u64, std::process::id()));
        let file = crate::fs::open_with(&path, |how| how.create(true).append(true));
        let mut file = file.map_err(|error| Error::file(&path, error))?;
        let version = message(now, None, &bytes_field(3, b"brain.Event:2"));
        file.write_all(&frame(&version)).map_err(|error| Error::file(&path, error))?;
        Ok(TensorBoard { file: Mutex::new(file) })
    }
}

impl Listener for TensorBoard {
    fn hear(&self, event: &Event) {
        let Event::Step(step) = event else { return };
        let record = frame(&message(now(), Some(step.step), &bytes_field(5, &summary(step))));
        // As with `events.jsonl`: a full disk must not end the run.
        let _ = self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&record);
    }
}

/// `Summary` with one `Value { tag, simple_value }` per number.
fn summary(step: &Step) -> Vec<u8> {
    let speed = step.positions as f64 / step.seconds.max(1e-9);
    let values = [
        ("train/loss", step.loss),
        ("train/lr", step.lr),
        ("train/grad_norm", step.grad_norm),
        ("train/positions_per_second", speed),
    ];
    let value = |(tag, value): (&str, f64)| {
        let mut field = bytes_field(1, tag.as_bytes());
        field.push(key(2, 5));
        field.extend((value as f32).to_le_bytes());
        bytes_field(1, &field)
    };
    values.into_iter().flat_map(value).collect()
}

/// `Event { wall_time, step, .. }`.
fn message(wall_time: f64, step: Option<u64>, rest: &[u8]) -> Vec<u8> {
    let mut event = vec![key(1, 1)];
    event.extend(wall_time.to_le_bytes());
    if let Some(step) = step {
        event.push(key(2, 0));
        event.extend(varint(step));
    }
    event.extend_from_slice(rest);
    event
}

/// A record: length, its checksum, data, its checksum.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let masked = |bytes: &[u8]| CRC.checksum(bytes).rotate_right(15).wrapping_add(MASK).to_le_bytes();
    [&length[..], &masked(&length), data, &masked(data)].concat()
}

fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![key(number, 2)];
    field.extend(varint(bytes.len() as u64));
    field.extend_from_slice(bytes);
    field
}

/// A protocol-buffer key: field number and wire type.
fn key(number: u8, wire: u8) -> u8 {
    number << 3 | wire
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_what_tensorflow_writes() {
        // tensorboard 2.21: RecordWriter of Event(wall_time=1.5, step=300, summary of one value `a` = 0.25).
        let mut value = bytes_field(1, b"a");
        value.push(key(2, 5));
        value.extend(0.25f32.to_le_bytes());
        let record = frame(&message(1.5, Some(300), &bytes_field(5, &bytes_field(1, &value))));
        let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, EXPECTED);
    }

    const EXPECTED: &str = "1800000000000000a37f4b2209000000000000f83f10ac022a0a0a080a0161150000803eb4fa9511";
}
