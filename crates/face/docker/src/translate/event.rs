//! Events as Docker tells them.

use dhow_docker_wire::event::{Actor, Event as WireEvent};
use dhow_engine::Event;

/// An event in Docker's form, with the old fields that some clients still read.
pub(crate) fn event(event: &Event) -> WireEvent {
    let has_old_fields = matches!(event.kind, "container" | "image");
    let old = |text: &str| if has_old_fields { text.to_owned() } else { String::new() };
    let from = event.attributes.get("image").filter(|_| event.kind == "container");
    WireEvent {
        status: old(&event.action),
        id: old(&event.id),
        from: from.cloned().unwrap_or_default(),
        kind: event.kind.to_owned(),
        action: event.action.clone(),
        actor: Actor { id: event.id.clone(), attributes: event.attributes.clone() },
        scope: "local".to_owned(),
        time: (event.time_ns / 1_000_000_000) as i64,
        time_nano: event.time_ns as i64,
    }
}
