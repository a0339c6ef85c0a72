package agent

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/pleg"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/probe"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/provider"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/record"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// runtimeStage brings one pod to the container runtime, and observes what becomes of it there.
type runtimeStage struct {
	volumes *volume.Manager
	probes  *probe.Manager
	manager *kuberuntime.Manager
	pleg    *pleg.PLEG

	probed       chan types.UID // pods for which a probe's verdict has changed
	probeMetrics *prometheus.Registry

	parts []part
}

func newRuntime(f *foundation, h *host, s *supplies) (*runtimeStage, error) {
	volumes, err := volume.New(volume.Config{
		Root: f.cfg.RootDir, Objects: s.objects, Claims: s.claims, CSI: s.csi, NodeLabels: s.nodeLabels,
		Allocatable: func() v1.ResourceList { return h.measured.Allocatable }, Warn: f.journal.Warn,
	})
	if err != nil {
		return nil, err
	}
	images, records, err := newImages(f, s)
	if err != nil {
		return nil, err
	}
	rt := &runtimeStage{volumes: volumes, probed: make(chan types.UID), probeMetrics: prometheus.NewRegistry()}
	rt.probes, err = probe.New(probe.Config{
		Exec: f.client, Journal: f.journal, HostIPs: func() []string { return h.ips }, Changed: rt.probed, Metrics: rt.probeMetrics,
	})
	if err != nil {
		return nil, err
	}
	rt.manager, err = kuberuntime.New(kuberuntime.Config{
		Objects: s.objects, ServiceEnv: s.serviceEnv, Handler: s.handler,
		CRI: f.client, Images: images, Files: volumes, Node: h.podConfig(f), Clock: clock.RealClock{},
		Name: f.engine.RuntimeName, MaxBackOff: maxBackOff(f.cfg), Journal: f.journal,
		Failed: rt.probes.Failed, Started: rt.probes.Started,
	})
	if err != nil {
		return nil, err
	}
	rt.pleg, err = pleg.New(pleg.Config{Runtime: rt.manager, LookTimeout: f.cfg.RuntimeRequestTimeout.Duration, Metrics: f.metrics})
	if err != nil {
		return nil, err
	}
	collector := kuberuntime.Collector{
		Runtime: rt.manager, Wanted: f.store.MayBeWanted, NodeEvent: f.nodeEvent,
		Policy: kuberuntime.Policy{MinAge: f.cfg.MinimumContainerTTL, PerContainer: int(f.cfg.MaxDeadPerContainer), Total: int(f.cfg.MaxDeadContainers)},
	}
	rt.parts = []part{{"pleg", rt.pleg.Run}, {"probes", rt.probes.Run}, {"garbage collection", collector.Run}, records}
	return rt, nil
}

// problems returns what keeps the node from being ready, beside what the runtime
// says.
func (rt *runtimeStage) problems() []string {
	if err := rt.pleg.Healthy(time.Now()); err != nil {
		return []string{"PLEG is not healthy: " + err.Error()}
	}
	return nil
}

// newImages makes the manager that pulls images, with all available credentials,
// and the part that maintains the records of pulls.
func newImages(f *foundation, s *supplies) (*image.Manager, part, error) {
	policy, err := options.NewImageVerification(f.cfg.ImagePullCredentialsVerificationPolicy, f.cfg.PreloadedImagesVerificationAllowlist)
	if err != nil {
		return nil, part{}, fmt.Errorf("imagePullCredentialsVerificationPolicy: %w", err)
	}
	records, err := record.Open(f.cfg.RootDir, policy)
	if err != nil {
		return nil, part{}, err
	}
	secrets := &keyring.Secrets{Objects: s.objects}
	keys, err := newKeyring(f.cfg, secrets, s.tokens)
	if err != nil {
		return nil, part{}, err
	}
	images, err := image.New(image.Config{
		Images: f.client, Journal: f.journal, Keyring: keys, MissingSecrets: secrets.Missing, Records: records,
		Serialize: *f.cfg.SerializeImagePulls, MaxParallel: int(ptr.Deref(f.cfg.MaxParallelImagePulls, 0)),
		QPS: float32(ptr.Deref(f.cfg.RegistryPullQPS, 0)), Burst: int(f.cfg.RegistryBurst),
	})
	return images, part{"image records", func(ctx context.Context) error {
		// Pods need not wait: an image that is not on record is not open to them.
		if err := records.Recover(ctx, f.client); err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "Could not find out what became of earlier image pulls; such images are pulled again")
		}
		return nil
	}}, err
}

// newKeyring joins the places that have credentials, in the kubelet's order.
func newKeyring(cfg *config.Config, secrets *keyring.Secrets, tokens provider.Tokens) (keyring.Keyring, error) {
	k := keyring.Keyring{secrets}
	// Either may be unknown, which leaves out its files.
	home, _ := os.UserHomeDir()
	work, _ := os.Getwd()
	k = append(k, keyring.NewFiles(cfg.RootDir, work, home))
	if cfg.ImageCredentialProviderConfig == "" {
		return k, nil
	}
	plugins, err := provider.New(provider.Config{
		ConfigPath: cfg.ImageCredentialProviderConfig, BinDir: cfg.ImageCredentialProviderBinDir, Tokens: tokens,
	})
	if err != nil {
		return nil, err
	}
	return append(k, plugins), nil
}

func maxBackOff(cfg *config.Config) time.Duration {
	if d := cfg.CrashLoopBackOff.MaxContainerRestartPeriod; d != nil {
		return d.Duration
	}
	return 0
}
