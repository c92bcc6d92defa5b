//! How a model is talked to: the template that makes a text of a conversation, and what becomes of pictures that are no
//! squares. A model is asked and saved as it was trained last, so training changes them, for everybody who holds the model.

use std::sync::{PoisonError, RwLock};

use super::Vlm;
use crate::error;
use crate::error::Result;
use crate::image::Aspect;
use crate::text::Template;

/// The conventions of a model at a moment.
#[derive(Clone, Debug)]
pub struct Conventions {
    /// How conversations become text.
    pub template: Template,
    /// What happens to a picture that is not square.
    pub aspect: Aspect,
    /// Whether somebody chose the template by hand, so that no training may take another one.
    by_hand: bool,
    /// The template that it was trained or made with, where somebody chose another one by hand.
    pub trained_by: Option<String>,
}

impl Conventions {
    fn words(template: &Template, aspect: Aspect) -> String {
        format!("template `{}` and image `{}`", template.name(), aspect.name())
    }
}

/// The conventions now.
pub(super) struct Held(RwLock<Conventions>);

impl Held {
    pub(super) fn new(template: Template, aspect: Aspect) -> Self {
        Held(RwLock::new(Conventions { template, aspect, by_hand: false, trained_by: None }))
    }
}

impl Vlm {
    /// How it is asked and saved now.
    pub fn conventions(&self) -> Conventions {
        self.held.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How conversations become text.
    pub fn template(&self) -> Template {
        self.conventions().template
    }

    /// What happens to a picture that is not square.
    pub fn aspect(&self) -> Aspect {
        self.conventions().aspect
    }

    fn change(&self, change: impl FnOnce(&mut Conventions)) {
        change(&mut self.held.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Says that its template was chosen by hand; `made_with` is what its folder says instead, if it does.
    pub(crate) fn choose_by_hand(&self, made_with: Option<&str>) {
        self.change(|now| {
            now.by_hand = true;
            now.trained_by = made_with.filter(|name| *name != now.template.name()).map(str::to_string);
        });
        if let Some(made_with) = self.conventions().trained_by {
            self.notes.add(format!(
                "asked by template `{}`, which was given by hand; its config.json names `{made_with}`, which it was trained \
                 or made with",
                self.template().name()
            ));
        }
    }

    /// Whether its template was chosen by hand.
    pub fn is_template_by_hand(&self) -> bool {
        self.conventions().by_hand
    }

    /// Asks as the released inference does, whatever the template.
    pub(crate) fn take_reference_quirks(&self) {
        self.change(|now| now.template = now.template.with_reference_quirks());
    }

    /// Refuses to train by another template than the one that was chosen by hand. One of captions alone (stage 1) is
    /// nobody's to be asked by, and may differ.
    ///
    /// # Errors
    /// `Option`, naming both templates.
    pub fn check_training(&self, template: &Template) -> Result<()> {
        let now = self.conventions();
        let (own, asked) = (now.template.name(), template.name());
        if !now.by_hand || own == asked || template.is_for_captions() {
            return Ok(());
        }
        Err(error!(
            Option,
            "the trainer's template is `{asked}`, the model was opened with `template: \"{own}\"` by hand: it would be \
             trained by one and asked by the other"
        )
        .help(format!(
            "leave `template` out of `vlm` or `load`, and the model is asked by `{asked}` once it is trained; or train it by \
             `template: \"{own}\"`"
        )))
    }

    /// Takes over what it has just been trained by, and gives the sentence that says so where that changes something. A
    /// template of captions alone (stage 1) prepares a model for another one: template and image stay as they are.
    pub fn adopt(&self, template: &Template, aspect: Aspect) -> Option<String> {
        let now = self.conventions();
        if template.is_for_captions() {
            return None;
        }
        if now.template.name() == template.name() && now.aspect == aspect {
            self.change(|now| now.trained_by = None);
            return None;
        }
        let (before, after) = (Conventions::words(&now.template, now.aspect), Conventions::words(template, aspect));
        self.change(|now| {
            let quirks = now.template.has_reference_quirks();
            now.template = if quirks { template.with_reference_quirks() } else { template.clone() };
            now.aspect = aspect;
            now.trained_by = None;
        });
        Some(format!("the model is asked and saved by {after} from now on, as it is trained; it was by {before}"))
    }
}
