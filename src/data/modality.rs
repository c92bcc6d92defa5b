//! The order of stage 2: micro-batches of one modality whose samples have similar lengths. Given the permutations that
//! the reference draws, it is the reference's order.
//! Source: LLaVA-MORE 2460d39, `llava_trainer.py`, `get_modality_length_grouped_indices` and what it calls.

/// The order of one epoch. `lengths` are words, negative for a sample without a picture and never 0; `batch` is the size
/// of a micro-batch, `world` their number in a step. `draw(n)` gives a permutation of `0..n`; it is asked for samples
/// with a picture, samples without one, and groups of both, in this order (once where all samples are alike).
pub fn grouped(lengths: &[i64], batch: usize, world: usize, mut draw: impl FnMut(usize) -> Vec<usize>) -> Vec<usize> {
    let (with, without): (Vec<usize>, Vec<usize>) = (0..lengths.len()).partition(|&i| lengths[i] > 0);
    if with.is_empty() || without.is_empty() {
        // Negative lengths stay negative here, so that text-only samples run from short to long.
        return by_length(lengths, batch, world, &draw(lengths.len()));
    }
    let mut modality = |members: Vec<usize>| {
        let own: Vec<i64> = members.iter().map(|&i| lengths[i].abs()).collect();
        let order = by_length(&own, batch, world, &draw(own.len()));
        order.into_iter().map(|i| members[i]).collect::<Vec<_>>()
    };
    let (with, without) = (modality(with), modality(without));
    let split = |order: &[usize]| order.chunks(batch * world).map(<[usize]>::to_vec).collect::<Vec<_>>();
    let (mut groups, mut others) = (split(&with), split(&without));
    // The last group of each, whole or not, ends the epoch.
    let mut rest: Vec<usize> = groups.pop().into_iter().chain(others.pop()).flatten().collect();
    rest.sort_unstable();
    groups.append(&mut others);
    let shuffled = draw(groups.len()).into_iter().flat_map(|group| std::mem::take(&mut groups[group]));
    shuffled.chain(rest).collect()
}

/// Groups of `batch * world` samples of the permutation, each sorted by falling length and dealt to `world` micro-batches
/// so that these are about equally long.
fn by_length(lengths: &[i64], batch: usize, world: usize, permutation: &[usize]) -> Vec<usize> {
    let mut order = Vec::with_capacity(permutation.len());
    for group in permutation.chunks(batch * world) {
        let mut group = group.to_vec();
        group.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
        deal(&group, lengths, world, &mut order);
    }
    order
}

fn deal(group: &[usize], lengths: &[i64], world: usize, order: &mut Vec<usize>) {
    if !group.len().is_multiple_of(world) {
        (0..world).for_each(|first| order.extend(group.iter().skip(first).step_by(world)));
        return;
    }
    let full = group.len() / world;
    let mut hands: Vec<(Vec<usize>, i64)> = vec![(Vec::with_capacity(full), 0); world];
    for &index in group {
        let open = hands.iter_mut().filter(|(hand, _)| hand.len() < full);
        if let Some((hand, length)) = open.min_by_key(|(_, length)| *length) {
            hand.push(index);
            *length += lengths[index];
        }
    }
    order.extend(hands.into_iter().flat_map(|(hand, _)| hand));
}
