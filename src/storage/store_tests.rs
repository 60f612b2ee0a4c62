//! What holds of stores in memory and in files, of files that are not what they should be, and of crashes at any moment.

use std::{
    collections::BTreeSet,
    fs, io,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use ::redb::{BackendError, StorageBackend};
use bytes::Bytes;
use futures::FutureExt;
use proptest::prelude::*;

use super::{shared_tests::*, *};
use crate::platform::lock::lock;

/// Both stores, and a folder that the file is in.
fn stores() -> (tempfile::TempDir, Vec<Box<dyn Store>>) {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = MemoryStore::new(1 << 20, &SCHEMA).expect("made");
    let file = RedbStore::open(&folder.path().join("store"), &SCHEMA).expect("made");
    (folder, vec![Box::new(memory), Box::new(file)])
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(0_u8..4, 0..4).prop_map(Bytes::from)
}

fn table() -> impl Strategy<Value = Table> {
    prop_oneof![Just(ONE), Just(TWO)]
}

fn write() -> impl Strategy<Value = Write> {
    let value = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    prop_oneof![
        4 => (table(), key(), value).prop_map(|(table, key, value)| Write::Put(table, key, value)),
        2 => (table(), key()).prop_map(|(table, key)| Write::Delete(table, key)),
        1 => (table(), key(), prop::option::of(key()))
            .prop_map(|(table, from, to)| Write::DeleteRange(table, from, to)),
    ]
}

fn batch(writes: Vec<Write>) -> Batch {
    let mut batch = Batch::default();
    for write in writes {
        match write {
            Write::Put(table, key, value) => batch.put(table, key, value),
            Write::Delete(table, key) => batch.delete(table, key),
            Write::DeleteRange(table, from, to) => batch.delete_range(table, from, to),
        }
    }
    batch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn stores_hold_what_a_map_would(
        batches in prop::collection::vec(prop::collection::vec(write(), 0..12), 1..8),
        (table, from, to, most, backwards) in (table(), key(), key(), 0_usize..20, any::<bool>()),
    ) {
        let (_folder, stores) = stores();
        let mut model = Model::new();
        for batch in batches.into_iter().map(batch) {
            apply(&mut model, &batch);
            for store in &stores {
                store.commit(&batch).expect("committed");
            }
        }
        let held = model.iter().filter(|((at, _), _)| *at == table);
        let held: Vec<_> = held.map(|((_, key), value)| (key.clone(), value.clone())).collect();
        let inside = |key: &Bytes| *key >= from && *key < to;
        let mut wanted: Vec<_> = held.iter().filter(|(key, _)| inside(key)).cloned().collect();
        if backwards {
            wanted.reverse();
        }
        let more = wanted.len() > most;
        wanted.truncate(most);
        let range = KeyRange { backwards, most, ..KeyRange::default() };
        for store in &stores {
            let all = store.range(table, KeyRange::default()).expect("read");
            prop_assert_eq!(&all.entries, &held);
            prop_assert!(!all.more);
            let page = store.range(table, range.from(&from).before(&to)).expect("read");
            prop_assert_eq!(&page.entries, &wanted);
            prop_assert_eq!(page.more, more);
            prop_assert_eq!(store.get(table, &from).expect("read"), model.get(&(table, from.clone())).cloned());
        }
    }
}

#[test]
fn what_is_over_a_limit_is_refused_whole() {
    let (_folder, stores) = stores();
    for store in &stores {
        refuses_what_is_over_a_limit(&**store);
    }
}

#[test]
fn a_page_ends_before_it_is_too_large_and_holds_one_at_least() {
    let (_folder, stores) = stores();
    // There is no room for it in the other.
    gives_pages(&*stores[1]);
}

#[test]
fn a_full_memory_keeps_what_it_had() {
    let store = MemoryStore::new(4096, &SCHEMA).expect("made");
    let mut first = Batch::default();
    first.put(ONE, "a", "1");
    first.put(ONE, "b", "2");
    store.commit(&first).expect("there is room");
    let before = store.range(ONE, KeyRange::default()).expect("read");
    let mut over = Batch::default();
    over.delete(ONE, "a");
    over.put(ONE, "b", "3");
    over.delete_range(ONE, "", None);
    over.put(ONE, "c", vec![0; 4096]);
    let full = store.commit(&over).expect_err("too much");
    assert!(matches!(full, StoreError::Full { .. }), "{full}");
    assert!(!full.is_fatal());
    assert_eq!(store.range(ONE, KeyRange::default()).expect("read"), before);
    let mut freed = Batch::default();
    freed.delete(ONE, "a");
    store.commit(&freed).expect("there is room");
}

#[test]
fn a_file_is_found_again_and_is_held_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let mut batch = Batch::default();
    batch.put(ONE, "a", "1");
    {
        let store = RedbStore::open(&path, &SCHEMA).expect("made");
        store.commit(&batch).expect("committed");
        let locked = RedbStore::open(&path, &SCHEMA).expect_err("it is open");
        assert!(matches!(locked, StoreError::Locked { .. }), "{locked}");
    }
    let store = RedbStore::open(&path, &SCHEMA).expect("opened");
    assert_eq!(store.get(ONE, b"a").expect("read"), Some("1".into()));
    let names = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(names, 1, "nothing is left beside it");
}

