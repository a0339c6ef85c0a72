package agent

import (
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/pluginregistry"
)

// newPlugins makes the part that finds plug-ins by their registration sockets: a handler for each type
// that the agent knows.
func newPlugins(f *foundation, h *host, s *supplies) (part, error) {
	r, err := pluginregistry.New(pluginregistry.Config{Root: f.cfg.RootDir, Handlers: map[string]pluginregistry.Handler{
		registration.CSIPlugin: s.csi, registration.DevicePlugin: h.devices,
	}})
	if err != nil {
		return part{}, err
	}
	return part{"plug-ins", r.Run}, nil
}
