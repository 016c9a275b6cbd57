//! Containers with a user namespace.

#![allow(clippy::unwrap_used)]

mod stage;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use serde_json::{Value, json};
use stage::Stage;

const FIRST: u32 = 100_000;

/// A container whose root is [`FIRST`] on the host, and to whom its image belongs.
fn stage(script: &str) -> Stage {
    let stage = map(Stage::new(script), json!([{ "type": "user" }]));
    for folder in ["lower", "upper", "work"] {
        give(&stage.dir.path().join(folder));
    }
    fs::set_permissions(stage.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    stage
}

fn map(mut stage: Stage, more: Value) -> Stage {
    stage.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .extend(more.as_array().unwrap().clone());
    let range = json!([{ "containerID": 0, "hostID": FIRST, "size": 65536 }]);
    stage.set("/linux/uidMappings", range.clone()).set("/linux/gidMappings", range)
}

fn give(path: &Path) {
    lchown(path, Some(FIRST), Some(FIRST)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

fn host_folder(stage: &Stage) -> String {
    let host = stage.dir.path().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "content\n").unwrap();
    host.to_str().unwrap().to_owned()
}

#[test]
fn root_inside_is_nobody_in_particular_outside() {
    let output = stage(
        "id -u; id -g; cat /proc/self/uid_map; cat /proc/self/setgroups; echo new > /file; echo $$",
    );
    let ran = output.run();
    let lines: Vec<String> =
        ran.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines, ["0", "0", "0 100000 65536", "allow", "1"], "{}", ran.err);
    let file = fs::metadata(output.dir.path().join("upper/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (FIRST, FIRST));
    assert!(!output.cgroup_exists() || ran.code == 0);
}

#[test]
fn all_namespaces_belong_to_it() {
    let stage = stage(
        "hostname; hostname other && hostname; ip link set lo down && echo down; \
         mount -t tmpfs none /tmp && echo mounted; cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
    );
    let all = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_DAC_OVERRIDE", "CAP_CHOWN"]);
    let stage = stage.set(
        "/process/capabilities",
        json!({ "bounding": all, "effective": all, "permitted": all }),
    );
    let output = stage.run();
    assert_eq!(output.out, "stage\nother\ndown\nmounted\n0\n", "{}", output.err);
}

#[test]
fn another_user_with_groups_and_a_home() {
    let stage = stage("id; echo $HOME; echo heard > /dev/stdout")
        .set("/process/user", json!({ "username": "web" }));
    let output = stage.run();
    assert_eq!(
        output.out, "uid=1000(web) gid=1000(web) groups=26(tape),1000(web)\n/tmp\nheard\n",
        "{}",
        output.err
    );
    let stage = stage_of_user(70_000);
    let error = stage.try_run().err().unwrap();
    assert!(error.message().starts_with("cannot become user 70000"), "{error}");
}

fn stage_of_user(uid: u32) -> Stage {
    stage("true").set("/process/user", json!({ "uid": uid, "gid": 0 }))
}

/// Shows: config-linux/default-devices-1, config-linux/default-devices-3
#[test]
fn devices_are_the_hosts() {
    let stage = stage(
        "for d in null zero full random urandom tty my/zero; do stat -c '%t:%T' /dev/$d; done; \
         head -c 3 /dev/zero | wc -c; echo x > /dev/null && echo fine; test -p /dev/pipe && echo pipe; \
         readlink /dev/ptmx",
    )
    .set(
        "/linux/devices",
        json!([{ "path": "/dev/my/zero", "type": "c", "major": 1, "minor": 5 },
               { "path": "/dev/pipe", "type": "p" }]),
    );
    let there = Path::new("/dev/char/1:5").exists();
    if !there {
        // Not found by its path, nor by its number without udev: told.
        let error = stage.try_run().err().unwrap();
        assert!(
            error.message().starts_with("cannot find device /dev/my/zero (1:5) on the host"),
            "{error}"
        );
    }
    let stage = if there {
        stage
    } else {
        stage.set("/linux/devices", json!([{ "path": "/dev/pipe", "type": "p" }]))
    };
    let output = stage.run();
    let expected = "1:3\n1:5\n1:7\n1:8\n1:9\n5:0\n";
    assert!(output.out.starts_with(expected), "{}{}", output.out, output.err);
    assert!(output.out.ends_with("3\nfine\npipe\npts/ptmx\n"), "{}{}", output.out, output.err);
}

#[test]
fn sources_that_only_the_host_can_reach() {
    let stage = stage("cat /in/file; touch /in/x || echo refused");
    let host = host_folder(&stage);
    let hidden = stage.dir.path().join("hidden");
    fs::create_dir(&hidden).unwrap();
    fs::rename(&host, hidden.join("host")).unwrap();
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o700)).unwrap();
    let source = hidden.join("host");
    let output = stage.mount("bind", source.to_str().unwrap(), "/in", &["bind"]).run();
    assert_eq!(output.out, "content\nrefused\n", "{}", output.err);
}

/// Shows: config/mount-options-7
#[test]
fn mapped_mounts_have_the_containers_ids() {
    let stage = stage("stat -c '%u %g' /in/file; echo x > /in/new; stat -c %u /plain/file");
    let host = host_folder(&stage);
    chown(stage.dir.path().join("host/file"), Some(5), Some(6)).unwrap();
    let stage = stage.mount("bind", &host, "/in", &["bind", "idmap"]).mount(
        "bind",
        &host,
        "/plain",
        &["rbind"],
    );
    let output = stage.run();
    assert_eq!(output.out, "5 6\n65534\n", "{}", output.err);
    let new = fs::metadata(stage.dir.path().join("host/new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (0, 0), "on the host it is root's, as the map says");
}

/// Shows: config-linux/namespaces-2
#[test]
fn one_is_joined_by_its_path() {
    let other = stage("exec sleep 100");
    let running = other.start();
    let path = format!("/proc/{}/ns/user", running.pid);
    let mut joining = stage("readlink /proc/self/ns/user; id -u; readlink /proc/self/ns/net");
    let namespaces = json!([
        { "type": "mount" }, { "type": "uts" }, { "type": "pid" }, { "type": "ipc" },
        { "type": "user", "path": path },
        { "type": "network", "path": format!("/proc/{}/ns/net", running.pid) },
    ]);
    joining.spec["linux"]["namespaces"] = namespaces;
    joining.spec["linux"].as_object_mut().unwrap().remove("uidMappings");
    let output = joining.run();
    let link = |name: &str| {
        fs::read_link(format!("/proc/{}/ns/{name}", running.pid)).unwrap().display().to_string()
    };
    assert_eq!(
        output.out.lines().collect::<Vec<_>>(),
        [link("user"), "0".to_owned(), link("net")],
        "{}",
        output.err
    );
    let wrong = json!([{ "containerID": 0, "hostID": 7, "size": 65536 }]);
    let error = joining.set("/linux/uidMappings", wrong).try_run().err().unwrap();
    assert_eq!(
        error.message(),
        "linux.uidMappings and linux.gidMappings are not those of the user namespace"
    );
    stage::kill(&running);
}

#[test]
fn an_exec_joins_it() {
    let stage = stage("exec sleep 100");
    let running = stage.start();
    let process =
        stage.process(&["/bin/sh", "-c", "id -u; readlink /proc/self/ns/user; echo x > /made"]);
    let output = stage.exec(&running, &process).unwrap();
    let link = fs::read_link(format!("/proc/{}/ns/user", running.pid)).unwrap();
    assert_eq!(output.out, format!("0\n{}\n", link.display()), "{}", output.err);
    assert_eq!(fs::metadata(stage.dir.path().join("upper/made")).unwrap().uid(), FIRST);
    stage::kill(&running);
}

#[test]
fn what_needs_the_hosts_privileges() {
    // Not all that could be asked for: the machine that tests this may lack CAP_SYS_RESOURCE itself.
    let stage = stage("cat /proc/self/oom_score_adj; ulimit -Hn; ulimit -n")
        .set("/process/oomScoreAdj", json!(321))
        .set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512 }]));
    assert_eq!(stage.run().out, "321\n1024\n512\n");
}

