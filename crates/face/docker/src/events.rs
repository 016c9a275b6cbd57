//! `GET /events`: what happens, as it happens.

use std::sync::Arc;
use std::time::Duration;

use dhow_docker_wire::system::Filters;
use dhow_engine::{Event, Heard, now_ns};
use dhow_error::Result;

use crate::answer::{self, Answer};
use crate::request::Request;
use crate::{Services, time, translate};

/// Filters that clients may use.
const FILTERS: [&str; 8] =
    ["container", "daemon", "event", "image", "label", "network", "type", "volume"];

/// Streams events, those that are remembered first if asked for.
pub(crate) fn follow(services: &Arc<Services>, request: Request) -> Result<Answer> {
    let since = request.query.get("since").map(time::parse).transpose()?;
    let until = request.query.get("until").map(time::parse).transpose()?;
    let filters = request.query.filters(&FILTERS)?;
    // Only with a span of time is the past asked for.
    let since = since.or(until.filter(|until| *until <= now_ns()).map(|_| 0));
    let mut subscription = services.engine.events().subscribe(since);
    Ok(answer::stream("application/json", move |writer| async move {
        let wanted = |event: &Event| {
            until.is_none_or(|until| event.time_ns <= until) && matches(event, &filters)
        };
        while let Some(event) = subscription.next_past() {
            if wanted(&event) && writer.line(&translate::event(&event)).await.is_err() {
                return;
            }
        }
        let end = async {
            match until {
                Some(until) => {
                    let left = until.saturating_sub(now_ns());
                    tokio::time::sleep(Duration::from_nanos(left)).await;
                }
                None => std::future::pending().await,
            }
        };
        let live = async {
            while let Some(heard) = subscription.next().await {
                match heard {
                    Heard::Event(event) if wanted(&event) => {
                        if writer.line(&translate::event(&event)).await.is_err() {
                            return;
                        }
                    }
                    Heard::Event(_) => {}
                    Heard::Missed(count) => tracing::warn!(count, "a client missed events"),
                }
            }
        };
        tokio::select! {
            () = live => {}
            () = end => {}
        }
    }))
}

/// Whether an event passes: one value of each filter, every label.
fn matches(event: &Event, filters: &Filters) -> bool {
    let attribute = |name: &str| event.attributes.get(name).map(String::as_str);
    let is_named = |value: &String| {
        event.id == *value
            || (value.len() >= 4 && event.id.starts_with(value.as_str()))
            || attribute("name") == Some(value)
    };
    filters.0.iter().all(|(filter, values)| {
        values.is_empty()
            || match filter.as_str() {
                "label" => values.iter().all(|label| match label.split_once('=') {
                    Some((name, value)) => attribute(name) == Some(value),
                    None => attribute(label).is_some(),
                }),
                "type" => values.iter().any(|kind| kind == event.kind),
                // `exec_create: ls` is an `exec_create`.
                "event" => values.iter().any(|action| {
                    event
                        .action
                        .strip_prefix(action.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
                }),
                "image" => values.iter().any(|value| {
                    (event.kind == "image" && is_named(value))
                        || attribute("image").is_some_and(|image| {
                            image == value
                                || image.rsplit_once(':').is_some_and(|(name, _)| name == value)
                        })
                }),
                kind => event.kind == kind && values.iter().any(is_named),
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose() {
        let event = Event {
            time_ns: 1,
            kind: "container",
            action: "exec_create: ls".into(),
            id: "abcdef".into(),
            attributes: [("name", "web"), ("image", "busybox:latest"), ("tier", "front")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        };
        let passes = |json: &str| matches(&event, &serde_json::from_str(json).unwrap());
        assert!(passes("{}") && passes(r#"{"container":["web"]}"#));
        assert!(passes(r#"{"container":["abcd"],"event":["start","exec_create"]}"#));
        assert!(!passes(r#"{"container":["other"]}"#) && !passes(r#"{"event":["exec"]}"#));
        assert!(passes(r#"{"label":["tier=front"]}"#) && !passes(r#"{"label":["tier","x"]}"#));
        assert!(passes(r#"{"image":["busybox"],"type":["container"]}"#));
        assert!(!passes(r#"{"network":["web"]}"#));
    }
}
