#!/bin/sh
# A machine that boots: this one's root, to be written without a trace, under systemd in a container. As root, in mount and
# PID namespaces of its own:
#
#   boot_machine.sh DIRECTORY NAME PACKAGES
#
# Ends by 75 where this machine cannot have one.
directory=$1 name=$2 packages=$3
mount --make-rprivate / || exit 75
# A control group of its own, beside others that boot at the same time.
for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    mkdir -p "$hierarchy/$name" && echo $$ >"$hierarchy/$name/cgroup.procs" || exit 75
done
mount -t tmpfs -o mode=0755 tmpfs "$directory" || exit 75
mkdir "$directory/above" "$directory/work" "$directory/root" || exit 75
# Nothing of this machine's is mounted or started there; and packages may start services there, if not here.
mkdir -p "$directory/above/etc" "$directory/above/usr/sbin" && : >"$directory/above/etc/fstab"
printf '#!/bin/sh\nexit 0\n' >"$directory/above/usr/sbin/policy-rc.d" && chmod 0755 "$directory/above/usr/sbin/policy-rc.d"
mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/above,workdir=$directory/work" "$directory/root" || exit 75
exec systemd-nspawn --quiet --register=no --keep-unit --directory="$directory/root" --machine="$name" --boot --console=pipe \
    --private-network --link-journal=no --bind-ro="$packages:/mnt" \
    "--system-call-filter=memfd_secret landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
    systemd.unit=basic.target </dev/null
