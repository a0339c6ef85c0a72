package agent

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image"
)

func shimConfig(cfg *config.Config, observe docker.Observer) dockershim.Config {
	return dockershim.Config{
		Listen: cfg.DockershimSocket, DockerEndpoint: cfg.DockerEndpoint, StateDir: cfg.DockershimRootDir,
		CgroupDriver: cfg.CgroupDriver, SandboxImage: cfg.PodInfraContainerImage, NetworkPlugin: cfg.NetworkPlugin,
		CNIConfDir: cfg.CNIConfDir, CNIBinDirs: cfg.CNIBinDirs, CNICacheDir: cfg.CNICacheDir,
		HairpinMode: cfg.HairpinMode, NonMasqueradeCIDR: cfg.NonMasqueradeCIDR, MTU: cfg.NetworkPluginMTU, KubenetBridge: cfg.KubenetBridge,
		CDISpecDirs:               cfg.CDISpecDirs,
		Observe:                   observe,
		ImagePullProgressDeadline: cfg.ImagePullProgressDeadline, RequestTimeout: cfg.RuntimeRequestTimeout.Duration,
	}
}

// ownDockershim reports whether this process has to serve the dockershim: not if
// its socket was named and another process (mini-kubelet dockershim) serves it.
func ownDockershim(cfg *config.Config) bool {
	if !cfg.InProcessDockershim() {
		return false
	}
	if cfg.ContainerRuntimeEndpoint == "" {
		return true
	}
	conn, err := net.DialTimeout("unix", strings.TrimPrefix(cfg.DockershimSocket, "unix://"), time.Second)
	if err != nil {
		return true
	}
	conn.Close()
	return false
}

func newDockershim(ctx context.Context, cfg *config.Config, calls *engineCalls) (*dockershim.Server, error) {
	return dockershim.New(ctx, shimConfig(cfg, calls))
}

// engineCalls notes the dockershim's calls to Docker in the journal. What is not the consequence of anything, the cache being
// brought up to date for example, is one event a route, and one for each way to fail. It implements docker.Observer.
type engineCalls struct {
	journal *journal.Journal
	pulls   *image.Progress
	quiet   journal.Series // by route
}

// event is a call, and its cause if that is known.
func (c *engineCalls) event(call docker.Call) (e, cause journal.Event) {
	e = journal.Event{Kind: journal.Docker, Cause: call.Cause, Name: call.Route, Took: call.Took, Detail: journal.Text(call.ID)}
	cause, known := c.journal.Get(call.Cause)
	if known {
		e.Pod, e.Step = cause.Pod, cause.Step
	}
	switch {
	case call.Err != nil:
		e.Err = bounds.Cut(call.Err.Error(), journal.MaxText)
	case call.Code >= 400:
		e.Err = http.StatusText(call.Code)
	}
	return e, cause
}

func (c *engineCalls) note(e journal.Event) {
	if e.Cause != 0 {
		c.journal.Note(e)
		return
	}
	e.Quiet = true
	c.quiet.Note(c.journal, e)
}

// Called implements docker.Observer.
func (c *engineCalls) Called(call docker.Call) {
	e, _ := c.event(call)
	c.note(e)
}

// Begun implements docker.Observer. A call without a cause is noted at its end.
func (c *engineCalls) Begun(call docker.Call) docker.Ongoing {
	e, cause := c.event(call)
	o := &ongoing{calls: c, event: e, pull: cause.Cause}
	if e.Cause != 0 {
		o.measured = c.journal.Measure(e)
	} else {
		o.measured.Began = time.Now()
	}
	return o
}

// ongoing is a call that goes on.
type ongoing struct {
	calls    *engineCalls
	event    journal.Event
	measured journal.Measured // without a cause no event until its end
	pull     uint64           // what a pull is the consequence of: the image manager's event
}

// Progress implements docker.Ongoing.
func (o *ongoing) Progress(far docker.Progress) { o.calls.pulls.Tell(o.pull, far) }

// Ended implements docker.Ongoing.
func (o *ongoing) Ended(err error) {
	o.event.Took = o.measured.End(err)
	if o.measured.Span != nil {
		return
	}
	if err != nil {
		o.event.Err = bounds.Cut(err.Error(), journal.MaxText)
	}
	o.calls.note(o.event)
}
