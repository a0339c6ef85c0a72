package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/credentials"
	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/mirror"
	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/nodeobject"
	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/podobjects"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal/apievents"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
)

// cluster is what ties the node to an API server. A standalone node has none, and
// its methods may be called on nil.
type cluster struct {
	client   *credentials.Client
	events   *apievents.Sink
	store    *podstore.Store
	node     *nodeobject.Manager
	mirrors  *mirror.Manager
	statuses *podstatus.Writer
	objects  *podobjects.Cache
	tokens   *podobjects.Tokens
	services *podobjects.Services
	claims   *podobjects.Claims
	drivers  *csi.Manager
	inUse    *nodeobject.InUse
	classes  *podobjects.RuntimeClasses
	bundles  *podobjects.TrustBundles
}

// joinCluster makes the API clients and what needs nothing else; nil when the
// configuration names no API server.
func joinCluster(cfg *config.Config, store *podstore.Store) (*cluster, error) {
	if cfg.Standalone() {
		return nil, nil
	}
	client, err := credentials.NewClient(credentials.Config{
		Kubeconfig: cfg.Kubeconfig, Bootstrap: cfg.BootstrapKubeconfig, CertDir: cfg.CertDir, NodeName: cfg.NodeName,
		UserAgent: "mini-kubelet/" + config.AgentVersion(), Rotate: cfg.RotateCertificates,
		QPS: deref(cfg.KubeAPIQPS, 0), Burst: cfg.KubeAPIBurst, EventQPS: deref(cfg.EventRecordQPS, 0), EventBurst: cfg.EventBurst,
		ContentType: cfg.ContentType, HeartbeatTimeout: min(cfg.NodeStatusUpdateFrequency.Duration, leaseDuration(cfg)),
	})
	if err != nil {
		return nil, err
	}
	return &cluster{client: client, events: apievents.NewSink(client.Events, cfg.NodeName), store: store}, nil
}

func leaseDuration(cfg *config.Config) time.Duration {
	return time.Duration(cfg.NodeLeaseDurationSeconds) * time.Second
}

// sinks are those of the journal.
func (c *cluster) sinks() []journal.Sink {
	if c == nil {
		return []journal.Sink{journal.LogSink{}}
	}
	return []journal.Sink{journal.LogSink{}, c.events}
}

// nodeEvent records something about the node; nil where there is no API server.
func (c *cluster) nodeEvent() func(eventType, reason, message string) {
	if c == nil {
		return nil
	}
	return c.events.Node
}

// clusterParts is what the cluster's parts are made of.
type clusterParts struct {
	machine  *node
	runtime  *criclient.Client
	version  *cri.VersionResponse
	statuses *podstatus.Manager
	healthy  func() []string
	ready    func() bool // every source has spoken
	journal  *journal.Journal
}

// watchObjects makes the caches of what pods refer to. changed is told which pods
// an object's change concerns.
func (c *cluster) watchObjects(cfg *config.Config, changed func([]types.UID)) error {
	var err error
	if c.objects, err = podobjects.New(podobjects.Config{Client: c.client.CoreV1(), Strategy: cfg.ConfigMapAndSecretChangeDetectionStrategy, Changed: changed}); err != nil {
		return err
	}
	if c.tokens, err = podobjects.NewTokens(c.client.CoreV1(), clock.RealClock{}); err != nil {
		return err
	}
	if c.services, err = podobjects.NewServices(c.client.CoreV1()); err != nil {
		return err
	}
	if c.classes, err = podobjects.NewRuntimeClasses(c.client.NodeV1()); err != nil {
		return err
	}
	c.bundles, err = podobjects.NewTrustBundles(c.client)
	return err
}

// handler is runtime.Config's.
func (c *cluster) handler() func(context.Context, string) (string, error) {
	if c == nil {
		return nil
	}
	return c.classes.Handler
}

// serviceEnv is runtime.Config's. A static pod waits for no services: it may be the
// API server that has them.
func (c *cluster) serviceEnv() func(context.Context, *v1.Pod) (map[string]string, error) {
	if c == nil {
		return nil
	}
	return func(ctx context.Context, pod *v1.Pod) (map[string]string, error) {
		if !pods.IsStatic(pod) {
			if err := c.services.Wait(ctx); err != nil {
				return nil, err
			}
		}
		known, err := c.services.Of(criconfig.ServiceNamespaces(pod)...)
		return criconfig.ServiceEnv(pod, known), err
	}
}

