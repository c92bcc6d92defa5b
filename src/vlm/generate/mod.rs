//! Generation: a key/value cache, greedy or sampled decoding, answers of different lengths in one packed batch. What
//! prompts share up to their last picture is computed once and kept for the next call; an answer that ends makes
//! room for the next prompt. On the CPU the batch changes no bit: prompts share a pass only where its size changes no
//! row (`passes.rs`), and what they begin with has a pass of its own.

mod answerer;
mod likelihood;
mod passes;
mod prompt;
mod sampling;
mod transcript;

use std::ops::Range;
use std::sync::Arc;

use candle_core::DType;

pub use answerer::{Answerer, Question};
pub use prompt::{Piece, check_marks, pieces};
pub use sampling::Sampling;

use super::Llm;
use super::splice::embed;
use crate::error;
use crate::error::Result;
use crate::nn::cache::{Cache, Slot, append};
use crate::text::{Template, Tokenizer};
use passes::Passes;
use prompt::{common, rows, shared};
use transcript::Transcript;

/// Rows for new tokens that a prompt begins with; the cache grows when they are full.
const NEW_ROWS: usize = 32;

/// What ends an answer: ids, and plain texts such as the newline of `tiny`.
pub struct Stops {
    pub ids: Vec<u32>,
    pub texts: Vec<String>,
    /// White space around an answer does not belong to it.
    pub trim: bool,
}

impl Stops {
    /// What ends an answer in a template, and what ends a text for the LLM.
    pub fn new(template: &Template, tokenizer: &Tokenizer, end_ids: &[u32]) -> Self {
        let mut ids = template.stop_ids(tokenizer);
        ids.extend(end_ids);
        Stops { ids, texts: template.stop_texts().to_vec(), trim: true }
    }
}

/// How prompts are answered.
pub struct Settings<'a> {
    pub sampling: &'a Sampling,
    pub stops: &'a Stops,
    /// Prompts that are decoded together.
    pub batch: usize,
    /// The number of the first prompt; a draw depends on (seed, number, step).
    pub first: u64,
}

/// Hears the index of a prompt, what its text has grown by, and whether that was its end, after every token; `false`
/// stops everything.
pub type Hear<'a> = &'a mut dyn FnMut(usize, &str, bool) -> bool;

/// An LLM with a cache that keeps what the next prompts may begin with.
pub struct Generator {
    llm: Arc<Llm>,
    cache: Cache,
    passes: Passes,
    /// What prompts on their way begin with; the last one stays for the next call.
    prefixes: Vec<Arc<Prefix>>,
    computed: usize,
}

/// Rows in the cache, and what they were computed from.
struct Prefix {
    pieces: Vec<Piece>,
    slot: Slot,
}

/// One prompt on its way.
struct Stream<'a> {
    index: usize,
    prompt: &'a [Piece],
    slot: Slot,
    /// Held so that its rows are not handed out.
    prefix: Option<Arc<Prefix>>,
    /// What goes through the LLM next.
    pending: Vec<Piece>,
    /// New tokens so far.
    made: Vec<u32>,
    transcript: Transcript<'a>,
}

impl Stream<'_> {
    /// Whether what goes through the LLM next is more than the last token.
    fn begins(&self) -> bool {
        self.made.is_empty() || rows(&self.pending) > 1
    }
}

impl Generator {
    /// An empty cache. The LLM is frozen.
    pub fn new(llm: Arc<Llm>) -> Result<Self> {
        llm.ready()?;
        llm.params.set_trainable(false)?;
        let (cache, passes) = (llm.model.cache(0)?, Passes::new(&llm));
        Ok(Generator { llm, cache, passes, prefixes: Vec::new(), computed: 0 })
    }

    /// Rows that went through the LLM so far, those of prompts and new ones.
    pub fn computed(&self) -> usize {
        self.computed
    }

    /// Rows of the cache: used by what is kept, and allocated.
    pub fn cache_rows(&self) -> (usize, usize) {
        (self.cache.used(), self.cache.capacity())
    }

