// Package pluginregistry finds the node's plug-ins: whoever has a registration socket
// below the kubelet's plugins_registry says there which type of plug-in it is, and is given to the
// handler of that type.
package pluginregistry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/klog/v2"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/dirwatch"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
)

// Dir is the directory below the kubelet's root where plug-ins of all types put their
// registration sockets.
const Dir = "plugins_registry"

const (
	callTimeout = 10 * time.Second // for one call to a registration socket
	firstRetry  = 500 * time.Millisecond
	lastRetry   = 2 * time.Minute
	rescan      = 30 * time.Second       // in case an event was missed
	scanPause   = 100 * time.Millisecond // at least, between two looks
	maxSockets  = 256                    // that there may be at a time; what comes then waits until others go
	// settled is how long a plug-in has to stay until its end is the first failure of a new row. One that
	// ends sooner each time is asked as seldom as one that never registers.
	settled = lastRetry
)

// Plugin is what a plug-in says of itself. Nothing of it has been checked.
type Plugin struct {
	Name     string
	Endpoint string // the socket that it serves on
	Versions []string
}

// Handler takes the plug-ins of one type. It is called from a goroutine of each plug-in.
type Handler interface {
	// Register makes a plug-in known. The plug-in is told the error, if there is one, and asked
	// again later. ctx ends with its registration socket.
	Register(ctx context.Context, p Plugin) (Registration, error)
}

// Registration is a plug-in that its handler has taken. Leave is always called, Stay only if the plug-in
// could be told that it is registered.
type Registration interface {
	// Stay returns when ctx ends, with the plug-in's registration socket, or when the plug-in
	// serves no longer: then it is registered anew as soon as it answers.
	Stay(ctx context.Context)
	// Leave forgets the plug-in. ctx has ended if only the agent ends.
	Leave(ctx context.Context)
}

// Config is what a Registry is made of.
type Config struct {
	Root     string             // the kubelet's directory
	Handlers map[string]Handler // by type; others are left alone
}

// Registry watches for plug-ins. Run it once.
type Registry struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Registry, error) {
	if !filepath.IsAbs(cfg.Root) {
		return nil, fmt.Errorf("pluginregistry: root %q is not an absolute path", cfg.Root)
	}
	return &Registry{cfg}, nil
}

// Run registers plug-ins whose sockets appear in the registry and withdraws those
// whose sockets disappear, until ctx ends. Each has a goroutine while its socket
// exists, so that one which hangs does not delay the others.
func (r *Registry) Run(ctx context.Context) error {
	dir := filepath.Join(r.cfg.Root, Dir)
	err := durable.MakeWay(dir, "The sockets of plug-ins. Restart the plug-ins (CSI drivers, device plug-ins) that are not there.")
	if err == nil || errors.Is(err, durable.ErrDamaged) {
		err = os.MkdirAll(dir, 0o750)
	}
	if err != nil {
		return fmt.Errorf("watch for plug-ins: %w", err)
	}
	watch := dirwatch.New()
	defer watch.Close()
	if err := watch.Err(); err != nil {
		klog.ErrorS(err, "The directory of plug-ins is not watched, scanning instead", "path", dir, "every", rescan)
	}
	tick := time.NewTicker(rescan)
	defer tick.Stop()
	s := &sockets{registry: r, known: map[socket]context.CancelFunc{}}
	defer s.wait.Wait()
	for {
		s.scan(ctx, watch, dir)
		if s.calm(ctx, watch) {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-watch.Events():
		case <-tick.C:
		case err := <-watch.Errors():
			klog.ErrorS(err, "The watch for plug-ins failed, scanning for them", "path", dir) // then scans again
		}
	}
}

// socket is a plug-in's socket; one created anew is a different one.
type socket struct{ path, inode string }

// sockets are those that were there at the last look, each with what ends its goroutine.
type sockets struct {
	registry *Registry
	known    map[socket]context.CancelFunc
	wait     sync.WaitGroup
	full     bool // the log says that there are too many
}

// calm takes in what happens during a short pause, and reports whether anything has: however much happens
// in the directory, it is looked at now and then only.
func (s *sockets) calm(ctx context.Context, watch *dirwatch.Watch) (happened bool) {
	pause := time.After(scanPause)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-watch.Events():
			happened = true
		case <-watch.Errors():
			happened = true
		case <-pause:
			return happened
		}
	}
}