/// Shows: config-linux/default-devices-2
#[test]
fn a_terminal_of_its_own() {
    let stage = stage("tty; stat -c '%u %g' $(tty); test -c /dev/console && echo console");
    let running = stage.launch_with(dhow_runtime::Stdio::Console).unwrap();
    let mut master = fs::File::from(running.console.as_ref().unwrap().try_clone().unwrap());
    let mut seen = Vec::new();
    let mut part = [0; 4096];
    // The end of a terminal is an error.
    while let Ok(length) = std::io::Read::read(&mut master, &mut part) {
        seen.extend_from_slice(&part[..length]);
    }
    let seen = String::from_utf8_lossy(&seen).replace("\r\n", "\n");
    assert_eq!(seen, "/dev/pts/0\n0 5\nconsole\n");
    assert_eq!(stage::wait(&running), 0);
}

/// Shows: config-linux/namespaces-6
#[test]
fn mistakes_name_the_field() {
    let plain = |message: &str, stage: Stage| {
        let error = stage.try_run().err().unwrap();
        assert_eq!(error.message(), message);
        assert!(!stage.cgroup_exists());
    };
    let range = |first: u32| json!([{ "containerID": first, "hostID": FIRST, "size": 10 }]);
    plain(
        "linux.uidMappings needs a user namespace in linux.namespaces",
        Stage::new("true").set("/linux/uidMappings", range(0)),
    );
    plain(
        "linux.uidMappings: id 0 is not mapped",
        stage("true").set("/linux/uidMappings", range(1)),
    );
    plain(
        "linux.gidMappings: a new user namespace needs a mapping",
        stage("true").set("/linux/gidMappings", json!([])),
    );
    let twice = json!([{ "containerID": 0, "hostID": 1, "size": 5 }, { "containerID": 2, "hostID": 9, "size": 5 }]);
    plain(
        "linux.uidMappings: cannot make a user namespace: cannot map its users: invalid argument",
        stage("true").set("/linux/uidMappings", twice),
    );
    plain(
        "linux.namespaces: there are two entries of type user",
        map(stage("true"), json!([{ "type": "user" }])),
    );
}

