//! What holds of every store, whatever it lies on.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;

pub(super) const ONE: Table = Table::new("one");
pub(super) const TWO: Table = Table::new("two");
pub(super) const SCHEMA: Schema = Schema {
    name: "test",
    steps: &[],
};

/// xorshift64*: tests with seeds.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % most.max(1)
    }
}

/// What a store should hold.
pub(super) type Model = BTreeMap<(Table, Bytes), Bytes>;

pub(super) fn apply(model: &mut Model, batch: &Batch) {
    for write in batch.writes() {
        match write.clone() {
            Write::Put(table, key, value) => drop(model.insert((table, key), value)),
            Write::Delete(table, key) => drop(model.remove(&(table, key))),
            Write::DeleteRange(table, from, to) => model.retain(|(at, key), _| {
                *at != table || *key < from || to.as_ref().is_some_and(|to| key >= to)
            }),
        }
    }
}

/// How many numbers are kept; older ones are deleted.
pub(super) const KEPT: u64 = 9;

/// A batch that depends on its number in all it does.
pub(super) fn numbered(number: u64) -> Batch {
    let mut batch = Batch::default();
    let value = vec![number as u8; (number * 977 % 9000) as usize];
    batch.put(ONE, number.to_be_bytes().to_vec(), value);
    if let Some(old) = number.checked_sub(KEPT) {
        batch.delete(ONE, old.to_be_bytes().to_vec());
    }
    batch.put(TWO, "last", number.to_be_bytes().to_vec());
    batch
}

/// The number of the last batch, when exactly the batches up to it are there.
pub(super) fn last_of(store: &dyn Store) -> u64 {
    let last = store.get(TWO, b"last").expect("read");
    let last = last.map_or(0, |bytes| {
        u64::from_be_bytes(bytes.as_ref().try_into().expect("8 bytes"))
    });
    let mut model = Model::new();
    for number in (last + 1).saturating_sub(2 * KEPT).max(1)..=last {
        apply(&mut model, &numbered(number));
    }
    holds(store, &model);
    last
}

/// Exactly what it should.
pub(super) fn holds(store: &dyn Store, model: &Model) {
    for table in [ONE, TWO] {
        let held = store.range(table, KeyRange::default()).expect("read");
        let wanted = model.iter().filter(|((at, _), _)| *at == table);
        let wanted: Vec<_> = wanted
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!((held.entries, held.more), (wanted, false));
    }
}

/// What is over a limit is refused whole.
pub(super) fn refuses_what_is_over_a_limit(store: &dyn Store) {
    let mut long_key = Batch::default();
    long_key.put(ONE, "kept?", "no");
    long_key.put(ONE, vec![0; MAX_KEY + 1], "");
    let mut long_value = Batch::default();
    long_value.put(ONE, "kept?", "no");
    long_value.put(ONE, "long", vec![0; MAX_VALUE + 1]);
    let value = Bytes::from(vec![0; MAX_VALUE]);
    let mut large = Batch::default();
    for number in 0..=MAX_BATCH / MAX_VALUE {
        large.put(ONE, number.to_be_bytes().to_vec(), value.clone());
    }
    for batch in [&long_key, &long_value, &large] {
        let refused = store.commit(batch).expect_err("over a limit");
        assert!(matches!(refused, StoreError::TooLarge { .. }), "{refused}");
    }
    let all = store.range(ONE, KeyRange::default()).expect("read");
    assert_eq!(all, Page::default());
}

/// A page ends before it is too large, and holds one entry at least.
pub(super) fn gives_pages(store: &dyn Store) {
    let [half, whole] = [MAX_PAGE / 2, MAX_PAGE + 1].map(|length| Bytes::from(vec![7; length]));
    let mut batch = Batch::default();
    batch.put(ONE, "a", half.clone());
    batch.put(ONE, "b", half);
    batch.put(TWO, "a", whole.clone());
    batch.put(TWO, "b", whole);
    store.commit(&batch).expect("committed");
    for (table, first) in [(ONE, 1), (TWO, 1)] {
        let page = store.range(table, KeyRange::default()).expect("read");
        assert_eq!((page.entries.len(), page.more), (first, true));
        let rest = KeyRange::default().after(b"a");
        let page = store.range(table, rest).expect("read");
        assert_eq!((page.entries.len(), page.more), (1, false));
    }
    let last = store.range(ONE, KeyRange::last()).expect("read");
    assert_eq!(last.entries[0].0, "b");
}

/// The next versions after [`SCHEMA`]; what a store of that is then.
pub(super) const NEWER: Schema = Schema {
    name: "test",
    steps: &[doubled, renamed],
};

fn doubled(store: &dyn Store) -> Result<Batch, StoreError> {
    let mut batch = Batch::default();
    for (key, value) in store.range(ONE, KeyRange::default())?.entries {
        batch.put(TWO, key, [&value[..], &value[..]].concat());
    }
    batch.delete_range(ONE, "", None);
    Ok(batch)
}

fn renamed(store: &dyn Store) -> Result<Batch, StoreError> {
    let mut batch = Batch::default();
    for (key, value) in store.range(TWO, KeyRange::default())?.entries {
        batch.put(ONE, [b"new ", &key[..]].concat(), value);
    }
    batch.delete_range(TWO, "", None);
    Ok(batch)
}

pub(super) fn older_store(store: &dyn Store) {
    let mut batch = Batch::default();
    batch.put(ONE, "a", "1");
    store.commit(&batch).expect("committed");
}

pub(super) fn is_brought_up_to_date(store: &dyn Store) {
    assert_eq!(store.get(ONE, b"new a").expect("read"), Some("11".into()));
    assert_eq!(store.get(ONE, b"a").expect("read"), None);
    let two = store.range(TWO, KeyRange::default()).expect("read");
    assert_eq!(two, Page::default());
}
