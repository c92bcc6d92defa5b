//! Events of one cell, told with the cell's place in the study before the name of their task.

use crate::events::{Event, Listener, Listeners};

/// Hands events on under a longer name.
pub(super) struct Titled {
    title: String,
    to: Listeners,
}

impl Titled {
    /// Listeners that tell `to` what `title` is doing.
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
