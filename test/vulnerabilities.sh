#!/usr/bin/env bash
# Looks for known vulnerabilities in what the module calls: vulnerabilities.sh <version of govulncheck> <directory for it>.
# Skipped with the reason where the program or its database cannot be had; GOVULNDB names another database.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1 bin=$(realpath -m "$2")
log=$(mktemp)
trap 'rm -f "$log"' EXIT

skip() {
	echo "govulncheck: SKIPPED: $1: $(tail -n 1 "$log")"
	exit 0
}

if ! GOBIN=$bin "${GO:-go}" install "golang.org/x/vuln/cmd/govulncheck@$version" >"$log" 2>&1; then
	skip "the program cannot be had"
fi
check=("$bin/govulncheck" ${GOVULNDB:+-db "$GOVULNDB"})
# By modules first: that asks the database without reading any code, and finds more than is called.
"${check[@]}" -C cmd/mini-kubelet -scan module >"$log" 2>&1 || case $? in
3) ;; # something is known of these modules: is it called?
*)
	grep -q 'fetching vulnerabilities' "$log" && skip "its database cannot be reached"
	cat "$log"
	exit 1
	;;
esac
exec "${check[@]}" ./...
