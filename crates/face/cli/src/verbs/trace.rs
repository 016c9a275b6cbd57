//! `DHOW_TRACE=start`: where the milliseconds of a start went, on standard error.
//!
//! Client and daemon read the same clock (CLOCK_MONOTONIC), so that their steps stand in one list.

use dhow_docker_wire::dhow::{StartTrace, TraceStep};
use dhow_sys::rustix::time::{ClockId, clock_gettime};

use crate::client::Client;
use crate::failure::Failure;

/// The client's steps, if somebody wants to see them.
#[derive(Debug)]
pub(super) struct Trace(Option<Vec<TraceStep>>);

impl Trace {
    /// Begins, if `DHOW_TRACE` says `start`.
    pub(super) fn begin() -> Self {
        let wanted = std::env::var("DHOW_TRACE").is_ok_and(|it| it == "start");
        let mut trace = Self(wanted.then(Vec::new));
        trace.step("client begins");
        trace
    }

    /// Notes that a step is done.
    pub(super) fn step(&mut self, name: &str) {
        if let Some(steps) = &mut self.0 {
            let now = clock_gettime(ClockId::Monotonic);
            let at_ns = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
            steps.push(TraceStep { name: format!("client: {name}"), at_ns, micros: 0 });
        }
    }

    /// Fetches the daemon's steps in the background: a container with `--rm` is soon gone.
    pub(super) fn fetch(
        &self,
        client: &Client,
        id: &str,
    ) -> impl Future<Output = Option<StartTrace>> + use<> {
        let wanted = self.0.is_some();
        let (client, path) = (client.clone(), format!("/dhow/containers/{id}/trace"));
        let task = wanted.then(|| tokio::spawn(async move { client.get(&path).await.ok() }));
        async move {
            match task {
                Some(task) => task.await.ok().flatten(),
                None => None,
            }
        }
    }

    /// Prints all steps by time.
    pub(super) fn print_fetched(self, fetched: Option<StartTrace>) {
        let Some(mut steps) = self.0 else { return };
        steps.extend(fetched.map(|it| it.steps).unwrap_or_default());
        steps.sort_by_key(|step| step.at_ns);
        let begin = steps.first().map_or(0, |step| step.at_ns);
        let mut before = begin;
        eprintln!("{:>9} {:>9}  step", "µs", "+µs");
        for step in steps {
            let (all, own) = ((step.at_ns - begin) / 1000, (step.at_ns - before) / 1000);
            eprintln!("{all:>9} {own:>9}  {}", step.name);
            before = step.at_ns;
        }
    }

    /// Fetches and prints.
    pub(super) async fn print(self, client: &Client, id: &str) -> Result<(), Failure> {
        let fetched = self.fetch(client, id).await;
        self.print_fetched(fetched);
        Ok(())
    }
}
