//! `logs`.

use dhow_docker_wire::container::ContainerInspect;
use hyper::Method;
use tokio::io::AsyncReadExt;

use crate::arguments::Logs;
use crate::attach;
use crate::client::{Body, Client, Reader, query};
use crate::failure::Failure;

/// Prints what a container wrote, and with `-f` what it goes on to write.
pub(super) async fn logs(client: &Client, flags: &Logs) -> Result<(), Failure> {
    let inspected: ContainerInspect =
        client.get(&format!("/containers/{}/json", flags.container)).await?;
    let on = |it: bool| if it { "1" } else { "0" };
    let moment = |text: &Option<String>| text.as_deref().map(moment).transpose();
    let (since, until) = (moment(&flags.since)?, moment(&flags.until)?);
    let mut pairs = vec![
        ("stdout", "1"),
        ("stderr", "1"),
        ("follow", on(flags.follow)),
        ("timestamps", on(flags.timestamps)),
        ("tail", &flags.tail),
    ];
    pairs.extend(since.as_deref().map(|it| ("since", it)));
    pairs.extend(until.as_deref().map(|it| ("until", it)));
    let path = format!("/containers/{}/logs{}", inspected.id, query(&pairs));
    let response = client.send(Method::GET, &path, Body::empty()).await?;
    let mut reader = Reader::new(response.into_body());
    if !inspected.config.tty {
        return attach::copy_frames(&mut reader).await;
    }
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = reader.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let piece = buffer.get(..length).unwrap_or_default();
        attach::write(&mut std::io::stdout().lock(), piece)?;
    }
}

/// A moment as the API takes it, `SECONDS[.NANOSECONDS]` since 1970: from RFC 3339, a date, a number
/// of seconds, or a duration back from now (`1h30m`).
fn moment(text: &str) -> Result<String, Failure> {
    let bare = text.strip_prefix('-').unwrap_or(text);
    if !bare.is_empty() && bare.chars().all(|it| it.is_ascii_digit() || it == '.') {
        return Ok(text.to_owned());
    }
    let stamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let date: jiff::civil::DateTime = text.parse().ok()?;
        jiff::tz::Offset::UTC.to_timestamp(date).ok()
    });
    let stamp = stamp.or_else(|| {
        let back = duration(text)?;
        jiff::Timestamp::now().checked_sub(back).ok()
    });
    match stamp {
        Some(stamp) => Ok(format!("{}.{:09}", stamp.as_second(), stamp.subsec_nanosecond())),
        None => Err(Failure::new(format!("cannot read the time {text:?}")).with_hint(
            "write 2026-01-31T12:00:00Z, seconds since 1970, or a duration such as 10m",
        )),
    }
}

/// A duration as Go writes it: numbers, each with a unit of h, m, s or ms.
fn duration(text: &str) -> Option<std::time::Duration> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, behind) = rest.split_at(end);
        let end = behind.find(|it: char| it.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * seconds;
        rest = behind;
    }
    std::time::Duration::try_from_secs_f64(sum).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_four_forms() {
        let read = |text| moment(text).map_err(|it| it.message);
        assert_eq!(read("1700000000.5").as_deref(), Ok("1700000000.5"));
        assert_eq!(read("2023-11-14T22:13:20Z").as_deref(), Ok("1700000000.000000000"));
        assert_eq!(read("2023-11-14").as_deref(), Ok("1699920000.000000000"));
        assert!(read("1h30m").is_ok() && read("soon").is_err() && read("").is_err());
        assert_eq!(duration("1h30m").map(|it| it.as_secs()), Some(5400));
    }
}