// scan starts what has appeared and stops what has gone. Like the kubelet, it looks
// into subdirectories too.
func (s *sockets) scan(ctx context.Context, watch *dirwatch.Watch, dir string) {
	found := map[socket]bool{}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil, strings.HasPrefix(d.Name(), ".") && p != dir:
			return nil // it has just gone, or is not for us
		case d.IsDir():
			_ = watch.Add(p) // if it fails, the rescan finds changes
			return nil
		case d.Type()&fs.ModeSocket == 0:
			return nil
		}
		if fi, err := d.Info(); err == nil {
			st, _ := fi.Sys().(*syscall.Stat_t)
			found[socket{p, strconv.FormatUint(st.Ino, 10) + fi.ModTime().String()}] = true
		}
		return nil
	})
	for known, stop := range s.known {
		if !found[known] {
			stop()
			delete(s.known, known)
		}
	}
	full := false
	for f := range found {
		if s.known[f] != nil {
			continue
		}
		if full = len(s.known) >= maxSockets; full {
			break
		}
		own, stop := context.WithCancel(ctx)
		s.known[f] = stop
		s.wait.Go(func() { s.registry.keep(ctx, own, f.path) })
	}
	if full && !s.full {
		klog.ErrorS(nil, "There are too many registration sockets of plug-ins, some are not looked at", "path", dir, "sockets", len(found), "most", maxSockets)
	}
	s.full = full
}

// keep registers the plug-in behind a socket until own, the socket's context, ends; ctx is
// the agent's.
func (r *Registry) keep(ctx, own context.Context, path string) {
	var failing logonce.Error
	var pause time.Duration
	for {
		var stayed time.Duration
		taken, err := r.register(ctx, own, path)
		if err == nil {
			since := time.Now()
			taken.Stay(own)
			stayed = time.Since(since)
			taken.Leave(ctx)
			if stayed >= settled {
				failing.Note(nil) // its end is news again
			}
			err = errGone
		}
		if errors.Is(err, errOther) {
			return
		}
		pause = nextPause(pause, stayed)
		if own.Err() == nil && failing.Note(err) {
			klog.ErrorS(err, "Could not register a plug-in, trying again", "path", path)
		}
		select {
		case <-own.Done():
			return
		case <-time.After(pause):
		}
	}
}

// nextPause is how long to wait until a plug-in is asked again, after the last pause, 0 for none, and the
// time for which it was registered since.
func nextPause(last, stayed time.Duration) time.Duration {
	if last == 0 || stayed >= settled {
		return firstRetry
	}
	return min(2*last, lastRetry)
}

var (
	errOther = errors.New("no plug-in of a type that this agent knows")
	errGone  = errors.New("the plug-in serves no longer, but its registration socket is still there")
)

// register asks what is behind a socket, gives it to its handler, and tells it whether it
// was registered. ctx is the agent's, own the socket's.
func (r *Registry) register(ctx, own context.Context, path string) (Registration, error) {
	conn, err := Dial(path)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", path, err)
	}
	defer conn.Close()
	client := registration.NewRegistrationClient(conn)
	ask, cancel := context.WithTimeout(own, callTimeout)
	defer cancel()
	info, err := client.GetInfo(ask, &registration.InfoRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask plug-in for its name: %w", err)
	}
	handler := r.cfg.Handlers[info.Type]
	if handler == nil {
		return nil, errOther
	}
	p := Plugin{Name: info.Name, Endpoint: info.Endpoint, Versions: info.SupportedVersions}
	if p.Endpoint == "" {
		p.Endpoint = path
	}
	taken, err := handler.Register(own, p)
	answer := &registration.RegistrationStatus{PluginRegistered: err == nil}
	if err != nil {
		answer.Error = err.Error()
	}
	tell, cancelTell := context.WithTimeout(own, callTimeout)
	defer cancelTell()
	if _, tellErr := client.NotifyRegistrationStatus(tell, answer); tellErr != nil && err == nil {
		taken.Leave(ctx)
		err = fmt.Errorf("tell plug-in %s that it is registered: %w", p.Name, tellErr)
	}
	return taken, err
}
