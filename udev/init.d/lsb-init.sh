#!/bin/sh
### BEGIN INIT INFO
# Provides:          nfsd-userland-helper
# Required-Start:    $local_fs
# Required-Stop:     $local_fs
# Should-Start:      nfs-common rpc_pipefs
# Should-Stop:       nfs-common
# X-Start-Before:    nfs-kernel-server nfs-server nfs
# X-Stop-After:      nfs-kernel-server nfs-server nfs
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: Record which NFSv4 clients may reclaim their locks
# Description:       Tells the kernel's NFS server which program remembers, across restarts, which NFSv4
#                    clients may reclaim their locks; or serves the kernel's pipe, where it calls no
#                    program. See nfsd-userland-helper(8).
### END INIT INFO

PATH=/usr/sbin:/usr/bin:/sbin:/bin
helper=/usr/sbin/nfsd-userland-helper
parameter=/sys/module/nfsd/parameters/cltrack_prog
run=/run/nfsd-userland-helper
pidfile=$run/supervisor.pid

# If systemd runs, this passes the request on to systemd.
[ ! -r /lib/lsb/init-functions ] || . /lib/lsb/init-functions

tracker=auto
[ ! -r /etc/default/nfsd-userland-helper ] || . /etc/default/nfsd-userland-helper

# If the kernel calls the helper, no process runs.
serves() {
	case "$tracker" in
	serve) return 0 ;;
	helper) return 1 ;;
	esac
	! [ -e "$parameter" ]
}

running() {
	[ -r "$pidfile" ] && grep -qs nfsd-userland-helper "/proc/$(cat "$pidfile")/cmdline"
}

start() {
	# The script stays when the package is removed.
	[ -x "$helper" ] || return 0
	[ -e "${parameter%/parameters/*}" ] || modprobe nfsd || return 1
	# No newline: the kernel would take it as part of the name.
	[ ! -e "$parameter" ] || printf %s "$helper" > "$parameter"
	serves || return 0
	! running || return 0
	mkdir -p "$run" && rm -f "$run/ready" && mkfifo -m 600 "$run/ready" || return 1
	# The fifo is held open, so that what is written to it stays until it is read.
	exec 4<> "$run/ready"
	setsid /bin/sh "$0" supervise < /dev/null > /dev/null 2>&1 4>&- &
	echo $! > "$pidfile"
	timeout 10 head -n 1 <&4 > /dev/null || { echo "nfsd-userland-helper: nobody holds the pipe; see the kernel's log" >&2; return 1; }
}

stop() {
	# The kernel keeps the name. Without a server it runs no helper.
	running || return 0
	supervisor=$(cat "$pidfile")
	kill "$supervisor"
	# The supervisor waits for the program, which finishes the messages that it has read.
	for _ in $(seq 100); do
		running || break
		sleep 0.1
	done
	rm -f "$pidfile"
}

# Always starts the program again, after a tenth of a second: a message of the kernel waits 30 s in all.
supervise() {
	stopped=
	trap 'stopped=yes; kill "$child" 2> /dev/null' TERM INT HUP
	while [ -z "$stopped" ]; do
		"$helper" serve --ready-fd 3 3<> "$run/ready" &
		child=$!
		# A signal that came before the line above has not been passed on.
		[ -z "$stopped" ] || kill "$child" 2> /dev/null
		# A signal ends the first wait, but not the program.
		wait "$child"
		wait "$child"
		[ -n "$stopped" ] || sleep 0.1
	done
}

case "$1" in
start) start ;;
stop) stop ;;
restart | force-reload)
	stop
	start
	;;
status)
	if running; then
		echo "nfsd-userland-helper serves the pipe"
	elif [ "$(cat "$parameter" 2> /dev/null)" = "$helper" ]; then
		echo "nfsd runs $helper"
	else
		echo "nfsd-userland-helper does not run, nor does nfsd name it"
		exit 3
	fi
	;;
supervise) supervise ;;
*)
	echo "Usage: $0 {start|stop|restart|force-reload|status}" >&2
	exit 2
	;;
esac
