//! `GET /containers/{id}/top`: the processes of a container, as the host sees them.
//!
//! Docker runs the host's `ps` for this. Here nothing is run: the columns are those of `ps -ef`, read
//! from /proc, and no others can be asked for.

use dhow_docker_wire::container::Top;
use dhow_error::{Error, Kind, Result};

use crate::Services;
use crate::answer::{self, Answer};
use crate::query::quoted;
use crate::request::Request;

/// Ticks in a second in /proc/[pid]/stat (proc(5)).
const TICKS_PER_SECOND: u64 = 100;

/// Lists processes.
pub(crate) async fn top(services: &Services, request: Request, name: &str) -> Result<Answer> {
    let arguments = request.query.text("ps_args");
    if !matches!(arguments, "" | "-ef") {
        let message =
            format!("cannot list processes with {}: only -ef is offered", quoted(arguments));
        return Err(Error::new(Kind::Unsupported, message));
    }
    let pids = services.engine.processes(name).await?;
    let rows = tokio::task::spawn_blocking(move || pids.into_iter().filter_map(row).collect())
        .await
        .map_err(|error| Error::caused(Kind::Internal, "cannot look at processes", error))?;
    let titles = ["UID", "PID", "PPID", "TIME", "CMD"].map(str::to_owned).to_vec();
    Ok(answer::ok(&Top { titles, processes: rows }))
}

/// One process; none if it has ended meanwhile.
fn row(pid: i32) -> Option<Vec<String>> {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
    let status = String::from_utf8_lossy(&read("status")?).into_owned();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
    Some(vec![
        field("Uid:")?,
        pid.to_string(),
        field("PPid:")?,
        cpu_time(&stat),
        command(&read("cmdline")?, &field("Name:")?),
    ])
}

/// `HH:MM:SS` of CPU time out of /proc/[pid]/stat.
fn cpu_time(stat: &str) -> String {
    // The name in parentheses may have blanks and parentheses in it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks =
        fields.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok());
    let seconds = ticks.sum::<u64>() / TICKS_PER_SECOND;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The arguments with blanks between them; a process without any (a kernel thread, a zombie) has its
/// name in brackets.
fn command(cmdline: &[u8], name: &str) -> String {
    let words: Vec<_> = cmdline
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    if words.is_empty() { format!("[{name}]") } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_described() {
        let row = row(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert_eq!(row.len(), 5);
        assert_eq!(row[1], std::process::id().to_string());
        assert!(super::row(i32::MAX).is_none());
    }

    #[test]
    fn fields_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 300000 60000 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_time(stat), "01:00:00");
        assert_eq!(cpu_time(""), "00:00:00");
        assert_eq!(command(b"sleep\x001\x00", "sleep"), "sleep 1");
        assert_eq!(command(b"", "kthreadd"), "[kthreadd]");
    }
}