#[test]
fn a_failed_start_leaves_nothing() {
    let before = (stage::host_mounts(), stage::children());
    let stage = stage("true").set("/process/args", json!(["/no/such/command"]));
    let error = stage.try_run().err().unwrap();
    assert!(error.message().contains("/no/such/command"), "{error}");
    assert!(!stage.cgroup_exists());
    assert_eq!((stage::host_mounts(), stage::children()), before);
}

/// All capabilities, which in a user namespace anybody may give away.
fn almighty(stage: Stage) -> Stage {
    let all: Vec<String> = dhow_sys::caps::names(dhow_sys::caps::CapabilitySet::all());
    stage.set(
        "/process/capabilities",
        json!({ "bounding": all, "effective": all, "permitted": all }),
    )
}

#[test]
fn what_is_hidden_stays_hidden_in_a_nested_namespace() {
    // Whoever may make user namespaces has every capability in one of his own, over a copy of the mounts.
    let stage = stage(
        "mkdir /p; cat > /nested <<'END'\n\
         mount -t proc proc /p 2>/dev/null && echo another proc\n\
         mount -t sysfs sysfs /p 2>/dev/null && echo another sysfs\n\
         umount /proc/keys 2>/dev/null && echo unmasked\n\
         umount /proc/sys 2>/dev/null && echo writable\n\
         mount -o remount,bind,rw /proc/sys 2>/dev/null && echo writable\n\
         test -c /proc/keys && echo masked\n\
         END\n\
         busybox unshare -Urmpf sh /nested; echo end",
    );
    let output = stage.run();
    assert_eq!(output.out, "masked\nend\n", "{}", output.err);
}

#[test]
fn what_root_can_do_with_every_capability() {
    let stage = almighty(stage(
        "echo x > /proc/sys/kernel/core_pattern || echo refused; \
         mknod /dev/evil b 254 0 2>/dev/null && echo made; \
         mknod /tmp/mem c 1 1 2>/dev/null && echo made; \
         umount /proc/sys; echo x > /proc/sys/kernel/core_pattern || echo refused; \
         echo b > /proc/sysrq-trigger || echo refused; \
         mkdir /sys/fs/cgroup/memory/x || echo refused; echo end",
    ));
    let output = stage.run();
    assert_eq!(output.out, "refused\nrefused\nrefused\nrefused\nend\n", "{}", output.err);
}

