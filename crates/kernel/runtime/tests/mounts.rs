//! What is mounted in a container, and what an image cannot make of it.

#![allow(clippy::unwrap_used)]

mod stage;

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use stage::Stage;

#[test]
fn the_root_is_an_overlay_that_only_the_container_has() {
    let before = stage::host_mounts();
    let stage = Stage::new("echo new > /file; grep ' / / ' /proc/self/mountinfo");
    let output = stage.run();
    assert!(output.out.contains(" - overlay "), "{}", output.out);
    assert_eq!(fs::read_to_string(stage.dir.path().join("upper/file")).unwrap(), "new\n");
    assert!(!stage.image("file").exists());
    assert_eq!(stage::host_mounts(), before);
}

#[test]
fn nothing_of_the_host_is_mounted() {
    let output = Stage::new("cat /proc/self/mountinfo").run();
    for line in output.out.lines() {
        assert!(
            !line.contains("shared:") && !line.contains("master:") || line.contains("cgroup"),
            "{line}"
        );
    }
    assert!(output.out.lines().count() < 60);
}

#[test]
fn a_directory_can_be_the_root() {
    let mut stage = Stage::new("cat /marker");
    fs::write(stage.image("marker"), "here\n").unwrap();
    stage.plain_root = true;
    assert_eq!(stage.run().out, "here\n");
}

/// Shows: config/root-3
#[test]
fn a_read_only_root_is_read_only() {
    let stage = Stage::new("touch /x || echo refused; touch /dev/shm/x && echo fine")
        .set("/root/readonly", json!(true));
    assert_eq!(stage.run().out, "refused\nfine\n");
}

/// Shows: config-linux/masked-1, config-linux/read-only-1
#[test]
fn masked_and_read_only_paths() {
    let output = Stage::new(
        "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; \
         test -c /proc/keys && echo null; \
         echo 1 > /proc/sys/kernel/panic || echo refused; \
         touch /sys/x 2>/dev/null || echo refused",
    )
    .run();
    assert_eq!(output.out, "0\n0\nnull\nrefused\nrefused\n", "{}", output.err);
}

/// Shows: config-linux/default-devices-1, config-linux/default-devices-3
#[test]
fn devices_and_links() {
    let output = Stage::new(
        "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; \
         for l in fd stdout ptmx; do readlink /dev/$l; done; head -c 3 /dev/zero | wc -c; echo x > /dev/null; \
         stat -c %a /dev/null",
    )
    .run();
    assert_eq!(output.out, "/proc/self/fd\n/proc/self/fd/1\npts/ptmx\n3\n666\n", "{}", output.err);
}

/// Shows: config-linux/devices-1
#[test]
fn a_device_of_the_specification() {
    let stage = Stage::new("stat -c '%t:%T %a %u' /dev/my/zero").set(
        "/linux/devices",
        json!([{ "path": "/dev/my/zero", "type": "c", "major": 1, "minor": 5,
                 "fileMode": 0o640, "uid": 33 }]),
    );
    assert_eq!(stage.run().out, "1:5 640 33\n");
}

#[test]
fn the_cgroups_are_its_own_and_read_only() {
    let output = Stage::new(
        "if test -d /sys/fs/cgroup/memory; then cat /sys/fs/cgroup/memory/memory.limit_in_bytes; \
         else cat /sys/fs/cgroup/memory.max; fi; mkdir /sys/fs/cgroup/x || echo refused; \
         mkdir /sys/fs/cgroup/memory/x || echo refused",
    )
    .run();
    assert_eq!(output.out, "67108864\nrefused\nrefused\n", "{}", output.err);
}

#[test]
fn binds_of_files_and_directories_with_missing_targets() {
    let stage = Stage::new("cat /a/b/file; cat /c/d/inner; echo changed > /c/d/inner");
    let host = stage.dir.path().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("inner"), "inside\n").unwrap();
    fs::write(host.join("file"), "a file\n").unwrap();
    let path = host.to_str().unwrap().to_owned();
    let file = format!("{path}/file");
    let stage = stage.mount("bind", &file, "/a/b/file", &["rbind", "rprivate"]).mount(
        "bind",
        &path,
        "/c/d",
        &["rbind", "rprivate"],
    );
    let output = stage.run();
    assert_eq!(output.out, "a file\ninside\n", "{}", output.err);
    assert_eq!(fs::read_to_string(host.join("inner")).unwrap(), "changed\n");
}

#[test]
fn read_only_binds_also_recursively() {
    let stage = Stage::new("touch /plain/x || echo refused; touch /deep/shm/x || echo refused");
    let host = stage.dir.path().join("host");
    fs::create_dir_all(host.join("shm")).unwrap();
    let path = host.to_str().unwrap().to_owned();
    let stage = stage.mount("bind", &path, "/plain", &["rbind", "ro"]).mount(
        "bind",
        "/dev",
        "/deep",
        &["rbind", "rro"],
    );
    assert_eq!(stage.run().out, "refused\nrefused\n");
}

