package loop

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/podstatus"
	"github.com/mini-kubelet/mini-kubelet/pkg/lifecycle/worker"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Preemption makes room for critical pods.
type Preemption interface {
	// Preempt returns the updates that end pods so that a critical one has room; others use the node and
	// are not ending yet, waiting were promised room before. Without updates it has room as soon as
	// what is ending has ended. The error says that no room can be made.
	Preempt(pod *v1.Pod, others, waiting []*v1.Pod) ([]worker.Update, error)
}

// waiter is a critical pod that waits for room.
type waiter struct {
	uid types.UID
	// promised is true while others end for it: what they leave is not given to anybody
	// else.
	promised bool
}

// noReason is the kubelet's for a critical pod for which no room can be made.
const noReason = "UnexpectedAdmissionError"

// makeRoom is called for a pod that is rejected beside others. It reports whether the pod waits: a critical one for which
// others end, or a static one for which none can, since nobody would bring it again. The rejection of
// any other is returned as it is to be told.
func (l *Loop) makeRoom(pod *v1.Pod, active []*v1.Pod, r pods.Rejection) (waits bool, told pods.Rejection) {
	if len(r.Short) == 0 || !pods.IsCritical(pod) || l.cfg.Preemption == nil {
		return false, r
	}
	staying := slices.DeleteFunc(slices.Clone(active), func(p *v1.Pod) bool {
		phase, ok := l.cfg.Workers.Known(p.UID)
		return !ok || phase >= worker.Terminating
	})
	updates, err := l.cfg.Preemption.Preempt(pod, staying, l.promised(pod.UID))
	switch {
	case err != nil && !pods.IsStatic(pod): // in the kubelet's words
		r.Reason = noReason
		r.Message = "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: " + err.Error()
		return false, r
	case err != nil:
		r.Message += ", and " + err.Error()
	}
	l.wait(pod, r, err == nil) // what is promised is kept before it is free
	for _, u := range updates {
		l.preempt(u)
	}
	return true, r
}

// preempt ends a pod for a critical one. A static pod then waits for room itself. One that has not begun, since its
// first life or another pod of its name is not over, is judged anew after that: an order to end would only reach what
// is ending.
func (l *Loop) preempt(u worker.Update) {
	if phase, _ := l.cfg.Workers.Known(u.Pod.UID); phase == worker.Waiting {
		l.judgeOnceGone(u.Pod)
		return
	}
	l.update(u)
	if pods.ComesBack(u.Pod) {
		l.stopping[u.Pod.UID] = true
	}
}

// wait notes and tells that a pod waits for room.
func (l *Loop) wait(pod *v1.Pod, r pods.Rejection, promised bool) {
	switch i := slices.IndexFunc(l.waiting, func(w waiter) bool { return w.uid == pod.UID }); {
	case i < 0:
		l.waiting = append(l.waiting, waiter{pod.UID, promised})
	case l.waiting[i].promised == promised:
		return // told; what exactly is missing may change with every pod that comes and goes
	default:
		l.waiting[i].promised = promised
	}
	l.promise()
	klog.InfoS("Critical pod waits for room", "pod", klog.KObj(pod), "podUID", pod.UID, "reason", r.Reason, "message", r.Message, "madeByPreemption", promised)
	if !promised {
		l.cfg.Journal.Warn(pod, r.Reason, r.Message)
	}
	// A worker that takes leave of its first life says how that ends.
	if _, leaving := l.cfg.Workers.Known(pod.UID); !leaving {
		l.cfg.Statuses.Set(pod, podstatus.Waiting(pod, r.Message))
	}
}

// promised returns the pods that were promised room, those before the pod if it is one of them.
func (l *Loop) promised(before types.UID) (list []*v1.Pod) {
	for _, w := range l.waiting {
		if w.uid == before && w.promised {
			break
		}
		if pod, ok := l.cfg.Store.Get(w.uid); ok && w.promised {
			list = append(list, pod)
		}
	}
	return list
}

// promise tells those who give room to others than new pods, for what is to be kept.
func (l *Loop) promise() {
	var uids []types.UID
	for _, w := range l.waiting {
		if w.promised {
			uids = append(uids, w.uid)
		}
	}
	l.cfg.Store.Promise(uids)
}

// forgetWaiting takes a pod out that waits no more.
func (l *Loop) forgetWaiting(uid types.UID) {
	n := len(l.waiting)
	if l.waiting = slices.DeleteFunc(l.waiting, func(w waiter) bool { return w.uid == uid }); len(l.waiting) < n {
		l.promise()
	}
}

// judgeWaiting judges the pods that wait for room again.
func (l *Loop) judgeWaiting() {
	var wanted []*v1.Pod
	for _, w := range l.waiting {
		if pod, ok := l.cfg.Store.Get(w.uid); ok {
			wanted = append(wanted, pod)
		}
	}
	if len(wanted) > 0 {
		l.add(wanted)
	}
}
