//! IndexedDB as the browser has it, and as it fails.

use std::sync::Arc;

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
async fn what_is_taken_away_gets_through_where_the_disk_is_full() {
    let name = name();
    let store = open(&name).await;
    store.commit(&put("old", "1")).expect("committed");
    store.flush().await.expect("written");
    let broken = Broken::puts("QuotaExceededError");
    let mut new = put("new", vec![7; 4096]);
    new.delete_range(TWO, "a", None);
    store.commit(&new).expect("it is written behind");
    store.flush().await.expect_err("no room");
    store.commit(&put("more", "1")).expect_err("no room yet");
    let mut room = Batch::default();
    room.delete(ONE, "old");
    room.delete(ONE, "new");
    store.commit(&room).expect("it makes room");
    store
        .flush()
        .await
        .expect("there is nothing to put any more");
    let left = after_a_crash(&name).await;
    assert_eq!(left.get(ONE, b"old").expect("read"), None);
    drop(broken);
    store.commit(&put("more", "1")).expect("it goes on");
    store.flush().await.expect("written");
    assert_eq!(store.get(ONE, b"new").expect("read"), None);
}

#[test]
async fn what_is_written_at_last_is_what_the_last_batch_says() {
    for seed in 1..=24 {
        let (name, mut random) = (name(), Random(seed));
        let (store, mut model) = (open(&name).await, Default::default());
        let broken = Broken::puts("QuotaExceededError");
        for _ in 0..1 + random.below(8) {
            let batch = some_batch(&mut random);
            match store.commit(&batch) {
                Ok(()) => apply(&mut model, &batch),
                Err(error) => assert_eq!(error.code(), "storage-full"),
            }
            if random.below(3) == 0 {
                let _ = store.flush().await;
            }
        }
        drop(broken);
        store.flush().await.expect("there is room");
        holds(&store, &model);
        holds(&after_a_crash(&name).await, &model);
    }
}

#[test]
async fn a_connection_that_the_browser_closes_is_opened_again() {
    let name = name();
    let store = open(&name).await;
    store.commit(&numbered(1)).expect("committed");
    store.flush().await.expect("written");
    store.0.database.borrow().close_behind();
    store.commit(&numbered(2)).expect("committed");
    store
        .flush()
        .await
        .expect("written over another connection");
    assert_eq!(last_of(&after_a_crash(&name).await), 2);
    let locked = IndexedDbStore::open(&name, LIMIT, &SCHEMA).await;
    assert!(matches!(locked, Err(StoreError::Locked { .. })));
}

/// Deletes a database; ready when it is gone.
async fn delete(name: &str) {
    let delete = js_sys::Function::new_with_args(
        "name",
        "return new Promise((done, fails) => {
            const request = indexedDB.deleteDatabase(name)
            request.onsuccess = done
            request.onerror = fails
        })",
    );
    let deleted = delete.call1(&JsValue::NULL, &name.into()).expect("called");
    let deleted = wasm_bindgen_futures::JsFuture::from(js_sys::Promise::from(deleted));
    deleted.await.expect("deleted");
}

#[test]
async fn a_database_that_was_cleared_away_is_made_again_of_the_image() {
    let name = name();
    let store = open(&name).await;
    for number in 1..=5 {
        store.commit(&numbered(number)).expect("committed");
    }
    store.flush().await.expect("written");
    store.0.database.borrow().close_behind();
    delete(&name).await;
    store.commit(&numbered(6)).expect("committed");
    store.flush().await.expect("written anew");
    assert_eq!(last_of(&after_a_crash(&name).await), 6);
    store.close().await.expect("written");
    open(&name).await;
}

#[test]
async fn a_page_that_deletes_it_is_not_held_up_and_nothing_is_taken_any_more() {
    let name = name();
    let store = open(&name).await;
    store.commit(&put("a", "1")).expect("committed");
    store.flush().await.expect("written");
    delete(&name).await;
    let gone = store.commit(&put("a", "2")).expect_err("it gave way");
    assert!(gone.to_string().contains("reload"), "{gone}");
    assert_eq!(store.get(ONE, b"a").expect("read"), Some("1".into()));
    store.close().await.expect("nothing waits");
}