// build makes the parts that report to the API server.
func (c *cluster) build(cfg *config.Config, p clusterParts) error {
	port := cfg.Port
	if !deref(cfg.EnableServer, true) {
		port = 0
	}
	var err error
	c.node, err = nodeobject.New(nodeobject.Config{
		Name: cfg.NodeName, Hostname: cfg.NodeName, Client: c.client, Heartbeat: c.client.Heartbeat,
		Runtime: criRuntime{p.runtime}, Machine: p.machine.machine, KubeletVersion: config.KubernetesVersion,
		RuntimeVersion: p.version.RuntimeName + "://" + p.version.RuntimeVersion, Port: port,
		IPs:    func() []string { return p.machine.HostIPs },
		Labels: cfg.NodeLabels, Taints: cfg.RegisterWithTaints, ProviderID: cfg.ProviderID, MaxImages: int(deref(cfg.NodeStatusMaxImages, 50)),
		Register: deref(cfg.RegisterNode, true), NodeFS: cfg.RootDir, ImageFS: imageFS(p.runtime), Eviction: p.machine.kept.Eviction,
		PressureHold: cfg.EvictionPressureTransitionPeriod.Duration,
		Period:       cfg.NodeStatusUpdateFrequency.Duration, Report: cfg.NodeStatusReportFrequency.Duration, LeaseDuration: leaseDuration(cfg),
		InUse: c.inUse, Healthy: p.healthy, Event: c.events.Node,
	})
	if err != nil {
		return err
	}
	p.machine.object = c.node.Node
	c.mirrors, err = mirror.New(mirror.Config{
		Client: c.client, Pods: c.store, Node: c.node.Node, Ready: p.ready,
		Failed: func(pod *v1.Pod, err error) {
			p.journal.Record(pod, "", v1.EventTypeWarning, "FailedMirrorPod", err.Error())
		},
	})
	if err != nil {
		return err
	}
	c.statuses, err = podstatus.NewWriter(podstatus.WriterConfig{Client: c.client, Statuses: p.statuses, Object: c.object})
	return err
}

func (c *cluster) parts() []part {
	if c == nil {
		return nil
	}
	return []part{
		{"API client", c.client.Run}, {"events", c.events.Run}, {"node", c.node.Run}, {"mirror pods", c.mirrors.Run},
		{"status writer", c.statuses.Run}, {"objects", c.objects.Run}, {"services", c.services.Run}, {"CSI drivers", c.drivers.Run}, {"claims", c.claims.Run},
		{"runtime classes", c.classes.Run}, {"trust bundles", c.bundles.Run},
	}
}

// object is the pod as the API server has it: of a static pod its mirror.
func (c *cluster) object(pod *v1.Pod) (*v1.Pod, bool) {
	if !pods.IsStatic(pod) {
		return c.store.Get(pod.UID)
	}
	m, ok := c.store.Mirror(pod)
	return m, ok && m.DeletionTimestamp == nil && mirror.Shows(m, pod)
}

// recall is worker.Config's: the status that the API server has of a pod.
func (c *cluster) recall() func(*v1.Pod) (v1.PodStatus, bool) {
	if c == nil {
		return nil
	}
	return func(pod *v1.Pod) (v1.PodStatus, bool) {
		o, ok := c.object(pod)
		if !ok || o.Status.Phase == "" {
			return v1.PodStatus{}, false
		}
		return *o.Status.DeepCopy(), true
	}
}

// mirrored is loop.Config's: a static pod or a mirror pod has changed.
func (c *cluster) mirrored() func(types.NamespacedName) {
	if c == nil {
		return nil
	}
	return func(name types.NamespacedName) {
		c.mirrors.Check(name)
		if pod, ok := c.store.ByName(name.Namespace, name.Name); ok {
			c.statuses.Check(pod.UID)
		}
	}
}

// criRuntime asks the container runtime what the node's status says of it.
type criRuntime struct{ client *criclient.Client }

func (r criRuntime) Status(ctx context.Context) (*cri.StatusResponse, error) {
	return r.client.RuntimeServiceClient.Status(ctx, &cri.StatusRequest{})
}

func (r criRuntime) Images(ctx context.Context) ([]*cri.Image, error) {
	list, err := r.client.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return list.Images, nil
}

// imageFS is a directory on the file system of the images, "" where the runtime
// does not say.
func imageFS(client *criclient.Client) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	info, err := client.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{})
	if err != nil || len(info.ImageFilesystems) == 0 {
		klog.InfoS("The runtime does not say where its images are; their file system counts as the pods'", "err", err)
		return ""
	}
	return strings.TrimSpace(info.ImageFilesystems[0].GetFsId().GetMountpoint())
}
