package agent

import (
	"context"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/collect"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/provider"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/record"
)

// images pulls the images of pods, and removes those that nobody uses.
type images struct {
	manager   *image.Manager
	collector *collect.Manager
	parts     []part
}

// newImages makes the manager that pulls images, with all available credentials,
// the part that maintains the records of pulls, and the one that removes images.
func newImages(f *foundation, s *supplies) (*images, error) {
	policy, err := options.NewImageVerification(f.cfg.ImagePullCredentialsVerificationPolicy, f.cfg.PreloadedImagesVerificationAllowlist)
	if err != nil {
		return nil, fmt.Errorf("imagePullCredentialsVerificationPolicy: %w", err)
	}
	records, err := record.Open(f.cfg.RootDir, policy, f.metrics)
	if err != nil {
		return nil, err
	}
	secrets := &keyring.Secrets{Objects: s.objects}
	keys, err := newKeyring(f.cfg, secrets, s.tokens, f.metrics)
	if err != nil {
		return nil, err
	}
	collector, err := collect.New(collect.Config{
		Runtime: f.client, Wanted: f.wantedImages, Ready: f.store.Completed(), SandboxImage: f.cfg.PodInfraContainerImage,
		Records: records, NodeEvent: f.nodeEvent, Metrics: f.metrics, Traces: f.traces,
		Policy: collect.Policy{
			HighPercent: int(*f.cfg.ImageGCHighThresholdPercent), LowPercent: int(*f.cfg.ImageGCLowThresholdPercent),
			MinAge: f.cfg.ImageMinimumGCAge.Duration, MaxAge: f.cfg.ImageMaximumGCAge.Duration,
		},
	})
	if err != nil {
		return nil, err
	}
	manager, err := image.New(image.Config{
		Images: f.client, Journal: f.journal, Keyring: keys, MissingSecrets: secrets.Missing, Records: records, Collector: collector, Waits: f.starts, Metrics: f.metrics, Progress: f.pulls,
		Serialize: *f.cfg.SerializeImagePulls, MaxParallel: int(ptr.Deref(f.cfg.MaxParallelImagePulls, 0)),
		QPS: float32(ptr.Deref(f.cfg.RegistryPullQPS, 0)), Burst: int(f.cfg.RegistryBurst),
	})
	if err != nil {
		return nil, err
	}
	recover := func(ctx context.Context) error {
		// Pods need not wait: an image that is not on record is not open to them.
		if err := records.Recover(ctx, f.client); err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "Could not find out what became of earlier image pulls; such images are pulled again")
		}
		return nil
	}
	return &images{manager, collector, []part{{"image records", recover}, {"image garbage collection", collector.Run}}}, nil
}

// wantedImages returns the names of the images of all pods that are to run here and have not
// finished for good: also of those that are only about to start.
func (f *foundation) wantedImages() []string {
	var names []string
	for _, pod := range f.store.Pods() {
		if s, known := f.statuses.Get(pod.UID); known && pods.IsFinishedForGood(pod, s.Phase) {
			continue
		}
		for _, c := range pods.AllContainers(pod) {
			names = append(names, c.Image)
		}
		for i := range pod.Spec.Volumes {
			if v := pod.Spec.Volumes[i].Image; v != nil {
				names = append(names, v.Reference)
			}
		}
	}
	return names
}

// newKeyring joins the places that have credentials, in the kubelet's order.
func newKeyring(cfg *config.Config, secrets *keyring.Secrets, tokens provider.Tokens, metrics prometheus.Registerer) (keyring.Keyring, error) {
	k := keyring.Keyring{secrets}
	// Either may be unknown, which leaves out its files.
	home, _ := os.UserHomeDir()
	work, _ := os.Getwd()
	k = append(k, keyring.NewFiles(cfg.RootDir, work, home))
	if cfg.ImageCredentialProviderConfig == "" {
		return k, nil
	}
	plugins, err := provider.New(provider.Config{
		ConfigPath: cfg.ImageCredentialProviderConfig, BinDir: cfg.ImageCredentialProviderBinDir, Tokens: tokens, Metrics: metrics,
	})
	if err != nil {
		return nil, err
	}
	return append(k, plugins), nil
}
