//! The text of an answer while its tokens come: only a window of ids is decoded at each step, a character that is not
//! whole yet waits, and so does what may be the beginning of a stop text.

use std::sync::Arc;

use super::Stops;
use crate::error::Result;
use crate::text::Tokenizer;

/// Ids that may wait for a whole character before the ones that cannot change any more are taken.
const WAITING: usize = 8;
/// A character has at most four bytes: this many ids at the end may still be part of one.
const UNFINISHED: usize = 3;
/// What a decoder puts where bytes are no character.
const BROKEN: char = '\u{fffd}';

/// The text of one answer so far.
pub(super) struct Transcript {
    stops: Arc<Stops>,
    ids: Vec<u32>,
    /// `ids[context..read]` are in `text` and stand before what comes, for decoders that look at their neighbors.
    context: usize,
    read: usize,
    text: String,
    /// Bytes of `text` that `fresh` has given.
    given: usize,
    ended: bool,
}

impl Transcript {
    pub(super) fn new(stops: Arc<Stops>) -> Self {
        Transcript { stops, ids: Vec::new(), context: 0, read: 0, text: String::new(), given: 0, ended: false }
    }

    /// Takes the next token; `true` when it ends the answer.
    pub(super) fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<bool> {
        if self.stops.ids.contains(&id) {
            self.flush(tokenizer)?;
            self.ended = true;
            return Ok(true);
        }
        self.ids.push(id);
        let decode = |from, to| self.decode(tokenizer, from, to);
        let (shown, all) = (decode(self.context, self.read)?, decode(self.context, self.ids.len())?);
        let waiting = self.ids.len() - self.read;
        match all.strip_prefix(shown.as_str()) {
            Some("") if waiting > WAITING => self.ids.truncate(self.read),
            Some("") | None => {}
            Some(_) if all.ends_with(BROKEN) => {
                if waiting > WAITING {
                    self.settle(tokenizer, &shown, &all)?;
                }
            }
            Some(fresh) => {
                self.text.push_str(fresh);
                (self.context, self.read) = (self.read, self.ids.len());
            }
        }
        self.find_stop();
        Ok(self.ended)
    }

    /// Ends the answer where it is; `true` where that shows a stop text.
    pub(super) fn finish(&mut self, tokenizer: &Tokenizer) -> Result<bool> {
        if !self.ended {
            self.flush(tokenizer)?;
            self.find_stop();
        }
        Ok(std::mem::replace(&mut self.ended, true))
    }

    /// What was not given before and can be shown: put together, the pieces are the text.
    pub(super) fn fresh(&mut self) -> &str {
        let mut end = self.text.len() - if self.ended { 0 } else { self.held() };
        let mut start = 0;
        if self.stops.trim {
            start = self.text.len() - self.text.trim_start().len();
            end = self.text[..end].trim_end().len();
        }
        let from = self.given.max(start);
        if end <= from {
            return "";
        }
        self.given = end;
        &self.text[from..end]
    }

    /// The text so far.
    pub(super) fn text(&self) -> &str {
        if self.stops.trim { self.text.trim() } else { &self.text }
    }

    fn decode(&self, tokenizer: &Tokenizer, from: usize, to: usize) -> Result<String> {
        tokenizer.decode(&self.ids[from..to])
    }

