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
)

func shimConfig(cfg *config.Config, observe func(docker.Call)) dockershim.Config {
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

func newDockershim(ctx context.Context, cfg *config.Config, record *journal.Journal) (*dockershim.Server, error) {
	calls := &engineCalls{journal: record}
	return dockershim.New(ctx, shimConfig(cfg, calls.note))
}

// engineCalls notes the dockershim's calls to Docker in the journal.
type engineCalls struct {
	journal *journal.Journal
	quiet   journal.Series // by route
}

// note may be called concurrently. What is not the consequence of anything, the cache being brought up to date for
// example, is one event a route, and one for each way to fail.
func (c *engineCalls) note(call docker.Call) {
	e := journal.Event{Kind: journal.Docker, Cause: call.Cause, Name: call.Route, Took: call.Took, Detail: journal.Text(call.ID)}
	if cause, known := c.journal.Get(call.Cause); known {
		e.Pod, e.Step = cause.Pod, cause.Step
	}
	switch {
	case call.Err != nil:
		e.Err = bounds.Cut(call.Err.Error(), journal.MaxText)
	case call.Code >= 400:
		e.Err = http.StatusText(call.Code)
	}
	if call.Cause != 0 {
		c.journal.Note(e)
		return
	}
	e.Quiet = true
	c.quiet.Note(c.journal, e)
}
