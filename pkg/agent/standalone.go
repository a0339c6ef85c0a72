package agent

import (
	"context"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission/podfields"
	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/podobjects"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/nodeip"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
)

// standalone is the world of a node without an API server: everything that its pods need
// is in the manifests.
type standalone struct{}

func (standalone) sinks() []journal.Sink { return []journal.Sink{journal.LogSink{}} }

func (standalone) eventsFile(cfg *config.Config) string { return stateDir(cfg, "events.jsonl") }

func (standalone) nodeEvent() journal.NodeEvent { return nil }

func (standalone) setupFailed(context.Context, error) {}

func (standalone) nodeIPs(found *nodeip.Finder) func() []string { return found.IPs }

func (standalone) supplies(f *foundation, h *host) (*supplies, error) {
	local, err := podobjects.NewLocal(podobjects.LocalConfig{
		Changed: f.wakeups.For("an object has changed"), Labels: h.labels, Bindings: stateDir(f.cfg, "claims.json"),
		Held: func() ([]*v1.PersistentVolume, error) { return volume.Held(f.cfg.RootDir) },
	})
	if err != nil {
		return nil, err
	}
	drivers, err := csi.New(csi.Config{
		Metrics: f.metrics,
		Root:    f.cfg.RootDir, NodeName: f.cfg.NodeName, Secret: local.Secret, Owns: f.owns,
		Registered: func() { f.wakeups.For("a volume driver has registered")(volume.UsersOfDrivers(f.store.Pods())) },
	})
	if err != nil {
		return nil, err
	}
	return &supplies{
		objects: local, claims: local, unsuitable: local.Unsuitable, csi: drivers, manifests: local.Set,
		staticFields: podfields.Features{Objects: true, Claims: true},
		podCIDR:      func() (string, bool) { return f.cfg.PodCIDR, true },
		node:         func() *v1.Node { return nil },
		nodeLabels:   func() map[string]string { return h.labels },
		parts:        []part{{"CSI drivers", drivers.Run}, {"events", f.recent.Run}},
	}, nil
}

func (standalone) reporters(*foundation, *host, *runtimeStage, *life) ([]part, error) {
	return nil, nil
}
