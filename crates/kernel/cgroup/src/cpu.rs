//! Limits of the cpu controller, on v1 and on cgroup2.
//!
//! A running container's limits are changed one file after the other, and the kernel checks each write
//! against what stands in the others: quota over period must fit the parent's, a burst is no longer than
//! the quota, real-time time is no longer than its period. A write that does not fit yet is made again
//! behind the one that makes room for it.

use dhow_spec::oci_runtime::LinuxCpu;
use dhow_sys::rustix::io::Errno;

use crate::Result;
use crate::group::Cgroup;
use crate::layout::Hierarchy;
use crate::limit::{Limit, number_or_max};
use crate::resources::Step;

const DEFAULT_PERIOD_US: u64 = 100_000;

/// One file and what to write into it.
struct Value {
    file: &'static str,
    raw: String,
    limit: Limit,
}

impl Value {
    fn microseconds(what: &'static str, file: &'static str, time: impl ToString) -> Self {
        let raw = time.to_string();
        Self { file, limit: Limit::microseconds(what, &raw), raw }
    }

    fn set(&self, group: &Cgroup, place: &Hierarchy) -> Result<()> {
        group.set(place, self.file, &self.raw, &self.limit)
    }
}

/// Writes `early` values before `main`, and those that do not fit (EINVAL) again behind it.
fn set_around(
    group: &Cgroup,
    place: &Hierarchy,
    early: &[Option<Value>],
    main: Option<&Value>,
) -> Result<()> {
    let mut again = Vec::new();
    for value in early.iter().flatten() {
        match group.try_set(place, value.file, &value.raw) {
            Ok(()) => {}
            Err(Errno::INVAL) if main.is_some() => again.push(value),
            Err(errno) => return Err(group.refused(place, value.file, &value.limit, errno)),
        }
    }
    if let Some(main) = main {
        main.set(group, place)?;
    }
    again.into_iter().try_for_each(|value| value.set(group, place))
}

pub(crate) fn v1(cpu: &LinuxCpu) -> Step<impl FnOnce(&Cgroup, &Hierarchy) -> Result<()>> {
    let Some(first) = first_limit(cpu) else { return Step::Nothing };
    Step::Run(first, move |group: &Cgroup, place: &Hierarchy| {
        let shares = match some(cpu.shares()) {
            Some(shares) => Some(Value {
                file: "cpu.shares",
                raw: shares.to_string(),
                limit: check_shares(shares)?,
            }),
            None => None,
        };
        set_shares_and_idle(group, place, shares, cpu.idle())?;
        let period = |time| Value::microseconds("CPU period", "cpu.cfs_period_us", time);
        let burst = |time| Value::microseconds("CPU burst", "cpu.cfs_burst_us", time);
        let early = [some(cpu.period()).map(period), cpu.burst().map(burst)];
        let quota = signed(cpu.quota())
            .map(|time| Value::microseconds("CPU quota", "cpu.cfs_quota_us", time.max(-1)));
        set_around(group, place, &early, quota.as_ref())?;
        let period = |time| Value::microseconds("real-time period", "cpu.rt_period_us", time);
        let runtime = |time| Value::microseconds("real-time runtime", "cpu.rt_runtime_us", time);
        let early = [some(cpu.realtime_period()).map(period)];
        let main = signed(cpu.realtime_runtime()).map(runtime);
        set_around(group, place, &early, main.as_ref())
    })
}

pub(crate) fn v2(cpu: &LinuxCpu) -> Step<impl FnOnce(&Cgroup, &Hierarchy) -> Result<()>> {
    let Some(first) = first_limit(cpu) else { return Step::Nothing };
    Step::Run(first, move |group: &Cgroup, place: &Hierarchy| {
        refuse_real_time(group, cpu)?;
        let shares = some(cpu.shares()).map(|shares| Value {
            file: "cpu.weight",
            raw: weight(shares).to_string(),
            limit: Limit::new("CPU shares", shares),
        });
        set_shares_and_idle(group, place, shares, cpu.idle())?;
        let burst = |time| Value::microseconds("CPU burst", "cpu.max.burst", time);
        let early = [cpu.burst().map(burst)];
        let (quota, period) = (signed(cpu.quota()), some(cpu.period()));
        let main = (quota.is_some() || period.is_some()).then(|| {
            let quota = number_or_max(quota.unwrap_or(-1));
            let raw = format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD_US));
            Value { file: "cpu.max", limit: Limit::new("CPU quota and period", &raw), raw }
        });
        set_around(group, place, &early, main.as_ref())
    })
}

