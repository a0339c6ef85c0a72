package logrotate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
)

// Runtime is what is asked of the container runtime.
type Runtime interface {
	ContainerStatus(context.Context, *cri.ContainerStatusRequest, ...grpc.CallOption) (*cri.ContainerStatusResponse, error)
	ReopenContainerLog(context.Context, *cri.ReopenContainerLogRequest, ...grpc.CallOption) (*cri.ReopenContainerLogResponse, error)
}

// Config is what a Rotator is made of. All of it is required, but for Root.
type Config struct {
	Runtime Runtime
	// Pods returns what the runtime was last seen to have; nil: that is not known yet.
	Pods func() []*actual.Pod
	// Listed is closed when Pods has its first answer.
	Listed <-chan struct{}
	Root   string // of all pods' logs; empty: the kubelet's
	Limits Limits
	// Workers is how many logs are rotated at a time, and how many are compressed.
	Workers  int
	Interval time.Duration // between two looks
	Clock    clock.WithTicker
}

const (
	// reopenWithin is how long a runtime may take to reopen a log, which is away meanwhile.
	reopenWithin = 10 * time.Second
	// slowest is how seldom a log that cannot be compressed is tried again: each time may
	// fill a disk that is full but for a little.
	slowest = 5 * time.Minute
)

// Rotator rotates the logs of all running containers.
type Rotator struct {
	cfg  Config
	logs map[string]*containerLog // by container ID; the looking goroutine's alone
	told map[string]bool          // causes of failures, likewise

	silent  bool // the runtime has not answered in this look
	packing sync.WaitGroup
	slots   chan struct{} // one for each log that is being compressed
}

// containerLog is the log of one container.
type containerLog struct {
	id        string
	dir, file string // below the root; empty: not known yet
	foreign   bool   // it is not where we keep logs
	running   bool
	looked    bool // since the agent has started, or the container has ended
	unsure    bool // see scene

	err error // of the last look

	mu     sync.Mutex
	busy   bool // it is being compressed
	messy  bool // there is something to compress
	packed error
	failed int       // times in a row
	next   time.Time // when to try again
}

// New checks the configuration.
func New(cfg Config) (*Rotator, error) {
	switch {
	case cfg.Runtime == nil || cfg.Pods == nil || cfg.Listed == nil || cfg.Clock == nil:
		return nil, errors.New("log rotation: no Runtime, Pods, Listed or Clock")
	case cfg.Limits.Files < 2 || cfg.Workers < 1 || cfg.Interval <= 0:
		return nil, fmt.Errorf("log rotation: %d files, %d workers, every %v", cfg.Limits.Files, cfg.Workers, cfg.Interval)
	}
	if cfg.Root == "" {
		cfg.Root = pods.DefaultPodLogsRoot
	}
	return &Rotator{cfg: cfg, logs: map[string]*containerLog{}, told: map[string]bool{}, slots: make(chan struct{}, cfg.Workers)}, nil
}

// Run looks at the logs until ctx ends. With a negative size it does nothing.
func (r *Rotator) Run(ctx context.Context) error {
	if r.cfg.Limits.Size < 0 {
		return nil
	}
	defer r.packing.Wait()
	select {
	case <-ctx.Done():
		return nil
	case <-r.cfg.Listed:
	}
	tick := r.cfg.Clock.NewTicker(r.cfg.Interval)
	defer tick.Stop()
	for {
		r.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C():
		}
	}
}

// look rotates the logs that are due, and has others compressed.
func (r *Rotator) look(ctx context.Context) {
	var due []*containerLog
	there := map[string]bool{}
	r.silent = false
	for _, pod := range r.cfg.Pods() {
		for _, c := range pod.Containers {
			if c.State != actual.StateRunning && c.State != actual.StateExited {
				continue
			}
			there[c.ID] = true
			l := r.logs[c.ID]
			if l == nil {
				l = &containerLog{id: c.ID}
				r.logs[c.ID] = l
			}
			if runs := c.State == actual.StateRunning; l.running != runs {
				l.running, l.looked = runs, false
			}
			if r.due(ctx, pod, l) {
				due = append(due, l)
			}
		}
	}
	for id := range r.logs {
		if !there[id] {
			delete(r.logs, id)
		}
	}
	r.each(due, func(l *containerLog) { l.err = r.rotate(ctx, l) })
	if ctx.Err() != nil {
		return
	}
	for _, l := range r.logs {
		r.tidy(ctx, l)
	}
	r.tell()
}

// due reports whether there is more to be done for a log than this look at its size.
func (r *Rotator) due(ctx context.Context, pod *actual.Pod, l *containerLog) bool {
	if l.foreign || !l.running && l.looked {
		return false
	}
	if l.file == "" {
		if r.silent {
			return false // asking for one container after the other would take too long
		}
		l.err = r.locate(ctx, pod, l)
		r.silent = slices.Contains([]codes.Code{codes.DeadlineExceeded, codes.Unavailable}, status.Code(errors.Unwrap(l.err)))
		if l.err != nil || l.foreign {
			return false
		}
	}
	fi, err := os.Lstat(filepath.Join(r.cfg.Root, l.dir, l.file))
	switch {
	case errors.Is(err, os.ErrNotExist) || !l.looked || l.unsure:
		return true
	case err != nil:
		l.err = err
		return false
	}
	l.err = nil
	if !fi.Mode().IsRegular() {
		l.err = errNotRegular
		return false
	}
	return due(fi.Size(), r.cfg.Limits)
}

