#!/sbin/openrc-run
# Names the usermode helper of nfsd before the NFS server starts. See nfsd-userland-helper(8).

description="Name the usermode helper of nfsd"

helper=/usr/sbin/nfsd-userland-helper
parameter=/sys/module/nfsd/parameters/cltrack_prog

depend() {
	after localmount modules
	before nfs nfs-server
}

start() {
	ebegin "Naming the usermode helper of nfsd"
	[ -e "$parameter" ] || modprobe nfsd
	# No newline: the kernel would take it for a part of the name.
	printf %s "$helper" > "$parameter"
	eend $?
}

stop() {
	# The kernel keeps the name; without a server it runs nothing.
	return 0
}
