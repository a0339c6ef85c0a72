// Package podaccess leads from a pod's name to its containers at the runtime: logs, exec,
// attach, port-forward and commands. The kubelet API (package server) calls it.
//
//	(namespace, pod, uid, container) ──▶ pod ──▶ container ID ──▶ CRI
//
// A static pod can also be given by the UID of its mirror pod. Logs are found through the
// pod's published status, so that logs of ended containers can be read too; everything else
// needs a running container, for which the runtime is asked. Errors caused by the request
// have a gRPC code: NotFound or InvalidArgument.
package podaccess

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// CRI is what the runtime service is asked for.
type CRI interface {
	ListPodSandbox(context.Context, *cri.ListPodSandboxRequest, ...grpc.CallOption) (*cri.ListPodSandboxResponse, error)
	ListContainers(context.Context, *cri.ListContainersRequest, ...grpc.CallOption) (*cri.ListContainersResponse, error)
	ContainerStatus(context.Context, *cri.ContainerStatusRequest, ...grpc.CallOption) (*cri.ContainerStatusResponse, error)
	ExecSync(context.Context, *cri.ExecSyncRequest, ...grpc.CallOption) (*cri.ExecSyncResponse, error)
	Exec(context.Context, *cri.ExecRequest, ...grpc.CallOption) (*cri.ExecResponse, error)
	Attach(context.Context, *cri.AttachRequest, ...grpc.CallOption) (*cri.AttachResponse, error)
	PortForward(context.Context, *cri.PortForwardRequest, ...grpc.CallOption) (*cri.PortForwardResponse, error)
	CheckpointContainer(context.Context, *cri.CheckpointContainerRequest, ...grpc.CallOption) (*cri.CheckpointContainerResponse, error)
}

// Pods gives the pods of this node. Get and ByName do not know mirror pods.
type Pods interface {
	Get(types.UID) (*v1.Pod, bool)
	ByName(namespace, name string) (*v1.Pod, bool)
	Mirror(static *v1.Pod) (*v1.Pod, bool)
}

// Statuses gives the pods' published statuses.
type Statuses interface {
	Get(types.UID) (v1.PodStatus, bool)
}

// Cache is what was last seen at the runtime. Its values must not be changed.
type Cache interface {
	Pods() []*actual.Pod
	GetNewerThan(context.Context, types.UID, time.Time) (*actual.PodStatus, error)
}

// Config is what an Access is made of; all of it is required but for the Journal.
type Config struct {
	// CheckpointDir is where checkpoints of containers are kept, readable by root alone: they hold
	// the memory of processes.
	CheckpointDir string
	CRI           CRI
	Pods          Pods
	Statuses      Statuses
	Cache         Cache
	// Journal notes what is done in a pod for somebody, as a cause; nil: nothing is noted.
	Journal *journal.Journal
}

// Access reaches containers. Safe for concurrent use.
type Access struct {
	cfg     Config
	watched atomic.Int32 // logs, each with an inotify instance
}

// New refuses a Config in which a part is missing.
func New(cfg Config) (*Access, error) {
	if cfg.CRI == nil || cfg.Pods == nil || cfg.Statuses == nil || cfg.Cache == nil || cfg.CheckpointDir == "" {
		return nil, errors.New("access: CRI, Pods, Statuses, Cache and CheckpointDir are needed")
	}
	return &Access{cfg: cfg}, nil
}

// note notes that somebody has asked for something in a pod: the cause of what is done with the context until the end.
func (a *Access) note(ctx context.Context, pod *v1.Pod, what string) (context.Context, func()) {
	span := a.cfg.Journal.Begin(journal.Event{Kind: journal.Timer, Name: "request", Reason: what, Pod: pod.UID})
	return journal.In(ctx, span), func() { span.End(nil) }
}

// Exec returns the URL at which the runtime runs the command; it works once, for a
// minute.
func (a *Access) Exec(ctx context.Context, name types.NamespacedName, uid types.UID, o *v1.PodExecOptions) (*url.URL, error) {
	pod, id, err := a.container(ctx, name, uid, o.Container)
	if err != nil {
		return nil, err
	}
	ctx, end := a.note(ctx, pod, "exec")
	defer end()
	r, err := a.cfg.CRI.Exec(ctx, &cri.ExecRequest{
		ContainerId: id, Cmd: o.Command, Tty: o.TTY, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr,
	})
	if err != nil {
		return nil, err
	}
	return streamURL(r.GetUrl())
}

// Attach returns the URL at which the runtime serves the container's own streams.
// Whether they are a terminal depends on the container, not on the request.
func (a *Access) Attach(ctx context.Context, name types.NamespacedName, uid types.UID, o *v1.PodAttachOptions) (*url.URL, error) {
	pod, id, err := a.container(ctx, name, uid, o.Container)
	if err != nil {
		return nil, err
	}
	_, tty := declared(pod, o.Container)
	ctx, end := a.note(ctx, pod, "attach")
	defer end()
	r, err := a.cfg.CRI.Attach(ctx, &cri.AttachRequest{
		ContainerId: id, Tty: tty, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr,
	})
	if err != nil {
		return nil, err
	}
	return streamURL(r.GetUrl())
}

// PortForward returns the URL at which the runtime connects to the pod's ports.
func (a *Access) PortForward(ctx context.Context, name types.NamespacedName, uid types.UID, o *v1.PodPortForwardOptions) (*url.URL, error) {
	pod, err := a.pod(name, uid)
	if err != nil {
		return nil, err
	}
	id, err := a.sandbox(ctx, pod)
	if err != nil {
		return nil, err
	}
	ctx, end := a.note(ctx, pod, "port-forward")
	defer end()
	r, err := a.cfg.CRI.PortForward(ctx, &cri.PortForwardRequest{PodSandboxId: id, Port: o.Ports})
	if err != nil {
		return nil, err
	}
	return streamURL(r.GetUrl())
}

// Run runs a command in a container until it or ctx ends, and returns its output,
// standard output first.
func (a *Access) Run(ctx context.Context, name types.NamespacedName, uid types.UID, container string, cmd []string) ([]byte, error) {
	pod, id, err := a.container(ctx, name, uid, container)
	if err != nil {
		return nil, err
	}
	ctx, end := a.note(ctx, pod, "run")
	defer end()
	r, err := a.cfg.CRI.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: cmd})
	if err != nil {
		return nil, err
	}
	out := append(r.GetStdout(), r.GetStderr()...)
	if code := r.GetExitCode(); code != 0 {
		return nil, status.Errorf(codes.Unknown, "command '%s' exited with %d: %s", strings.Join(cmd, " "), code, out)
	}
	return out, nil
}

// Checkpoint has the runtime write the state of a running container to a file, and returns its
// path. The name is the kubelet's.
func (a *Access) Checkpoint(ctx context.Context, name types.NamespacedName, container string, timeout time.Duration) (string, error) {
	_, id, err := a.container(ctx, name, "", container)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(a.cfg.CheckpointDir, 0o700); err != nil {
		return "", fmt.Errorf("make the directory of checkpoints: %w", err)
	}
	path := filepath.Join(a.cfg.CheckpointDir, fmt.Sprintf("checkpoint-%s_%s-%s-%s.tar", name.Name, name.Namespace, container, time.Now().Format(time.RFC3339)))
	_, err = a.cfg.CRI.CheckpointContainer(ctx, &cri.CheckpointContainerRequest{ContainerId: id, Location: path, Timeout: int64(timeout / time.Second)})
	return path, err
}

func streamURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return nil, status.Errorf(codes.Internal, "the runtime gave the address %q for the streams, which is not a URL", s)
	}
	return u, nil
}