#[test]
fn another_programs_file_and_a_newer_one_are_left_alone() {
    fn first(_: &dyn Store) -> Result<Batch, StoreError> {
        Ok(Batch::default())
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let newer = Schema {
        name: "test",
        steps: &[first],
    };
    drop(RedbStore::open(&path, &newer).expect("made"));
    let before = fs::read(&path).expect("it is there");
    let refused = RedbStore::open(&path, &SCHEMA).expect_err("newer");
    assert!(
        matches!(
            refused,
            StoreError::Version {
                found: 1,
                known: 0,
                ..
            }
        ),
        "{refused}"
    );
    let other = Schema {
        name: "other",
        steps: &[],
    };
    let refused = RedbStore::open(&path, &other).expect_err("another's");
    assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
    assert_eq!(fs::read(&path).expect("it is there").len(), before.len());

    let bare = folder.path().join("bare");
    {
        let database = ::redb::Database::create(&bare).expect("made");
        let transaction = database.begin_write().expect("begun");
        let table = ::redb::TableDefinition::<u64, u64>::new("theirs");
        drop(transaction.open_table(table).expect("made"));
        transaction.commit().expect("committed");
    }
    let refused = RedbStore::open(&bare, &SCHEMA).expect_err("another's");
    assert!(refused.to_string().contains("move it away"), "{refused}");
}

#[test]
fn a_store_of_any_version_is_deleted_and_no_other_file_nor_one_that_is_open() {
    fn first(_: &dyn Store) -> Result<Batch, StoreError> {
        Ok(Batch::default())
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let newer = Schema {
        name: "test",
        steps: &[first],
    };
    let other = Schema {
        name: "other",
        steps: &[],
    };
    for schema in [&SCHEMA, &newer] {
        let held = RedbStore::open(&path, schema).expect("made");
        let refused = RedbStore::delete(&path, &SCHEMA).expect_err("it is open");
        assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
        drop(held);
        let refused = RedbStore::delete(&path, &other).expect_err("another's");
        assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
        RedbStore::open(&path, schema).expect("all of it is there");
        RedbStore::delete(&path, &SCHEMA).expect("deleted");
        assert!(!path.exists());
        let refused = RedbStore::delete(&path, &SCHEMA).expect_err("nothing is there");
        assert!(matches!(refused, StoreError::Failed { .. }), "{refused}");
        assert!(!path.exists());
    }
    fs::write(&path, "a letter").expect("written");
    let refused = RedbStore::delete(&path, &SCHEMA).expect_err("no store");
    assert!(refused.is_fatal(), "{refused}");
    assert_eq!(fs::read(&path).expect("it is there"), b"a letter");
}

#[test]
fn an_older_store_is_brought_up_to_date_step_by_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    older_store(&RedbStore::open(&path, &SCHEMA).expect("made"));
    for _ in 0..2 {
        is_brought_up_to_date(&RedbStore::open(&path, &NEWER).expect("once"));
    }
}

#[test]
fn what_is_no_store_is_told_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let mut random = Random(7);
    let noise: Vec<u8> = (0..20_000).map(|_| random.below(256) as u8).collect();
    for length in [1, 8, 9, 100, 4096, 20_000] {
        fs::write(&path, &noise[..length]).expect("written");
        let refused = RedbStore::open(&path, &SCHEMA).expect_err("noise");
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
        assert!(refused.to_string().contains("move it away"), "{refused}");
        assert_eq!(fs::read(&path).expect("kept"), &noise[..length]);
    }
    fs::write(&path, b"").expect("written");
    RedbStore::open(&path, &SCHEMA).expect("an empty file is a new one");
    let absent = folder.path().join("no/such/folder/store");
    let refused = RedbStore::open(&absent, &SCHEMA).expect_err("no folder");
    assert!(matches!(refused, StoreError::Failed { .. }), "{refused}");
}

