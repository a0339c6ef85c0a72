package oom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Reason is the reason of the event about the node.
const Reason = "SystemOOM"

// Config is what a Watcher is made of. All may be nil.
type Config struct {
	// Pods is the last view of the runtime's pods, by which a victim's pod is found.
	Pods func() []*actual.Pod
	// Event records something about the node. It must not block.
	Event func(eventType, reason, message string)
	// Open opens the kernel's log from now on, one record a read; nil: /dev/kmsg.
	Open func() (io.ReadCloser, error)
}

// Watcher tells what the kernel kills for want of memory. Run it once.
type Watcher struct{ cfg Config }

// New returns a Watcher.
func New(cfg Config) *Watcher {
	if cfg.Open == nil {
		cfg.Open = openKernelLog
	}
	return &Watcher{cfg: cfg}
}

// Run reads the kernel's log until ctx ends. Without one that can be read, as in many
// containers, it says so once and only waits: the node loses an event by it, nothing else.
func (w *Watcher) Run(ctx context.Context) error {
	log, err := w.cfg.Open()
	if err == nil {
		closed := context.AfterFunc(ctx, func() { log.Close() })
		err = w.read(log)
		if closed() {
			log.Close()
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	klog.InfoS("Cannot read the kernel's log: processes that it kills because the machine is out of memory are not told (event SystemOOM); pods' own limits are (OOMKilled)", "err", err)
	<-ctx.Done()
	return nil
}

// maxRecord is more than the longest record (the kernel's CONSOLE_EXT_LOG_MAX is 8192).
const maxRecord = 16 << 10

func (w *Watcher) read(log io.Reader) error {
	buffer := make([]byte, maxRecord)
	var p parser
	for {
		n, err := log.Read(buffer)
		if text, ok := record(buffer[:n]); ok {
			if k, ok := p.line(text); ok {
				w.tell(k)
			}
		}
		// EPIPE: records were overwritten before they were read; the next read goes on behind them.
		if err != nil && !errors.Is(err, unix.EPIPE) {
			return err
		}
	}
}

// tell records a kill: as an event if the machine was out of memory, as the kubelet does, whose words
// are followed by the pod if the process was in one.
func (w *Watcher) tell(k Kill) {
	process := visible.Text(k.Process)
	name, uid, container := w.owner(k.Victim)
	keys := []any{"process", process, "pid", k.PID, "cgroup", visible.Text(k.Victim)}
	if name != "" {
		keys = append(keys, "pod", name, "podUID", uid, "containerName", container)
	}
	if !k.System() {
		klog.V(2).InfoS("The kernel killed a process in a cgroup that was out of memory", append(keys, "limitOf", visible.Text(k.Limit))...)
		return
	}
	klog.InfoS("The kernel killed a process because the machine is out of memory", keys...)
	if w.cfg.Event == nil {
		return
	}
	message := fmt.Sprintf("System OOM encountered, victim process: %s, pid: %d", process, k.PID)
	if name != "" {
		message += ", pod: " + name
	}
	if container != "" {
		message += ", container: " + container
	}
	w.cfg.Event(v1.EventTypeWarning, Reason, message)
}

// owner finds the pod whose cgroup that is, and the container if it is one's; all are empty if
// it is no pod's of ours.
func (w *Watcher) owner(cgroup string) (name, uid, container string) {
	if w.cfg.Pods == nil || cgroup == "" {
		return "", "", ""
	}
	return owner(cgroup, w.cfg.Pods())
}

// owner goes by the first element of the path that is a pod's or a container's: what follows, a container
// that may make cgroups can have chosen. A container's is named by its ID in some way, by
// itself or as in docker-<id>.scope, and a pod's by the pod's UID.
func owner(cgroup string, view []*actual.Pod) (name, uid, container string) {
	for element := range strings.SplitSeq(cgroup, "/") {
		for _, p := range view {
			if name == "" && ofPod(element, string(p.UID)) {
				name, uid = p.Namespace+"/"+p.Name, string(p.UID)
			}
			for _, c := range p.Containers {
				if c.ID != "" && ofContainer(element, c.ID) && (uid == "" || uid == string(p.UID)) {
					return p.Namespace + "/" + p.Name, string(p.UID), c.Name
				}
			}
		}
	}
	return name, uid, ""
}

// ofPod reports whether a cgroup is that of the pod: pod<UID>, or with systemd
// kubepods-burstable-pod<UID with _ for ->.slice.
func ofPod(element, uid string) bool {
	if uid == "" {
		return false
	}
	if element == "pod"+uid {
		return true
	}
	slice, ok := strings.CutSuffix(element, ".slice")
	return ok && strings.HasSuffix(slice, "-pod"+strings.ReplaceAll(uid, "-", "_"))
}

func ofContainer(element, id string) bool {
	scope, _ := strings.CutSuffix(element, ".scope")
	return scope == id || strings.HasSuffix(scope, "-"+id)
}
