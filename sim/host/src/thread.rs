//! No thread starts from a thread in virtual time: what it did, and when, would be no part of the seed.

use libc::{c_char, c_int, c_void, pthread_attr_t, pthread_t};

use crate::is_virtual;

const MESSAGE: &[u8] =
    b"sim: a node started a thread, whose time is not virtual, so this run can't be repeated\n";
const NAME: &[u8] = b"pthread_create\0";

type Start = extern "C" fn(*mut c_void) -> *mut c_void;
type Create =
    unsafe extern "C" fn(*mut pthread_t, *const pthread_attr_t, Start, *mut c_void) -> c_int;

/// The C library's function, for whoever is linked with this crate. On a thread in virtual time it ends the process.
///
/// # Safety
/// As for that one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    if is_virtual() {
        // SAFETY: the message is as long as it says.
        unsafe {
            libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len());
            libc::_exit(101);
        }
    }
    // SAFETY: the name ends with a zero; what it names has this form, where it is there.
    unsafe {
        let next = libc::dlsym(libc::RTLD_NEXT, NAME.as_ptr().cast::<c_char>());
        if next.is_null() {
            return libc::EAGAIN;
        }
        let create: Create = std::mem::transmute(next);
        create(thread, attributes, start, argument)
    }
}
