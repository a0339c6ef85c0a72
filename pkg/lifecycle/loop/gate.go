package loop

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/source"
)

// holdPod holds a turn about one pod at its gate, in teaching mode; the error is why ctx has ended. A turn that only looks which pods
// are due is not held: their workers' steps are.
func (l *Loop) holdPod(ctx context.Context, what string, uid types.UID) error {
	if l.cfg.Gate == nil {
		return nil
	}
	defer func() { l.alive.Store(l.cfg.Clock.Now().UnixNano()) }()
	return l.cfg.Gate.Wait(ctx, gate.Step{Place: gate.Loop, Pod: uid, What: what})
}

// holdChange is holdPod for a change of what is wanted. One without pods tells no worker anything.
func (l *Loop) holdChange(ctx context.Context, c source.Change) error {
	if l.cfg.Gate == nil || len(c.Pods) == 0 {
		return nil
	}
	return l.holdPod(ctx, described(c), c.Pods[0].UID)
}

// described puts a change into words.
func described(c source.Change) string {
	text := fmt.Sprintf("%s %s", c.Op, c.Pods[0].Name)
	if more := len(c.Pods) - 1; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
