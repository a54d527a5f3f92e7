# shellcheck shell=bash
# Processes of the quickstart: whose they are, how they start, and that each of them ends. Sourced by deploy/quickstart,
# which sets $state, the directory of this run.

# Who runs what. As root each side is an unprivileged user of its own, by number, so that nothing is added to the machine.
# Else all are the caller: the harder case, since an attacker is then of the same user as everything.
declare -gA uids=([tpm]=61870 [enclave]=61871 [host]=61872 [work]=61873 [operator]=61874)
is_root() { [ "$(id -u)" -eq 0 ]; }
uid_of() { if is_root; then echo "${uids[$1]}"; else id -u; fi; }

# become SIDE COMMAND...: replaces this shell. The environment is short, the current directory is the side's.
become() {
    local side=$1 drop=()
    shift
    if is_root; then
        drop=(setpriv --reuid "${uids[$side]}" --regid "${uids[$side]}" --bounding-set=-all --inh-caps=-all)
        if [ "$side" = enclave ] && $hardware_tpm; then
            drop+=(--groups "$(stat -c %g /dev/tpmrm0)")
        else
            drop+=(--clear-groups)
        fi
        drop+=(--)
    fi
    cd "$state/$side" || exit 1
    # By way of env: setpriv itself still has root's capabilities when it executes the next program, which would then
    # start as one that could read everything.
    exec "${drop[@]}" env -i PATH="$bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME="$state/$side" LANG=C.UTF-8 "$@"
}

# as SIDE COMMAND...: the same, and waits.
as() { (become "$@"); }

# start NAME SIDE COMMAND...: in the background; its output goes to $state/log/NAME, its id to ${pids[NAME]}.
declare -gA pids=()
start() {
    local name=$1 pid
    shift
    (become "$@") >"$state/log/$name" 2>&1 </dev/null &
    pid=$!
    disown "$pid"
    pids[$name]=$pid
    remember "$pid" "$name"
}

# remember PID NAME: with the time it started, by which it is told from a later process of the same number.
remember() { echo "$1 $(started_at "$1") $2" >>"$state/processes"; }
started_at() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }
runs() { [ -n "$2" ] && [ "$(started_at "$1")" = "$2" ] && [ "$(sed 's/^.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null)" != Z ]; }

# is_alive PID: of a process that we have just started, or that is shown to be ours; a dead one that nobody waited for is not.
is_alive() { [ -n "$(started_at "$1")" ] && runs "$1" "$(started_at "$1")"; }

# stop_all DIRECTORY: ends what that run has started, last first, and nothing else.
stop_all() {
    local pid since _
    [ -e "$1/processes" ] || return 0
    while read -r pid since _; do
        ! runs "$pid" "$since" || kill -TERM "$pid" 2>/dev/null
        ! runs "$pid" "$since" || kill -CONT "$pid" 2>/dev/null
    done < <(tac "$1/processes")
    while read -r pid since _; do
        for _ in {1..50}; do
            runs "$pid" "$since" || continue 2
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null
    done <"$1/processes"
}

# any_runs DIRECTORY: whether anything of that run is alive.
any_runs() {
    local pid since _
    [ -e "$1/processes" ] || return 1
    while read -r pid since _; do ! runs "$pid" "$since" || return 0; done <"$1/processes"
    return 1
}

# child PARENT NAME: the id of the child of that process whose first word is NAME.
child() {
    local pid word
    for pid in $(<"/proc/$1/task/$1/children"); do
        word=$(first_word "$pid")
        [ "${word##*/}" != "$2" ] || { echo "$pid"; return; }
    done
    return 1
}

# first_word PID: what that process is called by its arguments. The vault and the worker execute copies that have no name
# of their own, so it is this and not the executable's path that tells.
first_word() {
    local word=""
    IFS= read -r -d '' word 2>/dev/null <"/proc/$1/cmdline" || true
    echo "$word"
}

# wait_for SECONDS WHAT COMMAND...: until COMMAND succeeds, with a dot now and then. Fails with the log of $waiting_on when
# that process ends first.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2 ticks=0
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ -n "${waiting_on-}" ] && ! is_alive "${pids[$waiting_on]}"; then
            give_up "$what: $waiting_on has ended" "$waiting_on"
        fi
        [ "$SECONDS" -lt "$deadline" ] || give_up "$what: not in time" "${waiting_on-}"
        sleep 0.2
        ticks=$((ticks + 1))
        [ $((ticks % 10)) -ne 0 ] || printf '.'
    done
}

# give_up WHY [NAME]: says why, and the last lines of that process's log.
give_up() {
    printf '\n\nThe quickstart stops here. %s\n' "$1" >&2
    if [ -n "${2-}" ] && [ -s "$state/log/$2" ]; then
        printf 'The last that %s said:\n' "$2" >&2
        tail -n 15 "$state/log/$2" | sed 's/^/    /' >&2
    fi
    exit 1
}
