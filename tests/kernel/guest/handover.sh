#!/bin/busybox sh
# The first root of the guest. It mounts the host's root read-only with a writable layer of memory over it and becomes
# that root as process 1: a usermode helper is looked up in the root of process 1, so a chroot in a child won't do.
# The console shows how far a boot has come.
set -x
export PATH=/bin
busybox mkdir -p /proc /sys /dev /host /layer /root
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
while read -r module; do busybox insmod "/modules/$module"; done < /modules/order
busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 host /host
busybox mount -t tmpfs layer /layer
busybox mkdir -p /layer/upper /layer/work
busybox mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work root /root
for kept in proc sys dev; do busybox mkdir -p "/root/$kept"; busybox mount --move "/$kept" "/root/$kept"; done
busybox mkdir -p /root/run /root/tmp
busybox mount -t tmpfs run /root/run
busybox mkdir -p /root/run/lab
busybox cp /agent.pl /root/run/lab/agent.pl
exec busybox switch_root /root /usr/bin/perl /run/lab/agent.pl
