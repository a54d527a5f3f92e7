# shellcheck shell=bash
# What an attacker could read of the secret: tried, process by process, and shown as a table. Sourced by deploy/quickstart.

# Rows in order, and what was seen: ${seen[ROW,same]} and ${seen[ROW,root]}.
rows=()
declare -gA row_pid=() row_side=() seen=()

# row NAME SIDE PID
row() { rows+=("$1"); row_side[$1]=$2 row_pid[$1]=$3; }

# look ROW: as the user of that process, and as root where we may.
look() {
    keep_worst "$1,same" "$(attack_as "${row_side[$1]}" "${row_pid[$1]}")"
    if is_root; then
        keep_worst "$1,root" "$("$python" "$bin/attacker.py" "${row_pid[$1]}" <"$state/needle" 2>>"$state/log/attacker")"
    elif $may_sudo; then
        keep_worst "$1,root" "$(sudo -n "$python" "$bin/attacker.py" "${row_pid[$1]}" <"$state/needle" 2>>"$state/log/attacker")"
    fi
}

# attack_as SIDE PID: another process of that user, without any privilege.
attack_as() { as "$1" "$python" "$bin/attacker.py" "$2" <"$state/needle" 2>>"$state/log/attacker" || echo "not looked"; }

# keep_worst KEY FOUND: a process is looked at more than once; the worst counts.
keep_worst() {
    local now=${seen[$1]-}
    case "$now/$2" in
        PLAINTEXT*) ;;
        */PLAINTEXT* | /*) seen[$1]=$2 ;;
        "nothing/ciphertext only") seen[$1]=$2 ;;
    esac
}

# look_along ROW SIDE PID: a process that started stopped, looked at again and again on its way until it executes another
# program: that is where blindferry-launch becomes the worker. Any process of its user may stop it like this.
look_along() {
    local times=0
    row "$1" "$2" "$3"
    while [ "$times" -lt 400 ] && [ -e "/proc/$3" ]; do
        is_launch "$3" || { [ "$times" -gt 3 ] && break; }
        [ $((times % look_every)) -ne 0 ] || look "$1"
        kill -CONT "$3" 2>/dev/null
        sleep 0.004
        kill -STOP "$3" 2>/dev/null
        times=$((times + 1))
    done
    kill -CONT "$3" 2>/dev/null
    stops=$times
}
look_every=1

is_launch() {
    local words
    words=$(tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null)
    [[ $words == *blindferry-launch* ]]
}

# look_at_cores: ends every process that is still there as a crash would, and looks for what it left behind.
look_at_cores() {
    local name pid core found
    [[ $(cat /proc/sys/kernel/core_pattern) == core* ]] || return 0
    for name in "${rows[@]}"; do kill -STOP "${row_pid[$name]}" 2>/dev/null; done
    for name in "${rows[@]}"; do
        pid=${row_pid[$name]}
        [ -e "/proc/$pid" ] || continue
        kill -ABRT "$pid" && kill -CONT "$pid"
        for _ in {1..50}; do [ -e "/proc/$pid" ] || break; sleep 0.1; done
        for core in "$state/${row_side[$name]}"/core*; do
            [ -e "$core" ] || continue
            found="ciphertext only"
            ! grep -qaFf "$state/needle" "$core" || found="PLAINTEXT (core)"
            keep_worst "$name,same" "$found"
            keep_worst "$name,root" "$found"
            rm -f "$core"
        done
    done
}

show_table() {
    local name other="not looked: no root"
    printf '\n  %-38s %-24s %s\n' "process" "same user" "root"
    printf '  %-38s %-24s %s\n' "--------------------------------------" "----------------------" "----------------------"
    for name in "${rows[@]}"; do
        printf '  %-38s %-24s %s\n' "$name" "${seen[$name,same]:-not looked}" "${seen[$name,root]:-$other}"
    done
}

# verdict: whether the table is as promised: where everybody's reach ends, and that the attacker can find anything at all.
verdict() {
    local name bad=0
    for name in "${rows[@]}"; do
        case "$name/${seen[$name,same]-}" in
            "$control"/PLAINTEXT*) ;;
            "$control"/*) echo "The attacker did not find the key in the process that has it for all to see: the table proves nothing here." && bad=1 ;;
            */PLAINTEXT*) echo "$name lets its own user read the secret: that is a defect." && bad=1 ;;
        esac
        case "$name/${seen[$name,root]-}" in
            vault/* | launch*/* | worker*/* | "$control"/*) ;; # whoever uses a secret has it, and launch becomes the worker
            */PLAINTEXT*) echo "$name lets root read the secret where it should not." && bad=1 ;;
        esac
    done
    return $bad
}
