//! `inspect`.

use serde_json::Value;

use crate::arguments::Inspect;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, template::Template};

/// Prints all that is known of containers and images, as a JSON list or by a template.
pub(super) async fn inspect(client: &Client, flags: &Inspect) -> Result<u8, Failure> {
    let template = flags.format.as_deref().map(Template::parse).transpose()?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in &flags.names {
        match look_up(client, flags, name).await {
            Ok(value) => match &template {
                Some(template) => show::line(&template.apply(&value)?)?,
                None => found.push(value),
            },
            Err(failure) => failures.push(failure),
        }
    }
    if template.is_none() {
        show::line(&indented(&Value::Array(found))?)?;
    }
    failures.iter().for_each(Failure::print);
    Ok(u8::from(!failures.is_empty()))
}

/// A container, else an image.
async fn look_up(client: &Client, flags: &Inspect, name: &str) -> Result<Value, Failure> {
    let kind = flags.kind.as_deref();
    if kind != Some("image") {
        let size = if flags.size { "?size=1" } else { "" };
        match client.get(&format!("/containers/{name}/json{size}")).await {
            Err(failure) if failure.is_not_found() && kind.is_none() => {}
            found => return found,
        }
    }
    match client.get(&format!("/images/{name}/json")).await {
        Err(failure) if failure.is_not_found() && kind.is_none() => {
            let mut failure = failure;
            failure.message = format!("no such object: {name}");
            Err(failure)
        }
        found => found,
    }
}

/// JSON with docker's indentation of four spaces.
fn indented(value: &Value) -> Result<String, Failure> {
    use serde::Serialize;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8(bytes)?)
}
