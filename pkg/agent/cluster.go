package agent

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission/podfields"
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
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/nodeip"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/readiness"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
)

// cluster is the world of a node that has an API server.
type cluster struct {
	client *credentials.Client
	events *apievents.Sink
	watch  *nodeobject.Watch
	inUse  *nodeobject.InUse
	// externalCloud says that a cloud controller sets the node's addresses.
	externalCloud bool
}

// newCluster makes the API clients and the parts that need nothing else.
func newCluster(cfg *config.Config, tools tools) (*cluster, error) {
	client, err := credentials.NewClient(credentials.Config{
		Kubeconfig: cfg.Kubeconfig, Bootstrap: cfg.BootstrapKubeconfig, CertDir: cfg.CertDir, NodeName: cfg.NodeName,
		UserAgent: "mini-kubelet/" + config.AgentVersion(), Rotate: cfg.RotateCertificates,
		QPS: ptr.Deref(cfg.KubeAPIQPS, 0), Burst: cfg.KubeAPIBurst, EventQPS: ptr.Deref(cfg.EventRecordQPS, 0), EventBurst: cfg.EventBurst,
		ContentType: cfg.ContentType, HeartbeatTimeout: min(cfg.NodeStatusUpdateFrequency.Duration, leaseDuration(cfg)),
		Metrics: tools.metrics, Traces: tools.traces,
	})
	if err != nil {
		return nil, err
	}
	watch := nodeobject.NewWatch(client, cfg.NodeName)
	return &cluster{
		client: client, events: apievents.NewSink(client.Events, cfg.NodeName, watch.UID), watch: watch, inUse: nodeobject.NewInUse(),
		externalCloud: cfg.CloudProvider == "external",
	}, nil
}

func leaseDuration(cfg *config.Config) time.Duration {
	return time.Duration(cfg.NodeLeaseDurationSeconds) * time.Second
}

func (c *cluster) sinks() []journal.Sink { return []journal.Sink{journal.LogSink{}, c.events} }

func (*cluster) eventsFile(*config.Config) string { return "" }

func (c *cluster) nodeEvent() journal.NodeEvent { return c.events.Node }

// tellTimeout is how long the agent stays to tell that it cannot start, as long as it waits for other
// answers. On a busy machine a new connection alone takes seconds.
const tellTimeout = 10 * time.Second

// setupFailed implements world. The agent ends with the error, and so does what writes events.
func (c *cluster) setupFailed(ctx context.Context, cause error) {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	if err := c.events.NodeNow(ctx, v1.EventTypeWarning, "KubeletSetupFailed", cause.Error()); err != nil {
		klog.V(2).InfoS("Could not tell the API server that the agent cannot start", "err", err)
	}
}

// nodeIPs implements world. With an external cloud provider the node's addresses are those that
// it has given the node, as soon as there are any.
func (c *cluster) nodeIPs(found *nodeip.Finder) func() []string {
	if !c.externalCloud {
		return found.IPs
	}
	return func() []string {
		if ips := nodeobject.HostIPs(c.watch.Node()); len(ips) > 0 {
			return ips
		}
		return found.IPs()
	}
}

// addresses are those that the serving certificate is for: the node object's where a cloud
// controller sets them.
func (c *cluster) addresses(h *host, hostname string) []v1.NodeAddress {
	if n := c.watch.Node(); c.externalCloud && n != nil && len(n.Status.Addresses) > 0 {
		return n.Status.Addresses
	}
	return nodeobject.Addresses(h.hostIPs(), hostname)
}

