package why

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// evicted is about pods that were ended for others' sake.
func evicted(l *look) *Finding {
	if l.pod.Status.Phase != v1.PodFailed {
		return nil
	}
	f := &Finding{Cause: join(": ", l.pod.Status.Reason, l.pod.Status.Message)}
	switch l.pod.Status.Reason {
	case "Evicted":
		f.Fix, f.Where = "have it use less, or raise its limits", l.where("spec")
		switch m := l.pod.Status.Message; {
		case strings.Contains(m, "EmptyDir"):
			for i := range l.pod.Spec.Volumes {
				if v := &l.pod.Spec.Volumes[i]; v.EmptyDir != nil && mentions(m, v.Name) {
					field := fmt.Sprintf("spec.volumes[%d].emptyDir.sizeLimit", i)
					f.Fix, f.Where = "raise "+field+", or write less", l.where(field)
				}
			}
		case strings.Contains(m, "ephemeral"):
			f.Fix = "raise resources.limits.ephemeral-storage, or write less"
			for i := range l.pod.Spec.Containers {
				if mentions(m, l.pod.Spec.Containers[i].Name) {
					field := fmt.Sprintf("spec.containers[%d].resources.limits.ephemeral-storage", i)
					f.Fix, f.Where = "raise "+field+", or write less", l.where(field)
				}
			}
		case strings.Contains(m, "low on resource") || strings.Contains(m, "node had condition"):
			f.Fix = "free what the node is short of; request what the pod uses, or give it a higher priority"
		}
	case "Preempting":
		f.Fix = "give it a higher spec.priority, or the node more room"
	case "Terminated", "NodeShutdown":
		f.Fix = "wait: the machine was shut down"
	default:
		return nil
	}
	return f
}

func overDeadline(l *look) *Finding {
	if l.pod.Status.Reason != "DeadlineExceeded" {
		return nil
	}
	const field = "spec.activeDeadlineSeconds"
	return &Finding{
		Cause: fmt.Sprintf("DeadlineExceeded: it ran longer than the %d s that %s allows", ptr.Deref(l.pod.Spec.ActiveDeadlineSeconds, 0), field),
		Fix:   "raise " + field + ", or have it end sooner", Where: l.where(field),
	}
}

// lived says how long a run of a container lasted.
func lived(t *v1.ContainerStateTerminated) string {
	if t.StartedAt.IsZero() || t.FinishedAt.Before(&t.StartedAt) {
		return ""
	}
	d := t.FinishedAt.Sub(t.StartedAt.Time)
	if d < time.Second {
		return " in its first second" // the API's times are of seconds
	}
	return " after " + d.Round(time.Second).String()
}

// lives says how long each run of the pod's only container lasted, as far as is remembered; "" if that is less than two runs.
func (l *look) lives(name string) string {
	if len(l.pod.Spec.Containers)+len(l.pod.Spec.InitContainers) != 1 {
		return "" // deaths are told by IDs
	}
	var all []time.Duration
	var started time.Time
	for i := range l.events {
		switch e := &l.events[i]; {
		case e.Kind == journal.Said.String() && e.Reason == "Started" && e.Name == name:
			started = e.Time
		case e.Kind == journal.PodEvent.String() && e.Reason == "ContainerDied" && !started.IsZero():
			all = append(all, e.Time.Sub(started).Round(100*time.Millisecond))
			started = time.Time{}
		}
	}
	if len(all) < 2 {
		return ""
	}
	least, most := slices.Min(all), slices.Max(all)
	if least == most {
		return fmt.Sprintf(" after %s each time", most)
	}
	return fmt.Sprintf(" after %s to %s", least, most)
}

// signalled says by its exit code which signal ended a process; "" if none did.
func signalled(code int32) string {
	switch code {
	case 129:
		return "SIGHUP"
	case 130:
		return "SIGINT"
	case 134:
		return "SIGABRT"
	case 137:
		return "SIGKILL"
	case 139:
		return "SIGSEGV"
	case 143:
		return "SIGTERM"
	}
	return ""
}

// crashes is about a container that ends again and again.
func (l *look) crashes(f *Finding, s *v1.ContainerStatus, field string) *Finding {
	t := s.LastTerminationState.Terminated
	if t == nil {
		f.Fix, f.Where = "see `mini-kubelet logs -p "+l.pod.Name+" -c "+s.Name+"`", l.where(field)
		return f
	}
	l.ended(f, s.Name, field, t)
	times := ""
	if s.RestartCount > 0 {
		times = fmt.Sprintf(", %d times so far", s.RestartCount+1)
	}
	f.Cause = "CrashLoopBackOff: " + f.Cause + times
	f.Next = l.next(s.Name)
	return f
}

