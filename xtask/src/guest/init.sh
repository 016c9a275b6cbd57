#!/bin/sh
# The guest's first process. It runs twice: from the initramfs, which cannot be pivoted from, and from the
# tmpfs that it makes of it.
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
if [ ! -e /moved ]; then
    mkdir /new
    mount -t tmpfs -o size=1g tmpfs /new
    cp -a /bin /sbin /etc /root /lib /var /init /new/
    mkdir /new/proc /new/sys /new/dev /new/tmp /new/run
    touch /new/moved
    umount /proc /sys /dev
    exec switch_root /new /init
fi
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
depmod
ip link set lo up
cd /root
sh /root/script
echo "guest: done"
poweroff -f
