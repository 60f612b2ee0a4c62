//! IndexedDB as far as a store needs it: one object store of bytes by bytes, read in order and written in transactions.

use bytes::Bytes;
use js_sys::{Array, ArrayBuffer, Function, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::storage::{Batch, Table, Write};

/// The object store, and the version of the database that it was made in.
const ENTRIES: &str = "entries";
const VERSION: u32 = 1;

#[wasm_bindgen]
extern "C" {
    type IdbFactory;
    #[wasm_bindgen(method, catch)]
    fn open(this: &IdbFactory, name: &str, version: u32) -> Result<IdbRequest, JsValue>;

    #[derive(Clone)]
    type IdbRequest;
    #[wasm_bindgen(method, catch, getter)]
    fn result(this: &IdbRequest) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, getter)]
    fn error(this: &IdbRequest) -> JsValue;
    #[wasm_bindgen(method, setter)]
    fn set_onsuccess(this: &IdbRequest, handler: &Function);
    #[wasm_bindgen(method, setter)]
    fn set_onerror(this: &IdbRequest, handler: &Function);
    #[wasm_bindgen(method, setter)]
    fn set_onupgradeneeded(this: &IdbRequest, handler: &Function);

    type IdbDatabase;
    #[wasm_bindgen(method, catch, js_name = createObjectStore)]
    fn create_object_store(this: &IdbDatabase, name: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn transaction(
        this: &IdbDatabase,
        name: &str,
        mode: &str,
        options: &Object,
    ) -> Result<IdbTransaction, JsValue>;
    #[wasm_bindgen(method)]
    fn close(this: &IdbDatabase);

    type IdbTransaction;
    #[wasm_bindgen(method, catch, js_name = objectStore)]
    fn object_store(this: &IdbTransaction, name: &str) -> Result<IdbEntries, JsValue>;
    #[wasm_bindgen(method, getter)]
    fn error(this: &IdbTransaction) -> JsValue;
    #[wasm_bindgen(method, catch)]
    fn abort(this: &IdbTransaction) -> Result<(), JsValue>;
    #[wasm_bindgen(method, setter)]
    fn set_oncomplete(this: &IdbTransaction, handler: &Function);
    #[wasm_bindgen(method, setter)]
    fn set_onabort(this: &IdbTransaction, handler: &Function);

    type IdbEntries;
    #[wasm_bindgen(method, catch)]
    fn put(this: &IdbEntries, value: &Uint8Array, key: &Uint8Array) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn delete(this: &IdbEntries, range: &JsValue) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch, js_name = getAll)]
    fn values(this: &IdbEntries, range: &JsValue, count: u32) -> Result<IdbRequest, JsValue>;
    #[wasm_bindgen(method, catch, js_name = getAllKeys)]
    fn keys(this: &IdbEntries, range: &JsValue, count: u32) -> Result<IdbRequest, JsValue>;

    #[wasm_bindgen(js_name = IDBKeyRange)]
    type IdbKeyRange;
    #[wasm_bindgen(static_method_of = IdbKeyRange, catch, js_class = IDBKeyRange)]
    fn bound(
        from: &Uint8Array,
        to: &Uint8Array,
        without_from: bool,
        without_to: bool,
    ) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(static_method_of = IdbKeyRange, catch, js_class = IDBKeyRange, js_name = lowerBound)]
    fn lower_bound(from: &Uint8Array, without_from: bool) -> Result<JsValue, JsValue>;
}

/// How long a transaction has to last: over a crash of the browser, or of the machine too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Durability {
    Relaxed,
    Strict,
}

/// An open database.
pub(super) struct Database(IdbDatabase);

impl Database {
    pub(super) async fn open(name: &str) -> Result<Self, JsValue> {
        let factory = Reflect::get(&js_sys::global(), &"indexedDB".into())?;
        if !factory.is_truthy() {
            return Err("this place has no IndexedDB; keep it in memory here".into());
        }
        let request = factory.unchecked_into::<IdbFactory>().open(name, VERSION)?;
        let upgraded = request.clone();
        let make = Closure::once(move || {
            // Where it fails so does the opening.
            if let Ok(database) = upgraded.result() {
                let _ = database
                    .unchecked_into::<IdbDatabase>()
                    .create_object_store(ENTRIES);
            }
        });
        request.set_onupgradeneeded(make.as_ref().unchecked_ref());
        Ok(Self(ready(&request).await?.unchecked_into()))
    }

