//! Rate limit usage, the pause of the schedule and the salt of the jitter.

use super::*;
use crate::store::cursors::SchedulePause;

#[test]
fn usage_is_kept_for_a_window_and_unserved_users_are_released() {
    let store = Store::in_memory().unwrap();
    let window = Duration::from_secs(100);
    let served = store.reserve_users(5, window, at(1_000)).unwrap();
    let rejected = store.reserve_users(7, window, at(1_010)).unwrap();
    store.reserve_users(9, window, at(1_020)).unwrap();
    store.complete_reservation(served, true, at(1_005)).unwrap();
    store.complete_reservation(rejected, false, at(1_011)).unwrap();
    let second = Duration::from_secs;
    assert_eq!(
        store.recent_usage(window, at(1_050)).unwrap(),
        [(second(45), 5), (second(30), 9)]
    );
    assert_eq!(store.recent_usage(window, at(1_110)).unwrap(), [(second(90), 9)]);
    let set_back = store.recent_usage(window, at(900)).unwrap();
    assert_eq!(
        set_back,
        [(second(0), 5), (second(0), 9)],
        "a backward clock step frees nothing"
    );
}

#[test]
fn pause_is_kept_until_it_is_resumed() {
    let (_folder, path) = new_state_file();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.paused().unwrap(), None);
    store.pause("me", at(5)).unwrap();
    store.pause("another", at(6)).unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    let (since, by) = (at(5), "me".to_owned());
    assert_eq!(
        store.paused().unwrap(),
        Some(SchedulePause { since, by }),
        "the first one"
    );
    store.resume().unwrap();
    store.resume().unwrap();
    assert_eq!(store.paused().unwrap(), None);
}

#[test]
fn jitter_salt_is_kept() {
    let (_folder, path) = new_state_file();
    assert_eq!(
        Store::open(&path).unwrap().jitter_salt(u64::MAX - 1).unwrap(),
        u64::MAX - 1
    );
    assert_eq!(Store::open(&path).unwrap().jitter_salt(7).unwrap(), u64::MAX - 1);
}
