# shellcheck shell=bash
# What stands for machines: a TPM for each side, its pins, and the configuration of each process. Sourced by
# deploy/quickstart.

# The TPM of each side, as libtss2 names it, and where its pins are.
declare -gA tcti=()
pins() { echo "$state/$1/pins.toml"; }

# free_ports N: N ports side by side on loopback that nobody uses now; the first is printed. Searched anew on each call.
free_ports() {
    "$python" - "$1" <<'PYTHON'
import contextlib, socket, sys
for _ in range(100):
    with contextlib.ExitStack() as held:
        first = held.enter_context(socket.socket())
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        try:
            for more in range(1, int(sys.argv[1])):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port + more))
        except (OSError, OverflowError):
            continue
        print(port)
        sys.exit()
sys.exit("no free ports on 127.0.0.1")
PYTHON
}

# software_tpm SIDE: starts one, and extends its PCRs as the measurements of a boot would.
software_tpm() {
    local side=$1 port
    mkdir "$state/tpm/$side"
    ! is_root || chown "${uids[tpm]}:${uids[tpm]}" "$state/tpm/$side"
    # Somebody else may take a port between the choice and the use.
    for _ in 1 2 3; do
        port=$(free_ports 2) || give_up "There are no free ports."
        start "swtpm-$side" tpm swtpm socket --tpm2 --flags not-need-init,startup-clear --tpmstate "dir=$state/tpm/$side" \
            --server "type=tcp,bindaddr=127.0.0.1,port=$port" --ctrl "type=tcp,bindaddr=127.0.0.1,port=$((port + 1))"
        tcti[$side]="swtpm:host=127.0.0.1,port=$port"
        if tpm_answers "$side"; then
            extend_pcrs "$side"
            return
        fi
    done
    give_up "The software TPM of the $side does not start." "swtpm-$side"
}

tpm_answers() {
    for _ in {1..50}; do
        is_alive "${pids[swtpm-$1]}" || return 1
        ! TPM2TOOLS_TCTI=${tcti[$1]} tpm2_getcap properties-fixed >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    return 1
}

# A real boot measures firmware, its settings, boot loader and Secure Boot into PCRs 0 to 7. Ours measures their names.
extend_pcrs() {
    local pcr measured=()
    for pcr in {0..7}; do
        measured+=("$pcr:sha256=$(printf 'blindferry quickstart, %s, PCR %s' "$1" "$pcr" | sha256sum | cut -d ' ' -f 1)")
    done
    TPM2TOOLS_TCTI=${tcti[$1]} tpm2_pcrextend "${measured[@]}" >"$state/log/pcrs-$1" 2>&1 ||
        give_up "The PCRs of the $1's TPM could not be extended." "pcrs-$1"
}

# provision SIDE: pins the Names of its TPM's keys.
provision() {
    as "$1" blindferry-device provision --tcti "${tcti[$1]}" --pins "$(pins "$1")" >"$state/log/provision-$1" 2>&1 ||
        give_up "The TPM of the $1 could not be provisioned." "provision-$1"
}

# reference SIDE ROLE: reference values that accept what that side runs now.
reference() {
    as "$1" blindferry reference capture --role "$2" --name "quickstart $1" --tcti "${tcti[$1]}" --pins "$(pins "$1")" \
        >"$state/shared/$2-reference.toml" 2>"$state/log/reference-$1" ||
        give_up "The PCRs of the $1's TPM could not be captured." "reference-$1"
}

# ek_hash SIDE: the hash of its endorsement key, by which a TPM is told from all others.
ek_hash() {
    as "$1" blindferry --json tpm --tcti "${tcti[$1]}" --pins "$(pins "$1")" 2>"$state/log/tpm-$1" |
        "$python" -c 'import json, sys; print(json.load(sys.stdin)["ek_hash"])' || give_up "The TPM of the $1 does not say who it is." "tpm-$1"
}

write_configurations() {
    local ports
    ports=$(free_ports 2) || give_up "There are no free ports."
    enclave_address=127.0.0.1:$ports public_address=127.0.0.1:$((ports + 1))
    cat >"$state/enclave/enclave.toml" <<TOML
listen = "$enclave_address"
public = "$public_address"
store = "$state/enclave/store.redb"
tcti = "${tcti[enclave]}"
pins = "$(pins enclave)"
TOML
    cat >"$state/host/broker.toml" <<TOML
name = "$host_name"
vault = "$enclave_address"
vault_reference = "$state/shared/vault-reference.toml"
parents = "$state/host/parents.sock"
workers = "$state/host/workers.sock"
device = "$bin/blindferry-device"
tcti = "${tcti[host]}"
pins = "$(pins host)"
TOML
    cat >"$state/operator/operator.toml" <<TOML
name = "$operator_name"
vault = "$enclave_address"
vault_reference = "$state/shared/vault-reference.toml"
tcti = "${tcti[operator]}"
pins = "$(pins operator)"
TOML
    cat >"$state/shared/policy.cedar" <<CEDAR
// User $(uid_of work) on $host_name may have tokens of these two credentials; nobody else may have anything.
@id("quickstart")
permit (
  principal in Blindferry::Host::"$host_name",
  action in [Blindferry::Action::"grant", Blindferry::Action::"redeem", Blindferry::Action::"renew"],
  resource
) when {
  principal.uid == $(uid_of work) &&
  [Blindferry::Credential::"$api_key", Blindferry::Credential::"$identity"].contains(resource)
};
CEDAR
}

# operator COMMAND...: the operator's command.
operator() { as operator blindferry --config "$state/operator/operator.toml" "$@"; }
