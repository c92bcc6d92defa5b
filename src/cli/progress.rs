//! Progress on standard error: bars with an estimate of the time left on a terminal, one plain line every two seconds
//! elsewhere, nothing when quiet. A finished task leaves one line.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::say::tell;
use super::screen::Screen;
use crate::settings::variable;
use crate::show::seconds;

/// Time between two plain lines of one task.
const PLAIN: Duration = Duration::from_secs(2);

/// The progress of a task. `facts` are shown as they are: `("loss", "0.123")`, `("", "1,234 tokens/s")`.
#[derive(Clone, Debug)]
pub struct Update<'a> {
    /// The task: "stage 1", "tiny-vqa". All its updates have the same name.
    pub task: &'a str,
    pub done: u64,
    /// 0 when it is not known.
    pub total: u64,
    /// What is counted, in the plural: "steps", "questions".
    pub unit: &'a str,
    pub facts: &'a [(&'a str, String)],
    /// The last update of the task, whether it got to the end or was interrupted.
    pub finished: bool,
}

/// Shows updates; made once per process and shared between threads. The clock of a task starts at its first update, which is
/// best sent before any work: `done` is 0 then, or where a resumed run starts.
pub struct Progress {
    look: Look,
}

enum Look {
    Quiet,
    Plain(Mutex<HashMap<String, Plain>>),
    Bars { all: MultiProgress, bars: Mutex<HashMap<String, Bar>> },
}

impl Progress {
    /// `is_tty` says whether standard error is a terminal.
    pub fn new(quiet: bool, is_tty: bool) -> Self {
        let look = match (quiet, is_tty) {
            (true, _) => Look::Quiet,
            (_, false) => Look::Plain(Mutex::default()),
            // It has no cursor to move.
            _ if variable("TERM").is_some_and(|term| term == "dumb") => Look::Plain(Mutex::default()),
            _ => {
                let target = ProgressDrawTarget::term_like_with_hz(Box::new(Screen::default()), 10);
                let all = MultiProgress::with_draw_target(target);
                Look::Bars { all, bars: Mutex::default() }
            }
        };
        Progress { look }
    }

    /// Shows the progress of a task.
    pub fn update(&self, update: &Update) {
        match &self.look {
            Look::Quiet => {}
            Look::Plain(tasks) => {
                let now = Instant::now();
                let mut tasks = locked(tasks);
                let line = tasks
                    .entry(update.task.to_string())
                    .or_insert_with(|| Plain::starting(update, now))
                    .line(update, now);
                if update.finished {
                    tasks.remove(update.task);
                }
                if let Some(line) = line {
                    tell(&line);
                }
            }
            Look::Bars { all, bars } => {
                let mut bars = locked(bars);
                let bar = bars.entry(update.task.to_string()).or_insert_with(|| Bar::new(all, update));
                bar.show(update);
                if update.finished {
                    let line = summary(update, bar.started.elapsed());
                    bar.bar.finish_and_clear();
                    all.remove(&bar.bar);
                    bars.remove(update.task);
                    all.suspend(|| tell(&line));
                }
            }
        }
    }

    /// Prints a line that stays.
    pub fn note(&self, line: &str) {
        if !matches!(self.look, Look::Quiet) {
            self.suspend(|| tell(line));
        }
    }

    /// Runs `print` while no bar is on the screen, so that its output is not mixed with one.
    pub fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        match &self.look {
            Look::Bars { all, .. } => all.suspend(print),
            _ => print(),
        }
    }
}

/// The lock, also after a panic of another thread while it printed, which leaves nothing inconsistent here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One task in plain lines.
struct Plain {
    started: Instant,
    /// `done` at the first update: a resumed run starts in the middle.
    before: u64,
    last: Instant,
}

impl Plain {
    fn starting(update: &Update, now: Instant) -> Self {
        Plain { started: now, before: update.done, last: now }
    }

    /// The line to print now, if one is due.
    fn line(&mut self, update: &Update, now: Instant) -> Option<String> {
        let elapsed = now.duration_since(self.started);
        if update.finished {
            return Some(summary(update, elapsed));
        }
        if now.duration_since(self.last) < PLAIN {
            return None;
        }
        self.last = now;
        let count = match update.total {
            0 => format!("{} {}", update.done, update.unit),
            total => format!("{}/{total} {}", update.done, update.unit),
        };
        Some(format!("{}: {count}{}{}", update.task, left(update, self.before, elapsed), facts(update)))
    }
}

