package agent

import (
	"context"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/loop"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstore"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

// view shows the pods of this node with their statuses, as /pods does.
type view struct {
	store    *podstore.Store
	statuses *podstatus.Manager
}

// Pods returns copies of the desired pods with their last statuses.
func (v view) Pods() []*v1.Pod {
	pods := v.store.Pods()
	for i, p := range pods {
		shown := *p // spec and metadata are shared and only read
		if s, ok := v.statuses.Get(p.UID); ok {
			shown.Status = s
		} else {
			shown.Status = v1.PodStatus{Phase: v1.PodPending}
		}
		pods[i] = &shown
	}
	return pods
}

// rejected is the status of a pod that was not admitted to the node.
func rejected(pod *v1.Pod, r loop.Rejection) v1.PodStatus {
	now := metav1.Time{Time: time.Now().Truncate(time.Second)}
	return v1.PodStatus{
		ObservedGeneration: pod.Generation, Phase: v1.PodFailed, Reason: r.Reason,
		Message: "Pod was rejected: " + r.Message, StartTime: &now,
	}
}

// stateDir is where a part of the agent keeps state of its own.
func stateDir(cfg *config.Config, name string) string {
	return filepath.Join(cfg.RootDir, "mini-kubelet", name)
}

// garbageCollector removes dead containers in the background.
type garbageCollector struct {
	runtime *kuberuntime.Manager
	policy  kuberuntime.Policy
	wanted  func(types.UID) bool
	event   func(eventType, reason, message string) // of the node; nil: nobody is told
}

// gcPeriod is the kubelet's.
const gcPeriod = time.Minute

func (g garbageCollector) run(ctx context.Context) error {
	tick := time.NewTicker(gcPeriod)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := g.runtime.GarbageCollect(ctx, g.policy, g.wanted)
		if err != nil && ctx.Err() == nil && g.event != nil {
			g.event(v1.EventTypeWarning, "ContainerGCFailed", err.Error())
		}
		if err != nil && !failing && ctx.Err() == nil {
			klog.ErrorS(err, "Container garbage collection failed, trying again each minute")
		}
		failing = err != nil
	}
}
