// Package why says in one sentence a pod why it does not run as wanted: cause, evidence, what mends it, where in which
// manifest, and when it is tried next.
//
//	pods, problems of manifests, journal ──▶ ranked rules ──▶ one Finding a pod ──▶ sentence
//	                                            │ asks only what it needs
//	                                            ▼
//	                              Evidence: log lines, sockets, keys, volumes, lines of manifests
//
// The rules are pure: what costs something is behind Evidence, and is only asked for by the rule that applies.
package why

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Problem is why a document of a manifest is not used.
type Problem struct {
	Kind           string               // of the document; "": not known
	Name           types.NamespacedName // as the manifest has it
	File           string               // path or URL
	Document       int                  // in the file, counted from 1; 0: it is about the file
	Line           int                  // 0: not known
	Field, Message string               // Field may be ""
}

// Inputs are what is known of a node's pods. Nothing in them is changed; Evidence is required.
type Inputs struct {
	Now      time.Time
	Node     string    // its name
	Pods     []*v1.Pod // with their statuses
	Problems []Problem
	// Events are a pod's, in the order in which they happened; nil if none are remembered. Began is since when
	// all would be.
	Events   func(types.UID) []journal.Shown
	Began    time.Time
	Labels   map[string]string // the node's
	Evidence Evidence
	// Namespace and Name are of whom alone something is to be said; "": any. A static pod is also known by the name in its
	// manifest.
	Namespace, Only string
}

// asked reports whether something is to be said of a name. of is the pod's, or that in a manifest.
func (in *Inputs) asked(of types.NamespacedName) bool {
	return (in.Namespace == "" || in.Namespace == of.Namespace) && (in.Only == "" || in.Only == of.Name || in.Only+"-"+strings.ToLower(in.Node) == of.Name)
}

// Evidence finds out what costs something. Whatever is not known is "", nil, false or zero. What it returns is bounded;
// the rules escape it.
type Evidence interface {
	// Where returns "file:line" of an object's field, or of the deepest part of its path that the manifest has.
	Where(kind string, name types.NamespacedName, field string) string
	// LastLine returns the last line that a container has written, of its current run or its previous.
	LastLine(ctx context.Context, pod *v1.Pod, container string) string
	// Listening returns where processes of the pod's network namespace accept TCP connections.
	Listening(ctx context.Context, pod *v1.Pod) (all []Listener, known bool)
	// Holder returns the process of the node that accepts TCP connections at a port of one of its addresses, or of any for "".
	Holder(ctx context.Context, ip string, port int32) (p Process, known bool)
	// Keys returns the keys of a ConfigMap or Secret, sorted; false if there is no such object.
	Keys(ctx context.Context, kind, namespace, name string) (keys []string, found bool)
	// Unsuitable returns what an unbound claim asks for, and why it cannot have each volume.
	Unsuitable(namespace, name string) (wants string, volumes []string, found bool)
	// NextTry returns when a container that waits, or with "" the sandbox, is tried again.
	NextTry(pod types.UID, container string) time.Time
}

// Listener is a TCP socket that accepts connections.
type Listener struct {
	Address string // "*" for all
	Port    int32
}

// Process is a process of the node.
type Process struct {
	PID  int
	Name string // as it calls itself
}

// Finding is why one pod does not run as wanted.
type Finding struct {
	Kind      string    `json:"kind"` // Pod; or what a document of a manifest would have been, "" if it cannot be told
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name,omitempty"` // of the pod as the API has it; of what is no pod as its manifest has it
	UID       types.UID `json:"uid,omitempty"`

	Cause    string     `json:"cause"`
	Evidence string     `json:"evidence,omitempty"`
	Fix      string     `json:"fix"`
	Where    string     `json:"where,omitempty"`  // "file:line" of what to edit
	Next     *time.Time `json:"next,omitempty"`   // when it is tried again
	AtOnce   string     `json:"atOnce,omitempty"` // what has it tried before
}

// Report is the answer about the pods of a node.
type Report struct {
	Findings []Finding `json:"findings"`
	Healthy  int       `json:"healthy"` // pods of which nothing is to be said
}

// Sentence says a finding in words. It is one line.
func (f *Finding) Sentence(now time.Time) string {
	var b strings.Builder
	b.WriteString(f.Cause)
	if f.Evidence != "" {
		b.WriteString("; " + f.Evidence)
	}
	end(&b)
	b.WriteString(" → " + f.Fix)
	if f.Where != "" {
		b.WriteString(" (" + short(f.Where) + ")")
	}
	end(&b)
	switch left := f.next(now); {
	case left != "" && f.AtOnce != "":
		fmt.Fprintf(&b, " Next try %s; at once when %s.", left, f.AtOnce)
	case left != "":
		fmt.Fprintf(&b, " Next try %s.", left)
	case f.AtOnce != "":
		fmt.Fprintf(&b, " Next try when %s.", f.AtOnce)
	}
	return b.String()
}

// end ends a sentence that has not ended.
func end(b *strings.Builder) {
	if s := b.String(); !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "!") {
		b.WriteByte('.')
	}
}

func (f *Finding) next(now time.Time) string {
	switch {
	case f.Next == nil:
		return ""
	case !f.Next.After(now.Add(time.Second)):
		return "now"
	}
	return "in " + f.Next.Sub(now).Round(time.Second).String()
}

// short is a place without the directory.
func short(where string) string {
	if strings.Contains(where, "://") {
		return where
	}
	return filepath.Base(where)
}

