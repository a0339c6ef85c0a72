// Package evidence answers why pods do not run as wanted: it gathers what is known, hands it to the rules (package why), and finds
// out what they ask for. All that it reads of containers is bounded, and every question ends soon.
package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/why"
)

// CRI is what the runtime is asked for.
type CRI interface {
	ListPodSandbox(context.Context, *cri.ListPodSandboxRequest, ...grpc.CallOption) (*cri.ListPodSandboxResponse, error)
	PodSandboxStatus(context.Context, *cri.PodSandboxStatusRequest, ...grpc.CallOption) (*cri.PodSandboxStatusResponse, error)
}

// Objects gives what pods refer to.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
}

// Journal is the record of what happened.
type Journal interface {
	Since(version uint64) (events []journal.Event, newest uint64)
	Show(journal.Event) journal.Shown
	Time(at int64) time.Time
}

// Config is what a Desk is made of. What is optional answers nothing where it is nil.
type Config struct {
	Node     string
	Labels   func() map[string]string                                          // of the node; optional
	Pods     func() []*v1.Pod                                                  // with their statuses
	Problems func() []why.Problem                                              // of manifests; optional
	Where    func(kind string, name types.NamespacedName, field string) string // "file:line", ""; optional
	Journal  Journal
	CRI      CRI
	Objects  Objects
	// Logs writes a container's log.
	Logs func(ctx context.Context, pod types.NamespacedName, o *v1.PodLogOptions, stdout, stderr io.Writer) error
	// Unsuitable says why an unbound claim has no volume; optional.
	Unsuitable func(namespace, name string) (wants string, volumes []string, found bool)
	// NextTry returns when a container, or with "" the sandbox, is tried again; the zero time if it does not wait.
	NextTry func(pod types.UID, container string) time.Time
}

// Desk answers. Safe for concurrent use.
type Desk struct{ cfg Config }

// New refuses a Config in which a part is missing.
func New(cfg Config) (*Desk, error) {
	if cfg.Pods == nil || cfg.Journal == nil || cfg.CRI == nil || cfg.Objects == nil || cfg.Logs == nil || cfg.NextTry == nil {
		return nil, errors.New("evidence: Pods, Journal, CRI, Objects, Logs and NextTry are needed")
	}
	return &Desk{cfg}, nil
}

// Why returns what is to be said of the pods of a namespace and name; "" is any. A static pod is also known by the name in
// its manifest. The error has the gRPC code NotFound if nothing of that name is known.
func (d *Desk) Why(ctx context.Context, namespace, name string) (why.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	in := &why.Inputs{Now: time.Now(), Node: d.cfg.Node, Pods: d.cfg.Pods(), Evidence: finder{d, ctx}, Namespace: namespace, Only: name}
	if d.cfg.Problems != nil {
		in.Problems = d.cfg.Problems()
	}
	if d.cfg.Labels != nil {
		in.Labels = d.cfg.Labels()
	}
	in.Events, in.Began = d.events()
	r := why.Why(ctx, in)
	if name != "" && r.Healthy+len(r.Findings) == 0 {
		return r, status.Errorf(codes.NotFound, "no pod %q is known, nor a manifest that would make it", name)
	}
	if r.Findings == nil {
		r.Findings = []why.Finding{}
	}
	return r, nil
}

// events returns what finds the events of a pod, and since when all are remembered.
func (d *Desk) events() (of func(types.UID) []journal.Shown, began time.Time) {
	all, _ := d.cfg.Journal.Since(0)
	by := map[types.UID][]journal.Event{}
	for _, e := range all {
		if e.Pod != "" {
			by[e.Pod] = append(by[e.Pod], e)
		}
	}
	began = d.cfg.Journal.Time(0)
	if len(all) > 0 && all[0].Seq > 1 {
		began = d.cfg.Journal.Time(all[0].At)
	}
	return func(uid types.UID) []journal.Shown {
		events := make([]journal.Shown, len(by[uid]))
		for i, e := range by[uid] {
			events[i] = d.cfg.Journal.Show(e)
		}
		return events
	}, began
}

// askFor bounds each question, and answerWithin all of an answer together: what is not found out by then is not said.
const (
	askFor       = 2 * time.Second
	answerWithin = 20 * time.Second
)

// finder implements why.Evidence for one answer.
type finder struct {
	*Desk
	answer context.Context // ends when it is time to answer
}

func (f finder) Where(kind string, name types.NamespacedName, field string) string {
	if f.cfg.Where == nil || f.answer.Err() != nil {
		return ""
	}
	return f.cfg.Where(kind, name, field)
}

func (f finder) NextTry(pod types.UID, container string) time.Time {
	return f.cfg.NextTry(pod, container)
}

func (f finder) Unsuitable(namespace, name string) (string, []string, bool) {
	if f.cfg.Unsuitable == nil {
		return "", nil, false
	}
	return f.cfg.Unsuitable(namespace, name)
}

// Of a log so many lines and bytes are read.
const (
	lastLines    = 5
	lastBytes    = 16 << 10
	maxListening = 100
)

// LastLine implements why.Evidence: the last of the last lines that is not blank.
func (f finder) LastLine(ctx context.Context, pod *v1.Pod, container string) string {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	var text bytes.Buffer
	o := &v1.PodLogOptions{Container: container, TailLines: ptr.To[int64](lastLines), LimitBytes: ptr.To[int64](lastBytes)}
	if f.cfg.Logs(ctx, pods.NameOf(pod), o, &text, &text) != nil && text.Len() == 0 {
		return ""
	}
	for _, line := range slices.Backward(strings.Split(text.String(), "\n")) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}

// Keys implements why.Evidence.
func (f finder) Keys(ctx context.Context, kind, namespace, name string) (keys []string, found bool) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	if kind == "Secret" {
		s, err := f.cfg.Objects.Secret(ctx, namespace, name)
		if err != nil {
			return nil, false
		}
		return slices.Sorted(maps.Keys(s.Data)), true
	}
	c, err := f.cfg.Objects.ConfigMap(ctx, namespace, name)
	if err != nil {
		return nil, false
	}
	return slices.Sorted(keysOf(c.Data, c.BinaryData)), true
}

// Listening implements why.Evidence.
func (f finder) Listening(ctx context.Context, pod *v1.Pod) ([]why.Listener, bool) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	pid := f.process(ctx, pod)
	if pid <= 0 {
		return nil, false
	}
	return listeningOf(pid)
}

// Holder implements why.Evidence.
func (f finder) Holder(ctx context.Context, ip string, port int32) (why.Process, bool) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	return holderOf(ctx, "/proc", ip, port)
}

// process returns a process in the network namespace of the pod, 0 if there is none: that of its sandbox.
func (f finder) process(ctx context.Context, pod *v1.Pod) int {
	list, err := f.cfg.CRI.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
		State:         &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY},
		LabelSelector: map[string]string{pods.LabelPodUID: string(pod.UID)},
	}})
	if err != nil || len(list.GetItems()) == 0 {
		return 0
	}
	s, err := f.cfg.CRI.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: list.Items[0].Id, Verbose: true})
	if err != nil {
		return 0
	}
	var info struct {
		PID int `json:"pid"`
	}
	_ = json.Unmarshal([]byte(s.GetInfo()["info"]), &info) // containerd and the dockershim say it alike
	return info.PID
}
