//! What the log says of events that followers are told.

use sifleet_common::api::events::EventKind;
use sifleet_common::name::NodeName;
use sifleet_common::telemetry::catalog;
use tracing::{info, warn};

/// Writes an event to the log, unless there are too many of its kind.
pub(super) fn log(kind: EventKind, node: Option<&NodeName>, detail: Option<&str>) {
    let node = node.map(NodeName::as_str);
    match kind {
        EventKind::NodeOnline => info!(node, "node is online"),
        EventKind::NodeOffline => {
            warn!(message_id = catalog::NODE_OFFLINE, node, error = detail, "node is offline");
        }
        EventKind::NodeRoots => info!(node, detail, "a root changed"),
        EventKind::NodeEnrolled => {
            info!(message_id = catalog::NODE_ENROLLED, node, detail, "a node was enrolled");
        }
        EventKind::NodeRevoked => {
            warn!(message_id = catalog::NODE_REVOKED, node, "a node was revoked");
        }
        EventKind::PartitionChanged => info!(detail, "partitions changed"),
        EventKind::LimitsChanged => info!(detail, "limits changed"),
        EventKind::PushChanged => info!(detail, "a push stands otherwise"),
        EventKind::RemovalChanged => info!(detail, "a removal stands otherwise"),
        EventKind::ImageReady | EventKind::ImageGone | EventKind::Missed => {}
    }
}
