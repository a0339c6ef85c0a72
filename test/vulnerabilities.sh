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
	grep -qE 'dial tcp|no such host|timeout|deadline exceeded' "$log" && skip "the program cannot be had"
	cat "$log"
	exit 1
fi

# check runs the program; what it finds is an error.
check() {
	local code=0
	"$bin/govulncheck" ${GOVULNDB:+-db "$GOVULNDB"} "$@" >"$log" 2>&1 || code=$?
	if [ $code -ne 0 ] && grep -q 'fetching vulnerabilities' "$log"; then
		skip "its database cannot be reached"
	fi
	return $code
}

# By modules first: that asks the database without reading any code. Code 3: something is known
# of these modules, but is it called?
check -C cmd/mini-kubelet -scan module || [ $? -eq 3 ] || { cat "$log"; exit 1; }
code=0
check ./... || code=$?
cat "$log"
exit $code
