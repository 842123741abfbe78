//! A map from ids that takes little memory: millions of blobs are looked up in it.

use crate::Id;

/// Filled, then settled, then asked. 32 bytes for an id and what its value takes, nothing besides: a map of the
/// standard library takes up to twice that. One id may have several values.
#[derive(Debug, Clone)]
pub(crate) struct Table<V> {
    /// By the first byte of the id, so that no more than a part is moved when it grows; each sorted.
    shelves: Vec<Vec<(Id, V)>>,
    /// How many are before each shelf.
    before: Vec<usize>,
}

impl<V: Copy + Ord> Table<V> {
    pub fn new() -> Self {
        Self { shelves: (0..256).map(|_| Vec::new()).collect(), before: vec![0; 256] }
    }

    pub fn push(&mut self, id: Id, value: V) {
        self.shelves[usize::from(id.0[0])].push((id, value));
    }

    /// Sorts, and drops what is in it twice. Before that nothing is found.
    pub fn settle(&mut self) {
        let mut count = 0;
        for (shelf, before) in self.shelves.iter_mut().zip(&mut self.before) {
            shelf.sort_unstable();
            shelf.dedup();
            shelf.shrink_to_fit();
            *before = count;
            count += shelf.len();
        }
    }

    /// All values of an id, the smallest first.
    pub fn all(&self, id: &Id) -> &[(Id, V)] {
        let shelf = &self.shelves[usize::from(id.0[0])];
        let rest = &shelf[shelf.partition_point(|(known, _)| known < id)..];
        &rest[..rest.iter().take_while(|(known, _)| known == id).count()]
    }

    /// Where the values of an id begin, counted over all that there are.
    pub fn position(&self, id: &Id) -> Option<usize> {
        let shelf = &self.shelves[usize::from(id.0[0])];
        let at = shelf.partition_point(|(known, _)| known < id);
        (shelf.get(at)?.0 == *id).then(|| self.before[usize::from(id.0[0])] + at)
    }

    /// The values of one id after the other, and where they begin.
    pub fn each(&self) -> impl Iterator<Item = (usize, &[(Id, V)])> {
        let mut position = 0;
        let values = self.shelves.iter().flat_map(|shelf| shelf.chunk_by(|one, next| one.0 == next.0));
        values.map(move |values| {
            position += values.len();
            (position - values.len(), values)
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Id, V)> {
        self.shelves.iter().flatten()
    }

    pub fn len(&self) -> usize {
        self.shelves.iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_was_put_in() {
        let mut table = Table::new();
        let id = |number: u32| Id::of(&number.to_le_bytes());
        for number in (0..3000).rev() {
            table.push(id(number), number);
            if number % 3 == 0 {
                table.push(id(number), number);
                table.push(id(number), number + 7);
            }
        }
        table.settle();
        assert_eq!((table.len(), table.iter().count()), (4000, 4000));
        for number in 0..3000 {
            let found: Vec<u32> = table.all(&id(number)).iter().map(|(_, value)| *value).collect();
            let expected = if number % 3 == 0 { vec![number, number + 7] } else { vec![number] };
            assert_eq!(found, expected);
        }
        for (position, values) in table.each() {
            assert_eq!((table.position(&values[0].0), table.all(&values[0].0)), (Some(position), values));
        }
        assert_eq!(table.position(&id(3000)), None);
        assert_eq!(table.all(&id(3000)), []);
        assert_eq!(size_of_val(&table.shelves[0][0]), 36);
    }
}
