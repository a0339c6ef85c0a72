package agent

import (
	"context"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission/podfields"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/nodeip"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/provider"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
)

// world is what surrounds the node: nothing, or a cluster.
type world interface {
	// sinks returns the journal's sinks, beside the one that remembers.
	sinks() []journal.Sink
	// eventsFile returns where the events are kept over restarts; "": nowhere, since the world keeps them.
	eventsFile(*config.Config) string
	// nodeEvent returns the function that tells the world of an event about the node; nil if
	// nobody listens.
	nodeEvent() journal.NodeEvent
	// setupFailed tells that the agent cannot start on this node, if anybody listens.
	setupFailed(context.Context, error)
	// nodeIPs returns where the node's addresses come from, primary first.
	nodeIPs(*nodeip.Finder) func() []string
	// supplies makes what pods take from the world.
	supplies(*foundation, *host) (*supplies, error)
	// reporters makes the parts that report the node, once its state is known.
	reporters(*foundation, *host, *runtimeStage, *life) ([]part, error)
	// kubeletAPI makes what the kubelet API's port is served from, and the parts that it needs; nil
	// if it is not served.
	kubeletAPI(*foundation, *host, server.Content) (*server.APIConfig, []part, error)
}

// newWorld decides by whether the configuration names an API server.
func newWorld(cfg *config.Config, tools tools) (world, error) {
	if cfg.Standalone() {
		return standalone{}, nil
	}
	return newCluster(cfg, tools)
}

// podObjects is where pods' ConfigMaps, Secrets and tokens come from: the manifests
// on a standalone node, the API server in a cluster.
type podObjects interface {
	volume.Objects
	// Register makes a change of an object that the pod refers to sync the pod,
	// until Unregister.
	Register(pod *v1.Pod)
	Unregister(uid types.UID)
}

// supplies is what pods take from the world. What one of the two worlds lacks is nil.
type supplies struct {
	objects podObjects
	claims  volume.Claims
	// unsuitable says why an unbound claim has no volume.
	unsuitable func(namespace, name string) (wants string, volumes []string, found bool)
	csi        *csi.Manager
	growth     *volume.Growth
	// volumeEvent records something about a persistent volume.
	volumeEvent func(pv *v1.PersistentVolume, eventType, reason, message string)
	// storageProblems returns what of the storage keeps the node from being ready; nil: nothing ever does.
	// storageSettled is closed once it knows.
	storageProblems func() []string
	storageSettled  <-chan struct{}
	tokens          provider.Tokens // of service accounts, for credential plug-ins

	// fields and staticFields say which of the things that some fields of a pod
	// need the world has.
	fields, staticFields podfields.Features
	// podCIDR returns the addresses for pods, "" while they are not known, and whether the node is. podCIDRChanged
	// has a token when they may have changed, and podCIDRFile, unless "", keeps the last for the next start.
	podCIDR        func() (cidr string, node bool)
	podCIDRChanged <-chan struct{}
	podCIDRFile    string
	// node returns the node as the API server has it, nil when that is not known.
	node func() *v1.Node
	// refresh makes node return the object as the API server has it now, or newer.
	refresh func(context.Context) error
	// nodeLabels returns what the node affinity of volumes is compared with.
	nodeLabels func() map[string]string

	handler    func(ctx context.Context, class string) (string, error)           // of a RuntimeClass
	serviceEnv func(ctx context.Context, pod *v1.Pod) (map[string]string, error) // variables of services
	recall     func(*v1.Pod) (v1.PodStatus, bool)                                // the status at the API server
	mirrors    func(types.NamespacedName)                                        // a static or a mirror pod has changed
	pods       *source.APISource                                                 // the pods that are bound to this node
	manifests  func(objects []metav1.Object, complete bool)                      // takes the objects that came with static pods

	parts []part
}
