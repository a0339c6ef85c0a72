package source

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
)

// MuxConfig is what a Mux is made of.
type MuxConfig struct {
	Clock  clock.PassiveClock     // gives the time at which a pod was first seen; nil: the real one
	Report func(manifest.Problem) // is called once for each pod or object that another source's bars; nil: LogProblem
	// Sources are the names of the sources that will send snapshots.
	Sources []string
	// Objects is called with all objects of the sources, before the changes of the same
	// snapshot, and with whether each source has spoken. nil: nobody is told.
	Objects func(all []metav1.Object, complete bool)
}

// Mux merges what the sources want into one ordered stream of what has changed.
type Mux struct {
	cfg     MuxConfig
	changes chan Change
	sources map[string]*wanted

	mu      sync.Mutex
	clashes manifest.Book
}

// wanted is what one source wants, and what was sent of it.
type wanted struct {
	latest Snapshot
	sent   map[types.UID]sentPod
}

type sentPod struct {
	in, out *v1.Pod // as the source gave it, and as it was sent
}

// NewMux returns a Mux without sources: each is added by its first snapshot.
func NewMux(cfg MuxConfig) (*Mux, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	return &Mux{
		cfg:     cfg,
		changes: make(chan Change, 50),
		sources: map[string]*wanted{},
		clashes: manifest.NewBook(cfg.Report),
	}, nil
}

// Problems returns what sources want and may not have because of others. Safe for concurrent use.
func (m *Mux) Problems() []manifest.Problem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clashes.All
}

// Changes is the stream. It is never closed.
func (m *Mux) Changes() <-chan Change { return m.changes }

// Run merges snapshots until ctx ends. A slow receiver delays the sources, so that
// nothing is lost, but does not delay the end. Run it once.
func (m *Mux) Run(ctx context.Context, in <-chan Snapshot) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, ok := <-in:
			if !ok {
				return errors.New("source: no more snapshots")
			}
			for _, c := range m.merge(s) {
				select {
				case m.changes <- c:
				case <-ctx.Done():
					return nil
				}
			}
		}
	}
}

// rank orders the sources: if two static pods have one name, the pod of the first
// source wins. The order of arrival does not matter: otherwise a restart of the
// agent could replace a running pod.
var rank = []string{pods.SourceFile, pods.SourceHTTP, pods.SourceAPI}

// merge applies a snapshot and returns the resulting changes: of the source itself,
// and of sources whose pods it bars or no longer bars. Everything that must go
// comes before anything that comes.
func (m *Mux) merge(s Snapshot) []Change {
	first := m.sources[s.Source] == nil
	if first {
		m.sources[s.Source] = &wanted{sent: map[types.UID]sentPod{}}
	}
	m.sources[s.Source].latest = s

	var objects manifest.Content
	var removed, others []Change
	taken := manifest.NewTaken()
	var clashes []manifest.Problem
	names := slices.SortedFunc(maps.Keys(m.sources), func(a, b string) int {
		return slices.Index(rank, a) - slices.Index(rank, b)
	})
	for _, name := range names {
		src := m.sources[name]
		pods, barred := m.unbarred(name, src.latest.Pods, taken)
		clashes = append(clashes, barred...)
		for _, clash := range taken.AddAll(&objects, manifest.Content{Objects: src.latest.Objects}, "source "+name) {
			clash.Source, clash.File = name, name
			clashes = append(clashes, clash)
		}
		d := src.diff(name, pods, m.cfg.Clock.Now())
		removed = appendChange(removed, Remove, name, d.removed)
		// The kubelet's order: a pod that replaces one of its name comes after it.
		n := len(others)
		others = appendChange(others, Add, name, d.added)
		others = appendChange(others, Update, name, d.updated)
		others = appendChange(others, Delete, name, d.deleted)
		if first && name == s.Source && len(others) == n {
			others = append(others, Change{Op: Add, Source: name}) // the source has spoken
		}
		others = appendChange(others, Reconcile, name, d.reconciled)
	}
	m.mu.Lock()
	m.clashes.Set(clashes)
	m.mu.Unlock()
	if m.cfg.Objects != nil {
		m.cfg.Objects(objects.Objects, !slices.ContainsFunc(m.cfg.Sources, func(name string) bool { return m.sources[name] == nil }))
	}
	changes := append(removed, others...)
	for i := range changes {
		changes[i].Cause, changes[i].Causes = s.Cause, s.Causes
	}
	return changes
}

