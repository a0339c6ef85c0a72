// Package cgroup keeps the control groups of pods: one for all pods, one for each
// of the lower quality of service classes, one for each pod.
//
//	<cgroupRoot>/kubepods              limits of all pods: node allocatable; with
//	│                                  MemoryQoS the memory of all is protected
//	├── pod<UID>                       a Guaranteed pod
//	├── burstable                      shares by the sum of the requests of its pods
//	│   └── pod<UID>
//	└── besteffort                     2 shares
//	    └── pod<UID>
//
// The names are pure (name.go), as are the values (values.go, pod.go); kernel.go
// writes them by github.com/opencontainers/cgroups, with cgroup v1 or v2 and by
// cgroupfs or systemd. The worker has a pod's cgroup made before the pod's sandbox
// and removed once its containers are gone. Nothing is remembered but what was
// written last: after a restart all is written again, which changes nothing.
package cgroup