#[test]
async fn it_is_opened_by_bytes_and_not_by_numbers() {
    let name = name();
    let store = open(&name).await;
    let mut small = Batch::default();
    for number in 0..3000_u32 {
        small.put(ONE, number.to_be_bytes().to_vec(), vec![7; 100]);
    }
    store.commit(&small).expect("committed");
    for number in 0..12_u8 {
        let mut large = Batch::default();
        large.put(TWO, vec![number], vec![number; 1 << 20]);
        store.commit(&large).expect("committed");
    }
    store.close().await.expect("written");
    let watch = js_sys::Function::new_no_args(
        "const { prototype } = IDBObjectStore
        const { getAll } = prototype
        const watched = { largest: 0, pages: 0, end: () => (prototype.getAll = getAll) }
        prototype.getAll = function (...given) {
            const request = getAll.apply(this, given)
            request.addEventListener('success', () => {
                const size = request.result.reduce((sum, { length }) => sum + length, 0)
                watched.largest = Math.max(watched.largest, size)
                watched.pages += 1
            })
            return request
        }
        return watched",
    );
    let watched = watch.call0(&JsValue::NULL).expect("called");
    let figure = |name: &str| {
        let figure = Reflect::get(&watched, &name.into()).expect("there");
        figure.as_f64().expect("a number")
    };
    let store = open(&name).await;
    let (largest, pages) = (figure("largest"), figure("pages"));
    let end = Reflect::get(&watched, &"end".into()).expect("there");
    end.unchecked_into::<js_sys::Function>()
        .call0(&JsValue::NULL)
        .expect("called");
    assert!(largest <= f64::from(2 << 20), "{largest} bytes at once");
    assert!(pages < 100.0, "{pages} pages");
    let last = store.get(TWO, &[11]).expect("read");
    assert_eq!(last, Some(vec![11; 1 << 20].into()));
    let first = store.get(ONE, &2999_u32.to_be_bytes()).expect("read");
    assert_eq!(first, Some(vec![7; 100].into()));
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
    let busy = (0..64).find_map(|_| store.commit(&put("a", value.clone())).err());
    let busy = busy.expect("it does not wait for ever");
    assert!(matches!(busy, StoreError::Busy { .. }), "{busy}");
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

#[test]
async fn a_value_that_is_no_bytes_is_damage_too() {
    let name = name();
    let store = open(&name).await;
    store.commit(&put("a", "1")).expect("committed");
    store.close().await.expect("written");
    let put_text = js_sys::Function::new_with_args(
        "name",
        "return new Promise((done, fails) => {
            const request = indexedDB.open(name)
            request.onerror = fails
            request.onsuccess = () => {
                const write = request.result.transaction('entries', 'readwrite')
                write.objectStore('entries').put('text', new Uint8Array([111, 0, 1]))
                write.oncomplete = () => (request.result.close(), done())
                write.onabort = fails
            }
        })",
    );
    let written = put_text.call1(&JsValue::NULL, &(&*name).into());
    let written = js_sys::Promise::from(written.expect("called"));
    let written = wasm_bindgen_futures::JsFuture::from(written).await;
    written.expect("written");
    let damaged = IndexedDbStore::open(&name, LIMIT, &SCHEMA).await;
    let damaged = damaged.expect_err("it is text");
    assert!(matches!(damaged, StoreError::Damaged { .. }), "{damaged}");
    assert!(
        damaged.to_string().contains("something else than bytes"),
        "{damaged}"
    );
}

/// Its nodes take some 12 MB, and all of them are written in one go.
#[test]
async fn the_ledger_restores_a_large_snapshot_and_finds_it_again() {
    use crate::chain::{
        ItemId, SnapshotSink as _, SnapshotSource as _, SyncVerdict,
        ledger::{self, Genesis, Ledger},
    };

    const ACCOUNTS: u32 = 27_000;
    const MEMORY: usize = 256 << 20;

    let name = name();
    let mut genesis = Genesis::development("restored");
    let account = |number: u32| {
        let hash = ItemId::sha256(&number.to_be_bytes());
        let bytes: [u8; 32] = hash.as_bytes().try_into().expect("a hash");
        (ledger::Address::new(bytes), 7)
    };
    genesis.accounts.extend((0..ACCOUNTS).map(account));
    let memory = MemoryStore::new(MEMORY, &ledger::SCHEMA).expect("memory");
    let maker = Ledger::open(genesis.clone(), Arc::new(memory)).expect("opened");
    let key = ledger::development_key("restored", "proposer");
    let block = maker.propose(&key, 1).expect("a block");
    crate::Application::deliver(&maker, &crate::Item::Block(block));
    let made = maker
        .make_snapshot(None, 1 << 20)
        .expect("written")
        .expect("one");
    let store = IndexedDbStore::open(&name, MEMORY, &ledger::SCHEMA).await;
    let store: Arc<dyn Store> = Arc::new(store.expect("opened"));
    let taker = Ledger::open(genesis.clone(), Arc::clone(&store)).expect("opened");
    store.flush().await.expect("written");
    assert_eq!(taker.offer_snapshot(&made, None), SyncVerdict::Accept);
    for index in 0..made.chunks() {
        let chunk = maker.load_snapshot_chunk(&made, index).expect("there");
        let taken = taker.apply_snapshot_chunk(index, &chunk, &libp2p::PeerId::random());
        assert_eq!(taken, SyncVerdict::Accept);
        platform::offload(|| ()).await;
    }
    assert_eq!(taker.finish_snapshot(&made), SyncVerdict::Accept);
    store.close().await.expect("written");
    let again = IndexedDbStore::open(&name, MEMORY, &ledger::SCHEMA).await;
    let again = Arc::new(again.expect("opened"));
    let again = Ledger::open(genesis, again).expect("opened");
    assert_eq!(again.tip(), taker.tip());
    assert_eq!(
        again
            .account(&account(ACCOUNTS - 1).0)
            .expect("read")
            .balance,
        7
    );
}
