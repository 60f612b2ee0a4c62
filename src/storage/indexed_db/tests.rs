//! IndexedDB as the browser has it, and as it fails.

use js_sys::Reflect;
use wasm_bindgen::{JsCast, JsValue, prelude::Closure};

use super::{
    super::shared_tests::{
        NEWER, ONE, Random, SCHEMA, TWO, apply, gives_pages, holds, is_brought_up_to_date, last_of,
        numbered, older_store, refuses_what_is_over_a_limit,
    },
    *,
};
use crate::platform::test;

const LIMIT: usize = 32 << 20;

/// A name that no test before had.
fn name() -> String {
    let mut word = [0; 8];
    platform::random(&mut word).expect("random");
    format!("test-{}", hex::encode(word))
}

async fn open(name: &str) -> IndexedDbStore {
    let opened = IndexedDbStore::open(name, LIMIT, &SCHEMA).await;
    opened.expect("opened")
}

fn put(key: &'static str, value: impl Into<Bytes>) -> Batch {
    let mut batch = Batch::default();
    batch.put(ONE, key, value);
    batch
}

/// Some writes to few keys.
fn some_batch(random: &mut Random) -> Batch {
    let key = |random: &mut Random| {
        let length = random.below(4);
        let bytes = (0..length).map(|_| random.below(4) as u8);
        Bytes::from(bytes.collect::<Vec<_>>())
    };
    let mut batch = Batch::default();
    for _ in 0..random.below(12) {
        let table = [ONE, TWO][random.below(2) as usize];
        let first = key(random);
        match random.below(7) {
            0 => batch.delete_range(table, first, None),
            1 => batch.delete_range(table, first, Some(key(random))),
            2 | 3 => batch.delete(table, first),
            _ => batch.put(table, first, vec![7; random.below(40) as usize]),
        }
    }
    batch
}

#[test]
async fn it_holds_what_a_map_would_and_so_does_who_opens_it_again() {
    for seed in 1..=12 {
        let (name, mut random) = (name(), Random(seed));
        let mut model = Default::default();
        for _ in 0..3 {
            let store = open(&name).await;
            holds(&store, &model);
            for _ in 0..random.below(8) {
                let batch = some_batch(&mut random);
                apply(&mut model, &batch);
                store.commit(&batch).expect("committed");
                holds(&store, &model);
            }
            store.close().await.expect("written");
            holds(&store, &model);
        }
    }
}

#[test]
async fn its_limits_and_pages_are_those_of_every_store() {
    let store = open(&name()).await;
    refuses_what_is_over_a_limit(&store);
    gives_pages(&store);
}

#[test]
async fn an_older_one_is_brought_up_to_date_and_a_newer_one_or_anothers_is_left_alone() {
    let name = name();
    let store = open(&name).await;
    older_store(&store);
    store.close().await.expect("written");
    for _ in 0..2 {
        let store = IndexedDbStore::open(&name, LIMIT, &NEWER).await;
        is_brought_up_to_date(&store.expect("brought up to date"));
    }
    let refused = IndexedDbStore::open(&name, LIMIT, &SCHEMA).await;
    let refused = refused.expect_err("newer");
    assert!(matches!(refused, StoreError::Version { found: 2, .. }));
    let other = Schema {
        name: "other",
        steps: &[],
    };
    let refused = IndexedDbStore::open(&name, LIMIT, &other).await;
    let refused = refused.expect_err("another's");
    assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
}

#[test]
async fn it_is_held_by_one_until_that_is_closed_or_dropped() {
    let name = name();
    let first = open(&name).await;
    let locked = IndexedDbStore::open(&name, LIMIT, &SCHEMA).await;
    let locked = locked.expect_err("it is open");
    assert!(matches!(locked, StoreError::Locked { .. }), "{locked}");
    first.commit(&put("a", "1")).expect("committed");
    first.close().await.expect("written");
    let closed = first.commit(&put("a", "2")).expect_err("closed");
    assert!(closed.to_string().contains("closed"), "{closed}");
    let second = open(&name).await;
    assert_eq!(second.get(ONE, b"a").expect("read"), Some("1".into()));
    drop(second);
    open(&name).await;
}

/// Reads what is there at this moment, as after a crash.
async fn after_a_crash(name: &str) -> MemoryStore {
    let database = Database::open(name).await.expect("opened");
    let image = MemoryStore::empty(LIMIT);
    fill(&image, &database, "the image").await.expect("read");
    image
}

