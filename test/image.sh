#!/usr/bin/env bash
# Builds the agent's own image: image.sh <name:tag>. Through the
# Dockerfile where its builder image is at hand or can be pulled; otherwise the
# binary of bin/ is packed into an image of the same content, and that is said.
set -euo pipefail
cd "$(dirname "$0")/.."
image=$1
builder=$(awk '$1 == "FROM" && $3 == "AS" { print $2; exit }' Dockerfile)

if docker image inspect "$builder" >/dev/null 2>&1 || timeout 60 docker pull -q "$builder" >/dev/null 2>&1; then
	docker build -t "$image" .
	echo "image: $image built through the Dockerfile"
	exit 0
fi

echo "image: $builder is not here and cannot be pulled: packing bin/mini-kubelet instead, built on this machine"
make --no-print-directory build
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
install -D -m 0755 bin/mini-kubelet "$root/usr/local/bin/mini-kubelet"
tar -C "$root" --owner=0 --group=0 --sort=name -c usr |
	docker import --change 'ENTRYPOINT ["/usr/local/bin/mini-kubelet"]' - "$image" >/dev/null
echo "image: $image packed from bin/mini-kubelet (same content as through the Dockerfile)"
