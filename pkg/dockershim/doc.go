// Package dockershim is a container runtime for Kubernetes: it answers CRI v1 on a
// Unix socket and does everything by Docker Engine. Package agent runs it in process,
// `mini-kubelet dockershim` alone. It knows nothing of pods beyond what CRI says.
//
//	CRI client ─▶ RPC (sandbox_*, container_*) ─▶ conversion (*_convert) ─▶ Docker
//	           ◀─ status                       ◀─ view ◀── list, inspect, events
//
// Docker is the only database: identity lies in names and labels, and whatever is
// cached (view) is dropped when an event or a call of ours says that it may have
// changed. A sandbox is ready when it runs and its network is on record; what a
// crash left half made never is, and its client replaces it. Every list is filtered
// by a label that names the state directory, so that several dockershims can share
// one Docker.
package dockershim