/// One task as a bar.
struct Bar {
    bar: ProgressBar,
    started: Instant,
    before: u64,
}

impl Bar {
    fn new(all: &MultiProgress, update: &Update) -> Self {
        let bar = all.add(ProgressBar::new(update.total));
        let template = match update.total {
            0 => "{prefix} {spinner} {pos} {msg}",
            _ => "{prefix} {bar:24.cyan/dim} {pos}/{len} {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("\u{2501}\u{2578}\u{2500}"));
        }
        bar.set_prefix(update.task.to_string());
        Bar { bar, started: Instant::now(), before: update.done }
    }

    fn show(&self, update: &Update) {
        let left = left(update, self.before, self.started.elapsed());
        self.bar.set_length(update.total);
        self.bar.set_message(format!("{}{left}{}", update.unit, facts(update)));
        self.bar.set_position(update.done);
    }
}

/// `, 4 min 12 s left` at the mean speed so far; empty until there is a speed, or where the total is not known.
fn left(update: &Update, before: u64, elapsed: Duration) -> String {
    let done = update.done.saturating_sub(before);
    let rest = update.total.saturating_sub(update.done);
    if done == 0 || rest == 0 {
        return String::new();
    }
    // Fractions of a second would only flicker.
    match (elapsed.as_secs_f64() / done as f64 * rest as f64).ceil() {
        short if short < 60.0 => format!(", {short} s left"),
        long => format!(", {} left", seconds(long)),
    }
}

/// `, loss 0.123, 1,234 tokens/s`.
fn facts(update: &Update) -> String {
    let fact = |(name, value): &(&str, String)| {
        if name.is_empty() { format!(", {value}") } else { format!(", {name} {value}") }
    };
    update.facts.iter().map(fact).collect()
}

/// `stage 2: 250 steps in 1 min 32 s, loss 0.0432`; `120 of 250 steps` when it ended early.
fn summary(update: &Update, elapsed: Duration) -> String {
    let count = match update.total {
        total if total > update.done => format!("{} of {total}", update.done),
        _ => update.done.to_string(),
    };
    format!("{}: {count} {} in {}{}", update.task, update.unit, seconds(elapsed.as_secs_f64()), facts(update))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(done: u64, facts: &'a [(&'a str, String)], finished: bool) -> Update<'a> {
        Update { task: "stage 2", done, total: 250, unit: "steps", facts, finished }
    }

    #[test]
    fn a_plain_line_every_two_seconds_and_one_at_the_end() {
        let loss = [("loss", "0.0432".to_string()), ("", "1,234 tokens/s".to_string())];
        let start = Instant::now();
        let mut plain = Plain::starting(&at(0, &loss, false), start);
        let mut lines = Vec::new();
        for step in 0..=250u64 {
            let now = start + Duration::from_millis(100 * step);
            lines.extend(plain.line(&at(step, &loss, step == 250), now));
        }
        assert_eq!(lines.len(), 13); // every 20 steps up to 240, then the last
        assert_eq!(lines[0], "stage 2: 20/250 steps, 23 s left, loss 0.0432, 1,234 tokens/s");
        assert_eq!(lines[12], "stage 2: 250 steps in 25.0 s, loss 0.0432, 1,234 tokens/s");
    }

    #[test]
    fn a_resumed_run_is_not_counted_as_fast() {
        let start = Instant::now();
        let mut plain = Plain::starting(&at(200, &[], false), start);
        let line = plain.line(&at(210, &[], false), start + Duration::from_secs(10));
        assert_eq!(line.as_deref(), Some("stage 2: 210/250 steps, 40 s left"));
        let end = plain.line(&at(220, &[], true), start + Duration::from_secs(92));
        assert_eq!(end.as_deref(), Some("stage 2: 220 of 250 steps in 1 min 32 s"));
    }

    #[test]
    fn an_unknown_total_has_no_estimate() {
        let update = Update { task: "verify", done: 40, total: 0, unit: "samples", facts: &[], finished: false };
        let mut plain = Plain::starting(&update, Instant::now());
        let line = plain.line(&update, Instant::now() + Duration::from_secs(3));
        assert_eq!(line.as_deref(), Some("verify: 40 samples"));
    }
}
