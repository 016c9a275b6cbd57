//! By paths and mounts: an image's links, what is masked, what is written on the way.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use super::Attack;

/// A bind mount of the bundle's root folder, which has something of every name.
fn bind(attack: &Attack, destination: &str) -> Value {
    let source = attack.bundle.path("rootfs");
    json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]})
}

#[test]
fn cve_2019_16884_nothing_covers_proc() -> Result<()> {
    for place in [
        "/proc",
        "/proc/self",
        "/proc/sys",
        "/tmp/../proc/self/attr",
        "//proc/./sys",
        "proc/self/task",
        "/link",
        "/link/attr",
        "/dots/proc/self/attr",
    ] {
        let attack = Attack::new(&["true"])?;
        attack.link("link", "/proc/self")?;
        attack.link("dots", "tmp/../.")?;
        attack.bundle.mount(bind(&attack, place))?;
        let run = attack.bundle.run()?;
        assert_ne!(run.code, 0, "{place}: {run:?}");
        attack.failed()?;
    }
    Ok(())
}

/// Nor does something that is no procfs come to be /proc itself.
#[test]
fn cve_2019_16884_proc_is_a_procfs() -> Result<()> {
    let attack = Attack::new(&["true"])?;
    attack.without_mounts("/proc")?;
    for kind in ["tmpfs", "sysfs"] {
        let source = json!({"destination": "/proc", "type": kind, "source": kind});
        attack.bundle.mount(source)?;
        attack.bundle.mount(json!({"destination": "/proc", "type": "proc", "source": "proc"}))?;
    }
    attack.bundle.args(&["sh", "-c", "cat /proc/self/attr/current >/dev/null; ls -d /proc/1"])?;
    let run = attack.bundle.run()?;
    assert!(run.code != 0 || run.stdout == "/proc/1\n", "{run:?}");
    attack.failed()
}

#[test]
fn cve_2019_19921_cve_2023_27561_cve_2023_28642_proc_and_sys_are_no_links() -> Result<()> {
    for place in ["proc", "sys"] {
        for target in ["tmp", ".", "/", "../../../../../../..", "tmp/../home", "/victim"] {
            let attack = Attack::new(&["true"])?;
            attack.link(place, target)?;
            let run = attack.bundle.run()?;
            assert_ne!(run.code, 0, "{place} to {target}: {run:?}");
            attack.failed()?;
        }
    }
    Ok(())
}

#[test]
fn cve_2021_30465_mount_points_of_the_image_lead_nowhere() -> Result<()> {
    for place in ["dev", "dev/pts", "dev/shm", "dev/mqueue", "sys/fs", "volume", "volume/deep"] {
        let attack = Attack::new(&["sh", "-c", "cat ${SECRET:-/no}; true"])?;
        attack.bundle.mount(bind(&attack, "/volume/deep/er"))?;
        for way in attack.ways_out("x") {
            attack.link(place, &way)?;
            let run = attack.bundle.run()?;
            assert!(!run.stdout.contains("the host's"), "{place} to {way}: {run:?}");
            attack.failed()?;
        }
    }
    Ok(())
}

#[test]
fn cve_2026_41579_dev_is_made_inside() -> Result<()> {
    for with_mount in [true, false] {
        for name in ["", "x", "null"] {
            let attack = Attack::new(&["true"])?;
            if !with_mount {
                attack.without_mounts("/dev")?;
            }
            let device = json!({"path": "/dev/more/mem", "type": "c", "major": 1, "minor": 1});
            attack.bundle.change(|config| config["linux"]["devices"] = json!([device]))?;
            for way in attack.ways_out(name) {
                attack.link("dev", &way)?;
                attack.bundle.run()?;
                attack.failed()?;
            }
        }
    }
    Ok(())
}

#[test]
fn cve_2025_31133_masks_are_the_hosts_null() -> Result<()> {
    for target in ["/proc/sys/kernel/core_pattern", "/masked", "../secret"] {
        let attack = Attack::new(&["sh", "-c", "stat -c %t:%T /masked; cat /masked; true"])?;
        attack.without_mounts("/dev")?;
        fs::write(attack.bundle.path("rootfs/masked"), "unmasked\n")?;
        attack.link("dev/null", target)?;
        attack.bundle.change(|config| config["linux"]["maskedPaths"] = json!(["/masked"]))?;
        let run = attack.bundle.run()?;
        assert!(run.code != 0 || run.stdout == "1:3\n", "{target}: {run:?}");
        attack.failed()?;
    }
    Ok(())
}