    /// Answers prompts that know nothing of each other, `settings.batch` at a time, and gives the texts in order. An
    /// answer that reaches the end of the context ends there.
    ///
    /// # Errors
    /// `Data` when a prompt leaves no room for an answer in the context, before anything is computed.
    pub fn run(&mut self, prompts: &[Vec<Piece>], settings: &Settings, hear: Hear) -> Result<Vec<String>> {
        self.check(prompts, 1)?;
        let texts = self.answer(prompts, settings, hear);
        self.tidy(texts.is_ok())?;
        texts
    }

    /// Answers a prompt that goes on where the last one ended: what both begin with is not computed again, and all
    /// of it stays for the next turn.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn resume(&mut self, prompt: &[Piece], settings: &Settings, hear: Hear) -> Result<String> {
        self.check(&[prompt.to_vec()], 1)?;
        let text = self.go_on(prompt, settings, hear);
        self.tidy(text.is_ok())?;
        text
    }

    /// Refuses prompts after which there is no room for so many new tokens.
    fn check(&self, prompts: &[Vec<Piece>], new: usize) -> Result<()> {
        let context = self.llm.context();
        for prompt in prompts {
            let length = rows(prompt);
            if length == 0 {
                return Err(error!(Data, "an empty prompt has nothing to go on from"));
            }
            if length + new > context {
                let image = prompt.iter().map(Piece::rows).max().unwrap_or(0);
                let pictures = if image > 1 { format!(", {image} of them for each image") } else { String::new() };
                let tokens = if new == 1 { "token" } else { "tokens" };
                return Err(error!(
                    Data,
                    "a prompt of {length} positions{pictures} and {new} new {tokens} do not fit the context of {context} \
                     of LLM `{}`",
                    self.llm.id
                )
                .help("ask a shorter question, or start a new conversation"));
            }
        }
        Ok(())
    }

    /// The longest sequence that may share rotations with one of this length.
    fn plan(&self, length: usize) -> usize {
        self.llm.model.spec().horizon(length)
    }

    /// Begins a stream anew where its next rows make it longer than what it has in the cache was rotated for.
    fn renew(&mut self, stream: &mut Stream) -> Result<()> {
        let length = stream.slot.len() + rows(&stream.pending);
        if length <= stream.slot.plan() {
            return Ok(());
        }
        let slot = self.cache.slot(0, None)?.planned(self.plan(length));
        self.cache.free(std::mem::replace(&mut stream.slot, slot));
        stream.prefix = None;
        stream.pending = stream.prompt.iter().cloned().chain(stream.made.iter().map(|&id| Piece::Token(id))).collect();
        Ok(())
    }

    fn answer(&mut self, prompts: &[Vec<Piece>], settings: &Settings, mut hear: Hear) -> Result<Vec<String>> {
        let mut texts = vec![String::new(); prompts.len()];
        let batch = settings.batch.max(1);
        let llm = self.llm.clone();
        let mut streams: Vec<Stream> = Vec::new();
        let mut next = 0;
        let mut on = true;
        while on && (next < prompts.len() || !streams.is_empty()) {
            // An answer that has ended leaves its place to the next prompt.
            let places = next..prompts.len().min(next + batch - streams.len());
            next = places.end;
            for stream in &mut streams {
                self.renew(stream)?;
            }
            self.admit(&llm, prompts, places, settings, &mut streams)?;
            streams.sort_by_key(Stream::begins);
            let going_on = streams.partition_point(|stream| !stream.begins());
            let (old, mut new) = streams.split_at_mut(going_on);
            for pass in old.chunks_mut(self.passes.decoded()) {
                on = on && self.step(pass, settings, &mut hear)?;
            }
            for size in self.passes.split(new, |stream| rows(&stream.pending)) {
                let (pass, rest) = new.split_at_mut(size);
                on = on && self.step(pass, settings, &mut hear)?;
                new = rest;
            }
            for ended in streams.extract_if(.., |stream| !on || stream.transcript.ended()) {
                texts[ended.index] = ended.transcript.text().to_string();
                self.cache.free(ended.slot);
            }
            self.sweep();
        }
        Ok(texts)
    }

    fn go_on(&mut self, prompt: &[Piece], settings: &Settings, mut hear: Hear) -> Result<String> {
        let planned = self.plan(rows(prompt));
        let kept = self.prefixes.pop().and_then(Arc::into_inner).filter(|kept| kept.slot.plan() == planned);
        self.drop_prefixes();
        let (pieces, mut slot) = match kept {
            Some(kept) => (kept.pieces, kept.slot),
            None => (Vec::new(), self.cache.slot(0, None)?.planned(planned)),
        };
        let known = common(&pieces, prompt).min(prompt.len() - 1);
        slot.truncate(rows(&prompt[..known]));
        let llm = self.llm.clone();
        let transcript = Transcript::new(llm.tokenizer()?, settings.stops);
        let pending = prompt[known..].to_vec();
        let mut streams = vec![Stream { index: 0, prompt, slot, prefix: None, pending, made: Vec::new(), transcript }];
        while self.step(&mut streams, settings, &mut hear)? && !streams[0].transcript.ended() {
            self.renew(&mut streams[0])?;
        }
        let Some(stream) = streams.pop() else { return Ok(String::new()) };
        let text = stream.transcript.text().to_string();
        // The last token did not go through the LLM.
        let new = stream.slot.len() - rows(prompt);
        let pieces = prompt.iter().cloned().chain(stream.made.iter().take(new).map(|&id| Piece::Token(id))).collect();
        self.prefixes.push(Arc::new(Prefix { pieces, slot: stream.slot }));
        Ok(text)
    }

    /// The next token of every stream.
    fn step(&mut self, streams: &mut [Stream], settings: &Settings, hear: &mut Hear) -> Result<bool> {
        let logits = self.pass(streams)?;
        let (mut on, context) = (true, self.llm.context());
        for (stream, logits) in streams.iter_mut().zip(&logits) {
            let (number, step) = (settings.first + stream.index as u64, stream.made.len());
            let id = settings.sampling.choose(logits, number, step as u64)?;
            stream.made.push(id);
            stream.pending = vec![Piece::Token(id)];
            let last = step + 1 >= settings.sampling.max_new_tokens || stream.slot.len() + 1 >= context;
            if !stream.transcript.push(id)? && last {
                stream.transcript.finish()?;
            }
            let ended = stream.transcript.ended();
            on &= hear(stream.index, stream.transcript.fresh(), ended);
        }
        Ok(on)
    }

    /// One pass of what is pending; gives the logits of each stream's last row, (vocab) each.
    fn pass(&mut self, streams: &mut [Stream]) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<usize> = streams.iter().map(|stream| rows(&stream.pending)).collect();
        for (stream, &length) in streams.iter_mut().zip(&lengths) {
            self.cache.reserve(&mut stream.slot, length)?;
        }
        let pending: Vec<&[Piece]> = streams.iter().map(|stream| stream.pending.as_slice()).collect();
        let embeds = embed(&self.llm, &pending)?; // (rows, width)
        let mut slots: Vec<&mut Slot> = streams.iter_mut().map(|stream| &mut stream.slot).collect();
        let packing = append(&mut slots, &lengths)?;
        self.computed += packing.tokens();
        let hidden = self.llm.model.hidden(&embeds, &packing, Some(&self.cache))?; // (streams, width)
        Ok(self.llm.model.logits(&hidden)?.to_dtype(DType::F32)?.to_vec2::<f32>()?)
    }

    /// Starts prompts: what they share with others first, where it is not in the cache.
    fn admit<'a>(
        &mut self,
        llm: &'a Llm,
        prompts: &'a [Vec<Piece>],
        places: Range<usize>,
        settings: &'a Settings,
        streams: &mut Vec<Stream<'a>>,
    ) -> Result<()> {
        for index in places {
            let prompt = &prompts[index];
            let (head, planned) = (&prompt[..shared(prompt)], self.plan(rows(prompt)));
            let prefix = if head.is_empty() { None } else { Some(self.prefix(head, planned)?) };
            let room = rows(&prompt[head.len()..]) + settings.sampling.max_new_tokens.min(NEW_ROWS);
            let slot = self.cache.slot(room, prefix.as_ref().map(|prefix| &prefix.slot))?.planned(planned);
            let (pending, made) = (prompt[head.len()..].to_vec(), Vec::new());
            let transcript = Transcript::new(llm.tokenizer()?, settings.stops);
            streams.push(Stream { index, prompt, slot, prefix, pending, made, transcript });
        }
        Ok(())
    }

    /// The rows of a prefix, computed where they are not in the cache; it is the last one then.
    fn prefix(&mut self, head: &[Piece], planned: usize) -> Result<Arc<Prefix>> {
        let prefix = match self.find(head, planned) {
            Some(place) => self.prefixes.remove(place),
            None => {
                let mut slot = self.cache.slot(rows(head), None)?.planned(planned);
                let packing = append(&mut [&mut slot], &[rows(head)])?;
                self.computed += packing.tokens();
                self.llm.model.hidden(&embed(&self.llm, &[head])?, &packing, Some(&self.cache))?;
                Arc::new(Prefix { pieces: head.to_vec(), slot })
            }
        };
        self.prefixes.push(prefix.clone());
        Ok(prefix)
    }

    fn find(&self, head: &[Piece], planned: usize) -> Option<usize> {
        let is = |prefix: &Arc<Prefix>| prefix.slot.plan() == planned && same(&prefix.pieces, head);
        self.prefixes.iter().position(is)
    }

    /// Frees the prefixes nobody uses, except the last one.
    fn sweep(&mut self) {
        let last = self.prefixes.len().saturating_sub(1);
        let (used, unused): (Vec<_>, Vec<_>) = std::mem::take(&mut self.prefixes)
            .into_iter()
            .enumerate()
            .partition(|(place, prefix)| *place == last || Arc::strong_count(prefix) > 1);
        self.prefixes = used.into_iter().map(|(_, prefix)| prefix).collect();
        for (_, prefix) in unused {
            self.free(prefix);
        }
    }

    fn drop_prefixes(&mut self) {
        for prefix in std::mem::take(&mut self.prefixes) {
            self.free(prefix);
        }
    }

    fn free(&mut self, prefix: Arc<Prefix>) {
        if let Some(prefix) = Arc::into_inner(prefix) {
            self.cache.free(prefix.slot);
        }
    }

    /// After a failure nothing in the cache can be relied on.
    fn tidy(&mut self, went_well: bool) -> Result<()> {
        if !went_well {
            self.prefixes.clear();
            self.cache = self.llm.model.cache(0)?;
        }
        Ok(())
    }
}

