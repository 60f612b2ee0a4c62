use proptest::prelude::*;

use super::*;
use crate::platform::test;
use crate::storage::{MemoryStore, Schema};

const SCHEMA: Schema = Schema {
    name: "test",
    steps: &[],
};

fn store() -> MemoryStore {
    MemoryStore::new(1 << 30, &SCHEMA).expect("made")
}

type Map = BTreeMap<Key, Bytes>;

/// A key whose hash is as good as random.
fn key(number: u16) -> Key {
    let mut key = [0; 32];
    key[..2].copy_from_slice(&number.to_be_bytes());
    key
}

/// The definition, without any store: a subtree is empty, one leaf, or the hash of its halves.
fn root_of(map: &Map) -> Hash {
    fn subtree(leaves: &[(Hash, Hash)], depth: usize) -> Hash {
        match leaves {
            [] => EMPTY,
            [(path, value)] => node::leaf_hash(path, value),
            many => {
                let right = |(path, _): &(Hash, Hash)| node::bit(path, depth).expect("not so deep");
                let (right, left): (Vec<_>, Vec<_>) = many.iter().copied().partition(right);
                node::inner_hash(&subtree(&left, depth + 1), &subtree(&right, depth + 1))
            }
        }
    }
    let leaves = map.iter();
    let leaves: Vec<_> = leaves
        .map(|(key, value)| (node::path(key), node::value_hash(value)))
        .collect();
    subtree(&leaves, 0)
}

/// Puts changes into a store as one version.
fn put(
    store: &MemoryStore,
    root: Option<Child>,
    version: u64,
    changes: &BTreeMap<Key, Option<Bytes>>,
) -> Option<Child> {
    let update = Tree(store).update(root, version, changes).expect("updated");
    store.commit(&update.batch).expect("written");
    update.root
}

fn apply(map: &mut Map, changes: &BTreeMap<Key, Option<Bytes>>) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(map.insert(*key, value.clone())),
            None => drop(map.remove(key)),
        }
    }
}

fn changes(keys: u16, most: usize) -> impl Strategy<Value = BTreeMap<Key, Option<Bytes>>> {
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 1..9));
    let one = (0..keys, value).prop_map(|(number, value)| (key(number), value.map(Bytes::from)));
    prop::collection::vec(one, 0..most).prop_map(|changes| changes.into_iter().collect())
}

