// Package dockershim is a container runtime for Kubernetes: it answers CRI v1 on a Unix
// socket and does everything by Docker Engine. Package agent runs it in process,
// `mini-kubelet dockershim` alone. It knows nothing of pods beyond what CRI says.
//
//	CRI client ─▶ Server, one file a call ─▶ convert ─▶ docker ─▶ Docker Engine
//
//	convert       CRI ↔ Docker, and the checks of requests; pure
//	docker        our containers in Docker: client, cache, events, names and labels
//	network       Docker's bridge, cni, kubenet       imageservice  CRI's ImageService
//	logs          Docker's logs as CRI's              imagevolume   images as volumes
//	streaming     exec, attach, port-forward          pause         the sandbox's image
//	stats         usage, read from cgroups            imagetar      images without a builder
//	checkpoint    sandboxes, on disk                  dockerid      names of files that are ours
//	grpccode      errors and their gRPC codes
//
// Docker is the only database: identity lies in names and labels, and whatever is cached is
// dropped when an event or a call of ours says that it may have changed. A sandbox is ready
// when it runs and its network is on record; what a crash left half made never is, and the
// client replaces it. Every list is filtered by a label that names the state directory, so
// that several dockershims can share one Docker.
package dockershim