// supplies makes caches of what pods refer to, and the parts that report pods to the API
// server.
func (c *cluster) supplies(f *foundation, h *host) (*supplies, error) {
	api := c.client.CoreV1()
	objects, err := podobjects.New(podobjects.Config{Client: api, Strategy: f.cfg.ConfigMapAndSecretChangeDetectionStrategy, Changed: f.wakeups.For("an object has changed")})
	if err != nil {
		return nil, err
	}
	tokens, err := podobjects.NewTokens(api, clock.RealClock{})
	if err != nil {
		return nil, err
	}
	services, err := podobjects.NewServices(api)
	if err != nil {
		return nil, err
	}
	classes, err := podobjects.NewRuntimeClasses(c.client.NodeV1())
	if err != nil {
		return nil, err
	}
	bundles, err := podobjects.NewTrustBundles(c.client)
	if err != nil {
		return nil, err
	}
	pods, err := source.NewAPI(source.APIConfig{Client: c.client, NodeName: f.cfg.NodeName, Ready: c.watch.Synced(), Journal: f.journal})
	if err != nil {
		return nil, err
	}
	s := &supplies{
		objects: clusterObjects{objects, tokens, bundles}, tokens: accounts{tokens, api}, pods: pods,
		fields:       podfields.Features{Objects: true, Tokens: true, Claims: true, Bundles: true, Control: true, Classes: true},
		staticFields: podfields.Features{Classes: true},
		podCIDR:      c.watch.PodCIDR, podCIDRChanged: c.watch.PodCIDRChanged(), podCIDRFile: stateDir(f.cfg, "podcidr"),
		node: c.watch.Node, refresh: c.watch.Refresh, nodeLabels: func() map[string]string { return nodeLabels(h, c.watch.Node()) },
		handler: classes.Handler, serviceEnv: serviceEnv(services),
		parts: []part{
			{"API client", c.client.Run}, {"events", c.events.Run}, {"objects", objects.Run}, {"services", services.Run},
			{"runtime classes", classes.Run}, {"trust bundles", bundles.Run},
		},
	}
	if err := c.storage(f, tokens, s); err != nil {
		return nil, err
	}
	return s, c.statuses(f, s)
}

func nodeLabels(h *host, object *v1.Node) map[string]string {
	if object == nil {
		return h.labels
	}
	return object.Labels
}

// serviceEnv returns kuberuntime.Config's ServiceEnv. A static pod does not wait for
// services: it may be the API server that provides them.
func serviceEnv(services *podobjects.Services) func(context.Context, *v1.Pod) (map[string]string, error) {
	return func(ctx context.Context, pod *v1.Pod) (map[string]string, error) {
		if !pods.IsStatic(pod) {
			if err := services.Wait(ctx); err != nil {
				return nil, err
			}
		}
		known, err := services.Of(criconfig.ServiceNamespaces(pod)...)
		return criconfig.ServiceEnv(pod, known), err
	}
}

// storage adds claims and CSI drivers to the supplies.
func (c *cluster) storage(f *foundation, tokens *podobjects.Tokens, s *supplies) error {
	claims, err := podobjects.NewClaims(podobjects.ClaimsConfig{
		Client: c.client.CoreV1(), Changed: f.wakeups.For("a claim has changed"),
		Users: func(namespace, claim string) []types.UID {
			return volume.UsersOfClaim(f.store.Pods(), namespace, claim)
		},
	})
	if err != nil {
		return err
	}
	drivers, err := csi.New(csi.Config{
		Metrics: f.metrics,
		Root:    f.cfg.RootDir, NodeName: f.cfg.NodeName, Client: c.client, Node: c.watch.Node, Owns: f.owns,
		Token: tokens.TokenStatus, Secret: claims.Secret,
		Registered: func() { f.wakeups.For("a volume driver has registered")(volume.UsersOfDrivers(f.store.Pods())) },
		Left:       c.inUse.Keep, Use: c.inUse.Use, Release: c.inUse.Release, Changed: f.readinessChanged,
	})
	if err != nil {
		return err
	}
	s.claims, s.csi, s.storageProblems, s.storageSettled = claims, drivers, drivers.Problems, drivers.Settled()
	s.volumeEvent = func(pv *v1.PersistentVolume, eventType, reason, message string) {
		f.recent.Volume(pv, eventType, reason, message)
		c.events.Volume(pv, eventType, reason, message)
	}
	s.growth = &volume.Growth{Claims: claims, Normal: f.journal.Normal, Event: func(claim *v1.PersistentVolumeClaim, eventType, reason, message string) {
		f.recent.Claim(claim, eventType, reason, message)
		c.events.Claim(claim, eventType, reason, message)
	}}
	s.parts = append(s.parts, part{"CSI drivers", drivers.Run}, part{"claims", claims.Run})
	return nil
}

