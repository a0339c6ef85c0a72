package agent

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission/resize"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
)

// newAllocations keeps what the pods of the API server have been given. A resize
// that waits for room is tried again when a pod has gone.
func newAllocations(cfg *config.Config, n *node, store *podstore.Store, workers func() *worker.Workers, sync func([]types.UID)) (*resize.Store, error) {
	return resize.New(resize.Config{
		Dir:         stateDir(cfg, "allocated"),
		Others:      func() []*v1.Pod { return podsBefore(worker.Terminated, store, workers()) },
		Allocatable: func() v1.ResourceList { return n.Allocatable },
		StaticCPUs:  n.cpus != nil,
		Freed:       sync,
	})
}
