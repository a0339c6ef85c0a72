package evidence

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/why"
)

// The kernel's list as of a little-endian machine.
const someSockets = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0000000000000000 100 0 0 10 0
   2: 0100007F:0051 0100007F:0052 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0000000000000000 100 0 0 10 0
   3: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4 1 0 100 0 0 10 0
   4: nonsense 0 0A
   5: 00:0050 0 0A
   6: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 0
`

func TestListeningSockets(t *testing.T) {
	want := []why.Listener{{Address: "127.0.0.1", Port: 6379}, {Address: "*", Port: 80}, {Address: "::1", Port: 8080}, {Address: "127.0.0.1", Port: 8081}}
	if got := listening(strings.NewReader(someSockets)); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// The process may have more of its own than are told of one.
	if _, known := listeningOf(os.Getpid()); !known {
		t.Error("of this process nothing is known")
	}
	if _, known := listeningOf(1 << 30); known {
		t.Error("of no process something is known")
	}
}

func FuzzListening(f *testing.F) {
	f.Add(someSockets)
	f.Fuzz(func(t *testing.T, text string) {
		for _, l := range listening(strings.NewReader(text)) {
			if l.Address == "" || l.Port < 0 || l.Port > 65535 {
				t.Errorf("%+v", l)
			}
		}
	})
}

// world is a node with one pod, which runs in this process.
type world struct {
	pid       string
	log       string
	configMap *v1.ConfigMap
}

func (w world) ListPodSandbox(_ context.Context, r *cri.ListPodSandboxRequest, _ ...grpc.CallOption) (*cri.ListPodSandboxResponse, error) {
	if r.Filter.LabelSelector["io.kubernetes.pod.uid"] != "u" {
		return &cri.ListPodSandboxResponse{}, nil
	}
	return &cri.ListPodSandboxResponse{Items: []*cri.PodSandbox{{Id: "s"}}}, nil
}

func (w world) PodSandboxStatus(_ context.Context, r *cri.PodSandboxStatusRequest, _ ...grpc.CallOption) (*cri.PodSandboxStatusResponse, error) {
	if !r.Verbose || r.PodSandboxId != "s" {
		return nil, errors.New("the process is not asked for")
	}
	return &cri.PodSandboxStatusResponse{Info: map[string]string{"info": w.pid}}, nil
}

func (w world) ConfigMap(context.Context, string, string) (*v1.ConfigMap, error) {
	if w.configMap == nil {
		return nil, errors.New("not found")
	}
	return w.configMap, nil
}

func (w world) Secret(context.Context, string, string) (*v1.Secret, error) {
	return &v1.Secret{Data: map[string][]byte{"b": []byte("hunter2"), "a": nil}}, nil
}

func (w world) logs(_ context.Context, _ types.NamespacedName, o *v1.PodLogOptions, stdout, _ io.Writer) error {
	if o.TailLines == nil || o.LimitBytes == nil || o.Follow {
		return errors.New("it is not bounded")
	}
	_, err := io.WriteString(stdout, w.log)
	return err
}

func desk(t *testing.T, w world, j *journal.Journal, pods ...*v1.Pod) *Desk {
	t.Helper()
	d, err := New(Config{
		Node: "n1", Pods: func() []*v1.Pod { return pods }, Journal: j, CRI: w, Objects: w, Logs: w.logs, NextTry: func(types.UID, string) time.Time { return time.Time{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEvidence(t *testing.T) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u"}}
	w := world{pid: `{"pid": 1073741824, "image": "x"}`, log: "one\n  two \n \n", configMap: &v1.ConfigMap{Data: map[string]string{"z": ""}, BinaryData: map[string][]byte{"y": nil}}}
	f := finder{desk(t, w, journal.New(time.Now)), t.Context()}
	if line := f.LastLine(t.Context(), pod, "c"); line != "two" {
		t.Errorf("the last line is %q", line)
	}
	if keys, found := f.Keys(t.Context(), "ConfigMap", "ns", "x"); !found || !slices.Equal(keys, []string{"y", "z"}) {
		t.Errorf("keys %q of a ConfigMap, found %v", keys, found)
	}
	if keys, found := f.Keys(t.Context(), "Secret", "ns", "x"); !found || !slices.Equal(keys, []string{"a", "b"}) {
		t.Errorf("keys %q of a Secret, found %v", keys, found)
	}
	f = finder{desk(t, world{pid: "nonsense"}, journal.New(time.Now)), t.Context()}
	if _, found := f.Keys(t.Context(), "ConfigMap", "ns", "x"); found {
		t.Error("a missing ConfigMap was found")
	}
	if _, known := f.Listening(t.Context(), pod); known {
		t.Error("sockets of no process are known")
	}
	f = finder{desk(t, world{pid: `{"pid": ` + strconv.Itoa(os.Getpid()) + `}`}, journal.New(time.Now)), t.Context()}
	if _, known := f.Listening(t.Context(), pod); !known {
		t.Error("sockets of this process are not known")
	}
	if _, known := f.Listening(t.Context(), &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "another"}}); known {
		t.Error("sockets of a pod without sandbox are known")
	}
}

func TestDeskAnswers(t *testing.T) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-n1", UID: "u"}, Status: v1.PodStatus{Phase: v1.PodPending}}
	j := journal.New(time.Now)
	j.Warn(pod, "FailedCreatePodSandBox", "Failed to create pod sandbox: no room")
	j.Warn(&v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "another"}}, "FailedCreatePodSandBox", "of another pod")
	d := desk(t, world{}, j, pod)
	for _, name := range []string{"", "web", "web-n1"} {
		r, err := d.Why(t.Context(), "", name)
		if err != nil || len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Cause, "no room") {
			t.Errorf("of %q: %+v, %v", name, r, err)
		}
	}
	if r, err := d.Why(t.Context(), "elsewhere", ""); err != nil || r.Findings == nil || len(r.Findings) > 0 {
		t.Errorf("of another namespace: %+v, %v", r, err)
	}
	if _, err := d.Why(t.Context(), "", "nobody"); status.Code(err) != codes.NotFound {
		t.Errorf("of an unknown pod: %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a Desk was made of nothing")
	}
}