// ended words how a container's last run ended, and what mends that.
func (l *look) ended(f *Finding, name, field string, t *v1.ContainerStateTerminated) {
	title := l.title(name)
	switch {
	case l.killed(f, name, field, t):
		return
	case t.Reason == "ContainerCannotRun" || t.Reason == "StartError":
		l.creation(f, name, "", t.Message, field)
		return
	}
	f.Cause = fmt.Sprintf("%s ends with exit code %d%s", title, t.ExitCode, cmp.Or(l.lives(name), lived(t)))
	f.Evidence = l.lastLine(name)
	if f.Evidence == "" && t.Message != "" {
		f.Evidence = fmt.Sprintf("it says %q", t.Message)
	}
	where := field
	switch {
	case t.ExitCode == 0:
		f.Fix = "have it stay, or set spec.restartPolicy to OnFailure if it is to end"
		where = "spec.restartPolicy"
	case t.ExitCode == 126 || t.ExitCode == 127:
		where = field + ".command"
		f.Fix = "correct " + where + ": what it runs is " + map[int32]string{126: "not executable", 127: "not found"}[t.ExitCode]
	case signalled(t.ExitCode) != "":
		f.Cause += " (" + signalled(t.ExitCode) + ")"
		f.Fix = "mend the program of " + field
	default:
		f.Fix = "mend what its log says: `mini-kubelet logs " + l.pod.Name + " -c " + name + "`; its environment and command are in " + field
	}
	f.Where = l.where(where)
}

// killed tells who ended a container that a signal ended; false if nobody did.
func (l *look) killed(f *Finding, name, field string, t *v1.ContainerStateTerminated) bool {
	title := l.title(name)
	at := t.FinishedAt.Local().Format(time.TimeOnly)
	code := fmt.Sprintf("exit code %d", t.ExitCode)
	if t.Reason == "OOMKilled" {
		limit := field + ".resources.limits.memory"
		f.Where = l.where(limit)
		c, _ := pods.Container(l.pod, name)
		if c != nil && !c.Resources.Limits.Memory().IsZero() {
			f.Cause = fmt.Sprintf("%s was killed at %s for using all of its %s of memory (OOMKilled, %s)", title, at, c.Resources.Limits.Memory(), code)
			f.Fix = "raise " + limit + ", or have it use less"
			return true
		}
		f.Cause = fmt.Sprintf("%s was killed at %s because memory ran out, though it has no limit of its own (OOMKilled, %s)", title, at, code)
		f.Fix = "set " + limit + ", or give the pod or the node more memory"
		return true
	}
	kill := l.killing(name, t)
	if kill == nil {
		if t.ExitCode != 137 {
			return false
		}
		f.Fix = "find who: a `docker kill`, a kill -9 by root of the node, or a process of the container itself"
		f.Where = l.where(field)
		if l.in.Began.After(t.FinishedAt.Time) {
			f.Cause = fmt.Sprintf("%s was killed at %s (SIGKILL, %s), before all that is remembered: who did it is not known", title, at, code)
			f.Fix = "see the agent's log and the node's of that time"
			return true
		}
		f.Cause = fmt.Sprintf("%s was killed at %s by somebody else (SIGKILL, %s): neither the agent nor the kernel for want of memory did", title, at, code)
		return true
	}
	why := strings.TrimSuffix(kill.message, ", will be restarted")
	end := "ended with " + code
	if t.ExitCode == 137 {
		end = "did not end within its grace period and was killed (SIGKILL, " + code + ")"
	}
	f.Fix, f.Where = "mend what it says", l.where(field)
	for probe, verb := range map[string]string{"liveness": "livenessProbe", "startup": "startupProbe"} {
		if !strings.Contains(why, "failed "+probe+" probe") {
			continue
		}
		f.Cause = fmt.Sprintf("%s failed its %s probe at %s, was stopped by the agent and %s", title, probe, at, end)
		l.probe(f, name, field+"."+verb, probe)
		return true
	}
	switch {
	case strings.Contains(why, "PostStartHook"):
		f.Cause = fmt.Sprintf("the postStart hook of %s failed, so that the agent stopped it at %s: it %s", title, at, end)
		f.Fix, f.Where = "mend "+field+".lifecycle.postStart", l.where(field+".lifecycle.postStart")
		if e := l.lastOf(name, "FailedPostStartHook"); e != nil {
			f.Evidence = e.Detail
		}
	default:
		f.Cause = fmt.Sprintf("%s was stopped by the agent at %s (%s): it %s", title, at, why, end)
	}
	return true
}

