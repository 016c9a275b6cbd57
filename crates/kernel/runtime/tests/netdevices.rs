//! Interfaces of the host's that are given to a container.

#![allow(clippy::unwrap_used)]

mod stage;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use dhow_sys::namespace::{Namespaces, unshare};
use dhow_sys::netlink::route::{self, Peer};
use dhow_sys::netlink::{Family, Messages, Socket};
use serde_json::{Value, json};
use stage::Stage;

/// Runs `test` in a network namespace of its own with two interfaces, `first` and `second`, in place of the
/// host's. A thread is enough for it: clone and setns concern threads.
fn in_a_world_of_its_own(test: impl FnOnce() + Send + 'static) {
    std::thread::spawn(|| {
        unshare(Namespaces::NETWORK).unwrap();
        let netns = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let mut socket = Socket::open(Family::Route).unwrap();
        let mut messages = Messages::new();
        let peer = Peer { name: "second", netns: netns.as_fd() };
        route::create_veth(&mut messages, "first", None, &peer);
        socket.send(&mut messages).unwrap();
        let index = route::link(&mut socket, "first").unwrap().unwrap().index;
        let mut messages = Messages::new();
        for address in ["10.77.0.5", "fd77::5"] {
            let address: IpAddr = address.parse().unwrap();
            route::add_address(
                &mut messages,
                index,
                address,
                if address.is_ipv4() { 24 } else { 64 },
            );
        }
        route::add_address(&mut messages, index, Ipv4Addr::new(10, 78, 0, 1).into(), 16);
        socket.send(&mut messages).unwrap();
        test();
    })
    .join()
    .unwrap();
}

fn devices(stage: Stage, devices: Value) -> Stage {
    stage.set("/linux/netDevices", devices)
}

/// Shows: config-linux/net-devices-1, config-linux/net-devices-2
#[test]
fn they_move_with_name_and_addresses() {
    in_a_world_of_its_own(|| {
        let stage =
            Stage::new("ip addr show dev eth7; ip link show dev second; ip link show dev first");
        let output = devices(stage, json!({ "first": { "name": "eth7" }, "second": {} })).run();
        for part in [
            "inet 10.77.0.5/24 brd 10.77.0.255",
            "inet 10.78.0.1/16",
            "inet6 fd77::5/64",
            "UP",
            "second",
        ] {
            assert!(output.out.contains(part), "{part} is not in {}{}", output.out, output.err);
        }
        assert!(output.err.contains("first"), "it is not there by its old name: {}", output.err);
    });
}

#[test]
fn they_move_into_a_user_namespace_too() {
    in_a_world_of_its_own(|| {
        let mut stage = Stage::new("ip addr show dev eth7; ip link set eth7 down && echo its own");
        let range = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
        let namespaces = stage.spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({ "type": "user" }));
        let all = json!(["CAP_NET_ADMIN"]);
        let stage = devices(stage, json!({ "first": { "name": "eth7" } }))
            .set("/linux/uidMappings", range.clone())
            .set("/linux/gidMappings", range)
            .set(
                "/process/capabilities",
                json!({ "bounding": all, "effective": all, "permitted": all }),
            );
        let output = stage.run();
        assert!(output.out.contains("inet 10.77.0.5/24"), "{}{}", output.out, output.err);
        assert!(output.out.ends_with("its own\n"), "{}{}", output.out, output.err);
    });
}

#[test]
fn sysctls_find_them() {
    in_a_world_of_its_own(|| {
        let stage = devices(
            Stage::new("cat /proc/sys/net/ipv4/conf/eth7/forwarding"),
            json!({ "first": { "name": "eth7" } }),
        )
        .set("/linux/sysctl", json!({ "net.ipv4.conf.eth7.forwarding": "1" }));
        assert_eq!(stage.run().out, "1\n");
    });
}

#[test]
fn a_name_can_be_a_pattern() {
    in_a_world_of_its_own(|| {
        let stage = Stage::new("ip link | grep -c 'pod[01]'");
        let output =
            devices(stage, json!({ "first": { "name": "pod%d" }, "second": { "name": "pod%d" } }));
        assert_eq!(output.run().out, "2\n");
    });
}

/// Shows: config-linux/net-devices-3, config-linux/net-devices-4, config-linux/net-devices-5
#[test]
fn mistakes_are_told() {
    in_a_world_of_its_own(|| {
        let fails = |given: Value, message: &str| {
            let error = devices(Stage::new("true"), given).try_run().err().unwrap();
            assert_eq!(error.message(), message);
        };
        fails(json!({ "nosuch": {} }), "linux.netDevices: there is no interface \"nosuch\"");
        fails(
            json!({ "first": { "name": "a/b" } }),
            "linux.netDevices: \"a/b\" is no name of an interface",
        );
        fails(
            json!({ "first": { "name": "x" }, "second": { "name": "x" } }),
            "linux.netDevices: two interfaces are to be called \"x\"",
        );
        let error = devices(Stage::new("true"), json!({ "first": { "name": "lo" } }));
        let error = error.try_run().err().unwrap();
        assert!(error.message().starts_with("linux.netDevices: cannot give \"first\""), "{error}");
        assert!(error.message().contains("exists"), "{error}");
        let hosts = Stage::new("true")
            .set(
                "/linux/namespaces",
                json!([{ "type": "mount" }, { "type": "uts" }, { "type": "ipc" }]),
            )
            .set("/linux/sysctl", json!({}));
        let error = devices(hosts, json!({ "first": {} })).try_run().err().unwrap();
        assert_eq!(
            error.message(),
            "linux.netDevices needs a network namespace in linux.namespaces"
        );
    });
}