#[test]
fn cve_2025_52565_the_terminal_is_the_containers() -> Result<()> {
    for place in ["dev/console", "dev/ptmx", "dev/pts"] {
        let attack = Attack::new(&["sh", "-c", super::CONSOLE])?;
        attack.without_mounts("/dev")?;
        let data = ["newinstance", "ptmxmode=0666"];
        attack.bundle.mount(
            json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": data}),
        )?;
        attack.bundle.change(|config| config["process"]["terminal"] = json!(true))?;
        let run = attack.bundle.run()?;
        assert!(run.stdout.starts_with("/dev/pts/0"), "as it should be: {run:?}");
        let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
        let [one, other] = attack.ways_out("tty");
        for way in [one, other, "/proc/sys/kernel/core_pattern".to_owned()] {
            attack.link(place, &way)?;
            let run = attack.bundle.run()?;
            assert!(!run.stdout.contains("covered"), "{place} to {way}: {run:?}");
            attack.failed()?;
        }
        assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern")?, pattern);
    }
    Ok(())
}

#[test]
fn cve_2025_52881_kernel_parameters_stay_in_their_namespace() -> Result<()> {
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    for name in [
        "kernel.core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4/../../kernel.core_pattern",
        "net...kernel.core_pattern",
        "fs.mqueue/../../kernel/core_pattern",
        "/kernel/core_pattern",
    ] {
        let attack = Attack::new(&["true"])?;
        attack.bundle.change(|config| config["linux"]["sysctl"] = json!({name: "|/x"}))?;
        let run = attack.bundle.run()?;
        assert_ne!(run.code, 0, "{name}: {run:?}");
        attack.failed()?;
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern")?, before);
    Ok(())
}

/// What is written to procfs (parameters, scores, labels) does not go to what the image or a volume has in
/// its place.
#[test]
fn cve_2025_52881_writes_are_not_redirected() -> Result<()> {
    let attack =
        Attack::new(&["sh", "-c", "cat /proc/self/oom_score_adj /proc/sys/kernel/shmmni"])?;
    attack.without_mounts("/proc")?;
    for (place, way) in [
        ("proc/self/oom_score_adj", "/victim/score"),
        ("proc/sys/kernel/shmmni", "/victim/shmmni"),
        ("proc/thread-self/attr/exec", "/victim/exec"),
    ] {
        attack.link(place, way)?;
    }
    fs::create_dir(attack.bundle.path("rootfs/victim"))?;
    attack.bundle.change(|config| {
        config["process"]["oomScoreAdj"] = json!(500);
        config["linux"]["sysctl"] = json!({"kernel.shmmni": "1234"});
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    })?;
    attack.bundle.run()?;
    assert_eq!(fs::read_dir(attack.bundle.path("rootfs/victim"))?.count(), 0);
    attack.failed()
}

/// What a container tries with control groups.
const GROUPS: &str = "for it in $(find /sys/fs/cgroup -type d); do mkdir $it/made && echo made $it; done; \
        for it in $(find /sys/fs/cgroup -name cgroup.procs -o -name release_agent -o -name tasks); do \
        echo 0 > $it && echo wrote $it; done; mount -o remount,rw /sys/fs/cgroup && echo remounted; true";

/// Without a cgroup namespace, and in a user namespace, the groups cannot be written to either.
#[test]
fn cve_2023_25809_control_groups_are_read_only() -> Result<()> {
    for (mapped, own) in [(false, true), (false, false), (true, true), (true, false)] {
        let attack = Attack::new(&["sh", "-c", &format!("({GROUPS}) 2>/dev/null")])?;
        attack.bundle.change(|config| {
            if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
                namespaces.retain(|it| it["type"] != "cgroup");
                if own {
                    namespaces.push(json!({"type": "cgroup"}));
                }
                if mapped {
                    namespaces.push(json!({"type": "user"}));
                }
            }
            if mapped {
                let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
                config["linux"]["uidMappings"] = map.clone();
                config["linux"]["gidMappings"] = map;
            }
        })?;
        let run = attack.bundle.run()?;
        assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{mapped} {own}: {run:?}");
        attack.failed()?;
    }
    Ok(())
}

/// The configuration for who is not root shows the host's /sys.
#[test]
fn cve_2023_25809_the_hosts_sys_is_read_only() -> Result<()> {
    let attack = Attack::new(&["true"])?;
    fs::remove_file(attack.bundle.path("config.json"))?;
    attack.bundle.ok(&["spec", "--rootless", "--bundle", &attack.bundle.shown()])?;
    attack.bundle.args(&["sh", "-c", &format!("({GROUPS}) 2>/dev/null")])?;
    attack.bundle.change(|config| {
        config["process"]["terminal"] = json!(false);
        config["linux"]["cgroupsPath"] = json!(attack.bundle.cgroup());
    })?;
    let run = attack.bundle.run()?;
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{run:?}");
    attack.failed()
}