// locate asks the runtime where a container's log is, once. It has to be where this agent
// puts logs: nothing else is touched.
func (r *Rotator) locate(ctx context.Context, pod *actual.Pod, l *containerLog) error {
	resp, err := r.cfg.Runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: l.id})
	if status.Code(err) == codes.NotFound {
		l.foreign = true // it has been removed
		return nil
	}
	if err != nil {
		return fmt.Errorf("find log: %w", err)
	}
	s := resp.GetStatus()
	name := pod.Containers[slices.IndexFunc(pod.Containers, func(c actual.Container) bool { return c.ID == l.id })].Name
	dir := filepath.Join(pods.PodLogDirectory(r.cfg.Root, pod.Namespace, pod.Name, pod.UID), name)
	file := filepath.Base(pods.ContainerLogPath(name, s.GetMetadata().GetAttempt()))
	below, err := filepath.Rel(r.cfg.Root, dir)
	if l.foreign = err != nil || filepath.Clean(s.GetLogPath()) != filepath.Join(dir, file); l.foreign {
		klog.V(2).InfoS("A container's log is not where this agent puts logs; it is not rotated", "containerID", l.id, "path", s.GetLogPath())
		return nil
	}
	l.dir, l.file = below, file
	return nil
}

// each calls do for all logs, as many at a time as there are workers.
func (r *Rotator) each(logs []*containerLog, do func(*containerLog)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	queue := make(chan *containerLog)
	defer close(queue)
	for range min(r.cfg.Workers, len(logs)) {
		wg.Go(func() {
			for l := range queue {
				do(l)
			}
		})
	}
	for _, l := range logs {
		queue <- l
	}
}

// rotate does what is quick, and notes whether the rest is to be done.
func (r *Rotator) rotate(ctx context.Context, l *containerLog) error {
	dir, err := openDirectory(r.cfg.Root, l.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it is just being removed
	}
	if err != nil {
		return err
	}
	defer dir.close()
	first, then, err := r.plan(dir, scene{log: l.file, running: l.running, unsure: l.unsure}, r.cfg.Limits)
	if err != nil {
		return err
	}
	err = act(ctx, dir, l.file, first, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, reopenWithin)
		defer cancel()
		_, err := r.cfg.Runtime.ReopenContainerLog(ctx, &cri.ReopenContainerLogRequest{ContainerId: l.id})
		return err
	})
	l.unsure = errors.Is(err, errUnsure)
	if err != nil && r.ended(ctx, l.id) {
		return nil // that is why; it is looked at again once that is known
	}
	l.looked = err == nil
	if err == nil && len(then) > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.messy = true
	}
	return err
}

// ended reports whether the runtime says that a container does not run any more.
func (r *Rotator) ended(ctx context.Context, id string) bool {
	resp, err := r.cfg.Runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
	return status.Code(err) == codes.NotFound || err == nil && resp.GetStatus().GetState() == cri.ContainerState_CONTAINER_EXITED
}

func (r *Rotator) plan(dir directory, s scene, l Limits) (first, then []step, err error) {
	if s.entries, err = dir.list(); err != nil {
		return nil, nil, err
	}
	return plan(s, l, r.cfg.Clock.Now())
}

// tidy has what a log was rotated to compressed in the background.
func (r *Rotator) tidy(ctx context.Context, l *containerLog) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy || !l.messy || !l.running || l.unsure || r.cfg.Clock.Now().Before(l.next) {
		return
	}
	l.busy, l.messy = true, false
	r.packing.Go(func() {
		err := r.pack(ctx, l.dir, l.file)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.busy, l.packed = false, err
		if err == nil {
			l.failed = 0
			return
		}
		l.messy = true
		l.next = r.cfg.Clock.Now().Add(min(r.cfg.Interval<<min(l.failed, 10), slowest))
		l.failed++
	})
}

// pack compresses what the log was rotated to by now, once a worker is free.
func (r *Rotator) pack(ctx context.Context, name, log string) error {
	select {
	case <-ctx.Done():
		return nil
	case r.slots <- struct{}{}:
	}
	defer func() { <-r.slots }()
	dir, err := openDirectory(r.cfg.Root, name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.close()
	none := Limits{Size: -1, Files: r.cfg.Limits.Files} // rotating is not this one's to do
	_, then, err := r.plan(dir, scene{log: log, running: true}, none)
	if err != nil {
		return err
	}
	return tidy(ctx, dir, then)
}

// tell logs each cause of failures once, however many logs it keeps from being rotated.
func (r *Rotator) tell() {
	type failure struct {
		err  error
		log  *containerLog
		logs int
	}
	now := map[string]failure{}
	note := func(l *containerLog, err error) {
		if err == nil {
			return
		}
		f := now[cause(err)]
		now[cause(err)] = failure{err, l, f.logs + 1}
	}
	for _, l := range r.logs {
		note(l, l.err)
		l.mu.Lock()
		err := l.packed
		l.mu.Unlock()
		note(l, err)
	}
	for what, f := range now {
		if !r.told[what] {
			klog.ErrorS(f.err, "Container logs cannot be rotated for now, trying again", "logs", f.logs, "containerID", f.log.id, "path", filepath.Join(r.cfg.Root, f.log.dir, f.log.file))
		}
		r.told[what] = true
	}
	for what := range r.told {
		if _, still := now[what]; !still {
			klog.InfoS("Container logs are rotated again", "cause", what)
			delete(r.told, what)
		}
	}
}

// cause returns what failures of different logs have in common.
func cause(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	for _, e := range []error{errNotRegular, errChanged, safefile.ErrLink, safefile.ErrNotRegular} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus().Code().String()
	}
	return err.Error()
}
