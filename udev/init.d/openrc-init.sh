#!/sbin/openrc-run
# Before the NFS server starts: tells nfsd the name of its usermode helper, or serves the pipe if the kernel calls none.
# See nfsd-userland-helper(8).

description="Record which NFSv4 clients may reclaim their locks"

helper=/usr/sbin/nfsd-userland-helper
parameter=/sys/module/nfsd/parameters/cltrack_prog
run=/run/nfsd-userland-helper

# Always starts the program again, at once: a message of the kernel waits 30 s in all.
supervisor=supervise-daemon
command=/bin/sh
command_args="-c 'exec $helper serve --ready-fd 3 3<> $run/ready'"
respawn_max=0
pidfile=/run/nfsd-userland-helper.pid

depend() {
	after localmount modules rpc.pipefs rpc_pipefs
	before nfs nfs-server
}

# If the kernel calls the helper, no process runs.
serves() {
	case "${tracker:-auto}" in
	serve) return 0 ;;
	helper) return 1 ;;
	esac
	! [ -e "$parameter" ]
}

start() {
	[ -e "${parameter%/parameters/*}" ] || modprobe nfsd
	if [ -e "$parameter" ]; then
		ebegin "Naming the usermode helper of nfsd"
		# No newline: the kernel would take it as part of the name.
		printf %s "$helper" > "$parameter"
		eend $? || return
	fi
	serves || return 0
	mkdir -p "$run" && rm -f "$run/ready" && mkfifo -m 600 "$run/ready" || return
	# The fifo is held open, so that what is written to it stays until it is read.
	exec 4<> "$run/ready"
	default_start || return
	ebegin "Waiting until the pipe is held"
	timeout 10 head -n 1 <&4 > /dev/null
	eend $?
}

stop() {
	# The kernel keeps the name. Without a server it runs no helper.
	if [ -e "$pidfile" ]; then default_stop; fi
}

status() {
	if [ -e "$pidfile" ]; then
		default_status
	elif [ "$(cat "$parameter" 2> /dev/null)" = "$helper" ]; then
		einfo "nfsd runs $helper"
	else
		return 3
	fi
}
