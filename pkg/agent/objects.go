package agent

import (
	"context"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/podobjects"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/volume"
)

// podObjects is where pods' ConfigMaps, Secrets and tokens come from: the manifests
// on a standalone node, the API server in a cluster.
type podObjects interface {
	volume.Objects
	// Register has the pod synced when an object that it refers to changes, until
	// Unregister.
	Register(pod *v1.Pod)
	Unregister(uid types.UID)
}

// clusterObjects are those of the API server.
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

// volumesOf are the volumes of pods whose objects are followed from before they are
// set up until they are torn down.
type volumesOf struct {
	worker.Volumes
	objects podObjects
}

// SetUp implements worker.Volumes.
func (v volumesOf) SetUp(ctx context.Context, pod *v1.Pod) error {
	v.objects.Register(pod)
	return v.Volumes.SetUp(ctx, pod)
}

// TearDown implements worker.Volumes.
func (v volumesOf) TearDown(ctx context.Context, uid types.UID) error {
	if err := v.Volumes.TearDown(ctx, uid); err != nil {
		return err
	}
	v.objects.Unregister(uid)
	return nil
}