// look is one pod that is looked at.
type look struct {
	ctx    context.Context
	in     *Inputs
	pod    *v1.Pod
	events []journal.Shown
}

// rules are asked in this order; the first that knows something is right.
var rules = []func(*look) *Finding{
	rejected, noRoom, evicted, overDeadline, nameTaken, networkAway, notMounted, noSandbox, containerWaits, containerEnded, leaving, notReady, gated, pulling, starting,
}

// Why returns what is to be said of each pod that does not run as wanted: exactly one finding each, ordered by namespace and
// name. Of two causes it is the one that must be mended first.
func Why(ctx context.Context, in *Inputs) Report {
	var r Report
	refused := in.refused()
	for _, p := range in.Pods {
		if !in.asked(pods.NameOf(p)) {
			continue
		}
		switch bad := refused.of(in, p); {
		case bad != nil:
			bad.Name, bad.UID = p.Name, p.UID
			r.Findings = append(r.Findings, *bad)
		case healthy(p, in.Now):
			r.Healthy++
		default:
			r.Findings = append(r.Findings, *in.one(ctx, p))
		}
	}
	r.Findings = append(r.Findings, refused.rest(in)...)
	for i := range r.Findings {
		r.Findings[i].bound()
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return r
}

// healthy reports whether a pod runs, has run or is being ended as wanted.
func healthy(p *v1.Pod, now time.Time) bool {
	if p.DeletionTimestamp != nil {
		return now.Before(p.DeletionTimestamp.Add(leavingFor))
	}
	switch p.Status.Phase {
	case v1.PodSucceeded:
		return true
	case v1.PodRunning:
		return isTrue(p, v1.PodReady)
	}
	return false
}

func isTrue(p *v1.Pod, t v1.PodConditionType) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool { return c.Type == t && c.Status == v1.ConditionTrue })
}

// one asks the rules about a pod.
func (in *Inputs) one(ctx context.Context, p *v1.Pod) *Finding {
	l := &look{ctx: ctx, in: in, pod: p}
	if in.Events != nil {
		l.events = in.Events(p.UID)
	}
	for _, rule := range rules {
		if f := rule(l); f != nil {
			f.Kind, f.Namespace, f.Name, f.UID = "Pod", p.Namespace, p.Name, p.UID
			return f
		}
	}
	return &Finding{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, Cause: "not Ready", Fix: "look at `mini-kubelet events " + p.Name + "`"}
}

// maxPart is how many bytes of a part of a finding are said.
const maxPart = 700

// bound makes harmless what manifests, images and containers have a say in.
func (f *Finding) bound() {
	for _, part := range []*string{&f.Kind, &f.Namespace, &f.Name, &f.Cause, &f.Evidence, &f.Fix, &f.Where, &f.AtOnce} {
		*part = bounds.Cut(visible.Text(bounds.Cut(strings.Join(strings.Fields(*part), " "), maxPart)), maxPart) // escapes are longer
	}
}

// last returns the pod's newest event of Kubernetes with one of the reasons; nil if none is remembered.
func (l *look) last(reasons ...string) *journal.Shown {
	for i := len(l.events) - 1; i >= 0; i-- {
		if e := &l.events[i]; e.Kind == journal.Said.String() && slices.Contains(reasons, e.Reason) {
			return e
		}
	}
	return nil
}

// where returns the place of one of the pod's fields.
func (l *look) where(field string) string {
	if !pods.IsStatic(l.pod) {
		return ""
	}
	return l.in.Evidence.Where("Pod", pods.NameOf(l.pod), field)
}

// containerField is the path of a container in the pod's spec.
func (l *look) containerField(name string) string {
	for i := range l.pod.Spec.InitContainers {
		if l.pod.Spec.InitContainers[i].Name == name {
			return fmt.Sprintf("spec.initContainers[%d]", i)
		}
	}
	for i := range l.pod.Spec.Containers {
		if l.pod.Spec.Containers[i].Name == name {
			return fmt.Sprintf("spec.containers[%d]", i)
		}
	}
	return "spec.containers"
}

// title names a container, and says if it is an init container.
func (l *look) title(name string) string {
	if strings.HasPrefix(l.containerField(name), "spec.initContainers") {
		return "init container " + name
	}
	return "container " + name
}

// next returns when what waits is tried again; nil if that is not known.
func (l *look) next(container string) *time.Time {
	if t := l.in.Evidence.NextTry(l.pod.UID, container); !t.IsZero() {
		return &t
	}
	return nil
}

// statuses returns those of init containers and of the others, in the order in which they start.
func (l *look) statuses() []v1.ContainerStatus {
	return slices.Concat(l.pod.Status.InitContainerStatuses, l.pod.Status.ContainerStatuses)
}

// lastLine quotes what a container has said last; "" if it has said nothing.
func (l *look) lastLine(container string) string {
	line := strings.TrimSpace(l.in.Evidence.LastLine(l.ctx, l.pod, container))
	if line == "" {
		return ""
	}
	return fmt.Sprintf("the last line of its log: %q", bounds.Cut(line, maxLine))
}

// maxLine is how many bytes of a log's line are quoted.
const maxLine = 200

// age says how long ago something was.
func (l *look) age(t time.Time) string { return l.in.Now.Sub(t).Round(time.Second).String() }

// after returns what follows a text's mark; the whole text if it has none.
func after(text, mark string) string {
	if _, rest, ok := strings.Cut(text, mark); ok {
		return rest
	}
	return text
}

// join joins what is not empty.
func join(separator string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), separator)
}
