//! Mount options of the runtime specification, seen from inside.

#![allow(clippy::unwrap_used, clippy::panic)]

mod stage;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use serde_json::json;
use stage::Stage;

/// A folder of the host's with a file in it.
fn host_folder(stage: &Stage) -> String {
    let host = stage.dir.path().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "content\n").unwrap();
    host.to_str().unwrap().to_owned()
}

/// The options of the mount on `path` as /proc/self/mountinfo shows them.
fn options_of(output: &str, path: &str) -> String {
    let fields = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let line = output.lines().map(fields).find(|fields| fields.get(4).is_some_and(|it| it == path));
    line.unwrap_or_else(|| panic!("{path} is not in {output}")).get(5).unwrap().clone()
}

/// Shows: config/mount-options-1, config/mount-options-2
/// Shows: config/mount-options-2
#[test]
fn attributes_of_a_bind() {
    let stage = Stage::new("cat /proc/self/mountinfo");
    let host = host_folder(&stage);
    let options =
        ["bind", "ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"];
    let output = stage.mount("bind", &host, "/x", &options).run();
    let shown = options_of(&output.out, "/x");
    for option in options.iter().skip(1) {
        assert!(shown.split(',').any(|it| it == *option), "{option} is not in {shown}");
    }
}

/// Shows: config/mount-options-1, config/mount-options-2, config/mount-options-3
#[test]
fn attributes_are_taken_back() {
    let stage = Stage::new("cat /proc/self/mountinfo");
    let host = host_folder(&stage);
    let without = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"];
    let stage = stage
        .mount(
            "bind",
            &host,
            "/x",
            &[&["bind"], &without[..], &["rw", "suid", "dev", "exec", "atime", "diratime"]]
                .concat(),
        )
        .mount("bind", &host, "/strict", &["bind", "strictatime"])
        .mount("bind", &host, "/lax", &["bind", "strictatime", "nostrictatime", "norelatime"]);
    let output = stage.run();
    assert_eq!(options_of(&output.out, "/x"), "rw,relatime");
    assert_eq!(options_of(&output.out, "/strict"), "rw");
    assert_eq!(options_of(&output.out, "/lax"), "rw,relatime");
}

/// Shows: config/mount-options-1, config/mount-options-4
#[test]
fn options_of_a_new_file_system() {
    let output = Stage::new("grep ' /s ' /proc/self/mountinfo; grep ' /d ' /proc/self/mountinfo")
        .mount("tmpfs", "tmpfs", "/s", &["defaults", "sync", "dirsync", "lazytime", "loud"])
        .mount(
            "tmpfs",
            "tmpfs",
            "/d",
            &["sync", "async", "lazytime", "nolazytime", "iversion", "noiversion", "silent"],
        )
        .run();
    let lines: Vec<&str> = output.out.lines().collect();
    assert!(lines[0].contains("sync,dirsync,lazytime"), "{}", output.out);
    assert!(!lines[1].contains("sync") && !lines[1].contains("lazytime"), "{}", output.out);
}

/// Shows: config/mounts-1, config/mounts-2
#[test]
fn mounts_come_in_their_order_and_destinations_below_the_root() {
    let output = Stage::new("cat /a/b/marker; ls /a; ls /relative/path")
        .mount("tmpfs", "tmpfs", "/a", &[])
        .mount("tmpfs", "tmpfs", "/a/b", &[])
        .mount("bind", "/proc/self/comm", "/a/b/marker", &["bind"])
        .mount("tmpfs", "tmpfs", "relative/path", &["mode=755"])
        .run();
    assert!(output.out.ends_with("\nb\n"), "{}{}", output.out, output.err);
    assert_eq!(output.err, "");
}

/// Shows: config/mount-options-5
#[test]
fn a_bind_is_of_one_mount_or_of_all() {
    let output = Stage::new("ls /one/pts | wc -l; test -c /all/pts/ptmx && echo there")
        .mount("none", "/dev", "/one", &["bind"])
        .mount("none", "/dev", "/all", &["rbind"])
        .run();
    assert_eq!(output.out, "0\nthere\n", "{}", output.err);
}

/// Shows: config/mount-options-3
#[test]
fn recursive_attributes_reach_what_lies_beneath() {
    // /dev has mounts in it.
    let stage = Stage::new("cat /proc/self/mountinfo").mount(
        "none",
        "/dev",
        "/x",
        &["rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rnosymfollow"],
    );
    let output = stage.run();
    for path in ["/x", "/x/pts"] {
        let shown = options_of(&output.out, path);
        for option in ["ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow"] {
            assert!(
                shown.split(',').any(|it| it == option),
                "{option} is not in {shown} of {path}"
            );
        }
    }
    let stage = Stage::new("cat /proc/self/mountinfo")
        .mount("none", "/dev", "/y", &["rbind", "ro", "rstrictatime"])
        .mount("none", "/dev", "/z", &["rbind", "noatime", "rrelatime"]);
    let output = stage.run();
    let flat = options_of(&output.out, "/y");
    assert!(flat.starts_with("ro") && !flat.contains("relatime"), "{flat}");
    assert!(options_of(&output.out, "/y/pts").starts_with("rw"), "ro is not recursive");
    assert!(options_of(&output.out, "/z").contains("relatime"));
}

