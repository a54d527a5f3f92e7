#!/bin/sh
# A real user manager of systemd's, and who can have a program started by it. In a mount namespace of its own, as root:
#
#   user_manager.sh USER HOME BLINDFERRY
#
# Says "no manager" where it does not start; else "control: started" when `systemd-run --user` starts a program without
# the sandbox, and "sandbox: refused" when it does not within.
user=$1 home=$2 blindferry=$3
mount --make-rprivate / || exit 1
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/user/"$user" || exit 1
chown "$user:$user" /run/user/"$user" && chmod 700 /run/user/"$user"
mount -t cgroup2 cgroup2 /sys/fs/cgroup || { echo "no manager"; exit 0; }
group=/sys/fs/cgroup/blindferry-test-$$
mkdir -p "$group/leaf" || { echo "no manager"; exit 0; }
chown -R "$user:$user" "$group"
echo $$ > "$group/leaf/cgroup.procs"

as_user() {
    setpriv --reuid "$user" --regid "$user" --clear-groups env -i PATH=/usr/bin:/bin HOME="$home" \
        XDG_RUNTIME_DIR=/run/user/"$user" "$@"
}

# await FILE: for at most ten seconds.
await() {
    tries=0
    until [ -e "$1" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || return 1
        sleep 0.1
    done
}

as_user timeout 60 /usr/lib/systemd/systemd --user --log-target=null >/dev/null 2>&1 &
manager=$!
cd "$home/project" || exit 1
if await /run/user/"$user"/systemd/private; then
    as_user systemd-run --user touch "$home/plain/control"
    if await "$home/plain/control"; then echo "control: started"; fi
    if as_user "$blindferry" run --sandbox -- systemd-run --user touch "$home/plain/escaped"; then
        echo "sandbox: started"
    elif as_user "$blindferry" run --sandbox --pass session-bus -- systemd-run --user touch "$home/plain/escaped"; then
        echo "sandbox: started"
    else
        # What was asked for before would have been done before.
        as_user systemd-run --user touch "$home/plain/after"
        await "$home/plain/after" && [ ! -e "$home/plain/escaped" ] && echo "sandbox: refused"
    fi
else
    echo "no manager"
fi
kill "$manager"
wait "$manager"
echo $$ > /sys/fs/cgroup/cgroup.procs
tries=0
while [ -d "$group" ] && [ "$tries" -lt 50 ]; do
    find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
    tries=$((tries + 1))
    [ -d "$group" ] && sleep 0.1
done
exit 0
