package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/logs"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/credentials"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
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
func newFront(f *foundation, h *host, rt *runtimeStage, l *life, w world, out io.Writer) ([]part, error) {
	access, err := podaccess.New(podaccess.Config{CheckpointDir: filepath.Join(f.cfg.RootDir, "checkpoints"), CRI: f.client, Pods: f.store, Statuses: f.statuses, Cache: rt.pleg})
	if err != nil {
		return nil, err
	}
	used, err := newStatistics(f, h, rt)
	if err != nil {
		return nil, err
	}
	api, apiParts, err := w.kubeletAPI(f, h, rt, apiHost{access, used.summary})
	if err != nil {
		return nil, err
	}
	shown := podstatus.NewView(f.store, l.workers, f.statuses)
	front, err := server.New(server.Config{
		API: api, NodeName: f.cfg.NodeName,
		HealthzListen: f.cfg.HealthzListen(), ReadOnlyListen: readOnlyListen(f.cfg), Pods: shown, Metrics: f.metrics, Probes: rt.probeMetrics, Registry: f.metrics,
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
	parts := slices.Concat([]part{{"server", front.Run}, {"systemd", systemd.Run}, {"volume statistics", used.summary.Measure}}, apiParts)
	if f.cfg.ShowPods {
		a := &announcer{out: out, pods: shown.Pods, changed: f.statuses.Changed(), node: f.cfg.NodeName, look: hints(f.cfg)}
		parts = append(parts, part{"announcer", a.run})
	}
	return parts, nil
}

// kubeletAPI makes what the kubelet API on port 10250 is built from, and the parts
// that keep its certificate and its callers' CA up to date.
func (c *cluster) kubeletAPI(f *foundation, h *host, rt *runtimeStage, target apiHost) (*server.APIConfig, []part, error) {
	cfg := f.cfg
	if !ptr.Deref(cfg.EnableServer, true) {
		return nil, nil, nil
	}
	serving, err := credentials.NewServing(credentials.ServingConfig{
		CertFile: cfg.TLSCertFile, KeyFile: cfg.TLSPrivateKeyFile, Client: c.client, Bootstrap: cfg.ServerTLSBootstrap,
		CertDir: cfg.CertDir, NodeName: cfg.NodeName,
		Metrics:   f.metrics,
		Addresses: func() []v1.NodeAddress { return c.addresses(h, cfg.NodeName) },
	})
	if err != nil {
		return nil, nil, err
	}
	auth, err := server.NewAuth(c.client.Reviews, server.AuthConfig{Authentication: cfg.Authentication, Authorization: cfg.Authorization})
	if err != nil {
		return nil, nil, err
	}
	tlsConfig, err := servingTLS(cfg)
	if err != nil {
		return nil, nil, err
	}
	tlsConfig.GetCertificate = serving.Certificate
	api := &server.APIConfig{
		Listen: cfg.APIListen(), TLS: tlsConfig, ClientCA: auth.ClientCA, Authenticator: auth.Authenticator, Authorizer: auth.Authorizer,
		NodeName: cfg.NodeName, Host: target, Configz: func() any { return &cfg.KubeletConfiguration },
		Metrics:   server.Metrics{Agent: f.metrics, Probes: rt.probeMetrics},
		Profiling: ptr.Deref(cfg.EnableProfilingHandler, true), Debugging: ptr.Deref(cfg.EnableDebuggingHandlers, true),
	}
	if ptr.Deref(cfg.EnableDebugFlagsHandler, true) {
		api.SetVerbosity = logs.GlogSetter
	}
	if ptr.Deref(cfg.EnableSystemLogHandler, false) {
		api.LogsDir, api.LogQueries = systemLogs, ptr.Deref(cfg.EnableSystemLogQuery, false)
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

func hints(cfg *config.Config) []string {
	var look []string
	if address := readOnlyListen(cfg); address != "" {
		look = append(look, "bin/mini-kubelet pods --server http://"+address+"   # the pods, as kubectl shows them")
	}
	if cfg.InProcessDockershim() {
		return append(look, "docker ps --filter name=k8s_   # the containers that they are made of")
	}
	return append(look, "bin/mini-kubelet ps --runtime-endpoint "+cfg.RuntimeEndpoint()+"   # their containers")
}
