//! The progress of a download as events.

use std::time::Instant;

use hf_hub::api::Progress;

use crate::events::{Event, Listeners};

/// Files below this many bytes are fetched without a progress bar.
const SHOWN: usize = 4 << 20;
const MB: usize = 1_000_000;

/// Reports the progress of one file.
pub(super) struct Tell<'a> {
    listeners: &'a Listeners,
    task: &'a str,
    done: usize,
    total: usize,
    /// The value of `done` in the last event.
    shown: usize,
    started: Instant,
}

impl<'a> Tell<'a> {
    pub(super) fn new(listeners: &'a Listeners, task: &'a str) -> Self {
        Tell { listeners, task, done: 0, total: 0, shown: 0, started: Instant::now() }
    }
}

impl Progress for Tell<'_> {
    fn init(&mut self, size: usize, _: &str) {
        // hf-hub calls this twice.
        if self.total == 0 && size >= SHOWN {
            let (task, unit) = (self.task.to_string(), "MB".to_string());
            self.listeners.tell(&Event::Start { task, done: 0, total: (size / MB) as u64, unit });
        }
        self.total = size;
    }

    fn update(&mut self, size: usize) {
        self.done += size;
        if self.total >= SHOWN && self.done - self.shown >= MB {
            self.shown = self.done;
            let (done, total) = ((self.done / MB) as u64, (self.total / MB) as u64);
            self.listeners.tell(&Event::Progress { task: self.task.to_string(), done, total });
        }
    }

    fn finish(&mut self) {
        if self.total >= SHOWN {
            let (done, total) = ((self.done / MB) as u64, (self.total / MB) as u64);
            let (task, unit, status) = (self.task.to_string(), "MB".to_string(), "done".to_string());
            let seconds = self.started.elapsed().as_secs_f64();
            self.listeners.tell(&Event::End { task, done, total, unit, status, seconds });
        }
    }
}