    /// Takes bytes that are no character: up to a place where the text on both sides does not depend on the other.
    fn settle(&mut self, tokenizer: &Tokenizer, shown: &str, all: &str) -> Result<()> {
        let len = self.ids.len();
        for cut in (self.read + 1..=len - UNFINISHED).rev() {
            let (before, after) = (self.decode(tokenizer, self.context, cut)?, self.decode(tokenizer, cut, len)?);
            if before.len() > shown.len() && before.starts_with(shown) && format!("{before}{after}") == all {
                self.text.push_str(&before[shown.len()..]);
                (self.context, self.read) = (cut, cut);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes what is left, whole or not.
    fn flush(&mut self, tokenizer: &Tokenizer) -> Result<()> {
        let decode = |from, to| self.decode(tokenizer, from, to);
        let (shown, all) = (decode(self.context, self.read)?, decode(self.context, self.ids.len())?);
        self.text.push_str(all.strip_prefix(shown.as_str()).unwrap_or_default());
        (self.context, self.read) = (self.ids.len(), self.ids.len());
        Ok(())
    }

    fn find_stop(&mut self) {
        if let Some(end) = self.stops.texts.iter().filter_map(|stop| self.find(stop)).min() {
            self.text.truncate(end);
            self.ended = true;
        }
    }

    /// Where a stop text begins: at most its own length before what was given last.
    fn find(&self, stop: &str) -> Option<usize> {
        let mut from = self.given.saturating_sub(stop.len());
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        self.text[from..].find(stop).map(|at| from + at)
    }

    /// Bytes at the end that may be the beginning of a stop text.
    fn held(&self) -> usize {
        let beginning = |stop: &String| {
            let ends = (1..stop.len()).rev().filter(|&end| stop.is_char_boundary(end));
            ends.into_iter().find(|&end| self.text.ends_with(&stop[..end])).unwrap_or(0)
        };
        self.stops.texts.iter().map(beginning).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn tokenizer(path: &str) -> Tokenizer {
        Tokenizer::open(Path::new(path)).unwrap()
    }

    fn stops(texts: &[&str], trim: bool) -> Stops {
        Stops { ids: vec![2], texts: texts.iter().map(|text| text.to_string()).collect(), trim }
    }

    /// The pieces and the text in the end.
    fn run(tokenizer: &Tokenizer, stops: &Stops, ids: &[u32]) -> (Vec<String>, String) {
        let mut transcript = Transcript::new(Arc::new(stops.clone()));
        let mut pieces = Vec::new();
        for &id in ids {
            let ended = transcript.push(tokenizer, id).unwrap();
            pieces.push(transcript.fresh().to_string());
            if ended {
                break;
            }
        }
        transcript.finish(tokenizer).unwrap();
        pieces.push(transcript.fresh().to_string());
        (pieces, transcript.text().to_string())
    }

    #[test]
    fn pieces_are_whole_characters_and_add_up_to_the_full_decode() {
        let t = tokenizer("stdlib/models/tiny-llama");
        let none = stops(&[], false);
        let emoji = "caf\u{e9} \u{20ac}5 \u{1f600}\u{1f468}\u{200d}\u{1f469} \u{65e5}\u{672c}";
        for text in ["a red circle", emoji, " a\n\n b ", ""] {
            let (pieces, whole) = run(&t, &none, &t.encode(text).unwrap());
            assert_eq!((pieces.concat().as_str(), whole.as_str()), (text, text));
            assert!(pieces.iter().all(|piece| !piece.contains(BROKEN)), "{pieces:?}");
        }
    }

    /// The decoder of sentencepiece conversions: a prefix space that is stripped, bytes as tokens.
    #[test]
    fn a_space_after_the_first_word_is_kept() {
        let json = r#"{ "version": "1.0", "added_tokens": [{ "id": 1, "content": "<s>", "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true }],
            "decoder": { "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": "\u2581" }, "content": " " }, { "type": "ByteFallback" },
                { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 }] },
            "model": { "type": "BPE", "byte_fallback": true, "merges": [], "vocab": { "<unk>": 0, "<s>": 1, "</s>": 2,
                "<0xE2>": 3, "<0x82>": 4, "<0xAC>": 5, "\u2581a": 6, "b": 7 } } }"#;
        let t = Tokenizer::from_bytes(json.as_bytes(), "sentencepiece").unwrap();
        let ids = [1, 6, 6, 1, 6, 3, 4, 5, 7, 6];
        let (pieces, whole) = run(&t, &stops(&[], false), &ids);
        assert_eq!((pieces.concat().as_str(), whole.as_str()), ("a a a\u{20ac}b a", "a a a\u{20ac}b a"));
        assert_eq!(whole, t.decode(&ids).unwrap());
    }

    #[test]
    fn bytes_that_are_no_character_do_not_wait_forever() {
        let t = tokenizer("stdlib/models/tiny-llama");
        let mut state = 7u32;
        // Ids of single bytes, most of them no whole characters, with some words between.
        let ids: Vec<u32> = (0..400)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 16
            })
            .map(|draw| if draw % 5 == 0 { 259 + draw % 700 } else { 97 + draw % 161 })
            .filter(|id| t.decode(&[*id]).is_ok() && *id != 2)
            .collect();
        let (pieces, whole) = run(&t, &stops(&[], false), &ids);
        assert_eq!(whole, t.decode(&ids).unwrap());
        assert_eq!(pieces.concat(), whole);
        assert!(whole.contains(BROKEN));
        assert!(pieces.iter().all(|piece| piece.len() < 120), "a long wait: {pieces:?}");
    }

    #[test]
    fn only_a_window_of_ids_is_decoded() {
        let t = tokenizer("stdlib/models/tiny-llama");
        let none = stops(&[], false);
        let special = t.token_id("<pad>").unwrap();
        for ids in [t.encode(&"a red circle ".repeat(200)).unwrap(), vec![special; 500], vec![200; 500]] {
            let mut transcript = Transcript::new(Arc::new(none.clone()));
            for &id in ids.iter().filter(|id| **id != 2) {
                transcript.push(&t, id).unwrap();
                let window = transcript.ids.len() - transcript.context;
                assert!(window <= 2 * WAITING + 2, "{window} ids");
            }
        }
    }

    #[test]
    fn the_beginning_of_a_stop_text_is_held_back() {
        let t = tokenizer("stdlib/models/tiny-llama");
        let ids = t.encode("one ## two ###three").unwrap();
        let (pieces, whole) = run(&t, &stops(&["###"], false), &ids);
        assert_eq!(whole, "one ## two ");
        assert_eq!(pieces.concat(), whole);
        let ids = t.encode("one ##").unwrap();
        let (pieces, whole) = run(&t, &stops(&["###"], false), &ids);
        assert_eq!((whole.as_str(), pieces.concat().as_str()), ("one ##", "one ##"));
        assert!(pieces[..pieces.len() - 1].iter().all(|piece| !piece.contains('#')), "{pieces:?}");
    }

    #[test]
    fn white_space_around_an_answer_is_left_out() {
        let t = tokenizer("stdlib/models/tiny-llama");
        let mut ids = t.encode(" \n a red  circle \n").unwrap();
        ids.push(2);
        let (pieces, whole) = run(&t, &stops(&[], true), &ids);
        assert_eq!((whole.as_str(), pieces.concat().as_str()), ("a red  circle", "a red  circle"));
    }
}