func appendChange(to []Change, op Op, source string, pods []*v1.Pod) []Change {
	if len(pods) == 0 {
		return to
	}
	return append(to, Change{Op: op, Source: source, Pods: pods})
}

// unbarred drops pods whose name or UID is used by another pod that ranks before
// them. Names at the API server are its own business: a mirror pod has its static
// pod's by design.
func (m *Mux) unbarred(source string, wanted []*v1.Pod, taken manifest.Taken) ([]*v1.Pod, []manifest.Problem) {
	if source == pods.SourceAPI {
		taken = manifest.NewTaken()
	}
	var ok []*v1.Pod
	var barred []manifest.Problem
	for _, p := range wanted {
		if clash := taken.Add(p, "source "+source); clash != "" {
			barred = append(barred, manifest.Problem{Source: source, File: source, Message: clash, Kind: "Pod", Name: pods.NameOf(p)})
			continue
		}
		ok = append(ok, p)
	}
	return ok, barred
}

type difference struct {
	added, updated, deleted, reconciled, removed []*v1.Pod
}

// diff compares what a source wants with what was sent of it, and records it as
// sent.
func (w *wanted) diff(source string, now []*v1.Pod, at time.Time) difference {
	var d difference
	sent := make(map[types.UID]sentPod, len(now))
	for _, in := range now {
		before, ok := w.sent[in.UID]
		if ok && pods.NameOf(before.out) != pods.NameOf(in) {
			ok = false // the manifest's UID with a new name: another pod
		}
		switch {
		case !ok:
			out := annotated(in, source, at.Format(time.RFC3339Nano))
			sent[in.UID] = sentPod{in, out}
			d.added = append(d.added, out)
			continue
		case before.in == in:
			sent[in.UID] = before
			continue
		}
		op, changed := compare(before.out, in)
		if !changed {
			sent[in.UID] = sentPod{in, before.out}
			continue
		}
		out := annotated(in, source, before.out.Annotations[pods.AnnotationConfigSeen])
		sent[in.UID] = sentPod{in, out}
		switch op {
		case Update:
			d.updated = append(d.updated, out)
		case Delete:
			d.deleted = append(d.deleted, out)
		default:
			d.reconciled = append(d.reconciled, out)
		}
	}
	for uid, s := range w.sent {
		if now, ok := sent[uid]; !ok || pods.NameOf(now.out) != pods.NameOf(s.out) {
			d.removed = append(d.removed, s.out)
		}
	}
	slices.SortFunc(d.removed, func(a, b *v1.Pod) int {
		return compareNames(pods.NameOf(a), pods.NameOf(b))
	})
	w.sent = sent
	return d
}

// compare returns what has changed in a pod: something that the node acts on
// (Delete if it has a deletion timestamp), only its status at the API server, or
// nothing.
func compare(before, now *v1.Pod) (op Op, changed bool) {
	same := equality.Semantic.DeepEqual(before.Spec, now.Spec) &&
		equality.Semantic.DeepEqual(before.Labels, now.Labels) &&
		equality.Semantic.DeepEqual(before.DeletionTimestamp, now.DeletionTimestamp) &&
		equality.Semantic.DeepEqual(before.DeletionGracePeriodSeconds, now.DeletionGracePeriodSeconds) &&
		maps.Equal(foreign(before), foreign(now))
	switch {
	case !same && now.DeletionTimestamp != nil:
		return Delete, true
	case !same:
		return Update, true
	}
	return Reconcile, !equality.Semantic.DeepEqual(before.Status, now.Status)
}

// foreign returns the annotations that the node did not set itself.
func foreign(pod *v1.Pod) map[string]string {
	a := maps.Clone(pod.Annotations)
	for _, own := range []string{pods.AnnotationConfigSource, pods.AnnotationConfigSeen, pods.AnnotationConfigMirror} {
		delete(a, own)
	}
	return a
}

// annotated returns a copy of the pod that says where it is from and when it was
// first seen.
func annotated(pod *v1.Pod, source, seen string) *v1.Pod {
	out := pod.DeepCopy()
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	out.Annotations[pods.AnnotationConfigSource] = source
	out.Annotations[pods.AnnotationConfigSeen] = seen
	return out
}

func compareNames(a, b types.NamespacedName) int {
	if c := cmp.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return cmp.Compare(a.Name, b.Name)
}
