//! Asking a model the questions of a benchmark: what is in the cache is not asked, equal questions about one picture are
//! asked once, and choices are generated or weighed by how likely their letters are.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::answers::{Answer, KeptAnswers, Likelihood};
use super::benchmark::Benchmark;
use super::contents::Contents;
use super::item::Item;
use super::run_options::{Choices, Control, RunOptions};
use crate::data::ImageSource;
use crate::error;
use crate::error::{Context, Result};
use crate::events::Event;
use crate::image::Image;
use crate::text::{Turn, with_image_marks};
use crate::vlm::Vlm;
use crate::vlm::generate::{Finish, Outcome, Question, Sampling, VlmEngine, Wanted};

const GRAY: [u8; 3] = [128, 128, 128];

/// A model that is being asked.
pub(super) struct Examination<'a> {
    vlm: &'a Vlm,
    engine: VlmEngine<'a>,
    sampling: Sampling,
    options: &'a RunOptions,
    kept: Option<KeptAnswers>,
    pub(super) contents: Contents,
    /// Answers that were not computed for their question.
    pub(super) cached: usize,
}

/// A question as it is put to the model.
struct Prepared {
    question: Question,
    /// The letters that are weighed; none where the answer is generated.
    letters: Vec<char>,
    key: Option<String>,
}

impl<'a> Examination<'a> {
    pub(super) fn new(
        vlm: &'a Vlm,
        benchmark: &Benchmark,
        options: &'a RunOptions,
        kept: Option<KeptAnswers>,
        contents: Contents,
    ) -> Result<Self> {
        let sampling = Sampling { max_new_tokens: benchmark.max_new_tokens, ..Sampling::default() };
        let engine = VlmEngine::new(vlm, options.batch)?;
        Ok(Examination { vlm, engine, sampling, options, kept, contents, cached: 0 })
    }

    /// Answers some questions. Inner errors are those of single questions; after an interrupt that is `Interrupted` where
    /// an answer is not whole.
    pub(super) fn answer(&mut self, items: &[&Item]) -> Result<Vec<Result<Answer>>> {
        self.contents.read(items.iter().copied());
        let asked: Vec<Result<Prepared>> =
            items.par_iter().map(|item| self.prepared(item).context(|| format!("item `{}`", item.id))).collect();
        let mut answers: Vec<Option<Result<Answer>>> = asked.iter().map(|asked| self.known(asked)).collect();
        self.cached += answers.iter().filter(|answer| matches!(answer, Some(Ok(_)))).count();
        let (new, repeated) = new_questions(&asked, &answers);
        let pictures = OpenedPictures::open(new.iter().map(|&place| items[place]), self.options.control);
        let missing = |place: usize| items[place].shown().iter().find_map(|source| pictures.get(source).err());
        let mut ask: Vec<(usize, &Prepared)> = Vec::with_capacity(new.len());
        for place in new {
            match (&asked[place], missing(place)) {
                (Ok(question), None) => ask.push((place, question)),
                (_, Some(error)) => answers[place] = Some(Err(error.context(format!("item `{}`", items[place].id)))),
                (Err(error), None) => answers[place] = Some(Err(error.clone())),
            }
        }
        let open = |place: usize, image: usize| pictures.get(&items[place].images[image]);
        let found = self.run(&ask, &open)?;
        for (place, answer) in found {
            answers[place] = Some(Ok(answer));
        }
        self.keep(ask.iter().filter_map(|(place, asked)| Some((asked.key.clone()?, answers[*place].clone()?.ok()?))));
        for (place, first) in repeated {
            self.cached += usize::from(matches!(answers[first], Some(Ok(_))));
            answers[place] = answers[first].clone();
        }
        let cut = || Err(error!(Interrupted, "the answer was cut short"));
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(cut)).collect())
    }

    fn prepared(&self, item: &Item) -> Result<Prepared> {
        if let Some(why) = item.lacks_pictures() {
            return Err(error!(Data, "{why}"));
        }
        let images = item.shown();
        let turn = Turn::human(with_image_marks(&item.prompt, images.len()));
        let (template, tokenizer) = (self.vlm.template(), self.vlm.tokenizer()?);
        let mut letters = Vec::new();
        if self.options.choices == Choices::Likelihood {
            for choice in &item.gold.choices {
                letters.push((choice.letter, template.answer_ids(tokenizer, &turn, &choice.letter.to_string())?));
            }
        }
        let ids = template.prompt(tokenizer, &[turn])?;
        let images: Vec<String> = images.iter().map(|source| source.key()).collect();
        let key = self.kept.as_ref().map(|kept| self.key(kept, (&ids, &images), &letters)).transpose()?;
        let (letters, continuations): (Vec<char>, Vec<Vec<u32>>) = letters.into_iter().unzip();
        let wanted =
            if letters.is_empty() { Wanted::Text(self.sampling.clone()) } else { Wanted::Likelihoods(continuations) };
        Ok(Prepared { question: Question { ids, images, wanted }, letters, key })
    }

    fn key(
        &self,
        kept: &KeptAnswers,
        (ids, images): (&[i64], &[String]),
        letters: &[(char, Vec<u32>)],
    ) -> Result<String> {
        let how = match letters {
            [] => format!("generate {}", self.sampling.max_new_tokens),
            letters => format!("likelihood {letters:?}"),
        };
        let content = |key: &String| {
            let hash = self.contents.get(key).unwrap_or_else(|| Ok(key.clone()))?;
            Ok(match self.options.control {
                Control::Off => hash,
                Control::Gray => format!("gray {hash}"),
            })
        };
        let pictures = images.iter().map(content).collect::<Result<Vec<String>>>()?;
        Ok(kept.key(&how, ids, &pictures))
    }

    /// What need not be asked: answers in the cache, and questions that cannot be asked.
    fn known(&self, asked: &Result<Prepared>) -> Option<Result<Answer>> {
        match asked {
            Err(error) => Some(Err(error.clone())),
            Ok(asked) => Some(Ok(self.kept.as_ref()?.get(asked.key.as_ref()?)?)),
        }
    }

    /// Answers questions, as far as nobody presses Ctrl-C.
    fn run(&mut self, asked: &[(usize, &Prepared)], open: &Open) -> Result<Vec<(usize, Answer)>> {
        let questions: Vec<Question> = asked.iter().map(|(_, asked)| asked.question.clone()).collect();
        let open = |number: usize, image: usize| open(asked[number].0, image);
        let on = &mut |_: usize, _: &str, _: bool| !self.options.interrupt.is_set();
        let outcomes = self.engine.run(&questions, &open, on)?;
        let whole = asked.iter().zip(outcomes).filter(|(_, outcome)| outcome.finish != Finish::Cancelled);
        Ok(whole.map(|((place, asked), outcome)| (*place, answer(&asked.letters, outcome))).collect())
    }

    fn keep(&mut self, new: impl Iterator<Item = (String, Answer)>) {
        let Some(kept) = &mut self.kept else { return };
        if let Err(error) = kept.add(new.collect()) {
            let text = format!("answers are no longer kept: {}", error.message());
            self.options.listeners.tell(&Event::Warning { text });
        }
    }
}

