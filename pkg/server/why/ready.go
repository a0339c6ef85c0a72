package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// notReady is about containers that run and whose probes do not succeed.
func notReady(l *look) *Finding {
	all := l.statuses()
	for i := range all {
		s := &all[i]
		c, _ := pods.Container(l.pod, s.Name)
		if s.State.Running == nil || c == nil {
			continue
		}
		field, kind := l.containerField(s.Name), ""
		switch {
		case c.StartupProbe != nil && s.Started != nil && !*s.Started:
			field, kind = field+".startupProbe", "startup"
		case c.ReadinessProbe != nil && !s.Ready:
			field, kind = field+".readinessProbe", "readiness"
		default:
			continue
		}
		since := s.State.Running.StartedAt.Time
		f := &Finding{Cause: fmt.Sprintf("not Ready for %s: %s's %s probe does not succeed", l.age(l.unreadySince(since)), l.title(s.Name), kind)}
		l.probe(f, s.Name, field, kind)
		return f
	}
	return nil
}

// unreadySince is when the pod stopped being Ready; since where its condition does not tell.
func (l *look) unreadySince(since time.Time) time.Time {
	for _, c := range l.pod.Status.Conditions {
		if c.Type == v1.PodReady && c.Status != v1.ConditionTrue && c.LastTransitionTime.After(since) {
			return c.LastTransitionTime.Time
		}
	}
	return since
}

// probe adds to a finding what a probe's last failure was, what the pod listens to, and what mends that.
func (l *look) probe(f *Finding, container, field, kind string) {
	c, _ := pods.Container(l.pod, container)
	if c == nil {
		return
	}
	p := map[string]*v1.Probe{"liveness": c.LivenessProbe, "startup": c.StartupProbe, "readiness": c.ReadinessProbe}[kind]
	if p == nil {
		return
	}
	said := ""
	for i := len(l.events) - 1; i >= 0 && said == ""; i-- {
		e := &l.events[i]
		if e.Kind == journal.Said.String() && e.Name == container && e.Reason == "Unhealthy" && strings.HasPrefix(strings.ToLower(e.Detail), kind) {
			said = strings.TrimSpace(after(e.Detail, " probe "))
		}
	}
	f.Evidence, f.Fix, f.Where = said, "mend what "+field+" asks, or correct it", l.where(field)
	switch said {
	case "":
		f.Evidence = "it has not failed as far as is remembered"
	case "failed:":
		f.Evidence = "it fails and says nothing"
	}
	port, below := probedPort(p, c)
	field += below
	if port == 0 || !unreachable(said) || strings.HasSuffix(below, ".exec") {
		if below != "" {
			f.Where, f.Fix = l.where(field), "mend what "+field+" asks, or correct it"
		}
		return
	}
	f.Where = l.where(field)
	f.Fix = "correct " + field + ", or have the container listen on it"
	if host := probedHost(p); host != "" {
		return // it may be another machine
	}
	listening, known := l.in.Evidence.Listening(l.ctx, l.pod)
	if !known {
		return
	}
	l.compare(f, port, field, listening)
}

// compare says where the pod listens, beside the port that is asked.
func (l *look) compare(f *Finding, port int32, field string, listening []Listener) {
	loopback := func(s Listener) bool { return strings.HasPrefix(s.Address, "127.") || s.Address == "::1" }
	if i := slices.IndexFunc(listening, func(s Listener) bool { return s.Port == port }); i >= 0 {
		if loopback(listening[i]) && !slices.ContainsFunc(listening, func(s Listener) bool { return s.Port == port && !loopback(s) }) {
			f.Evidence = fmt.Sprintf("port %d is refused, since the pod listens on it at %s only", port, listening[i].Address)
			f.Fix = "have the container listen at 0.0.0.0"
		}
		return
	}
	if l.pod.Spec.HostNetwork {
		f.Evidence = join("; ", f.Evidence, fmt.Sprintf("nothing on the node listens on port %d", port))
		return
	}
	if len(listening) == 0 {
		f.Evidence = fmt.Sprintf("it asks port %d, and nothing in the pod listens on any", port)
		return
	}
	var places []string
	for _, s := range listening[:min(len(listening), mostListed)] {
		places = append(places, fmt.Sprintf("%s:%d", s.Address, s.Port))
	}
	f.Evidence = fmt.Sprintf("it asks port %d, and the pod listens on %s only", port, strings.Join(places, ", "))
	f.Fix = fmt.Sprintf("set %s to %d, or have the container listen on %d", field, listening[0].Port, port)
}