/// Shows: config/mount-options-6
#[test]
fn propagation_of_binds_and_of_new_file_systems() {
    let stage = Stage::new("cat /proc/self/mountinfo");
    let host = host_folder(&stage);
    let stage = stage
        .mount("bind", &host, "/shared", &["bind", "shared"])
        .mount("bind", &host, "/private", &["bind", "private"])
        .mount("bind", &host, "/unbindable", &["bind", "unbindable"])
        .mount("bind", &host, "/slave", &["bind", "shared", "rslave"])
        .mount("tmpfs", "tmpfs", "/new", &["rshared"]);
    let output = stage.run();
    let peers = |path: &str| {
        let line = output.out.lines().find(|line| line.contains(&format!(" {path} "))).unwrap();
        line.split(" - ").next().unwrap().to_owned()
    };
    assert!(peers("/shared").contains("shared:"), "{}", output.out);
    assert!(!peers("/private").contains(':') || !peers("/private").contains("shared:"));
    assert!(peers("/unbindable").contains("unbindable"), "{}", output.out);
    assert!(peers("/new").contains("shared:"), "{}", output.out);
}

#[test]
fn the_roots_propagation() {
    for (propagation, shown) in
        [("shared", "shared:"), ("unbindable", "unbindable"), ("rshared", "shared:")]
    {
        let output = Stage::new("grep ' / / \\| / ' /proc/self/mountinfo | head -1")
            .set("/linux/rootfsPropagation", json!(propagation))
            .run();
        assert!(output.out.contains(shown), "{propagation}: {}", output.out);
    }
    let stage = Stage::new("true").set("/linux/rootfsPropagation", json!("sideways"));
    let error = stage.try_run().err().unwrap();
    assert_eq!(error.message(), "unknown mount propagation \"sideways\"");
}

#[test]
fn a_tmpfs_begins_with_what_it_covers() {
    let stage = Stage::new("cat /data/deep/file; stat -c '%a %u' /data; touch /data/x || echo ro");
    fs::create_dir_all(stage.image("data/deep")).unwrap();
    fs::write(stage.image("data/deep/file"), "from the image\n").unwrap();
    chown(stage.image("data"), Some(33), Some(33)).unwrap();
    let output = stage.mount("tmpfs", "tmpfs", "/data", &["tmpcopyup", "ro", "size=1m"]).run();
    assert_eq!(output.out, "from the image\n755 33\nro\n", "{}", output.err);
    let stage = Stage::new("true").mount("proc", "proc", "/proc", &["tmpcopyup"]);
    let error = stage.try_run().err().unwrap();
    assert_eq!(error.message(), "mount option \"tmpcopyup\" on /proc is not supported");
}

/// Shows: config/mount-options-1
#[test]
fn a_remount_changes_what_is_there() {
    let stage = Stage::new("grep ' /scratch ' /proc/self/mountinfo; touch /scratch/x || echo ro")
        .mount("tmpfs", "tmpfs", "/scratch", &["nosuid", "size=64k"])
        .mount("none", "", "/scratch", &["remount", "bind", "ro", "size=128k"]);
    let output = stage.run();
    assert!(output.out.contains("size=128k") && output.out.contains("nosuid"), "{}", output.out);
    assert!(output.out.ends_with("ro\n"), "{}", output.out);
    let stage = Stage::new("true").mount("none", "", "/etc", &["remount", "ro"]);
    let error = stage.try_run().err().unwrap();
    assert!(error.message().starts_with("cannot set the attributes of /etc"), "{error}");
}

#[test]
fn options_that_mean_nothing_for_a_bind_are_said() {
    let stage = Stage::new("true");
    let host = host_folder(&stage);
    let error = stage.mount("bind", &host, "/x", &["rbind", "size=5"]).try_run().err().unwrap();
    assert_eq!(error.message(), "mount option \"size=5\" on /x is not supported");
}

/// Shows: config/mount-options-7
#[test]
fn mapped_ids_without_a_user_namespace() {
    let mut stage = Stage::new("stat -c '%u %g' /x/file; touch /x/new; stat -c '%u' /plain/new");
    let host = host_folder(&stage);
    chown(stage.dir.path().join("host/file"), Some(7), Some(8)).unwrap();
    fs::set_permissions(&host, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    stage.spec["mounts"].as_array_mut().unwrap().push(json!({
        "type": "bind", "source": host, "destination": "/x", "options": ["bind", "idmap"],
        "uidMappings": [{ "containerID": 0, "hostID": 1000, "size": 10 },
                        { "containerID": 500, "hostID": 0, "size": 1 }],
        "gidMappings": [{ "containerID": 0, "hostID": 2000, "size": 10 },
                        { "containerID": 500, "hostID": 0, "size": 1 }],
    }));
    let stage = stage.mount("bind", &host, "/plain", &["bind"]);
    let output = stage.run();
    // What root makes belongs to the id that the mount maps to root's.
    assert_eq!(output.out, "1007 2008\n500\n", "{}", output.err);
    let file = fs::metadata(stage.dir.path().join("host/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (7, 8), "the file itself is as it was");
}

/// Shows: config/mount-options-8
#[test]
fn maps_that_are_not_whole_are_said() {
    let stage = Stage::new("true");
    let host = host_folder(&stage);
    let error = stage.mount("bind", &host, "/x", &["bind", "ridmap"]).try_run().err().unwrap();
    assert_eq!(
        error.message(),
        "mounts.uidMappings: an idmap without mappings needs a user namespace"
    );
}

/// Shows: config/mounts-3
#[test]
fn users_are_mapped_with_groups_or_not_at_all() {
    let mut stage = Stage::new("true");
    let host = host_folder(&stage);
    stage.spec["mounts"].as_array_mut().unwrap().push(json!({
        "type": "bind", "source": host, "destination": "/x", "options": ["bind"],
        "uidMappings": [{ "containerID": 0, "hostID": 1000, "size": 10 }],
    }));
    let error = stage.try_run().err().unwrap();
    assert_eq!(
        error.message(),
        "mounts.uidMappings: a mount needs mappings of users and of groups, or neither"
    );
}
