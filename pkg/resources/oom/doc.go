// Package oom tells when the machine as a whole is out of memory and the kernel kills a
// process for that, which nothing else shows: a container that reaches its own limit has a
// status of its own (OOMKilled).
//
//	/dev/kmsg ─record─▶ readRecord ─text─▶ parser ─Kill─▶ Watcher ──▶ node event SystemOOM
//	                                                        └ whose cgroup: the runtime's pods
//
// The parser is pure. It believes records of the kernel only: whoever may write to
// /dev/kmsg, privileged containers among them, can write the same words, but the kernel
// marks such records as theirs. Names of processes and cgroups are what containers chose.
package oom
