# shellcheck shell=bash
# What an attacker could read of the secret: tried, process by process, and shown as a table. Sourced by deploy/quickstart.

# Rows in order, and what was seen: ${seen[ROW,same]} and ${seen[ROW,root]}.
rows=()
declare -gA row_pid=() row_side=() seen=()

# row NAME SIDE PID: the next one of the table.
row() { rows+=("$1"); row_side[$1]=$2 row_pid[$1]=$3; }

# look ROW: as the user of that process, and as root where we may. The attacker is told the secret on its standard input,
# opened anew each time.
look() {
    keep_worst "$1,same" "$(as "${row_side[$1]}" blindferry-attacker "${row_pid[$1]}" <"$state/needle" | in_words)"
    if is_root; then
        keep_worst "$1,root" "$("$bin/blindferry-attacker" "${row_pid[$1]}" <"$state/needle" | in_words)"
    elif $may_sudo; then
        # shellcheck disable=SC2024 # the secret is ours to read
        keep_worst "$1,root" "$(sudo -n "$bin/blindferry-attacker" "${row_pid[$1]}" <"$state/needle" | in_words)"
    fi
} 2>>"$state/log/attacker"

in_words() { "$python" "$bin/verdict.py"; }

# keep_worst KEY FOUND: a process is looked at more than once, and the worst counts. Places add up.
keep_worst() {
    local before=${seen[$1]-} places
    case "$before/$2" in
        PLAINTEXT*/PLAINTEXT*)
            places=$(printf '%s, %s' "$(places_of "$before")" "$(places_of "$2")" | tr -s ', ' '\n' | sort -u | paste -sd ,)
            seen[$1]="PLAINTEXT (${places//,/, })"
            ;;
        */PLAINTEXT* | /* | "nothing/ciphertext only" | "not looked/"*) seen[$1]=$2 ;;
    esac
}
places_of() {
    local places=${1##*(}
    echo "${places%)}"
}

# look_along SIDE PID: what starts as a stopped shell, becomes blindferry-launch, and becomes the worker. It is stopped again
# and again on the way and looked at each time; any process of its user may do that.
look_along() {
    local times=0 word
    row_side[launch]=$1 row_pid[launch]=$2
    for _ in {1..2000}; do
        word=$(first_word "$2")
        case "${word##*/}" in
            sh) ;;
            blindferry-launch) look launch; times=$((times + 1)) ;;
            *) break ;;
        esac
        kill -CONT "$2" 2>/dev/null || true
        sleep 0.003
        kill -STOP "$2" 2>/dev/null || true
    done
    kill -CONT "$2" 2>/dev/null || true
    say "It was stopped and looked into $times times before it became the worker."
}

# look_at_cores ROW...: ends these processes as a crash would, and looks for what they leave behind.
look_at_cores() {
    local name pid core found
    if [[ $(cat /proc/sys/kernel/core_pattern) != core* ]]; then
        say "(Cores were not looked at: kernel.core_pattern sends them elsewhere.)"
        return
    fi
    # All at once, since some end when another does.
    for name in "$@"; do kill -STOP "${row_pid[$name]}" 2>/dev/null || true; done
    for name in "$@"; do
        pid=${row_pid[$name]}
        is_alive "$pid" || continue
        kill -ABRT "$pid"
        kill -CONT "$pid"
        for _ in {1..50}; do is_alive "$pid" || break; sleep 0.1; done
        for core in "$state/${row_side[$name]}"/core*; do
            [ -e "$core" ] || continue
            found="ciphertext only"
            ! grep -qaFf "$state/needle" "$core" || found="PLAINTEXT (core)"
            keep_worst "$name,same" "$found"
            [ -z "${seen[$name,root]-}" ] || keep_worst "$name,root" "$found"
            rm -f "$core"
        done
    done
}

show_table() {
    local name other="not looked: no root"
    printf '\n  %-38s %-34s %s\n' "process" "same user" "root"
    printf '  %-38s %-34s %s\n' "--------------------------------------" "---------------------------------" "---------------------------------"
    for name in "${rows[@]}"; do
        printf '  %-38s %-34s %s\n' "$name" "${seen[$name,same]:-not looked}" "${seen[$name,root]:-$other}"
    done
}

# verdict: whether the table is as promised, and whether the attacker can find anything at all.
verdict() {
    local name bad=0
    for name in "${rows[@]}"; do
        case "$name/${seen[$name,same]-}" in
            "$control"/PLAINTEXT*) ;;
            "$control"/*) echo "The attacker did not find the key where it lies for all to see: this table proves nothing." && bad=1 ;;
            */PLAINTEXT*) echo "$name lets its own user read the secret: that is a defect." && bad=1 ;;
        esac
        case "$name/${seen[$name,root]-unknown}" in
            */unknown | "$control"/PLAINTEXT*) ;;
            "$control"/*) echo "Root did not find the key where it lies for all to see: this column proves nothing." && bad=1 ;;
            vault/* | launch/* | worker/*) ;; # whoever uses a secret has it, and launch becomes the worker
            */PLAINTEXT*) echo "$name lets root read the secret where it should not be: that is a defect." && bad=1 ;;
        esac
    done
    return $bad
}