// statuses adds what shows the pods at the API server: mirror pods and statuses.
func (c *cluster) statuses(f *foundation, s *supplies) error {
	mirrors, err := mirror.New(mirror.Config{
		Client: c.client, Pods: f.store, Node: c.watch.Node, Ready: f.store.Complete,
		Failed: func(pod *v1.Pod, err error) { f.journal.Warn(pod, "FailedMirrorPod", err.Error()) },
	})
	if err != nil {
		return err
	}
	object := func(pod *v1.Pod) (*v1.Pod, bool) { return objectOf(f.store, pod) }
	writer, err := podstatus.NewWriter(podstatus.WriterConfig{Client: c.client, Statuses: f.statuses, Object: object, Metrics: f.metrics, Journal: f.journal})
	if err != nil {
		return err
	}
	s.recall = func(pod *v1.Pod) (v1.PodStatus, bool) { return podstatus.Recall(object(pod)) }
	s.mirrors = func(name types.NamespacedName) {
		mirrors.Check(name)
		if pod, ok := f.store.ByName(name.Namespace, name.Name); ok {
			writer.Check(pod.UID)
		}
	}
	s.parts = append(s.parts, part{"mirror pods", mirrors.Run}, part{"status writer", writer.Run})
	return nil
}

// objectOf returns the pod as the API server has it: for a static pod, its mirror.
func objectOf(store *podstore.Store, pod *v1.Pod) (*v1.Pod, bool) {
	if !pods.IsStatic(pod) {
		return store.Get(pod.UID)
	}
	m, ok := store.Mirror(pod)
	return m, ok && m.DeletionTimestamp == nil && mirror.Shows(m, pod)
}

// reporters makes the parts that register the node and report its status.
func (c *cluster) reporters(f *foundation, h *host, rt *runtimeStage, l *life) ([]part, error) {
	cfg := f.cfg
	port := cfg.Port
	if !ptr.Deref(cfg.EnableServer, true) {
		port = 0
	}
	node, err := nodeobject.New(nodeobject.Config{
		Name: cfg.NodeName, Hostname: cfg.NodeName, Watch: c.watch, Heartbeat: c.client.Heartbeat,
		Runtime: criRuntime{f.client, rt.readiness}, Machine: h.machine.Machine, KubeletVersion: config.KubernetesVersion,
		RuntimeVersion: f.engine.RuntimeName + "://" + f.engine.RuntimeVersion, Port: port,
		IPs:    h.hostIPs,
		Labels: cfg.NodeLabels, Taints: cfg.RegisterWithTaints, ProviderID: cfg.ProviderID, ExternalCloud: c.externalCloud, NodeIPSet: len(cfg.NodeIPs) > 0, GivenIPs: h.addresses.Given(), MaxImages: int(ptr.Deref(cfg.NodeStatusMaxImages, 50)),
		Register: ptr.Deref(cfg.RegisterNode, true), Devices: h.nodeDevices, Fresh: h.devices.Fresh(), Pressure: l.pressure.Conditions,
		Period: cfg.NodeStatusUpdateFrequency.Duration, Report: cfg.NodeStatusReportFrequency.Duration, LeaseDuration: leaseDuration(cfg),
		InUse: c.inUse, Changed: f.nodeChanged, Healthy: func() []string { return append(rt.problems(), l.problems()...) }, Settled: rt.storageSettled, Event: f.nodeEvent,
		Booted: bootTime(), Started: processStart(), Metrics: f.metrics,
	})
	if err != nil {
		return nil, err
	}
	return []part{{"node", node.Run}}, nil
}

// criRuntime asks the container runtime for what the node's status says about it.
type criRuntime struct {
	client    *criclient.Client
	readiness *readiness.Watch
}

// Status implements nodeobject.Runtime: what the node says of the network is what pods go by.
func (r criRuntime) Status(ctx context.Context) (*cri.StatusResponse, error) {
	return r.readiness.Look(ctx)
}

func (r criRuntime) Images(ctx context.Context) ([]*cri.Image, error) {
	list, err := r.client.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return list.Images, nil
}

// clusterObjects are the objects of the API server.
type clusterObjects struct {
	*podobjects.Cache
	*podobjects.Tokens
	bundles *podobjects.TrustBundles
}

// TrustAnchors implements volume.Objects.
func (o clusterObjects) TrustAnchors(ctx context.Context, p *v1.ClusterTrustBundleProjection) ([]byte, error) {
	return o.bundles.TrustAnchors(ctx, p)
}

// Unregister implements podObjects.
func (o clusterObjects) Unregister(uid types.UID) {
	o.Cache.Unregister(uid)
	o.Forget(uid)
}

// accounts returns service accounts and their tokens to credential providers.
type accounts struct {
	*podobjects.Tokens
	api core.CoreV1Interface
}

// ServiceAccount implements provider.Tokens.
func (a accounts) ServiceAccount(ctx context.Context, namespace, name string) (*v1.ServiceAccount, error) {
	return a.api.ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
}
