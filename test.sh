#!/bin/sh
# Everything that must hold before a change lands: format, lints, documentation, tests.
# The tests with real NATs need root and a few tools, those with a real Kaspa peer protoc, those with other
# people's clients curl, Prometheus, systemd, Chromium, aria2, Node and Python's packages; as root on Debian this
# script installs all of them.
set -eu
cd "$(dirname "$0")"

# A workspace of its own (tests/kaspa says why), and so with a target directory of its own.
kaspa="--manifest-path=tests/kaspa/Cargo.toml"
kaspa_target="--target-dir=${CARGO_TARGET_DIR:-target}/kaspa"

main() {
    lab_tools
    kaspa_tools
    client_tools
    other_libp2ps
    step cargo fmt --all --check
    step cargo fmt "$kaspa" --check
    step cargo clippy --workspace --all-targets -- -D warnings
    has_protoc && step cargo clippy "$kaspa" "$kaspa_target" --all-targets -- -D warnings
    lean_builds
    step env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    run_tests
}

step() {
    echo "==> $*"
    "$@"
}

# What finds peers is optional: the program builds without any of it, and with each part alone. Only checked, and in a
# directory of its own, since each set of features has cargo check some crates anew: nothing is thrown away for it.
lean_builds() {
    lean="--target-dir=${CARGO_TARGET_DIR:-target}/lean"
    step cargo check "$lean" -p punchline --no-default-features
    for feature in dns kad mainline mdns peer-cache pkarr rendezvous; do
        step cargo check "$lean" -p punchline --no-default-features --features "$feature"
    done
}

# The NAT lab wants ip, nft and conntrack, miniupnpd for routers that forward ports, coturn for a STUN server of others,
# tinyproxy for hosts that have nothing but a proxy, tayga for routers that lead IPv6 hosts to IPv4, faketime for
# hosts whose clock is wrong, and root to use them.
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
    # shellcheck disable=SC2086 # one word a package
    install $missing || loudly "apt-get failed: without $missing the tests with real NATs are LEFT OUT"
}

missing_packages() {
    for pair in ip:iproute2 nft:nftables conntrack:conntrack miniupnpd:miniupnpd-nftables turnserver:coturn \
        tinyproxy:tinyproxy-bin tayga:tayga faketime:faketime; do
        command -v "${pair%%:*}" > /dev/null || printf '%s ' "${pair#*:}"
    done
}

# The tests with a real Kaspa peer build its published library, and that wants protoc.
kaspa_tools() {
    has_protoc && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
        install protobuf-compiler || true
        has_protoc && return
    fi
    loudly "no protoc: the tests with a real Kaspa peer (tests/kaspa) are LEFT OUT; install protobuf-compiler for them"
    # Where nobody reads what was left out, nothing may be.
    [ "${CI:-}" != true ]
}

has_protoc() {
    command -v "${PROTOC:-protoc}" > /dev/null
}

# The tests with other people's clients (tests/tests/clients, hosts/mainline) say what they skip, or fail where CI=true.
client_tools() {
    missing=$(missing_clients)
    [ -z "$missing" ] && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
        # shellcheck disable=SC2086 # one word a package
        install $missing && return
    fi
    loudly "without $missing some tests with other people's clients are LEFT OUT; install it for them"
}

missing_clients() {
    command -v curl > /dev/null || printf 'curl '
    command -v promtool > /dev/null || printf 'prometheus '
    command -v systemd-analyze > /dev/null || printf 'systemd '
    command -v chromium > /dev/null || printf 'chromium '
    command -v aria2c > /dev/null || printf 'aria2 '
    command -v npm > /dev/null || printf 'nodejs npm '
    for pair in pip:python3-pip grpc:python3-grpcio websockets:python3-websockets libtorrent:python3-libtorrent; do
        /usr/bin/python3 -c "import ${pair%%:*}" 2> /dev/null || printf '%s ' "${pair#*:}"
    done
}

# libp2p in Go, as Kubo has it, and in JavaScript: of the exact versions that the tests name, from PyPI and npm.
other_libp2ps() {
    target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
    here=tests/tests/clients
    if ! cmp -s "$here/kubo.txt" "$target/kubo/kubo.txt"; then
        rm -rf "$target/kubo"
        step /usr/bin/python3 -m pip install --quiet --root-user-action=ignore --no-deps \
            --target "$target/kubo" --requirement "$here/kubo.txt" \
            && cp "$here/kubo.txt" "$target/kubo/" || loudly "no Kubo: the tests with go-libp2p are LEFT OUT"
    fi
    if ! cmp -s "$here/js-libp2p/package-lock.json" "$target/js-libp2p/node_modules/.from"; then
        rm -rf "$target/js-libp2p"
        mkdir -p "$target/js-libp2p"
        cp "$here"/js-libp2p/package*.json "$target/js-libp2p/"
        (cd "$target/js-libp2p" && step npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) \
            && cp "$here/js-libp2p/package-lock.json" "$target/js-libp2p/node_modules/.from" \
            || loudly "no js-libp2p: the tests with it are LEFT OUT"
    fi
}

install() {
    echo "==> apt-get install $*"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } > /dev/null
}

loudly() {
    printf '\n*** %s ***\n\n' "$1" >&2
}

# Runs every test, also after a failure, and closes with what failed, again, and the sum over all test programs.
run_tests() {
    log=$(mktemp)
    trap 'rm -f "$log" "$log.status"' EXIT
    status=0
    logged cargo test --workspace --no-fail-fast || status=$?
    if has_protoc; then
        logged cargo test "$kaspa" "$kaspa_target" --no-fail-fast || status=$?
    fi
    awk '/^failures:$/ { failed = 1 } failed; /^test result: / { failed = 0 }' "$log"
    awk '/^test result: / { passed += $4; failed += $6; skipped += $8 }
         END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
    return "$status"
}

# Runs a command, shows what it prints, and keeps it for the sum.
logged() {
    echo "==> $*"
    { "$@" 2>&1 && echo 0 >&3 || echo "$?" >&3; } 3> "$log.status" | tee -a "$log"
    return "$(cat "$log.status")"
}

main
