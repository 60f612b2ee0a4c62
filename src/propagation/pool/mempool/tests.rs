use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::platform::test;

const SEED: [u8; 16] = [3; 16];

fn pool(max_bytes: usize) -> Mempool {
    let config = MempoolConfig {
        max_bytes,
        ..MempoolConfig::default()
    };
    Mempool::new(config, &SEED)
}

fn transaction(number: u64, size: usize) -> (TransactionKey, Bytes) {
    let mut data = number.to_le_bytes().to_vec();
    data.resize(size.max(8), 0);
    (TransactionKey::of(&data), data.into())
}

#[test]
fn classes_rise_with_the_fee_rate_and_are_within_a_quarter() {
    let mut before = (0, 0);
    for fee_rate in (0..4096)
        .chain((12..64).map(|bit| 1 << bit))
        .chain([u64::MAX])
    {
        let class = class_of(fee_rate);
        assert!(class >= before.1, "{fee_rate}");
        if class == before.1 && before.0 > 0 {
            assert!(fee_rate < before.0 + before.0 / 4 + 1, "{fee_rate}");
        } else {
            before = (fee_rate, class);
        }
    }
    assert_eq!(class_of(u64::MAX), 251);
}

#[test]
fn the_eldest_of_the_lowest_class_leaves_for_who_pays_as_much() {
    let (mut pool, now) = (pool(3 * (100 + OVERHEAD)), crate::platform::now());
    let transactions: Vec<_> = (0..6).map(|number| transaction(number, 100)).collect();
    let insert = |pool: &mut Mempool, number: usize, fee| {
        let (key, data) = transactions[number].clone();
        pool.insert(key, data, fee, now)
    };
    for (number, fee) in [(0, 10), (1, 1), (2, 1)] {
        assert_eq!(insert(&mut pool, number, fee), Insertion::Inserted);
    }
    assert_eq!(insert(&mut pool, 1, 99), Insertion::Known);
    let refused = insert(&mut pool, 3, 0);
    assert_eq!(refused, Insertion::Refused, "it pays less than all");
    for (number, fee, evicted) in [(3, 1, 1), (4, 100, 2), (5, 100, 3)] {
        assert!(pool.get(&transactions[evicted].0).is_some());
        assert_eq!(insert(&mut pool, number, fee), Insertion::Inserted);
        assert!(pool.get(&transactions[evicted].0).is_none());
        assert_eq!(pool.len(), 3, "no other");
    }
    assert_eq!(insert(&mut pool, 1, 1), Insertion::Refused);
    let giant = transaction(9, 10_000);
    assert_eq!(
        pool.insert(giant.0, giant.1, u64::MAX, now),
        Insertion::Refused
    );
    assert_eq!(pool.len(), 3, "nothing left for it");
}

#[test]
fn who_floods_pushes_out_what_it_brought_itself() {
    let (mut pool, now) = (pool(100 * (100 + OVERHEAD)), crate::platform::now());
    let insert = |pool: &mut Mempool, source, number, fee| {
        let (key, data) = transaction(number, 100);
        let inserted = pool.insert_of(source, (key, data, fee), now);
        assert_eq!(inserted, Insertion::Inserted);
    };
    let (few, many) = (Source::at(1), Source::at(2));
    for number in 0..20 {
        insert(&mut pool, few, number, 1);
        insert(&mut pool, Source::OWN, 100 + number, 1);
    }
    for number in 1000..2000 {
        insert(&mut pool, many, number, 1);
    }
    let is_here = |pool: &Mempool, number| pool.get(&transaction(number, 100).0).is_some();
    assert!((0..20).chain(100..120).all(|number| is_here(&pool, number)));
    let is_crowded_out = |pool: &Mempool, number| {
        let id = transaction(number, 100).0.short();
        pool.unwanted().is_crowded_out(id)
    };
    for number in 0..20 {
        assert!(!is_crowded_out(&pool, 1940 + number));
        insert(&mut pool, few, 200 + number, 1);
        let is_out = is_crowded_out(&pool, 1940 + number);
        assert!(is_out, "it has a right to as much");
    }
    // Who pays better stays.
    insert(&mut pool, many, 3000, 1000);
    for number in 4000..5000 {
        insert(&mut pool, many, number, 1);
    }
    // Of what is left for the two that bring most each has a half.
    assert!(is_here(&pool, 3000) && (1..20).all(|number| is_here(&pool, number)));
}

#[test]
fn who_filled_the_pool_once_takes_no_room_from_who_comes_now() {
    let (mut pool, now) = (pool(1 << 20), crate::platform::now());
    let mut insert = |place, number, at| {
        let (key, data) = transaction(number, 100);
        let inserted = pool.insert_of(Source::at(place), (key, data, 1), at);
        assert_eq!(inserted, Insertion::Inserted);
    };
    for number in 0..12_800 {
        insert(u8::try_from(number % 127).expect("small"), number, now);
    }
    let later = now + Duration::from_secs(30 * 60);
    for number in 20_000..20_700 {
        insert(127, number, later);
    }
    let is_here = |number| pool.get(&transaction(number, 100).0).is_some();
    assert!((20_000..20_700).all(is_here));
}