#[test]
fn cve_2016_9962_nothing_of_the_start_can_be_traced_from_inside() {
    // A second container in the pid and user namespaces of an almighty first one: its first process is seen
    // there before it has executed its command.
    let first = almighty(stage(
        "while :; do for p in /proc/[0-9]*; do \
           case $(readlink $p/exe 2>/dev/null) in ''|*busybox) ;; *) echo $p >> /seen;; esac; \
         done; done",
    ));
    let running = first.start();
    let pid = running.pid;
    let tracer = stage("true").set(
        "/linux/namespaces",
        json!([
            { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }, { "type": "network" },
            { "type": "pid", "path": format!("/proc/{pid}/ns/pid") },
            { "type": "user", "path": format!("/proc/{pid}/ns/user") },
        ]),
    );
    // Either it is refused, or nothing could be seen.
    for _ in 0..3 {
        let _ = tracer.try_run();
    }
    for _ in 0..3 {
        let _ = first.exec(&running, &first.process(&["/bin/true"]));
    }
    stage::kill(&running);
    assert!(!first.dir.path().join("upper/seen").exists());
}

#[test]
fn cve_2019_16884_and_2019_19921_and_2023_28642_proc_is_proc() {
    let with_link = stage("true");
    fs::remove_dir(with_link.image("proc")).ok();
    symlink("/tmp", with_link.image("proc")).unwrap();
    let error = with_link.try_run().err().unwrap();
    assert!(error.message().starts_with("cannot make mount target /proc"), "{error}");
    let source = std::env::temp_dir();
    let covered =
        stage("true").mount("bind", source.to_str().unwrap(), "/proc/sys", &["bind"]).try_run();
    assert!(covered.err().unwrap().message().contains("inside /proc"));
}

#[test]
fn cve_2025_31133_what_masks_is_the_hosts_null() {
    let output = stage("stat -c '%t:%T' /proc/keys").run();
    assert_eq!(output.out, "1:3\n", "{}", output.err);
    // Without a /dev of its own, the image's null would be what covers.
    let mut stage = stage("true");
    let mounts = stage.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    fs::create_dir(stage.image("dev")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", stage.image("dev/null")).unwrap();
    give(&stage.image("dev"));
    let error = stage.try_run().err().unwrap();
    assert_eq!(error.message(), "cannot make device /dev/null: file exists");
}

#[test]
fn cve_2025_52881_sysctls_and_labels_go_through_a_procfs_of_our_own() {
    // What the image and its mounts make of /proc is not what is written to.
    let stage = stage("cat /proc/sys/net/ipv4/ip_unprivileged_port_start")
        .mount("tmpfs", "tmpfs", "/elsewhere", &[])
        .set("/linux/sysctl", json!({ "net.ipv4.ip_unprivileged_port_start": "77" }));
    assert_eq!(stage.run().out, "77\n");
    let mut without = stage;
    without.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
    fs::create_dir_all(without.image("proc/sys/net/ipv4")).unwrap();
    symlink("/etc/passwd", without.image("proc/sys/net/ipv4/ip_unprivileged_port_start")).unwrap();
    let passwd = "/etc/passwd";
    assert!(
        without.set("/process/args", json!(["/bin/cat", passwd])).run().out.starts_with("root:")
    );
}

#[test]
fn cve_2026_41579_a_dev_that_is_a_symlink_stays_inside() {
    for target in ["/etc", "../../../../../../../etc", "/nowhere"] {
        let stage = stage("ls /dev/ | wc -l");
        symlink(target, stage.image("dev")).unwrap();
        let outside = stage.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        // It may start or not: on the host nothing has changed.
        let _ = stage.try_run();
        assert!(!Path::new("/etc/ptmx").is_symlink() && !Path::new("/nowhere").exists());
        assert!(!Path::new("/etc/fd").is_symlink());
    }
}