#[test]
fn what_a_crash_left_of_a_new_file_is_no_hindrance() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    for length in [0, 5, 73_728] {
        fs::write(folder.path().join("store.new"), vec![0; length]).expect("written");
        drop(RedbStore::open(&path, &SCHEMA).expect("made all the same"));
        fs::remove_file(&path).expect("it is in its place");
    }
}

/// A file cut short or changed anywhere is opened or refused, and read or refused; nothing panics, and what is read is what was written.
#[test]
fn a_torn_or_altered_file_is_no_panic_and_no_lie() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    {
        let store = RedbStore::open(&path, &SCHEMA).expect("made");
        for number in 1..=30 {
            store.commit(&numbered(number)).expect("committed");
        }
    }
    let whole = fs::read(&path).expect("it is there");
    let mut random = Random(11);
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (mut opened, mut refused) = (0, 0);
    for round in 0..60 {
        let mut bytes = whole.clone();
        let at = random.below(bytes.len() as u64) as usize;
        match round % 3 {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random.below(8),
            _ => {
                let end = (at + 4096).min(bytes.len());
                bytes[at..end].fill(random.below(256) as u8);
            }
        }
        fs::write(&path, &bytes).expect("written");
        match RedbStore::open(&path, &SCHEMA) {
            Ok(store) => {
                opened += 1;
                for table in [ONE, TWO] {
                    // Only what needs no page that is altered is promised.
                    let _ = store.range(table, KeyRange::default());
                }
                let _ = store.commit(&numbered(31));
            }
            Err(error) => {
                refused += 1;
                assert!(
                    matches!(
                        error,
                        StoreError::Damaged { .. }
                            | StoreError::Foreign { .. }
                            | StoreError::Failed { .. }
                    ),
                    "{error}"
                );
            }
        }
    }
    std::panic::set_hook(quiet);
    assert!(
        opened > 0 && refused > 0,
        "{opened} opened, {refused} refused"
    );
}