fn same(a: &[Piece], b: &[Piece]) -> bool {
    a.len() == b.len() && common(a, b) == a.len()
}

/// Continues a plain text with an LLM alone: the tokenizer's own BOS rule, no template; the new text only. `hear` gets
/// what it has grown by.
pub fn complete(llm: &Arc<Llm>, text: &str, sampling: &Sampling, hear: &mut dyn FnMut(&str) -> bool) -> Result<String> {
    let mut generator = Generator::new(llm.clone())?;
    let prompt: Vec<Piece> = llm.tokenizer()?.encode(text)?.into_iter().map(Piece::Token).collect();
    let stops = Stops { ids: llm.end_ids.clone(), texts: Vec::new(), trim: false };
    let settings = Settings { sampling, stops: &stops, batch: 1, first: 0 };
    generator.resume(&prompt, &settings, &mut |_, piece, _| hear(piece))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::registry::Target;
    use crate::preset::Presets;
    use crate::vlm::{LlmOptions, LoraOptions, Targets, Weights};
    use crate::weights::Source;
    use candle_core::{Device, Tensor};

    /// Logits of prompts over five steps, admitted and decoded together or one by one.
    fn logits(llm: &Arc<Llm>, prompts: &[Vec<Piece>], together: bool) -> Vec<Vec<f32>> {
        let (sampling, stops) = (Sampling::default(), Stops { ids: Vec::new(), texts: Vec::new(), trim: true });
        let settings = Settings { sampling: &sampling, stops: &stops, batch: 32, first: 0 };
        let mut all = vec![Vec::new(); prompts.len()];
        let mut run = |prompts: &[Vec<Piece>], first: usize| {
            let mut generator = Generator::new(llm.clone()).unwrap();
            let mut streams = Vec::new();
            generator.admit(llm, prompts, 0..prompts.len(), &settings, &mut streams).unwrap();
            let mut sizes = generator.passes.split(&mut streams, |stream| rows(&stream.pending));
            for step in 0..5 {
                let mut rest = streams.as_mut_slice();
                for &size in &sizes {
                    let (pass, after) = rest.split_at_mut(size);
                    rest = after;
                    let logits = generator.pass(pass).unwrap();
                    for (stream, logits) in pass.iter_mut().zip(logits) {
                        stream.pending = vec![Piece::Token((step * 31 + first + stream.index) as u32)];
                        all[first + stream.index].extend(logits);
                    }
                }
                sizes = streams.chunks(generator.passes.decoded()).map(<[Stream]>::len).collect();
            }
        };
        if together {
            run(prompts, 0);
        } else {
            prompts.iter().enumerate().for_each(|(place, prompt)| run(std::slice::from_ref(prompt), place));
        }
        all
    }

    #[test]
    fn the_batch_changes_no_bit_of_the_logits() {
        let q8 = Some(crate::weights::Quantize::To(candle_core::quantized::GgmlDType::Q8_0));
        for (dtype, quantize, adapted) in
            [(DType::F32, None, false), (DType::BF16, None, false), (DType::F32, q8, false), (DType::F32, None, true)]
        {
            let target = Target { dtype, device: Device::Cpu, quantize };
            let options = LlmOptions { weights: Weights::Random, seed: 0, target };
            let llm = Arc::new(Llm::open(&Presets::default(), "tiny-llama", options).unwrap());
            if adapted {
                adapt(&llm);
            }
            let prompts = prompts(&llm);
            let sizes = Generator::new(llm.clone()).unwrap().passes.split(&mut prompts.clone(), |prompt| rows(prompt));
            assert!(sizes.len() < 24, "{sizes:?}");
            assert!(logits(&llm, &prompts, true) == logits(&llm, &prompts, false), "{dtype:?} {quantize:?} {adapted}");
        }
    }

    /// Hangs adapters on every layer that add something.
    fn adapt(llm: &Llm) {
        let options = LoraOptions { r: 4, alpha: 8.0, dropout: 0.0, targets: Targets::default() };
        let lora = llm.adapt(&options, Source::Random { seed: 1 }).unwrap();
        for param in lora.params.iter() {
            let shape = param.dims();
            param.assign(&Tensor::randn(0f32, 0.1, shape, &Device::Cpu).unwrap()).unwrap();
        }
    }

    /// 24 prompts of 1 to 74 tokens behind one of three pictures or none.
    fn prompts(llm: &Llm) -> Vec<Vec<Piece>> {
        let image = |rows: usize| Tensor::randn(0f32, 0.1, (rows, llm.width()), &Device::Cpu).unwrap();
        let images = [image(9), image(70), image(300)];
        let prompt = |number: usize| {
            let mut prompt: Vec<Piece> = (1..4).map(Piece::Token).collect();
            if number % 4 < 3 {
                prompt.push(Piece::Image(images[number % 4].clone()));
            }
            prompt.extend((0..1 + number * 7 % 75).map(|place| Piece::Token((number * 7 + place * 13) as u32 % 1000)));
            prompt
        };
        (0..24).map(prompt).collect()
    }
}
