#!/bin/sh
# Makes the Debian package, with cargo-deb: deploy/debian/build.sh [release|dev]. Prints its path.
set -eu
cd "$(dirname "$0")/../.."
profile=${1:-release}
cargo build --locked --profile "$profile" -p punchline --bins
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
case $profile in dev) built=$target/debug ;; *) built=$target/$profile ;; esac

rm -rf "$built/deploy"
mkdir -p "$built/deploy/man"
"$built/punchline" man-pages "$built/deploy/man"
gzip --best --no-name "$built/deploy/man"/*.1
for shell in bash zsh fish; do
    "$built/punchline" completions "$shell" > "$built/deploy/punchline.$shell"
done
"$built/punchline" settings --example > "$built/deploy/settings.toml"
cargo deb --no-build --profile "$profile" -p punchline
