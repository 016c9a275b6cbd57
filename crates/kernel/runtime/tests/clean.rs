//! What a process starts with: nothing that it was not given.

#![allow(clippy::unwrap_used)]

mod stage;

use serde_json::json;
use stage::Stage;

fn status(field: &str) -> String {
    format!("grep {field}: /proc/self/status")
}

fn value(stage: &Stage) -> String {
    let output = stage.run();
    let value = output.out.split_whitespace().nth(1).map(str::to_owned);
    value.unwrap_or_else(|| unreachable!("{}", output.err))
}

#[test]
fn signals_are_as_at_boot() {
    for field in ["SigBlk", "SigIgn"] {
        // The shell itself ignores nothing in a child that it executes.
        let stage =
            Stage::new("").set("/process/args", json!(["/bin/grep", field, "/proc/self/status"]));
        assert_eq!(value(&stage), "0000000000000000", "{field}");
    }
}

#[test]
fn descriptors_are_the_standard_streams_only() {
    // ls itself has the folder open, as 3.
    let stage = Stage::new("").set("/process/args", json!(["/bin/ls", "/proc/self/fd"]));
    assert_eq!(stage.run().out, "0\n1\n2\n3\n");
}

#[test]
fn capabilities_are_those_listed() {
    for (field, expected) in [
        ("CapPrm", "00000000a80425fb"),
        ("CapEff", "00000000a80425fb"),
        ("CapBnd", "00000000a80425fb"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
    ] {
        assert_eq!(value(&Stage::new(&status(field))), expected, "{field}");
    }
}

#[test]
fn a_user_has_only_ambient_capabilities() {
    let user = json!({ "uid": 1000, "gid": 1000 });
    let stage = Stage::new(&status("CapEff")).set("/process/user", user.clone());
    assert_eq!(value(&stage), "0000000000000000");
    let stage = Stage::new(&status("CapEff"))
        .set("/process/user", user)
        .set("/process/capabilities/inheritable", json!(["CAP_NET_BIND_SERVICE"]))
        .set("/process/capabilities/ambient", json!(["CAP_NET_BIND_SERVICE"]));
    assert_eq!(value(&stage), "0000000000000400");
}

#[test]
fn no_new_privileges_and_filters_in_either_order() {
    for no_new_privs in [true, false] {
        let mut stage = Stage::new("grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status")
            .set("/process/noNewPrivileges", json!(no_new_privs));
        stage.seccomp = Some(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }],
        }));
        let output = stage.run();
        let expected = format!("NoNewPrivs:\t{}\nSeccomp:\t2\n", u8::from(no_new_privs));
        assert_eq!(output.out, expected, "{}", output.err);
        let mut stage = Stage::new("mkdir /tmp/x");
        stage.seccomp = Some(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }],
        }));
        assert_ne!(stage.run().code, 0);
    }
}

#[test]
fn users_are_looked_up_in_the_image() {
    for (name, expected) in [
        ("web", "uid=1000(web) gid=1000(web) groups=26(tape),1000(web)\n/tmp\n"),
        ("web:tape", "uid=1000(web) gid=26(tape) groups=26(tape)\n/tmp\n"),
        ("0", "uid=0(root) gid=0(root) groups=0(root)\n/root\n"),
        ("4242:17", "uid=4242 gid=17 groups=17\n/\n"),
    ] {
        let stage = Stage::new("id; echo $HOME")
            .set("/process/user", json!({ "uid": 0, "gid": 0, "username": name }));
        assert_eq!(stage.run().out, expected, "{name}");
    }
}

#[test]
fn home_is_added_only_where_it_is_missing() {
    let stage = Stage::new("echo $HOME").set("/process/env", json!(["PATH=/bin", "HOME=/given"]));
    assert_eq!(stage.run().out, "/given\n");
    assert_eq!(Stage::new("echo $HOME").run().out, "/root\n");
}

#[test]
fn an_unknown_user_is_said() {
    let stage = Stage::new("true")
        .set("/process/user", json!({ "uid": 0, "gid": 0, "username": "nosuch" }));
    let error = stage.try_run().err().unwrap();
    assert_eq!(error.message(), "unable to find user nosuch: no matching entries in passwd file");
    assert_eq!((error.exit_code(), error.step()), (125, "user"));
}

#[test]
fn a_passwd_that_is_no_file_does_not_block() {
    let stage =
        Stage::new("true").set("/process/user", json!({ "uid": 0, "gid": 0, "username": "web" }));
    std::fs::remove_file(stage.image("etc/passwd")).unwrap();
    let mode = dhow_sys::rustix::fs::Mode::from_raw_mode(0o600);
    dhow_sys::rustix::fs::mknodat(
        dhow_sys::rustix::fs::CWD,
        stage.image("etc/passwd"),
        dhow_sys::rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    assert_eq!(stage.try_run().err().unwrap().message(), "/etc/passwd is not a file");
}

#[test]
fn a_missing_working_directory_is_made() {
    let stage = Stage::new("pwd; echo ok > file; cat file").set("/process/cwd", json!("/srv/a/b"));
    assert_eq!(stage.run().out, "/srv/a/b\nok\n");
}

#[test]
fn cve_2024_21626_a_working_directory_outside_is_refused() {
    let stage = Stage::new("pwd").set("/process/cwd", json!("/proc/self/fd/7/"));
    assert!(stage.try_run().is_err());
}