#[test]
fn tmpfs_options() {
    let stage = Stage::new(
        "stat -c '%a %u' /scratch; grep ' /scratch ' /proc/self/mountinfo; stat -c %a /tmp",
    )
    .mount("tmpfs", "tmpfs", "/scratch", &["size=64k", "mode=1750", "uid=33", "noexec", "nosuid"])
    .mount("tmpfs", "tmpfs", "/tmp", &[]);
    fs::set_permissions(stage.image("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1711))
        .unwrap();
    let output = stage.run();
    assert!(output.out.starts_with("1750 33\n"), "{}{}", output.out, output.err);
    assert!(output.out.contains("noexec") && output.out.contains("size=64k"), "{}", output.out);
    // Without a mode it has that of the directory it covers.
    assert!(output.out.ends_with("1711\n"), "{}", output.out);
}

#[test]
fn a_bad_tmpfs_option_is_said() {
    let stage = Stage::new("true").mount("tmpfs", "tmpfs", "/scratch", &["nonsense=1"]);
    let error = stage.try_run().err().unwrap();
    assert_eq!(error.step(), "mounts");
    assert!(error.message().starts_with("cannot mount tmpfs on /scratch"), "{error}");
    assert!(error.message().contains("nonsense"), "{error}");
}

#[test]
fn a_missing_source_is_said() {
    let stage = Stage::new("true").mount("bind", "/no/such/source", "/x", &["rbind"]);
    let error = stage.try_run().err().unwrap();
    assert_eq!(
        error.message(),
        "cannot open mount source /no/such/source: no such file or directory"
    );
}

#[test]
fn cve_2021_30465_a_symlink_in_the_image_stays_in_the_image() {
    let stage = Stage::new("cat /inside/target/file");
    let outside = stage.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let host = stage.dir.path().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "bound\n").unwrap();
    // /link leads to a path that exists on the host, and to one that is the image's own below its root.
    symlink(&outside, stage.image("link")).unwrap();
    symlink("../../../../../../inside", stage.image("up")).unwrap();
    let source = host.to_str().unwrap().to_owned();
    let stage = stage.mount("bind", &source, "/link/target", &["rbind"]).mount(
        "bind",
        &source,
        "/up/target",
        &["rbind"],
    );
    let output = stage.run();
    assert_eq!(output.out, "bound\n", "{}", output.err);
    assert!(fs::read_dir(&outside).unwrap().next().is_none());
}

#[test]
fn a_dangling_symlink_is_followed_within_the_image() {
    let stage = Stage::new("cat /etc/resolv.conf; cat /run/resolve/stub.conf");
    symlink("../run/resolve/stub.conf", stage.image("etc/resolv.conf")).unwrap();
    let source = stage.dir.path().join("resolv");
    fs::write(&source, "nameserver\n").unwrap();
    let stage = stage.mount("bind", source.to_str().unwrap(), "/etc/resolv.conf", &["rbind", "ro"]);
    assert_eq!(stage.run().out, "nameserver\nnameserver\n");
}

#[test]
fn cve_2019_19921_proc_goes_only_onto_a_directory() {
    let stage = Stage::new("true");
    symlink("/tmp", stage.image("proc")).unwrap();
    let error = stage.try_run().err().unwrap();
    assert!(error.message().starts_with("cannot make mount target /proc"), "{error}");
}

#[test]
fn cve_2019_16884_proc_cannot_be_covered() {
    let source = std::env::temp_dir();
    let source = source.to_str().unwrap();
    let stage = Stage::new("true").mount("bind", source, "/proc/self", &["rbind"]);
    let error = stage.try_run().err().unwrap();
    assert_eq!(error.message(), "cannot mount on /proc/self: it lies inside /proc");
    // Nor through a symlink of the image.
    let stage = Stage::new("true");
    symlink("/proc", stage.image("p")).unwrap();
    let stage = stage.mount("bind", source, "/p/sys", &["rbind"]);
    let error = stage.try_run().err().unwrap();
    assert!(error.message().contains("inside /proc"), "{error}");
    let stage = Stage::new("true").mount("bind", source, "/proc", &["rbind"]);
    assert!(stage.try_run().err().unwrap().message().contains("inside /proc"));
}

#[test]
fn a_sysctl_of_the_host_is_refused() {
    let stage = Stage::new("true").set("/linux/sysctl", json!({ "vm.swappiness": "1" }));
    let error = stage.try_run().err().unwrap();
    assert_eq!(error.step(), "plan");
}
