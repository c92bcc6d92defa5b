//! Galleries of answers: questions spread over a benchmark, wrong ones first, each with its pictures and with how the
//! output led to the score.

use std::collections::HashMap;

use super::maps::maps_of;
use crate::error::{Error, Result};
use crate::eval::{Benchmark, Contents, Item, Metric, Results, Row};
use crate::image::Image;
use crate::show::Picture;
use crate::show::page::{Card, Gallery, Shot, fitted};
use crate::vlm::Vlm;

/// One in so many cards shows a right answer.
const ONE_RIGHT_IN: usize = 4;

/// The sources of a gallery.
pub(super) struct Answers<'a> {
    pub results: &'a Results,
    /// The benchmark, or why it could not be opened.
    pub benchmark: std::result::Result<&'a Benchmark, &'a Error>,
    /// The model that answered, where it is available, or why it could not be opened.
    pub model: std::result::Result<Option<&'a Vlm>, &'a Error>,
    /// The number of questions that get maps.
    pub maps: usize,
    /// The largest number of questions.
    pub most: usize,
}

impl Answers<'_> {
    /// The gallery under the given title.
    pub(super) fn gallery(&self, title: &str) -> Result<Gallery> {
        let rows = &self.results.rows;
        let unscored = self.results.scorer.metric() == Metric::None;
        let is_right = |row: &Row| unscored || row.score >= 1.0;
        let (right, wrong): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|place| is_right(&rows[*place]));
        let some_right = right.len().min((self.most / ONE_RIGHT_IN).max(self.most.saturating_sub(wrong.len())));
        let chosen = [spread(&wrong, self.most - some_right), spread(&right, some_right)].concat();
        let items: HashMap<&str, &Item> = match self.benchmark {
            Ok(benchmark) => benchmark.items.iter().map(|item| (item.id.as_str(), item)).collect(),
            Err(_) => HashMap::new(),
        };
        let mut notes = Vec::new();
        if chosen.len() < rows.len() {
            notes.push(format!(
                "{} of {} wrong and {some_right} of {} right answers, spread over the benchmark",
                chosen.len() - some_right,
                wrong.len(),
                right.len()
            ));
        }
        if unscored {
            notes.push("nothing scores these answers automatically".to_string());
        }
        if let Err(error) = self.benchmark {
            notes.push(format!("no pictures: {}", error.message()));
        }
        let no_maps = |error: &Error| format!("no maps: {}", error.message());
        let (mut cards, mut mapped) = (Vec::with_capacity(chosen.len()), 0);
        let mut broken = self.model.err().map(no_maps);
        let mut contents = Contents::default();
        contents.read(chosen.iter().filter_map(|place| items.get(rows[*place].id.as_str()).copied()));
        let mut others = 0;
        for place in chosen {
            let row = &rows[place];
            // A results file may be about other data than the benchmark has now.
            let item = items.get(row.id.as_str()).filter(|item| item.prompt == row.prompt);
            let shown = item.map_or_else(Vec::new, |item| contents.of(item));
            let is_other = !row.pictures.is_empty() && !shown.is_empty() && row.pictures != shown;
            others += usize::from(is_other);
            let item = item.filter(|_| !is_other);
            let images: Vec<Image> = match item {
                Some(item) => item.images.iter().take(2).filter_map(|source| source.open().ok()).collect(),
                None => Vec::new(),
            };
            let mut shots = images.iter().map(shot).collect::<Result<Vec<Shot>>>()?;
            if let (Ok(Some(model)), [image]) = (self.model, images.as_slice())
                && mapped < self.maps
                && broken.is_none()
            {
                match maps_of(model, image, &row.prompt) {
                    Ok(maps) => shots.extend(maps),
                    Err(error) => broken = Some(no_maps(&error)),
                }
                mapped += 1;
            }
            cards.push(self.card(place, is_right(row), shots)?);
        }
        if others > 0 {
            notes.push(format!("{others} pictures are left out: these answers are about other pictures"));
        }
        notes.extend(broken);
        Ok(Gallery { title: title.to_string(), cards, note: notes.join("; ") })
    }

    fn card(&self, place: usize, right: bool, shots: Vec<Shot>) -> Result<Card> {
        let row = self.results.row(place)?;
        Ok(Card {
            id: row.id.clone(),
            category: row.category.clone(),
            right,
            question: row.prompt.clone(),
            output: row.output.clone(),
            gold: gold(row),
            why: self.results.why(place)?,
            shots,
        })
    }
}

/// The right answer: for a letter also the text of that choice.
fn gold(row: &Row) -> String {
    let answer = row.gold.answer.to_string();
    let choice = row.gold.choices.iter().find(|choice| choice.letter.to_string() == answer);
    choice.map_or(answer, |choice| format!("{}. {}", choice.letter, choice.text))
}

/// `n` of the positions, as far from each other as possible.
fn spread(places: &[usize], n: usize) -> Vec<usize> {
    let n = n.min(places.len());
    (0..n).map(|i| places[i * places.len() / n]).collect()
}

fn shot(image: &Image) -> Result<Shot> {
    let picture = Picture::new(image.width, image.height, image.pixels.to_vec())?;
    Ok(Shot { picture: fitted(&picture), caption: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread() {
        assert_eq!(spread(&[1, 2, 3, 4, 5, 6, 7, 8], 4), [1, 3, 5, 7]);
        assert_eq!(spread(&[7, 9], 4), [7, 9]);
        assert!(spread(&[], 4).is_empty());
    }
}