/// How many entries a table has.
fn entries(store: &MemoryStore, table: Table) -> usize {
    store
        .range(table, KeyRange::default())
        .expect("read")
        .entries
        .len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_tree_is_its_map_at_every_version_whatever_the_way_there(
        versions in prop::collection::vec(changes(40, 30), 1..8),
        absent in 40_u16..60,
    ) {
        let store = store();
        let (mut root, mut map) = (None, Map::new());
        let mut history = Vec::new();
        for (version, changes) in (1..).zip(&versions) {
            root = put(&store, root, version, changes);
            apply(&mut map, changes);
            prop_assert_eq!(root_hash(root), root_of(&map));
            history.push((root, map.clone()));
        }
        let tree = Tree(&store);
        for (root, map) in &history {
            for number in (0..40).chain([absent]) {
                let key = key(number);
                let (value, proof) = tree.prove(*root, &key).expect("read");
                prop_assert_eq!(value.as_ref(), map.get(&key));
                prop_assert_eq!(&tree.get(*root, &key).expect("read"), &value);
                let encoded = proof.encode();
                prop_assert!(encoded.len() <= MAX_PROOF);
                prop_assert_eq!(Proof::decode(&encoded), Ok(proof.clone()));
                prop_assert_eq!(proof.verify(&root_of(map), &key, value.as_deref()), Ok(()));
                let other: Option<&[u8]> = if value.is_some() { None } else { Some(b"lie") };
                prop_assert!(proof.verify(&root_of(map), &key, other).is_err());
            }
            let leaves = tree.leaves(*root, None, usize::MAX).expect("read");
            prop_assert!(leaves.is_sorted_by_key(Leaf::path));
            let held: Map = leaves.into_iter().map(|leaf| (leaf.key, leaf.value)).collect();
            prop_assert_eq!(&held, map);
        }
    }

    #[test]
    fn old_versions_go_and_the_kept_ones_stay_whole(
        versions in prop::collection::vec(changes(30, 20), 2..8),
        kept in 0_usize..8,
    ) {
        let store = store();
        let (mut root, mut map) = (None, Map::new());
        let mut history = Vec::new();
        for (version, changes) in (1..).zip(&versions) {
            root = put(&store, root, version, changes);
            apply(&mut map, changes);
            history.push((root, map.clone()));
        }
        let kept = kept % history.len();
        let mut batch = Batch::default();
        prune(&store, kept as u64 + 1, &mut batch).expect("read");
        store.commit(&batch).expect("written");
        for (root, map) in &history[kept..] {
            let leaves = Tree(&store).leaves(*root, None, usize::MAX).expect("whole");
            prop_assert_eq!(leaves.len(), map.len());
        }
        // Back to the oldest kept, and on from there: as if nothing had come after it.
        let mut batch = Batch::default();
        revert(kept as u64 + 1, &mut batch);
        store.commit(&batch).expect("written");
        let (root, mut map) = history[kept].clone();
        let next = versions.last().expect("two at least");
        let root = put(&store, root, kept as u64 + 2, next);
        apply(&mut map, next);
        prop_assert_eq!(root_hash(root), root_of(&map));
        // Of one version alone nothing is needless: a leaf has one node, and what is over two has one.
        let mut batch = Batch::default();
        prune(&store, u64::MAX - 1, &mut batch).expect("read");
        store.commit(&batch).expect("written");
        let leaves = Tree(&store).leaves(root, None, usize::MAX).expect("whole");
        prop_assert_eq!(leaves.len(), map.len());
        prop_assert_eq!(entries(&store, STALE), 0);
        prop_assert!(map.is_empty() == (entries(&store, NODES) == 0));
    }

    #[test]
    fn leaves_in_order_make_the_same_tree_in_pieces_of_any_size(
        all in changes(300, 200),
        piece in 1_usize..50,
    ) {
        let (from, to) = (store(), store());
        let root = put(&from, None, 1, &all);
        let mut builder = Builder::new(7);
        let mut after = None;
        loop {
            let leaves = Tree(&from).leaves(root, after.as_ref(), piece).expect("read");
            let Some(last) = leaves.last() else { break };
            after = Some(last.path());
            for leaf in leaves {
                prop_assert!(builder.add(leaf.key, leaf.value.clone()).expect("added"));
                prop_assert!(!builder.add(leaf.key, leaf.value).expect("not twice"));
            }
            to.commit(&builder.take_batch()).expect("written");
        }
        let (built, batch) = builder.finish().expect("built");
        to.commit(&batch).expect("written");
        prop_assert_eq!(root_hash(built), root_hash(root));
        prop_assert_eq!(entries(&to, NODES), entries(&from, NODES));
        // It is a tree to go on with.
        let next = BTreeMap::from([(key(1), Some(Bytes::from("new"))), (key(2), None)]);
        let [one, other] = [put(&from, root, 8, &next), put(&to, built, 8, &next)];
        prop_assert_eq!(root_hash(one), root_hash(other));
    }

    #[test]
    fn forged_proofs_are_refused(
        all in changes(60, 50),
        number in 0_u16..80,
        (at, bit) in (any::<prop::sample::Index>(), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let store = store();
        let root = put(&store, None, 1, &all);
        let (key, top) = (key(number), root_hash(root));
        let (value, proof) = Tree(&store).prove(root, &key).expect("read");
        let check = |bytes: &[u8]| Proof::decode(bytes).map_err(ProofError::from)
            .and_then(|proof| proof.verify(&top, &key, value.as_deref()));
        let bytes = proof.encode();
        prop_assert_eq!(check(&bytes), Ok(()));
        let mut forged = bytes.clone();
        forged[at.index(bytes.len())] ^= 1_u8 << bit;
        prop_assert!(check(&forged).is_err(), "a bit is another");
        prop_assert!(check(&bytes[..cut.index(bytes.len())]).is_err(), "cut short");
        prop_assert!(check(&[&bytes[..], &[0]].concat()).is_err(), "something follows");
    }

    #[test]
    fn any_bytes_are_a_proof_with_one_encoding_or_none(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(proof) = Proof::decode(&bytes) {
            prop_assert_eq!(proof.encode(), bytes);
        }
    }
}

#[test]
fn an_empty_tree_proves_that_it_is() {
    let store = store();
    let (value, proof) = Tree(&store).prove(None, &key(1)).expect("read");
    assert_eq!((value, proof.verify(&EMPTY, &key(1), None)), (None, Ok(())));
    assert_eq!(proof.encode(), [1, 0]);
}

#[test]
fn a_store_that_lost_a_node_is_damaged_and_no_panic() {
    let store = store();
    let all = (0..50).map(|number| (key(number), Some(Bytes::from("value"))));
    let root = put(&store, None, 1, &all.collect());
    let nodes = store
        .range(NODES, KeyRange::default())
        .expect("read")
        .entries;
    for (id, record) in nodes {
        let mut batch = Batch::default();
        batch.delete(NODES, id.clone());
        store.commit(&batch).expect("written");
        let lost = Tree(&store).leaves(root, None, usize::MAX);
        assert!(matches!(lost, Err(StoreError::Damaged { .. })));
        for wrong in [&record[..record.len() / 3], b"", b"\x03", b"\x02\x07"] {
            let mut batch = Batch::default();
            batch.put(NODES, id.clone(), wrong.to_vec());
            store.commit(&batch).expect("written");
            let _ = Tree(&store).leaves(root, None, usize::MAX);
            let _ = Tree(&store).prove(root, &key(7));
        }
        let mut batch = Batch::default();
        batch.put(NODES, id, record);
        store.commit(&batch).expect("written");
    }
    assert!(Tree(&store).leaves(root, None, usize::MAX).is_ok());
}