type Open<'a> = dyn Fn(usize, usize) -> Result<Image> + Sync + 'a;

/// What was generated, or the likeliest letter; the first of equals.
fn answer(letters: &[char], outcome: Outcome) -> Answer {
    if letters.is_empty() {
        return Answer { output: outcome.text, likelihoods: Vec::new() };
    }
    let weighed = letters.iter().zip(outcome.likelihoods);
    let likelihoods: Vec<Likelihood> =
        weighed.map(|(&letter, log_probability)| Likelihood { letter, log_probability }).collect();
    let likelier = |best: &Likelihood, next: &Likelihood| next.log_probability > best.log_probability;
    let best = likelihoods.iter().reduce(|best, next| if likelier(best, next) { next } else { best });
    Answer { output: best.map_or(String::new(), |best| best.letter.to_string()), likelihoods }
}

/// The places to ask, and the places whose question stands at another place already.
fn new_questions(asked: &[Result<Prepared>], answers: &[Option<Result<Answer>>]) -> (Vec<usize>, Vec<(usize, usize)>) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let (mut new, mut repeated) = (Vec::new(), Vec::new());
    for place in (0..asked.len()).filter(|&place| answers[place].is_none()) {
        let key = asked[place].as_ref().ok().and_then(|asked| asked.key.as_deref());
        match key.and_then(|key| first.insert(key, place).map(|earlier| (key, earlier))) {
            None => new.push(place),
            Some((key, earlier)) => {
                first.insert(key, earlier);
                repeated.push((place, earlier));
            }
        }
    }
    (new, repeated)
}

/// The pictures of some questions, each opened once.
struct OpenedPictures(HashMap<String, Result<Image>>);

impl OpenedPictures {
    fn open<'a>(items: impl Iterator<Item = &'a Item>, control: Control) -> Self {
        let mut keys = HashSet::new();
        let sources: Vec<&ImageSource> =
            items.flat_map(Item::shown).filter(|source| keys.insert(source.key())).collect();
        let open = |source: &&ImageSource| -> Result<Image> {
            let image = source.open()?;
            Ok(match control {
                Control::Off => image,
                Control::Gray => Image::filled(image.width, image.height, GRAY),
            })
        };
        OpenedPictures(sources.par_iter().map(|source| (source.key(), open(source))).collect())
    }

    fn get(&self, source: &ImageSource) -> Result<Image> {
        match self.0.get(&source.key()) {
            Some(image) => image.clone(),
            None => source.open(),
        }
    }
}
