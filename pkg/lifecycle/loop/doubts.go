package loop

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// askTimeout bounds how long pods in doubt wait for the node's object.
const askTimeout = 10 * time.Second

// doubts are the pods that would be rejected because of the node's object, if what is known of it
// is still true: the watch of it and that of pods are not in step, so that a pod can be here before
// the label is that it was bound for. Such pods are judged again by an object that was read after
// they had come (as the kubelet does for labels). One question is under way at a time, for all
// pods that had come before it.
type doubts struct {
	pods   []types.UID // not asked about yet
	asked  []types.UID
	asking chan error // the result of the question under way; nil when there is none
}

// ask begins to bring the node's object up to date, if a pod waits for that.
func (l *Loop) ask(ctx context.Context) {
	d := &l.doubts
	if len(d.pods) == 0 || d.asking != nil {
		return
	}
	d.asked, d.pods = d.pods, nil
	answer := make(chan error, 1)
	d.asking = answer
	go func() {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		answer <- l.cfg.Refresh(ctx)
	}()
}

// forget takes a pod out that is removed: if it comes back, that is another question.
func (d *doubts) forget(uid types.UID) {
	d.pods, d.asked = without(d.pods, uid), without(d.asked, uid)
}

// answered judges the pods that were asked about, for good. One that has been removed or deleted
// meanwhile is none of them; one that has come back may still have the worker that takes leave of it.
func (l *Loop) answered(err error) {
	if err != nil {
		klog.ErrorS(err, "Could not bring the node's labels and taints up to date, pods are judged by those last seen")
	}
	var wanted []*v1.Pod
	for _, uid := range l.doubts.asked {
		switch pod, ok := l.cfg.Store.Get(uid); {
		case !ok:
		case pod.DeletionTimestamp != nil:
			l.returning = append(l.returning, uid) // the worker that was told may be that of its first life
		default:
			wanted = append(wanted, pod)
		}
	}
	l.doubts.asked, l.doubts.asking = nil, nil
	l.admit(wanted, l.reject)
}
