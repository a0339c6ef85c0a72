package worker

import (
	"encoding/json"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/admission/resize"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/kuberuntime"
)

// Allocations decides which of the resources that a pod asks for it has.
type Allocations interface {
	// Allocate returns the pod with the resources that it has beside the others. pending says
	// why these are not what it asks for; changed reports whether they are new.
	Allocate(pod *v1.Pod, others func() []*v1.Pod) (has *v1.Pod, pending *resize.Pending, changed bool, err error)
}

// allocate replaces the step's pod, as it is wanted, with the same pod as it has
// been given resources: everything that follows uses these.
func (w *Workers) allocate(st step) (step, error) {
	if w.cfg.Allocations == nil {
		return st, nil // it has what it asks for
	}
	pod, pending, changed, err := w.cfg.Allocations.Allocate(st.pod, func() []*v1.Pod {
		var promised []*v1.Pod // asked first: one that begins meanwhile is among both
		if w.cfg.Promised != nil {
			promised = w.cfg.Promised()
		}
		return together(w.Pods(Terminated), promised)
	})
	if err != nil {
		return st, fmt.Errorf("allocate the resources of %s: %w", st.ref(), err)
	}
	before := st.resize
	st.resize.Pending, st.resize.PendingMessage = "", ""
	if pending != nil {
		st.resize.Pending, st.resize.PendingMessage = pending.Reason, pending.Message
		if st.resize.Pending != before.Pending || st.resize.PendingMessage != before.PendingMessage {
			w.cfg.Journal.Container(st.pod, "").By(st.span).Warn("Resize"+pending.Reason, resizeMessage("Pod resize "+pending.Reason, st.pod, pending.Message))
		}
	}
	if changed {
		st.resize.InProgress, st.resize.Error = true, ""
		w.cfg.Journal.Container(st.pod, "").By(st.span).Normal("ResizeStarted", resizeMessage("Pod resize started", pod, ""))
	}
	st.pod = pod
	return st, nil
}

// together returns the pods that use the node and those that were promised room, each once.
func together(using, promised []*v1.Pod) []*v1.Pod {
	for _, pod := range promised {
		if !slices.ContainsFunc(using, func(p *v1.Pod) bool { return p.UID == pod.UID }) {
			using = append(using, pod)
		}
	}
	return using
}

// resized returns the progress of the resize after a pass of the runtime.
func (w *Workers) resized(st step, r kuberuntime.SyncResult, settled error) podstatus.Resize {
	now := st.resize
	now.Error = r.ResizeError
	if now.Error == "" && settled != nil {
		now.Error = settled.Error()
	}
	switch {
	case now.Error != "":
		now.InProgress = true
		if now.Error != st.resize.Error {
			w.cfg.Journal.Container(st.pod, "").By(st.span).Warn("ResizeError", resizeMessage("Pod resize error", st.pod, now.Error))
		}
	case r.Err == nil:
		now.InProgress = false
		if st.resize.InProgress {
			w.cfg.Journal.Container(st.pod, "").By(st.span).Normal("ResizeCompleted", resizeMessage("Pod resize completed", st.pod, ""))
		}
	}
	return now
}

// resizeMessage returns the message of a resize event: the resources of each
// container.
func resizeMessage(what string, pod *v1.Pod, problem string) string {
	type resources struct {
		Name      string                  `json:"name"`
		Resources v1.ResourceRequirements `json:"resources"`
	}
	var summary struct {
		Init       []resources `json:"initContainers,omitempty"`
		Containers []resources `json:"containers,omitempty"`
		Generation int64       `json:"generation"`
		Error      string      `json:"error,omitempty"`
	}
	summary.Generation, summary.Error = pod.Generation, problem
	for _, c := range pod.Spec.InitContainers {
		summary.Init = append(summary.Init, resources{c.Name, c.Resources})
	}
	for _, c := range pod.Spec.Containers {
		summary.Containers = append(summary.Containers, resources{c.Name, c.Resources})
	}
	text, err := json.Marshal(summary)
	if err != nil {
		return what
	}
	return what + ": " + string(text)
}