    pub(super) fn close(&self) {
        self.0.close();
    }

    /// Writes all of these batches or nothing, in their order.
    pub(super) async fn write(
        &self,
        batches: &[Batch],
        durability: Durability,
    ) -> Result<(), JsValue> {
        let options = Object::new();
        let durability = match durability {
            Durability::Relaxed => "relaxed",
            Durability::Strict => "strict",
        };
        Reflect::set(&options, &"durability".into(), &durability.into())?;
        let transaction = self.0.transaction(ENTRIES, "readwrite", &options)?;
        let ended = Promise::new(&mut |done, fails| {
            transaction.set_oncomplete(&done);
            transaction.set_onabort(&fails);
        });
        let entries = transaction.object_store(ENTRIES)?;
        let mut writes = batches.iter().flat_map(Batch::writes);
        if let Err(error) = writes.try_for_each(|write| entries.write(write)) {
            // Else what was written of it would be kept.
            transaction.abort()?;
            let _ = JsFuture::from(ended).await;
            return Err(error);
        }
        let ended = JsFuture::from(ended).await;
        ended.map(drop).map_err(|_| transaction.error())
    }

    /// An entry of nobody's.
    #[cfg(test)]
    pub(super) async fn write_foreign(&self, key: &[u8]) -> Result<(), JsValue> {
        let transaction = self.0.transaction(ENTRIES, "readwrite", &Object::new())?;
        let request = transaction
            .object_store(ENTRIES)?
            .put(&owned(&[]), &owned(key))?;
        ready(request.unchecked_ref()).await.map(drop)
    }

    /// The next entries after a key, at most so many.
    pub(super) async fn read(
        &self,
        after: Option<&[u8]>,
        most: u32,
    ) -> Result<Vec<(Bytes, Bytes)>, JsValue> {
        let transaction = self.0.transaction(ENTRIES, "readonly", &Object::new())?;
        let entries = transaction.object_store(ENTRIES)?;
        let range = match after {
            Some(key) => IdbKeyRange::lower_bound(&Uint8Array::from(key), true)?,
            None => JsValue::UNDEFINED,
        };
        let (keys, values) = (entries.keys(&range, most)?, entries.values(&range, most)?);
        // Both are on their way before one is waited for.
        let (keys, values) = futures::join!(ready(&keys), ready(&values));
        let (keys, values) = (Array::from(&keys?), Array::from(&values?));
        let pairs = keys.iter().zip(values.iter());
        // Keys are buffers there, and values the arrays that they were.
        let pair = |(key, value): (JsValue, JsValue)| {
            let key: ArrayBuffer = key.dyn_into()?;
            let key = Uint8Array::new(&key);
            let value: Uint8Array = value.dyn_into()?;
            Ok((key.to_vec().into(), value.to_vec().into()))
        };
        pairs.map(pair).collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.close();
    }
}

impl IdbEntries {
    fn write(&self, write: &Write) -> Result<(), JsValue> {
        match write {
            Write::Put(table, key, value) => {
                self.put(&owned(value), &owned(&name(*table, key)))?;
            }
            Write::Delete(table, key) => {
                self.delete(&owned(&name(*table, key)))?;
            }
            Write::DeleteRange(table, from, to) => {
                let from = name(*table, from);
                let to = match to {
                    Some(to) => name(*table, to),
                    // What comes after the byte that ends the table's name.
                    None => [table.name().as_bytes(), &[1]].concat(),
                };
                // An empty range is an error there.
                if from < to {
                    let range = IdbKeyRange::bound(&owned(&from), &owned(&to), false, true)?;
                    self.delete(&range)?;
                }
            }
        }
        Ok(())
    }
}

/// Where an entry of a table lies: names have no zero byte.
fn name(table: Table, key: &[u8]) -> Vec<u8> {
    [table.name().as_bytes(), &[0], key].concat()
}

/// A copy that is JavaScript's own.
fn owned(bytes: &[u8]) -> Uint8Array {
    Uint8Array::from(bytes)
}

/// What a request results in.
async fn ready(request: &IdbRequest) -> Result<JsValue, JsValue> {
    let ended = Promise::new(&mut |done, fails| {
        request.set_onsuccess(&done);
        request.set_onerror(&fails);
    });
    match JsFuture::from(ended).await {
        Ok(_) => request.result(),
        Err(_) => Err(request.error()),
    }
}