#[test]
async fn what_a_crash_leaves_are_whole_batches_from_the_first_on() {
    let name = name();
    let store = open(&name).await;
    let mut found = Vec::new();
    for number in 1..=60 {
        let batch = numbered(number);
        let committed = match number % 3 {
            0 => store.commit(&batch),
            _ => store.commit_soon(&batch),
        };
        committed.expect("committed");
        if number % 7 == 0 {
            found.push(last_of(&after_a_crash(&name).await));
        }
    }
    assert!(found.is_sorted(), "{found:?}");
    store.flush().await.expect("written");
    assert_eq!(last_of(&after_a_crash(&name).await), 60);
}

/// Replaces a function of IndexedDB's by one that throws, until it is dropped.
struct Broken {
    prototype: JsValue,
    before: JsValue,
    _throws: Closure<dyn FnMut() -> Result<JsValue, JsValue>>,
}

impl Broken {
    fn puts(error: &str) -> Self {
        let class = Reflect::get(&js_sys::global(), &"IDBObjectStore".into()).expect("there");
        let prototype = Reflect::get(&class, &"prototype".into()).expect("there");
        let before = Reflect::get(&prototype, &"put".into()).expect("there");
        let error = exception(error);
        let throws: Closure<dyn FnMut() -> Result<JsValue, JsValue>> =
            Closure::new(move || Err(error.clone()));
        Reflect::set(&prototype, &"put".into(), throws.as_ref()).expect("replaced");
        Self {
            prototype,
            before,
            _throws: throws,
        }
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        let _ = Reflect::set(&self.prototype, &"put".into(), &self.before);
    }
}

fn exception(name: &str) -> JsValue {
    let class = Reflect::get(&js_sys::global(), &"DOMException".into()).expect("there");
    let arguments = js_sys::Array::of2(&"no room".into(), &name.into());
    Reflect::construct(class.unchecked_ref(), &arguments).expect("made")
}

#[test]
async fn a_full_disk_is_told_keeps_what_was_written_and_is_tried_again() {
    let name = name();
    let store = open(&name).await;
    store.commit(&numbered(1)).expect("committed");
    store.flush().await.expect("written");
    let broken = Broken::puts("QuotaExceededError");
    store.commit(&numbered(2)).expect("it is written behind");
    let full = store.flush().await.expect_err("no room");
    assert!(matches!(full, StoreError::Full { .. }), "{full}");
    assert_eq!(full.code(), "storage-full");
    let refused = store.commit(&numbered(3)).expect_err("no room yet");
    assert_eq!(refused, full);
    assert_eq!(last_of(&after_a_crash(&name).await), 1);
    drop(broken);
    store.flush().await.expect("there is room");
    store.commit(&numbered(3)).expect("it goes on");
    store.flush().await.expect("written");
    assert_eq!(last_of(&after_a_crash(&name).await), 3);
}

#[test]
async fn of_a_batch_that_fails_in_the_middle_nothing_is_kept() {
    let name = name();
    let store = open(&name).await;
    let mut first = put("a", "1");
    first.put(TWO, "a", "1");
    store.commit(&first).expect("committed");
    store.flush().await.expect("written");
    // Deletions are done, and then a put fails.
    let mut half = Batch::default();
    half.delete(ONE, "a");
    half.put(TWO, "a", "2");
    let broken = Broken::puts("UnknownError");
    store.commit(&half).expect("it is written behind");
    let failed = store.flush().await.expect_err("it fails");
    assert!(matches!(failed, StoreError::Failed { .. }), "{failed}");
    let left = after_a_crash(&name).await;
    assert_eq!(left.get(ONE, b"a").expect("read"), Some("1".into()));
    drop(broken);
}

#[test]
async fn what_waits_for_the_disk_is_bounded() {
    let store = open(&name()).await;
    let value = Bytes::from(vec![7; 1 << 20]);
    // Nothing is written before this task gives way.
    let full = (0..64).find_map(|_| store.commit(&put("a", value.clone())).err());
    let full = full.expect("it does not wait for ever");
    assert!(matches!(full, StoreError::Full { .. }), "{full}");
    store.flush().await.expect("written");
    store.commit(&put("a", value)).expect("there is room");
}

#[test]
async fn what_is_not_its_own_is_damage_and_too_much_does_not_fit() {
    let name = name();
    let store = open(&name).await;
    store.commit(&put("a", vec![7; 4096])).expect("committed");
    store.close().await.expect("written");
    let full = IndexedDbStore::open(&name, 1024, &SCHEMA).await;
    assert!(matches!(full, Err(StoreError::Full { .. })));
    let database = Database::open(&name).await.expect("opened");
    database
        .write_foreign(b"of no table")
        .await
        .expect("written");
    drop(database);
    let damaged = IndexedDbStore::open(&name, LIMIT, &SCHEMA).await;
    assert!(matches!(damaged, Err(StoreError::Damaged { .. })));
}
