//! IndexedDB as far as a store needs it: one object store of bytes by bytes, read in order and written in transactions.

use std::{cell::Cell, rc::Rc};

use bytes::Bytes;
use js_sys::{Array, ArrayBuffer, Function, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::storage::{Batch, Write};

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

    #[derive(Clone)]
    type IdbDatabase;
    #[wasm_bindgen(method, setter)]
    fn set_onclose(this: &IdbDatabase, handler: Option<&Function>);
    #[wasm_bindgen(method, setter)]
    fn set_onversionchange(this: &IdbDatabase, handler: Option<&Function>);
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

/// The name of the error where an entry is none of ours, beside those that the browser has.
pub(super) const NO_BYTES: &str = "NoBytes";

/// A database that was opened.
pub(super) struct Database {
    connection: IdbDatabase,
    is_new: bool,
    state: Rc<Cell<State>>,
    _handlers: [Closure<dyn FnMut()>; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The browser has closed it by force.
    Lost,
    /// For good: by us, or since another page deletes or upgrades it.
    Over,
}

impl Database {
    pub(super) async fn open(name: &str) -> Result<Self, JsValue> {
        let factory = Reflect::get(&js_sys::global(), &"indexedDB".into())?;
        if !factory.is_truthy() {
            return Err("this place has no IndexedDB; keep it in memory here".into());
        }
        let request = factory.unchecked_into::<IdbFactory>().open(name, VERSION)?;
        let upgraded = request.clone();
        let is_new = Rc::new(Cell::new(false));
        let made = Rc::clone(&is_new);
        let make = Closure::once(move || {
            made.set(true);
            // Where it fails so does the opening.
            if let Ok(database) = upgraded.result() {
                let _ = database
                    .unchecked_into::<IdbDatabase>()
                    .create_object_store(ENTRIES);
            }
        });
        request.set_onupgradeneeded(make.as_ref().unchecked_ref());
        let connection: IdbDatabase = ready(&request).await?.unchecked_into();
        let state = Rc::new(Cell::new(State::Open));
        let (lost, given) = (Rc::clone(&state), Rc::clone(&state));
        let on_close = Closure::new(move || lost.set(State::Lost));
        let mine = connection.clone();
        // Who does not close it holds up the other one for ever.
        let on_version_change = Closure::new(move || {
            given.set(State::Over);
            mine.close();
        });
        connection.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        connection.set_onversionchange(Some(on_version_change.as_ref().unchecked_ref()));
        Ok(Self {
            connection,
            is_new: is_new.get(),
            state,
            _handlers: [on_close, on_version_change],
        })
    }

    /// Whether there was none, and it was made as it was opened.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether the browser has closed it by force.
    pub(super) fn is_lost(&self) -> bool {
        self.state.get() == State::Lost
    }

    /// Whether it was closed for good: by us, or since another page deletes or upgrades it.
    pub(super) fn is_over(&self) -> bool {
        self.state.get() == State::Over
    }

    pub(super) fn close(&self) {
        self.state.set(State::Over);
        self.connection.close();
    }

    /// Writes all of these batches or nothing, in their order.
    pub(super) async fn write(
        &self,
        batches: &[Batch],
        durability: Durability,
    ) -> Result<(), JsValue> {
        let put_all = |entries: &IdbEntries| {
            let mut writes = batches.iter().flat_map(Batch::writes);
            writes.try_for_each(|write| entries.write(write))
        };
        self.write_with(durability, put_all).await
    }

    /// Writes all that this goes through, or nothing.
    pub(super) async fn write_all(
        &self,
        go_through: impl FnOnce(
            &mut dyn FnMut(&str, &Bytes, &Bytes) -> Result<(), JsValue>,
        ) -> Result<(), JsValue>,
    ) -> Result<(), JsValue> {
        let put_all = |entries: &IdbEntries| {
            go_through(&mut |table, key, value| {
                entries.put(&owned(value), &owned(&name(table, key)))?;
                Ok(())
            })
        };
        self.write_with(Durability::Strict, put_all).await
    }

    async fn write_with(
        &self,
        durability: Durability,
        write: impl FnOnce(&IdbEntries) -> Result<(), JsValue>,
    ) -> Result<(), JsValue> {
        let options = Object::new();
        let durability = match durability {
            Durability::Relaxed => "relaxed",
            Durability::Strict => "strict",
        };
        Reflect::set(&options, &"durability".into(), &durability.into())?;
        let transaction = self.transaction("readwrite", &options)?;
        let ended = Promise::new(&mut |done, fails| {
            transaction.set_oncomplete(&done);
            transaction.set_onabort(&fails);
        });
        let entries = transaction.object_store(ENTRIES)?;
        if let Err(error) = write(&entries) {
            // Else what was written of it would be kept.
            transaction.abort()?;
            let _ = JsFuture::from(ended).await;
            return Err(error);
        }
        let ended = JsFuture::from(ended).await;
        ended.map(drop).map_err(|_| transaction.error())
    }

    /// As a browser does by force.
    #[cfg(test)]
    pub(super) fn close_behind(&self) {
        self.connection.close();
    }

    /// An entry of nobody's.
    #[cfg(test)]
    pub(super) async fn write_foreign(&self, key: &[u8]) -> Result<(), JsValue> {
        let transaction = self.transaction("readwrite", &Object::new())?;
        let request = transaction
            .object_store(ENTRIES)?
            .put(&owned(&[]), &owned(key))?;
        ready(request.unchecked_ref()).await.map(drop)
    }

    /// The next entries after a key, at most so many, all of one table; of a table that begins here one.
    pub(super) async fn read(
        &self,
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, JsValue> {
        let transaction = self.transaction("readonly", &Object::new())?;
        let entries = transaction.object_store(ENTRIES)?;
        let range = match after {
            Some(key) => IdbKeyRange::lower_bound(&owned(key), true)?,
            None => JsValue::UNDEFINED,
        };
        let keys = ready(&entries.keys(&range, count(most))?).await?;
        let keys = Array::from(&keys);
        let keys = keys.iter().map(key_of).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = keys.first() else {
            return Ok(Vec::new());
        };
        // What a value's size may be, only those before it tell.
        let is_next = |key: &&Bytes| table_of(key) == table_of(first);
        let most = match after.map(table_of) == Some(table_of(first)) {
            true => keys.iter().take_while(is_next).count(),
            false => 1,
        };
        let range = IdbKeyRange::bound(&owned(first), &owned(&keys[most - 1]), false, false)?;
        let values = ready(&entries.values(&range, count(most))?).await?;
        let values = Array::from(&values);
        let value_of = |value: JsValue| {
            let value: Uint8Array = value.dyn_into().map_err(|_| no_bytes())?;
            Ok::<Bytes, JsValue>(value.to_vec().into())
        };
        let pairs = keys.into_iter().zip(values.iter());
        pairs
            .map(|(key, value)| Ok((key, value_of(value)?)))
            .collect()
    }

    /// Throws where the connection is closed, which is so noted.
    fn transaction(&self, mode: &str, options: &Object) -> Result<IdbTransaction, JsValue> {
        let begun = self.connection.transaction(ENTRIES, mode, options);
        if begun.is_err() && self.state.get() == State::Open {
            self.state.set(State::Lost);
        }
        begun
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.connection.set_onclose(None);
        self.connection.set_onversionchange(None);
        self.close();
    }
}

impl IdbEntries {
    fn write(&self, write: &Write) -> Result<(), JsValue> {
        match write {
            Write::Put(table, key, value) => {
                self.put(&owned(value), &owned(&name(table.name(), key)))?;
            }
            Write::Delete(table, key) => {
                self.delete(&owned(&name(table.name(), key)))?;
            }
            Write::DeleteRange(table, from, to) => {
                let from = name(table.name(), from);
                let to = match to {
                    Some(to) => name(table.name(), to),
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
fn name(table: &str, key: &[u8]) -> Vec<u8> {
    [table.as_bytes(), &[0], key].concat()
}

/// The table's part of such a name.
fn table_of(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|byte| *byte == 0);
    &name[..end.unwrap_or(name.len())]
}

/// Keys are buffers there, and values the arrays that they were.
fn key_of(key: JsValue) -> Result<Bytes, JsValue> {
    let key: ArrayBuffer = key.dyn_into().map_err(|_| no_bytes())?;
    Ok(Uint8Array::new(&key).to_vec().into())
}

fn no_bytes() -> JsValue {
    let error = js_sys::Error::new("an entry of something else than bytes");
    error.set_name(NO_BYTES);
    error.into()
}

fn count(most: usize) -> u32 {
    u32::try_from(most).unwrap_or(u32::MAX)
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
