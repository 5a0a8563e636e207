//! The inputs of one model, encoder and class that wait: those that must be read first, and those that can run.

use std::collections::{BTreeMap, VecDeque};

/// Inputs of its own length that make a batch efficient. A smaller batch also takes inputs of similar length.
const FULL: usize = 8;

/// An input in the order of arrival.
pub struct Waiting<T> {
    pub arrival: u64,
    pub item: T,
}

/// Inputs are run by length: a short text that is padded to a long one costs as much as the long one.
pub struct Lane<T> {
    unread: VecDeque<Waiting<T>>,
    ready: BTreeMap<usize, VecDeque<Waiting<T>>>,
}

impl<T> Lane<T> {
    pub fn new() -> Self {
        Self { unread: VecDeque::new(), ready: BTreeMap::new() }
    }

    pub fn add_unread(&mut self, arrival: u64, item: T) {
        self.unread.push_back(Waiting { arrival, item });
    }

    /// Adds an input that was read and has a length. It is put in the order of arrival.
    pub fn add_ready(&mut self, arrival: u64, length: usize, item: T) {
        let queue = self.ready.entry(length).or_default();
        let place = queue.iter().rposition(|other| other.arrival <= arrival).map_or(0, |place| place + 1);
        queue.insert(place, Waiting { arrival, item });
    }

    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    pub fn ready(&self) -> usize {
        self.ready.values().map(VecDeque::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.unread.is_empty() && self.ready.is_empty()
    }

    /// Returns the arrival of the oldest input.
    pub fn oldest(&self) -> Option<u64> {
        let fronts = self.ready.values().filter_map(VecDeque::front).chain(self.unread.front());
        fronts.map(|waiting| waiting.arrival).min()
    }

    /// Takes the next unread inputs: as many as `accepts` allows, one at least.
    pub fn take_unread(&mut self, mut accepts: impl FnMut(&T) -> bool) -> Vec<Waiting<T>> {
        let mut taken = Vec::new();
        while let Some(next) = self.unread.front() {
            if !accepts(&next.item) && !taken.is_empty() {
                break;
            }
            taken.extend(self.unread.pop_front());
        }
        taken
    }

    /// Takes a batch of equal or similar lengths that has the oldest input. It has at most `most` inputs, and at most its part if so
    /// many threads are free.
    pub fn take_batch(&mut self, most: usize, free: usize) -> Vec<Waiting<T>> {
        let oldest = self.ready.iter().filter_map(|(&length, queue)| Some((queue.front()?.arrival, length))).min();
        let Some((_, length)) = oldest else { return Vec::new() };
        let mut lengths = vec![length];
        if self.ready[&length].len() < FULL {
            let tolerance = length / 8;
            let similar = self.ready.range(length - tolerance..=length + tolerance).map(|(&other, _)| other);
            let (shorter, longer): (Vec<_>, Vec<_>) =
                similar.filter(|&other| other != length).partition(|&other| other < length);
            // A shorter text is padded. A longer text lengthens all others.
            lengths.extend(shorter.into_iter().rev().chain(longer));
        }
        let available: usize = lengths.iter().map(|length| self.ready[length].len()).sum();
        let most = most.min(available.div_ceil(free.max(1))).max(1);
        let mut taken = Vec::new();
        for length in lengths {
            let queue = self.ready.entry(length).or_default();
            let count = queue.len().min(most - taken.len());
            taken.extend(queue.drain(..count));
            if queue.is_empty() {
                self.ready.remove(&length);
            }
        }
        taken
    }

    /// Removes the inputs that `keeps` rejects, and returns how many they are. Its second argument is true if the input was read.
    pub fn retain(&mut self, mut keeps: impl FnMut(&T, bool) -> bool) -> usize {
        let before = self.unread() + self.ready();
        self.unread.retain(|waiting| keeps(&waiting.item, false));
        for queue in self.ready.values_mut() {
            queue.retain(|waiting| keeps(&waiting.item, true));
        }
        self.ready.retain(|_, queue| !queue.is_empty());
        before - self.unread() - self.ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a lane with inputs of these lengths, which are numbered.
    fn lane(lengths: &[usize]) -> Lane<usize> {
        let mut lane = Lane::new();
        lengths.iter().enumerate().for_each(|(number, &length)| lane.add_ready(number as u64, length, number));
        lane
    }

    fn batch(lane: &mut Lane<usize>, most: usize, free: usize) -> Vec<usize> {
        lane.take_batch(most, free).into_iter().map(|waiting| waiting.item).collect()
    }

    #[test]
    fn batches_have_equal_lengths_and_begin_with_the_oldest() {
        let mut lane = lane(&[6, 7, 6, 7, 6]);
        assert_eq!(batch(&mut lane, 2, 1), [0, 2]);
        assert_eq!(batch(&mut lane, 8, 1), [1, 3]);
        assert_eq!(batch(&mut lane, 8, 1), [4]);
        assert!(batch(&mut lane, 8, 1).is_empty() && lane.is_empty());
    }

    #[test]
    fn small_batches_take_similar_lengths() {
        let mut few = lane(&[16, 18, 14, 13, 19]);
        assert_eq!(batch(&mut few, 8, 1), [0, 2, 1]);
        assert_eq!(batch(&mut few, 8, 1), [3]);
        let mut many = lane(&[&[16; FULL][..], &[15]].concat());
        assert_eq!(batch(&mut many, 32, 1).len(), FULL);
    }

    #[test]
    fn free_threads_share_the_work() {
        let mut lane = lane(&[5; 7]);
        assert_eq!(batch(&mut lane, 32, 2).len(), 4);
        assert_eq!(batch(&mut lane, 32, 1).len(), 3);
    }

    #[test]
    fn late_inputs_take_their_place_in_the_order_of_arrival() {
        let mut lane = Lane::new();
        lane.add_ready(5, 0, 5);
        lane.add_ready(3, 0, 3);
        lane.add_ready(4, 0, 4);
        lane.add_unread(1, 1);
        assert_eq!(lane.oldest(), Some(1));
        assert_eq!(lane.retain(|&item, is_read| is_read && item != 4), 2);
        assert_eq!(batch(&mut lane, 8, 1), [3, 5]);
    }

    #[test]
    fn portions_have_one_input_at_least() {
        let mut lane = Lane::new();
        (0..3).for_each(|number| lane.add_unread(number, number));
        assert_eq!(lane.take_unread(|_| false).len(), 1);
        assert_eq!(lane.take_unread(|_| true).len(), 2);
    }
}