#[test]
fn who_floods_for_long_pushes_out_nothing_old_of_others() {
    let (mut pool, now) = (pool(1 << 20), crate::platform::now());
    let minutes = |minutes: u64| now + Duration::from_secs(60 * minutes);
    let mut insert = |place, number, at| {
        let (key, data) = transaction(number, 100);
        pool.insert_of(Source::at(place), (key, data, 1), at);
    };
    for number in 0..100 {
        insert(1, number, now);
    }
    for number in 20_000..32_800 {
        insert(2, number, minutes(4));
    }
    for number in 40_000..41_000 {
        insert(2, number, minutes(6));
    }
    let is_here = |number| pool.get(&transaction(number, 100).0).is_some();
    assert!((0..100).all(is_here));
}

#[test]
fn when_a_transaction_is_old_depends_on_how_often_blocks_are_made() {
    for (minutes, stays) in [(5, false), (60, true)] {
        let config = MempoolConfig {
            max_bytes: 1 << 20,
            old_after: Duration::from_secs(60 * minutes),
            ..MempoolConfig::default()
        };
        let (mut pool, now) = (Mempool::new(config, &SEED), crate::platform::now());
        let mut insert = |place, number, at| {
            let (key, data) = transaction(number, 100);
            pool.insert_of(Source::at(place), (key, data, 1), at);
        };
        for number in 0..100 {
            insert(1, number, now);
        }
        // None of the four has more than a quarter.
        let later = now + Duration::from_secs(60 * 10);
        for number in 20_000..28_000 {
            insert(u8::try_from(2 + number % 4).expect("small"), number, later);
        }
        let is_here = |number| pool.get(&transaction(number, 100).0).is_some();
        assert_eq!((0..100).all(is_here), stays, "{minutes} min");
    }
}

#[test]
fn one_of_two_with_one_short_id_stays() {
    let (mut pool, now) = (pool(1 << 20), crate::platform::now());
    let (key, data) = transaction(1, 100);
    let mut bytes = *key.as_bytes();
    bytes[20] ^= 1;
    let twin = TransactionKey::new(bytes);
    pool.insert(key, data.clone(), 0, now);
    assert_eq!(pool.insert(twin, data, 5, now), Insertion::Collision);
    assert!(pool.get(&twin).is_none() && pool.remove(&twin).is_none());
    assert!(pool.get(&key).is_some() && pool.contains_short(key.short()));
}

#[test]
fn the_old_ones_expire_and_the_young_ones_stay() {
    let (mut pool, begin) = (pool(1 << 20), crate::platform::now());
    assert_eq!(pool.next_deadline(), None);
    for number in 0..100 {
        let (key, data) = transaction(number, 100);
        pool.insert(
            key,
            data,
            number * 7 % 50,
            begin + Duration::from_secs(number),
        );
    }
    let age = MempoolConfig::default().max_age;
    assert_eq!(pool.next_deadline(), Some(begin + age));
    let now = begin + age + Duration::from_secs(30);
    let mut expired = pool.expire(now);
    expired.sort_unstable();
    let mut expected: Vec<_> = (0..=30).map(|number| transaction(number, 100).0).collect();
    expected.sort_unstable();
    assert_eq!(expired, expected);
    assert_eq!(
        pool.next_deadline(),
        Some(begin + age + Duration::from_secs(31))
    );
}

proptest! {
    /// Against a plain list: what is in the pool, what it costs, and that who was let in pays no less than who left.
    #[test]
    fn it_is_what_a_plain_list_would_be(
        steps in proptest::collection::vec((0u8..8, 0u64..40, 8usize..600, 0u64..2000), 0..300),
    ) {
        let (mut pool, now) = (pool(8000), crate::platform::now());
        let mut model: BTreeMap<TransactionKey, (usize, Class)> = BTreeMap::new();
        for (step, number, size, fee) in steps {
            // One size for each number, so that a number is one transaction.
            let (key, data) = transaction(number, size % 7 * 80);
            if step == 0 {
                prop_assert_eq!(pool.remove(&key).is_some(), model.remove(&key).is_some());
                continue;
            }
            let class = class_of(fee_rate(fee, data.len()));
            let source = Source::at(u8::try_from(number % 3).expect("small"));
            match pool.insert_of(source, (key, data.clone(), fee), now) {
                Insertion::Known => prop_assert!(model.contains_key(&key)),
                Insertion::Inserted => {
                    let gone = model.extract_if(.., |key, _| pool.get(key).is_none());
                    let highest = gone.map(|(_, (_, theirs))| theirs).max();
                    prop_assert!(highest <= Some(class));
                    prop_assert!(model.values().all(|(_, class)| Some(*class) >= highest));
                    prop_assert!(model.insert(key, (data.len(), class)).is_none());
                }
                Insertion::Refused => {
                    let payers = model.values().filter(|(_, theirs)| *theirs > class);
                    let paid: usize = payers.map(|(size, _)| size + OVERHEAD).sum();
                    prop_assert!(paid + data.len() + OVERHEAD > 8000);
                }
                Insertion::Collision => prop_assert!(false, "there is none"),
            }
            let cost: usize = model.values().map(|(size, _)| size + OVERHEAD).sum();
            prop_assert_eq!((pool.len(), pool.bytes()), (model.len(), cost));
            prop_assert!(cost <= 8000);
            prop_assert_eq!(pool.iter().filter(|one| model.contains_key(&one.key)).count(), model.len());
            let mut classes = pool.best_paying().map(|one| class_of(one.fee_rate));
            prop_assert!(classes.by_ref().is_sorted_by(|a, b| a >= b));
        }
    }
}
