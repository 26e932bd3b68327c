#!/bin/sh
### BEGIN INIT INFO
# Provides:          nfsd-userland-helper
# Required-Start:    $local_fs
# Required-Stop:
# X-Start-Before:    nfs-kernel-server nfs-server nfs
# Default-Start:     2 3 4 5
# Default-Stop:
# Short-Description: Name the usermode helper of nfsd
# Description:       Tells the kernel's NFS server which program remembers, across restarts, which NFSv4
#                    clients may reclaim their locks. See nfsd-userland-helper(8).
### END INIT INFO

helper=/usr/sbin/nfsd-userland-helper
parameter=/sys/module/nfsd/parameters/cltrack_prog

case "$1" in
start | restart | force-reload)
	[ -x "$helper" ] || exit 5
	[ -e "$parameter" ] || modprobe nfsd || exit 1
	# No newline: the kernel would take it for a part of the name.
	printf %s "$helper" > "$parameter"
	;;
stop)
	# The kernel keeps the name; without a server it runs nothing.
	;;
status)
	[ -e "$parameter" ] || { echo "nfsd is not loaded"; exit 3; }
	echo "nfsd runs $(cat "$parameter")"
	[ "$(cat "$parameter")" = "$helper" ] || exit 3
	;;
*)
	echo "Usage: $0 {start|stop|restart|force-reload|status}" >&2
	exit 2
	;;
esac
