//! Events of one cell, with the cell's position in the study in front of the name of their task.

use crate::events::{Event, Listener, Listeners};

/// Passes events on under a longer name.
pub(super) struct Titled {
    title: String,
    to: Listeners,
}

impl Titled {
    /// Listeners that pass events on to `to` with `title` in front of the task.
    pub(super) fn listeners(title: String, to: &Listeners) -> Listeners {
        Listeners::default().with(std::sync::Arc::new(Titled { title, to: to.clone() }))
    }
}

impl Listener for Titled {
    fn hear(&self, event: &Event) {
        let mut event = event.clone();
        match &mut event {
            Event::Start { task, .. }
            | Event::Scored { task, .. }
            | Event::Progress { task, .. }
            | Event::End { task, .. } => *task = format!("{}: {task}", self.title),
            Event::Warning { text } => *text = format!("{}: {text}", self.title),
            _ => {}
        }
        self.to.tell(&event);
    }
}
