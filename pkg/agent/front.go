package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/logs"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/credentials"
	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/nodeobject"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/replay"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/podaccess"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/sdnotify"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/stats"
)

// systemLogs is what /logs/ shows, if it is enabled.
const systemLogs = "/var/log"

// apiHost answers the kubelet API for this node's pods.
type apiHost struct {
	*podaccess.Access
	*stats.Source
}

// newFront makes the parts that show the node and its pods, and give access to their
// containers.
func newFront(f *foundation, h *host, s *supplies, rt *runtimeStage, l *life, w world, out io.Writer) ([]part, error) {
	access, err := podaccess.New(podaccess.Config{CheckpointDir: filepath.Join(f.cfg.RootDir, "checkpoints"), CRI: f.client, Pods: f.store, Statuses: f.statuses, Cache: rt.pleg, Journal: f.journal})
	if err != nil {
		return nil, err
	}
	used, err := newStatistics(f, h, rt)
	if err != nil {
		return nil, err
	}
	content := apiContent(f, rt, apiHost{access, used.summary})
	api, apiParts, err := w.kubeletAPI(f, h, content)
	if err != nil {
		return nil, err
	}
	shown := podstatus.NewView(f.store, l.workers, f.statuses)
	local := content
	if local.Why, err = newWhy(f, s, rt, l, shown.Pods, access.Logs); err != nil {
		return nil, err
	}
	front, err := server.New(server.Config{
		API: api, Local: &server.LocalConfig{Path: config.LocalSocket(f.cfg.RootDir), Content: local}, NodeName: f.cfg.NodeName,
		HealthzListen: f.cfg.HealthzListen(), ReadOnlyListen: readOnlyListen(f.cfg), Pods: shown, Metrics: f.metrics, Probes: rt.probeMetrics, Registry: f.metrics, Traces: f.traces,
		CAdvisor: used.cadvisor, Resource: used.resource, Usage: used.summary,
		Checks: []server.Check{
			{Name: "pleg", Check: func(context.Context) error { return rt.pleg.Healthy(time.Now()) }},
			{Name: "syncloop", Check: func(context.Context) error { return l.loop.Healthy(time.Now()) }},
		},
	})
	if err != nil {
		return nil, err
	}
	// Not PLEG: a runtime that hangs is not mended by a new agent.
	systemd, err := sdnotify.New(sdnotify.Config{Clock: clock.RealClock{}, Healthy: func(context.Context) error { return l.loop.Healthy(time.Now()) }})
	if err != nil {
		return nil, err
	}
	resources, err := newPodResources(f, h, l.workers)
	if err != nil {
		return nil, err
	}
	parts := slices.Concat([]part{{"server", front.Run}, resources, {"systemd", systemd.Run}, {"volume statistics", used.summary.Measure}}, apiParts)
	if f.cfg.ShowPods {
		a := &announcer{out: out, pods: shown.Pods, changed: f.statuses.Changed(), node: f.cfg.NodeName, look: hints(f.cfg)}
		parts = append(parts, part{"announcer", a.run})
	}
	return parts, nil
}

// apiContent is what the kubelet API answers with, at its port and at the local socket.
func apiContent(f *foundation, rt *runtimeStage, target apiHost) server.Content {
	cfg := f.cfg
	c := server.Content{
		Host: target, Configz: func() any { return cfg.Shown() }, Events: f.recent, Journal: f.journal, Gates: gates(f),
		Metrics:  server.Metrics{Agent: f.metrics, Probes: rt.probeMetrics},
		Versions: versions(f), Version: config.KubernetesVersion, Flags: cfg.FlagValues,
		Profiling: ptr.Deref(cfg.EnableProfilingHandler, true), Debugging: ptr.Deref(cfg.EnableDebuggingHandlers, true),
	}
	if ptr.Deref(cfg.EnableDebugFlagsHandler, true) {
		c.SetVerbosity = logs.GlogSetter
	}
	if ptr.Deref(cfg.EnableSystemLogHandler, false) {
		c.LogsDir, c.LogQueries = systemLogs, ptr.Deref(cfg.EnableSystemLogQuery, false)
	}
	return c
}

// versions is what bundles say of this agent.
func versions(f *foundation) replay.Versions {
	return replay.Versions{
		MiniKubelet: config.AgentVersion(), Kubernetes: config.KubernetesVersion, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Kernel: machine.ReadIdentity().KernelVersion, Runtime: f.engine.RuntimeName + "://" + f.engine.RuntimeVersion,
	}
}