/// A cgroup that is idle has no shares (the kernel refuses them), and gets them back when it is no longer.
fn set_shares_and_idle(
    group: &Cgroup,
    place: &Hierarchy,
    shares: Option<Value>,
    idle: Option<i64>,
) -> Result<()> {
    let idle = idle.map(|idle| Value {
        file: "cpu.idle",
        raw: idle.to_string(),
        limit: Limit::new("CPU idle", idle),
    });
    if let Some(value) = &idle {
        value.set(group, place)?;
    }
    match shares {
        Some(shares) if idle.is_none_or(|idle| idle.raw == "0") => shares.set(group, place),
        _ => Ok(()),
    }
}

/// What to name when there is no cpu controller; None if nothing is asked of it.
fn first_limit(cpu: &LinuxCpu) -> Option<Limit> {
    let time = Limit::microseconds;
    let first = signed(cpu.quota()).map(|quota| time("CPU quota", quota));
    first
        .or_else(|| some(cpu.period()).map(|period| Limit::microseconds("CPU period", period)))
        .or_else(|| some(cpu.shares()).map(|shares| Limit::new("CPU shares", shares)))
        .or_else(|| cpu.burst().map(|burst| Limit::microseconds("CPU burst", burst)))
        .or_else(|| cpu.idle().map(|idle| Limit::new("CPU idle", idle)))
        .or_else(|| real_time(cpu))
}

fn real_time(cpu: &LinuxCpu) -> Option<Limit> {
    let runtime =
        signed(cpu.realtime_runtime()).map(|time| Limit::microseconds("real-time runtime", time));
    let period = || some(cpu.realtime_period());
    runtime.or_else(|| period().map(|time| Limit::microseconds("real-time period", time)))
}

fn refuse_real_time(group: &Cgroup, cpu: &LinuxCpu) -> Result<()> {
    match real_time(cpu) {
        Some(limit) => Err(group.unsupported(&limit, "cgroup2 has no real-time limits")),
        None => Ok(()),
    }
}

/// 0 means "not asked for", as in runc.
fn some(number: Option<u64>) -> Option<u64> {
    number.filter(|number| *number != 0)
}

fn signed(number: Option<i64>) -> Option<i64> {
    number.filter(|number| *number != 0)
}

/// v1's kernel code clamps shares without a word; a user wants to know.
fn check_shares(shares: u64) -> Result<Limit> {
    let limit = Limit::new("CPU shares", shares);
    if (2..=262_144).contains(&shares) {
        Ok(limit)
    } else {
        Err(limit.out_of_range("they are 2 to 262144"))
    }
}

/// Shares (2 to 262144, 1024 by default) as a weight (1 to 10000, 100 by default), by the curve through
/// these three points that runc and crun use too: 10^((x² + 125 x) / 612 - 7/34), x = log2(shares).
/// Shares beyond either end have that end's weight, as with runc.
fn weight(shares: u64) -> u64 {
    let x = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (x * x + 125.0 * x) / 612.0 - 7.0 / 34.0;
    // Rounding noise of pow must not lift an exact 100 to 101.
    let weight = (10_f64.powf(exponent) - 1e-9).ceil();
    (weight as u64).clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_meet_both_ends_and_the_default() {
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 100, 10_000));
        assert_eq!((weight(1), weight(u64::MAX)), (1, 10_000));
        assert!((2..262_144).step_by(97).all(|shares| weight(shares) <= weight(shares + 97)));
    }
}