#[test]
fn a_process_killed_anywhere_leaves_whole_batches_and_all_that_were_acknowledged() {
    const CHILD: &str = "SELKIE_TEST_STORE";
    const NAME: &str = "storage::store_tests::a_process_killed_anywhere_leaves_whole_batches_and_all_that_were_acknowledged";
    if let Ok(path) = std::env::var(CHILD) {
        let store = RedbStore::open(Path::new(&path), &SCHEMA).expect("opened");
        for number in last_of(&store) + 1.. {
            store.commit(&numbered(number)).expect("committed");
            println!("\nkept {number}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let mut random = Random(3);
    let mut known = 0;
    for round in 0..25 {
        let program = std::env::current_exe().expect("it is running");
        let mut child = Command::new(program)
            .args(["--exact", NAME, "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let kept = lines.map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("kept ")
                .and_then(|number| number.parse::<u64>().ok())
        });
        // Not at the moment of an answer: somewhere in what comes after.
        let enough = if round == 0 { 0 } else { random.below(20) };
        if let Some(last) = kept.take(enough as usize).last() {
            known = last;
        }
        for _ in 0..random.below(100_000) {
            std::hint::spin_loop();
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        let store = RedbStore::open(&path, &SCHEMA).expect("opened");
        let last = last_of(&store);
        assert!(last >= known, "{known} was acknowledged, {last} is there");
        known = last;
    }
    assert!(known > 25);
}

/// A disk that loses its power: of what was not flushed, each sector is there or is not.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Sectors>>);

#[derive(Debug, Default)]
struct Sectors {
    flushed: Vec<u8>,
    now: Vec<u8>,
    /// Calls that change anything, until the power goes. `None`: it stays.
    power: Option<u64>,
    /// The disk's size in bytes. `None`: large enough.
    room: Option<usize>,
    /// How often it was read.
    reads: usize,
    /// The sectors of `now` that are to be written; a write that fails is taken for done, as Linux does.
    dirty: BTreeSet<usize>,
    /// The next flush fails.
    fails: bool,
}

const SECTOR: usize = 512;

impl Sectors {
    fn change(&mut self) -> Result<(), BackendError> {
        match &mut self.power {
            Some(0) => Err(io::Error::other("the power is gone").into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Disk {
    fn open(&self) -> Result<RedbStore, StoreError> {
        RedbStore::open_on(self.clone(), Self::forget_cached, &SCHEMA)
    }

    /// What is read next is what the disk has.
    fn forget_cached(&self) {
        let mut sectors = lock(&self.0);
        let Sectors {
            flushed,
            now,
            dirty,
            ..
        } = &mut *sectors;
        for (at, sector) in now.chunks_mut(SECTOR).enumerate() {
            let from = at * SECTOR;
            if !dirty.contains(&at) {
                let there = flushed.get(from..from + sector.len());
                if let Some(there) = there {
                    sector.copy_from_slice(there);
                }
            }
        }
    }

    /// What is found when the power is back.
    fn after_the_crash(&self, random: &mut Random) -> Self {
        let sectors = lock(&self.0);
        // Of 16 sectors so many are lost.
        let lost = [0, 1, 8][random.below(3) as usize];
        let length = if random.below(2) == 0 {
            sectors.now.len()
        } else {
            sectors.flushed.len()
        };
        let mut found = sectors.flushed.clone();
        found.resize(length, 0);
        for (at, sector) in found.chunks_mut(SECTOR).enumerate() {
            let from = at * SECTOR;
            if random.below(16) >= lost
                && let Some(new) = sectors.now.get(from..from + sector.len())
            {
                sector.copy_from_slice(new);
            }
        }
        Self(Arc::new(Mutex::new(Sectors {
            flushed: found.clone(),
            now: found,
            ..Sectors::default()
        })))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut sectors = lock(&self.0);
        sectors.reads += 1;
        let from = offset as usize;
        let found = sectors.now.get(from..from + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut sectors = lock(&self.0);
        sectors.change()?;
        if sectors.room.is_some_and(|room| len as usize > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        sectors.now.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut sectors = lock(&self.0);
        sectors.change()?;
        let dirty = std::mem::take(&mut sectors.dirty);
        if std::mem::take(&mut sectors.fails) {
            return Err(io::Error::other("a sector can't be written"));
        }
        let Sectors { flushed, now, .. } = &mut *sectors;
        flushed.resize(now.len(), 0);
        for from in dirty.into_iter().map(|at| at * SECTOR) {
            let to = now.len().min(from + SECTOR);
            if let Some(sector) = now.get(from..to) {
                flushed[from..to].copy_from_slice(sector);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut sectors = lock(&self.0);
        sectors.change()?;
        let from = offset as usize;
        sectors.now[from..from + data.len()].copy_from_slice(data);
        sectors
            .dirty
            .extend(from / SECTOR..(from + data.len()).div_ceil(SECTOR));
        Ok(())
    }
}

#[test]
fn a_disk_without_power_keeps_whole_batches_and_all_that_were_acknowledged() {
    let mut random = Random(5);
    let (mut before, mut after) = (0, 0);
    for _ in 0..150 {
        let disk = Disk::default();
        let store = disk.open().expect("made");
        let warm = 1 + random.below(12);
        for number in 1..=warm {
            store.commit(&numbered(number)).expect("committed");
        }
        lock(&disk.0).power = Some(random.below(40));
        // Some may be lost, but only together with all that came after them.
        let mut kept = warm;
        let cut = (warm + 1..).find(|number| {
            let soon = random.below(2) == 0;
            let batch = numbered(*number);
            let outcome = if soon {
                store.commit_soon(&batch)
            } else {
                store.commit(&batch)
            };
            if outcome.is_ok() && !soon {
                kept = *number;
            }
            outcome.is_err()
        });
        let failed = cut.expect("the power goes");
        drop(store);
        let found = disk.after_the_crash(&mut random);
        let store = found.open().expect("it is repaired");
        let last = last_of(&store);
        assert!(
            (kept..=failed).contains(&last),
            "{last}; {kept} was acknowledged and {failed} failed"
        );
        if last == failed {
            after += 1
        } else {
            before += 1
        }
        store.commit(&numbered(last + 1)).expect("it goes on");
    }
    assert!(
        before > 0 && after > 0,
        "{before} lost the last batch, {after} kept it"
    );
}

#[test]
fn what_is_not_on_the_disk_yet_is_flushed_and_nothing_is_written_for_what_is() {
    let disk = Disk::default();
    let store = disk.open().expect("made");
    let flush = || store.flush().now_or_never().expect("it waits for the disk");
    store.commit(&numbered(1)).expect("committed");
    lock(&disk.0).power = Some(0);
    flush().expect("it is there");
    lock(&disk.0).power = None;
    store.commit_soon(&numbered(2)).expect("committed");
    flush().expect("written");
    let flushed = lock(&disk.0).flushed.clone();
    let found = Disk(Arc::new(Mutex::new(Sectors {
        now: flushed.clone(),
        flushed,
        ..Sectors::default()
    })));
    assert_eq!(last_of(&found.open().expect("it is whole")), 2);
}

#[test]
fn a_full_disk_is_told_and_keeps_what_was_acknowledged() {
    let disk = Disk::default();
    let store = disk.open().expect("made");
    store.commit(&numbered(1)).expect("committed");
    let room = lock(&disk.0).now.len() + 64 * 1024;
    lock(&disk.0).room = Some(room);
    let mut large = Batch::default();
    large.put(ONE, "large", vec![1; 1 << 20]);
    let full = store.commit(&large).expect_err("no room");
    assert!(matches!(full, StoreError::Full { .. }), "{full}");
    assert_eq!(last_of(&store), 1, "it is read all the same");
    // Other files were deleted, and nobody has started it again.
    lock(&disk.0).room = None;
    store.commit(&large).expect("there is room");
    let mut without = Batch::default();
    without.delete(ONE, "large");
    store.commit(&without).expect("committed");
    assert_eq!(last_of(&store), 1);
    lock(&disk.0).room = Some(room);
    drop(store);
    let store = disk.open().expect("opened");
    assert_eq!(last_of(&store), 1);
    store.commit(&numbered(2)).expect("a small one has room");
}

#[test]
fn a_disk_that_stays_full_is_not_read_for_each_write() {
    let disk = Disk::default();
    let store = disk.open().expect("made");
    store.commit(&numbered(1)).expect("committed");
    let room = lock(&disk.0).now.len() + 64 * 1024;
    lock(&disk.0).room = Some(room);
    let mut large = Batch::default();
    large.put(ONE, "large", vec![1; 1 << 20]);
    let mut reads = Vec::new();
    for _ in 0..10 {
        let full = store.commit(&large).expect_err("no room");
        assert!(matches!(full, StoreError::Full { .. }), "{full}");
        reads.push(lock(&disk.0).reads);
    }
    assert!(reads[0] < reads[1]);
    assert_eq!(reads[1], reads[9]);
    assert_eq!(last_of(&store), 1, "it is read all the same");
    lock(&disk.0).room = None;
    store.has_rested();
    store.commit(&large).expect("there is room");
}

/// What was to be written and was not stays in the system's memory, where it looks as if it were on the disk.
#[test]
fn what_a_failed_flush_has_left_in_memory_is_not_believed() {
    let mut random = Random(23);
    for flushes in 0..40 {
        let disk = Disk::default();
        let store = disk.open().expect("made");
        let mut last = 1 + random.below(6);
        for number in 1..=last {
            store.commit(&numbered(number)).expect("committed");
        }
        for _ in 0..flushes % 3 {
            last += 1;
            store.commit_soon(&numbered(last)).expect("committed");
        }
        lock(&disk.0).fails = true;
        store
            .commit(&numbered(last + 1))
            .expect_err("it is not flushed");
        assert_eq!(last_of(&store), last, "what was acknowledged, and no more");
        store.commit(&numbered(last + 1)).expect("it goes on");
        // Of what was not flushed nothing is left.
        let flushed = lock(&disk.0).flushed.clone();
        let found = Disk(Arc::new(Mutex::new(Sectors {
            now: flushed.clone(),
            flushed,
            ..Sectors::default()
        })));
        drop(store);
        assert_eq!(last_of(&found.open().expect("it is whole")), last + 1);
    }
}

#[test]
fn on_an_older_file_that_was_put_in_its_place_nothing_is_written() {
    let disk = Disk::default();
    let store = disk.open().expect("made");
    store.commit(&numbered(1)).expect("committed");
    let older = lock(&disk.0).flushed.clone();
    for number in 2..=4 {
        store.commit(&numbered(number)).expect("committed");
    }
    {
        let mut sectors = lock(&disk.0);
        (sectors.now, sectors.flushed) = (older.clone(), older);
        sectors.power = Some(0);
    }
    store.commit(&numbered(5)).expect_err("the power is gone");
    lock(&disk.0).power = None;
    let refused = store.commit(&numbered(6)).expect_err("it is another");
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    assert!(store.get(TWO, b"last").is_err());
}

/// A disk that fails for a while: no process is started anew.
#[test]
fn after_a_failure_a_store_goes_on_with_all_that_was_acknowledged() {
    let mut random = Random(13);
    let (mut before, mut after) = (0, 0);
    for _ in 0..150 {
        let disk = Disk::default();
        let store = disk.open().expect("made");
        let mut last = 0;
        for _ in 0..3 {
            lock(&disk.0).power = Some(random.below(60));
            let failed = (last + 1..).find(|number| {
                let batch = numbered(*number);
                let outcome = match random.below(4) {
                    0 => store.commit(&batch),
                    _ => store.commit_soon(&batch),
                };
                outcome.is_err()
            });
            let failed = failed.expect("it fails");
            if let Ok(Some(read)) = store.get(TWO, b"last") {
                assert!(read[..] >= (failed - 1).to_be_bytes()[..], "an older state");
            }
            lock(&disk.0).power = None;
            store.commit(&Batch::default()).expect("it goes on");
            last = last_of(&store);
            assert!((failed - 1..=failed).contains(&last), "{last} of {failed}");
            if last == failed {
                after += 1;
            } else {
                before += 1;
            }
        }
        drop(store);
        let store = disk.open().expect("opened");
        assert_eq!(last_of(&store), last);
    }
    assert!(before > 0, "{before} lost the last batch, {after} kept it");
}

#[test]
fn batches_that_a_crash_may_lose_are_bounded() {
    let disk = Disk::default();
    let store = disk.open().expect("made");
    for number in 0..40_u64 {
        let mut batch = Batch::default();
        let value = Bytes::from(vec![7; 1 << 20]);
        batch.put(ONE, number.to_be_bytes().to_vec(), value);
        store.commit_soon(&batch).expect("committed");
    }
    let found = disk.after_the_crash(&mut Random(17));
    drop(store);
    let store = found.open().expect("repaired");
    let page = store.range(ONE, KeyRange::last()).expect("read");
    let last = page.entries.first().map(|(key, _)| key.to_vec());
    assert!(last >= Some(24_u64.to_be_bytes().to_vec()), "{last:?}");
}

#[test]
fn a_new_file_takes_no_other_ones_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let first = RedbStore::open(&path, &SCHEMA).expect("made");
    first.commit(&numbered(1)).expect("committed");
    // Another process that saw no file there, and was held up.
    let second = RedbStore::open_new(&path, &SCHEMA).expect_err("the first has it");
    assert!(matches!(second, StoreError::Locked { .. }), "{second}");
    first.commit(&numbered(2)).expect("committed");
    drop(first);
    let store = RedbStore::open(&path, &SCHEMA).expect("opened");
    assert_eq!(last_of(&store), 2);
    let names = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(names, 1, "nothing is left beside it");
}
