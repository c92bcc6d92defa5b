//! Benchmarks of the embedded pictures: easy-VQA's questions, those that ask for yes or no, and a choice of four
//! captions for an emoji. Which captions and in which order follows from the picture's number alone.

use std::sync::Arc;

use serde::Deserialize;

use super::gold::{Gold, lettered};
use super::item::Item;
use crate::data::Pack;
use crate::error;
use crate::error::Result;
use crate::rng::Rng;

/// What is asked about the pictures of a pack.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PackQuestions {
    /// The pack's own questions.
    #[default]
    Questions,
    /// Those whose answer is yes or no.
    YesNo,
    /// Which of four captions fits; the others are of pictures of the same group.
    Choices,
}

const COLORS: [&str; 8] = ["red", "green", "blue", "yellow", "black", "gray", "teal", "brown"];

/// The items of a pack, picture by picture.
pub(super) fn pack_items(source: &str, questions: PackQuestions) -> Result<Vec<Item>> {
    let pack = Pack::open(source)?;
    if let PackQuestions::Choices = questions {
        return (0..pack.len()).map(|image| choices(&pack, image)).collect();
    }
    let mut items = Vec::new();
    for image in 0..pack.len() {
        for (number, (question, answer)) in pack.questions(image).iter().enumerate() {
            let yes_no = ["yes", "no"].contains(&answer.as_str());
            let category = match (questions, yes_no) {
                (PackQuestions::YesNo, false) => continue,
                (PackQuestions::YesNo, true) if COLORS.iter().any(|color| question.contains(color)) => "color",
                (PackQuestions::YesNo, true) => "shape",
                (_, true) => "yes/no",
                (_, false) if question.contains("color") => "color",
                (_, false) => "shape",
            };
            let id = format!("{image}-{number}");
            items.push(item(&pack, image, id, question.clone(), Gold::new(answer.clone()), category));
        }
    }
    Ok(items)
}

fn item(pack: &Arc<Pack>, image: usize, id: String, prompt: String, gold: Gold, category: &str) -> Item {
    let source = pack.picture(image);
    let (group, category) = (source.key(), category.to_string());
    let (other_id, section) = (String::new(), String::new());
    Item { id, other_id, group, images: vec![source], prompt, gold, category, section }
}

const CHOICES: usize = 4;

fn choices(pack: &Arc<Pack>, image: usize) -> Result<Item> {
    let rng = Rng::new(0, "choices").split(image as u64);
    let caption = pack.caption(image);
    let mut captions = vec![caption.clone()];
    let order = rng.split(0).permutation(pack.len());
    let same = order.into_iter().filter(|other| pack.group(*other) == pack.group(image));
    for other in same.map(|other| pack.caption(other)) {
        if captions.len() < CHOICES && !captions.contains(&other) {
            captions.push(other);
        }
    }
    if captions.len() < CHOICES {
        return Err(error!(Data, "picture {image} of `{}` has too few others in its group", pack.name()));
    }
    let order = rng.split(1).permutation(CHOICES);
    let choices = lettered(order.iter().map(|choice| Some(captions[*choice].clone())));
    let answer = choices.iter().find(|choice| choice.text == caption).map_or(String::new(), |c| c.letter.to_string());
    let lines: Vec<String> = choices.iter().map(|choice| format!("{}. {}", choice.letter, choice.text)).collect();
    let prompt = format!(
        "What is in the image?\n{}\nAnswer with the option's letter from the given choices directly.",
        lines.join("\n")
    );
    let gold = Gold { choices, ..Gold::new(answer) };
    let mut item = item(pack, image, image.to_string(), prompt, gold, "image");
    item.section = pack.group(image).to_string();
    Ok(item)
}
