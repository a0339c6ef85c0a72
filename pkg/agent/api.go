package agent

import (
	"crypto/tls"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	cliflag "k8s.io/component-base/cli/flag"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/credentials"
	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/nodeobject"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/podaccess"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/stats"
)

// systemLogs is what /logs/ shows, where it is on.
const systemLogs = "/var/log"

// kubeletAPI makes what the kubelet API on port 10250 is built from, and the parts
// that keep its certificate and its callers' CA up to date. Standalone it is not
// served: nobody could be asked who a caller is.
func (c *cluster) kubeletAPI(cfg *config.Config, n *node, host *podaccess.Access, used *stats.Source, metrics, probes prometheus.Gatherer) (*server.APIConfig, []part, error) {
	if c == nil || !deref(cfg.EnableServer, true) {
		return nil, nil, nil
	}
	serving, err := credentials.NewServing(credentials.ServingConfig{
		CertFile: cfg.TLSCertFile, KeyFile: cfg.TLSPrivateKeyFile, Client: c.client, Bootstrap: cfg.ServerTLSBootstrap,
		CertDir: cfg.CertDir, NodeName: cfg.NodeName,
		Addresses: func() []v1.NodeAddress { return nodeobject.Addresses(n.HostIPs, cfg.NodeName) },
	})
	if err != nil {
		return nil, nil, err
	}
	auth, err := server.NewAuth(c.client, server.AuthConfig{Authentication: cfg.Authentication, Authorization: cfg.Authorization})
	if err != nil {
		return nil, nil, err
	}
	tlsConfig, err := servingTLS(cfg)
	if err != nil {
		return nil, nil, err
	}
	tlsConfig.GetCertificate = serving.Certificate
	resources, err := used.Metrics()
	if err != nil {
		return nil, nil, err
	}
	api := &server.APIConfig{
		Listen: cfg.APIListen(), TLS: tlsConfig, ClientCA: auth.ClientCA, Authenticator: auth.Authenticator, Authorizer: auth.Authorizer,
		NodeName: cfg.NodeName, Host: apiHost{host, used}, Configz: func() any { return &cfg.KubeletConfiguration },
		Metrics:   server.Metrics{Agent: metrics, Resource: resources, Probes: probes},
		Profiling: deref(cfg.EnableProfilingHandler, true), Debugging: deref(cfg.EnableDebuggingHandlers, true),
	}
	if deref(cfg.EnableSystemLogHandler, false) {
		api.LogsDir = systemLogs
	}
	return api, []part{{"serving certificate", serving.Run}, {"authentication", auth.Run}}, nil
}

// servingTLS is what TLS the configuration allows.
func servingTLS(cfg *config.Config) (*tls.Config, error) {
	version, err := cliflag.TLSVersion(cfg.TLSMinVersion)
	if err != nil {
		return nil, fmt.Errorf("tlsMinVersion: %w", err)
	}
	suites, err := cliflag.TLSCipherSuites(cfg.TLSCipherSuites)
	if err != nil {
		return nil, fmt.Errorf("tlsCipherSuites: %w", err)
	}
	return &tls.Config{MinVersion: version, CipherSuites: suites}, nil
}

// apiHost answers the kubelet API for this node's pods.
type apiHost struct {
	*podaccess.Access
	*stats.Source
}
