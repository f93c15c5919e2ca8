#!/bin/sh
# Everything that must hold before a change lands: format, lints, documentation, tests.
# The tests with real NATs need root and a few tools; as root on Debian this script installs them.
set -eu
cd "$(dirname "$0")"

main() {
    lab_tools
    step cargo fmt --all --check
    step cargo clippy --workspace --all-targets -- -D warnings
    step env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    run_tests
}

step() {
    echo "==> $*"
    "$@"
}

# The NAT lab wants ip, nft and conntrack, and root to use them.
lab_tools() {
    if [ "$(id -u)" -ne 0 ]; then
        loudly "not root: the tests with real NATs (lab, nat) are LEFT OUT; run ./test.sh as root for them"
        return
    fi
    missing=$(missing_packages)
    [ -z "$missing" ] && return
    if ! command -v apt-get > /dev/null; then
        loudly "no apt-get: install $missing by hand, or the tests with real NATs are LEFT OUT"
        return
    fi
    echo "==> apt-get install $missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # one word a package
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } > /dev/null \
        || loudly "apt-get failed: without $missing the tests with real NATs are LEFT OUT"
}

missing_packages() {
    for pair in ip:iproute2 nft:nftables conntrack:conntrack; do
        command -v "${pair%%:*}" > /dev/null || printf '%s ' "${pair#*:}"
    done
}

loudly() {
    printf '\n*** %s ***\n\n' "$1" >&2
}

# Runs every test, also after a failure, and closes with the sum over all test programs.
run_tests() {
    log=$(mktemp)
    trap 'rm -f "$log" "$log.status"' EXIT
    echo "==> cargo test --workspace"
    { cargo test --workspace --no-fail-fast 2>&1 && echo 0 >&3 || echo "$?" >&3; } 3> "$log.status" | tee "$log"
    awk '/^test result: / { passed += $4; failed += $6; skipped += $8 }
         END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
    return "$(cat "$log.status")"
}

main
