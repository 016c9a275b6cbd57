# Checks of dhow in the guest; `check NAME WANTED GOT` says how each went.
check() {
    if [ "$2" = "$3" ]; then echo "ok $1"; else echo "not ok $1: wanted [$2], got [$3]"; fi
}

dhow daemon >/tmp/out 2>/tmp/log &
daemon=$!
until grep -q 'listens on' /tmp/out || ! kill -0 $daemon; do sleep 0.1; done
cat /tmp/out /tmp/log

dhow import busybox.tar busybox >/dev/null
check "a container runs" "hello" "$(dhow run --rm busybox echo hello)"
limits='cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max /proc/self/cgroup'
check "limits and the cgroup namespace" "67108864 20 50000 100000 0::/ " \
    "$(dhow run --rm -m 64m --pids-limit 20 --cpus 0.5 busybox sh -c "$limits" | tr '\n' ' ')"
check "cgroups are read-only" "1" "$(dhow run --rm busybox sh -c 'mkdir /sys/fs/cgroup/x 2>/dev/null; echo $?')"
check "devices are few" "denied" \
    "$(dhow run --rm busybox sh -c 'mknod /tmp/mem c 1 1; cat /tmp/mem >/dev/null 2>&1 || echo denied')"
check "privileged ones have them all" "fine" \
    "$(dhow run --rm --privileged busybox sh -c 'head -c 1 /dev/mem >/dev/null && echo fine')"
check "exit codes" "7" "$(dhow run --rm busybox sh -c 'exit 7'; echo $?)"
check "an init" "0" "$(dhow run --rm --init busybox true; echo $?)"

serve='mkdir /www; echo page >/www/index.html; exec httpd -f -p 80 -h /www'
dhow run -d --name web -p 8080:80 busybox sh -c "$serve" >/dev/null
until wget -q -O /tmp/page http://127.0.0.1:8080/; do sleep 0.1; done
check "a published port" "page" "$(cat /tmp/page)"
check "exec joins the cgroup" "0::/" "$(dhow exec web cat /proc/self/cgroup)"
dhow pause web >/dev/null
check "pause" "paused" "$(dhow inspect -f '{{.State.Status}}' web)"
dhow unpause web >/dev/null
check "unpause" "running" "$(dhow inspect -f '{{.State.Status}}' web)"

dhow run --name hungry -m 16m --memory-swap 16m busybox sh -c 'head -c 64m /dev/zero | tail | wc -c' >/dev/null 2>&1
check "out of memory" "true" "$(dhow inspect -f '{{.State.OOMKilled}}' hungry)"

kill -9 $daemon
wait $daemon 2>/dev/null
dhow daemon >/tmp/out 2>/tmp/log &
daemon=$!
until grep -q 'listens on' /tmp/out || ! kill -0 $daemon; do sleep 0.1; done
check "survives the daemon" "running" "$(dhow inspect -f '{{.State.Status}}' web)"
dhow rm -f web hungry >/dev/null
kill $daemon
wait $daemon
# Those of the OCI runtime's tests in which the kernel and its control groups have a part; the machine is
# emulated, and slow.
suite='oci::cgroups oci::limits oci::update oci::life::a_container_goes oci::life::a_paused
    oci::exec::it_is_where oci::exec::groups_below oci::users::a_life oci::escapes::paths::cve_2023_25809'
DHOW_BIN=/bin/dhow blackbox --test-threads 2 $suite >/tmp/suite 2>&1
code=$?
grep '^test result' /tmp/suite
[ $code = 0 ] || sed -n '/^failures:/,$p' /tmp/suite
check "the tests of the OCI runtime" "0" "$code"
check "leaves no cgroup" "" "$(find /sys/fs/cgroup -mindepth 1 -type d)"
check "leaves no interface" "lo" "$(ls /sys/class/net)"
check "leaves nothing in /run" "" "$(ls /run)"
cat /tmp/log