// killing is that the agent stopped a container, and why.
type killing struct{ message string }

// killing returns why the agent stopped a container in the run that ended; nil if it did not, or that is not remembered.
func (l *look) killing(name string, t *v1.ContainerStateTerminated) *killing {
	// The API's times are cut to seconds.
	from, to := t.StartedAt.Time, t.FinishedAt.Add(2*time.Second)
	for i := len(l.events) - 1; i >= 0; i-- {
		e := &l.events[i]
		if e.Name != name || e.Time.Before(from) || e.Time.After(to) {
			continue
		}
		if e.Kind == journal.Said.String() && e.Reason == "Killing" {
			return &killing{e.Detail}
		}
	}
	return nil
}

// lastOf is last for one container.
func (l *look) lastOf(container string, reasons ...string) *journal.Shown {
	for i := len(l.events) - 1; i >= 0; i-- {
		if e := &l.events[i]; e.Kind == journal.Said.String() && e.Name == container && slices.Contains(reasons, e.Reason) {
			return e
		}
	}
	return nil
}

// containerEnded is about containers that have failed and are not started again.
func containerEnded(l *look) *Finding {
	var bad *v1.ContainerStatus
	all := l.statuses()
	for i := range all {
		t := all[i].State.Terminated
		if t == nil || bad != nil && bad.State.Terminated.ExitCode != 0 {
			continue
		}
		// One that has succeeded is only to blame where nothing else is.
		if t.ExitCode != 0 || bad == nil && l.pod.Status.Phase == v1.PodRunning && !strings.HasPrefix(l.containerField(all[i].Name), "spec.initContainers") {
			bad = &all[i]
		}
	}
	if bad == nil {
		if l.pod.Status.Phase != v1.PodFailed {
			return nil
		}
		return &Finding{Cause: join(": ", "Failed", l.pod.Status.Reason, l.pod.Status.Message), Fix: "see `mini-kubelet events " + l.pod.Name + "`", Where: l.where("spec")}
	}
	f := &Finding{}
	l.ended(f, bad.Name, l.containerField(bad.Name), bad.State.Terminated)
	again := l.restarts(bad)
	switch {
	case l.pod.Status.Phase == v1.PodFailed:
		f.Cause = "Failed: " + f.Cause
	case again:
		f.Cause = "not Ready: " + f.Cause
		f.Next = l.next(bad.Name)
		if f.Next == nil {
			f.AtOnce = "it is looked at again, in a moment"
		}
	default:
		f.Cause = "not Ready: " + f.Cause
	}
	if !again {
		f.Cause += fmt.Sprintf(", and spec.restartPolicy %s does not start it again", l.pod.Spec.RestartPolicy)
	}
	return f
}

// restarts reports whether a container that has ended is started again, by the pod's policy; one with rules of its own
// may be.
func (l *look) restarts(s *v1.ContainerStatus) bool {
	c, _ := pods.Container(l.pod, s.Name)
	if l.pod.Status.Phase == v1.PodFailed || c == nil {
		return false
	}
	policy := l.pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = v1.RestartPolicy(*c.RestartPolicy)
	}
	switch policy {
	case v1.RestartPolicyNever:
		return false
	case v1.RestartPolicyOnFailure:
		return s.State.Terminated.ExitCode != 0
	}
	return true
}

// leavingFor is how long after its grace period a pod that is being ended is not remarkable.
const leavingFor = 15 * time.Second

// leaving is about pods that should be gone and are not.
func leaving(l *look) *Finding {
	if l.pod.DeletionTimestamp == nil {
		return nil
	}
	f := &Finding{
		Cause: fmt.Sprintf("still being removed %s after its grace period", l.age(l.pod.DeletionTimestamp.Time)),
		Fix:   "see `mini-kubelet events " + l.pod.Name + "`: a process that does not end, or a volume that is busy",
	}
	if len(l.events) > 0 {
		f.Evidence = "last: " + words(&l.events[len(l.events)-1])
	}
	return f
}
