//! What the service manager is told that started this process, if one did: that the node listens, reads its configuration again, is alive, and ends.
//!
//! By sd_notify(3), systemd's datagrams to the socket that `NOTIFY_SOCKET` names; where the environment names none, or there is no systemd, nobody is told.
//! Alive is a node whose task answers: one that hangs is restarted by a manager with a watchdog (`WatchdogSec=`).

#[cfg_attr(target_os = "linux", path = "service/systemd.rs")]
#[cfg_attr(not(target_os = "linux"), path = "service/nobody.rs")]
mod manager;

use futures_timer::Delay;
use selkie::P2PNetworkManager;

pub(crate) use self::manager::{ready, reloading, stopping};

/// Says that the node is alive as often as the manager wants to hear it, until the node has ended.
pub(crate) async fn watched(node: P2PNetworkManager) {
    let Some(within) = manager::watches() else {
        return;
    };
    while node.topics().await.is_ok() {
        manager::alive();
        Delay::new(within / 2).await;
    }
}
