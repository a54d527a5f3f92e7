# shellcheck shell=bash
# Debian packages that building and testing need: what is missing, and how it gets here. Sourced by deploy/quickstart
# and tests/run.

# missing_packages: prints the names of the packages whose contents are not here, one a line. Asks for what is used and
# not for the package, since a machine may have it from elsewhere.
missing_packages() {
    local program
    command -v cc >/dev/null || echo gcc
    command -v pkg-config >/dev/null || echo pkg-config
    for program in swtpm:swtpm swtpm_setup:swtpm-tools tpm2_pcrextend:tpm2-tools openssl:openssl \
        setpriv:util-linux "$@"; do
        command -v "${program%%:*}" >/dev/null || echo "${program##*:}"
    done
    # With its standard library, which a minimal one leaves out.
    python3 -c 'import json, socket' 2>/dev/null || echo python3
    pkg-config --exists tss2-sys tss2-esys tss2-tctildr tss2-mu 2>/dev/null || echo libtss2-dev
    # Not a development file: libtss2 opens it by name when it is told of a software TPM.
    /sbin/ldconfig -p 2>/dev/null | grep -q libtss2-tcti-swtpm || echo libtss2-tcti-swtpm0
}

# install_packages NAME...: as root, or with sudo. Fails, and says what a person must do, where neither is to be had.
install_packages() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null && ! { [ -t 0 ] && command -v sudo >/dev/null && sudo -v; }; then
            echo "These Debian packages are missing, and I am neither root nor may I use sudo. Please have them installed:" >&2
            echo "    apt-get install $*" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    if ! command -v apt-get >/dev/null; then
        echo "This is no Debian: please install what it calls $* yourself." >&2
        return 1
    fi
    # The lists of a new machine are empty or old.
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get -q update && apt-get -q install --yes --no-install-recommends "$@"' sh "$@" </dev/null >"${PACKAGE_LOG:=/dev/null}" 2>&1; then
        echo "apt-get could not install $*. Is there a network, and a Debian archive to be reached?" >&2
        [ "$PACKAGE_LOG" = /dev/null ] || tail -n 5 "$PACKAGE_LOG" >&2
        return 1
    fi
}

# require_rust: explains where to get it when it is not here.
require_rust() {
    [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] && PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    if ! command -v cargo >/dev/null; then
        echo "There is no Rust here (no cargo in PATH). Install it from https://rustup.rs; rust-toolchain.toml names the version." >&2
        return 1
    fi
    if ! cargo --version >/dev/null 2>&1; then
        echo "cargo is here but does not run; rust-toolchain.toml asks for a version that may be missing:" >&2
        cargo --version >&2
        return 1
    fi
}