// mostListed is how many sockets a sentence names.
const mostListed = 5

// unreachable reports whether a probe's failure is that nobody answered at all.
func unreachable(said string) bool {
	said = strings.ToLower(said)
	return said == "" || strings.Contains(said, "refused") || strings.Contains(said, "timeout") || strings.Contains(said, "deadline exceeded") || strings.Contains(said, "failed to connect")
}

// probedPort returns the port that a probe asks, and the field below the probe that is to blame. 0: it asks none.
func probedPort(p *v1.Probe, c *v1.Container) (port int32, below string) {
	named := func(n intstr.IntOrString) int32 {
		if n.Type == intstr.Int {
			return n.IntVal
		}
		for _, p := range c.Ports {
			if p.Name == n.StrVal {
				return p.ContainerPort
			}
		}
		return 0
	}
	switch {
	case p.HTTPGet != nil:
		return named(p.HTTPGet.Port), ".httpGet.port"
	case p.TCPSocket != nil:
		return named(p.TCPSocket.Port), ".tcpSocket.port"
	case p.GRPC != nil:
		return p.GRPC.Port, ".grpc.port"
	case p.Exec != nil:
		return 0, ".exec"
	}
	return 0, ""
}

func probedHost(p *v1.Probe) string {
	switch {
	case p.HTTPGet != nil:
		return p.HTTPGet.Host
	case p.TCPSocket != nil:
		return p.TCPSocket.Host
	}
	return ""
}

// gated is about conditions that somebody else has to set.
func gated(l *look) *Finding {
	if l.pod.Status.Phase != v1.PodRunning {
		return nil
	}
	for i, g := range l.pod.Spec.ReadinessGates {
		if isTrue(l.pod, g.ConditionType) {
			continue
		}
		field := fmt.Sprintf("spec.readinessGates[%d]", i)
		return &Finding{
			Cause: fmt.Sprintf("not Ready: %s asks for the condition %s, which nobody has set to True", field, g.ConditionType),
			Fix:   "mend the controller that sets it, or remove " + field, Where: l.where(field),
		}
	}
	return nil
}

// starting is about all else that is not Ready: what is being done is said.
func starting(l *look) *Finding {
	for _, s := range l.pod.Status.InitContainerStatuses {
		c, _ := pods.Container(l.pod, s.Name)
		if s.State.Running == nil || c == nil || pods.IsSidecar(c) {
			continue
		}
		return &Finding{
			Cause: fmt.Sprintf("%s: init container %s has been running for %s, and the others wait for its end", l.phase(), s.Name, l.age(s.State.Running.StartedAt.Time)), Evidence: l.lastLine(s.Name),
			Fix: "wait, or mend what it waits for", Where: l.where(l.containerField(s.Name)),
		}
	}
	f := &Finding{Cause: l.phase() + ": is being started", Fix: "wait; `mini-kubelet events " + l.pod.Name + "` tells more"}
	if l.pod.Status.Phase == v1.PodRunning {
		f.Cause = "not Ready"
		for _, c := range l.pod.Status.Conditions {
			if c.Type == v1.PodReady && c.Status != v1.ConditionTrue {
				f.Cause = join(": ", "not Ready", c.Reason, c.Message)
			}
		}
	}
	if len(l.events) > 0 {
		f.Evidence = "last: " + words(&l.events[len(l.events)-1])
	}
	return f
}

func (l *look) phase() string {
	if l.pod.Status.Phase == "" {
		return string(v1.PodPending)
	}
	return string(l.pod.Status.Phase)
}

// words says what a step was.
func words(e *journal.Shown) string {
	if e.Kind == journal.Said.String() {
		return join(" ", e.Name, e.Reason+":", e.Detail)
	}
	text := join(" ", e.Kind, e.Name, e.Reason, e.Error)
	if e.TookNS == int64(journal.UnderWay) {
		text += " (under way)"
	}
	return text
}