// kubeletAPI implements world.
func (c *cluster) kubeletAPI(f *foundation, h *host, content server.Content) (*server.APIConfig, []part, error) {
	if !ptr.Deref(f.cfg.EnableServer, true) {
		return nil, nil, nil
	}
	return securedPort(f, content, c.client.Reviews, credentials.ServingConfig{
		Client: c.client, Bootstrap: f.cfg.ServerTLSBootstrap,
		Addresses: func() []v1.NodeAddress { return c.addresses(h, f.cfg.NodeName) },
	})
}

// kubeletAPI implements world. There is nobody to ask who a caller is, but for his certificate.
func (standalone) kubeletAPI(f *foundation, h *host, content server.Content) (*server.APIConfig, []part, error) {
	if !ptr.Deref(f.cfg.EnableServer, true) {
		return nil, nil, nil
	}
	what := server.StandAlone(authConfig(f.cfg))
	switch {
	case what.Alarm:
		klog.ErrorS(nil, what.Say, "port", f.cfg.Port)
	case what.Say != "":
		klog.InfoS(what.Say, "port", f.cfg.Port, "socket", config.LocalSocket(f.cfg.RootDir))
	}
	if !what.Serve {
		return nil, nil, nil
	}
	return securedPort(f, content, nil, credentials.ServingConfig{
		Addresses: func() []v1.NodeAddress { return nodeobject.Addresses(h.hostIPs(), f.cfg.NodeName) },
	})
}

func authConfig(cfg *config.Config) server.AuthConfig {
	return server.AuthConfig{Authentication: cfg.Authentication, Authorization: cfg.Authorization}
}

// securedPort makes what the kubelet API's port is built from, and the parts that keep its
// certificate and its callers' CA up to date. reviews is nil where nobody can be asked.
func securedPort(f *foundation, content server.Content, reviews kubernetes.Interface, certificate credentials.ServingConfig) (*server.APIConfig, []part, error) {
	cfg := f.cfg
	certificate.CertFile, certificate.KeyFile = cfg.TLSCertFile, cfg.TLSPrivateKeyFile
	certificate.CertDir, certificate.NodeName, certificate.Metrics = cfg.CertDir, cfg.NodeName, f.metrics
	serving, err := credentials.NewServing(certificate)
	if err != nil {
		return nil, nil, err
	}
	auth, err := server.NewAuth(reviews, authConfig(cfg))
	if err != nil {
		return nil, nil, err
	}
	tlsConfig, err := servingTLS(cfg)
	if err != nil {
		return nil, nil, err
	}
	tlsConfig.GetCertificate = serving.Certificate
	api := &server.APIConfig{
		Listen: cfg.APIListen(), TLS: tlsConfig, ClientCA: auth.ClientCA, Authenticator: auth.Authenticator, Authorizer: auth.Authorizer, Advice: auth.Advice,
		NodeName: cfg.NodeName, Content: content,
	}
	return api, []part{{"serving certificate", serving.Run}, {"authentication", auth.Run}}, nil
}

// servingTLS returns the TLS settings that the configuration allows.
func servingTLS(cfg *config.Config) (*tls.Config, error) {
	version, err := cliflag.TLSVersion(cfg.TLSMinVersion)
	if err != nil {
		return nil, fmt.Errorf("tlsMinVersion: %w", err)
	}
	suites, err := cliflag.TLSCipherSuites(cfg.TLSCipherSuites)
	if err != nil {
		return nil, fmt.Errorf("tlsCipherSuites: %w", err)
	}
	curves, err := cliflag.TLSCurvePreferences(cfg.TLSCurvePreferences)
	if err != nil {
		return nil, fmt.Errorf("tlsCurvePreferences: %w", err)
	}
	return &tls.Config{MinVersion: version, CipherSuites: suites, CurvePreferences: curves}, nil
}

func readOnlyListen(cfg *config.Config) string {
	if !ptr.Deref(cfg.EnableServer, true) {
		return ""
	}
	return cfg.ReadOnlyListen()
}

// hints are the commands by which a person looks further.
func hints(cfg *config.Config) []string {
	where := ""
	if cfg.RootDir != config.DefaultRootDir {
		where = " --root-dir " + cfg.RootDir
	}
	return []string{
		"bin/mini-kubelet pods" + where + "                  # the pods, as kubectl shows them",
		"bin/mini-kubelet logs" + where + " -f POD           # what one of them says",
		"bin/mini-kubelet exec" + where + " -it POD -- sh    # a shell in it",
		"bin/mini-kubelet events" + where + "                # what happened, and why",
	}
}

// gates are those of teaching mode, for people; nil if it is off.
func gates(f *foundation) server.Gates {
	if f.gate == nil {
		return nil
	}
	return f.gate
}
