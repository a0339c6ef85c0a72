package source

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
)

// document is a manifest of a ConfigMap or Secret of that name.
func document(kind, name string, lines ...string) string {
	return "apiVersion: v1\nkind: " + kind + "\nmetadata:\n  name: " + name + "\n" + strings.Join(lines, "\n") + "\n"
}

func TestAFailedDocumentKeepsItsObjectAndNoOther(t *testing.T) {
	withObjects := func(c *FileConfig) { c.Objects = true }
	r := startFile(t, t.TempDir(), withObjects)
	m, s := document("ConfigMap", "m", "data: {k: old}"), document("Secret", "s", "stringData: {k: old}")
	pod := podManifest("m")
	r.write("a.yaml", m+"---\n"+s+"---\n"+pod)
	r.waitData("m=old s=old")
	r.write("a.yaml", document("ConfigMap", "m", "data: {k: 1}")+"---\n"+document("Secret", "s", "stringData: {k: new}")+"---\n"+pod)
	r.waitData("s=new m=old")
	r.write("a.yaml", document("ConfigMap", "m", "data: {k: 1}"))
	r.waitData("m=old") // not the pod of the same name
	if len(r.src.Problems()) != 1 {
		t.Errorf("problems %v", r.src.Problems())
	}
	r.write("a.yaml", document("ConfigMap", "m", "data: {k: 1}")+"---\n%not YAML: [\n")
	r.write("b.yaml", document("ConfigMap", "m", "data: {k: b}")+"---\n"+document("Secret", "m", "stringData: {k: b}"))
	r.waitData("m=old m=b") // the first file's ConfigMap, and a Secret is another object
	if err := os.Remove(filepath.Join(r.dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	r.waitData("m=b m=b")
}

func TestLastGoodObjectsOutliveTheAgent(t *testing.T) {
	dir, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	more := func(c *FileConfig) { c.Objects, c.StateDir = true, state }
	r := startFile(t, dir, more)
	r.write("a.yaml", document("Secret", "s", "immutable: true", "stringData: {k: good}"))
	r.waitData("s=good")
	r.write("b.yaml", document("ConfigMap", "m", "data: {k: good}"))
	r.waitData("s=good m=good")
	r.write("c.yaml", document("ConfigMap", "last", "data: {k: good}"))
	r.waitData("s=good m=good last=good") // what came before is on disk
	r.stop()

	r.write("a.yaml", document("Secret", "s", "immutable: true", "stringData: {k: changed}"))
	r.write("b.yaml", document("ConfigMap", "m", "data: {k: [bad]}"))
	kept, err := os.ReadDir(state)
	if err != nil || len(kept) < 2 {
		t.Fatalf("%d kept files, %v", len(kept), err)
	}
	for _, e := range kept {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	again := startFile(t, dir, more)
	again.waitData("s=good m=good last=good")
	if len(again.src.Problems()) != 2 {
		t.Errorf("problems %v", again.src.Problems())
	}
}

func TestObjectsOfAURL(t *testing.T) {
	var mu sync.Mutex
	answer := document("ConfigMap", "m", "data: {k: one}")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	s, err := NewHTTP(HTTPConfig{URL: server.URL, NodeName: node, Objects: true, Report: func(manifest.Problem) {}})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		answer, want string
		problems     int
	}{
		{document("ConfigMap", "m", "data: {k: one}"), "m=one", 0},
		{document("ConfigMap", "m", "data: {k: [bad]}") + "---\n" + document("Secret", "s", "stringData: {k: two}"), "s=two m=one", 1},
		{document("ConfigMap", "m", "data: {k: first}") + "---\n" + document("ConfigMap", "m", "data: {k: second}"), "m=first", 1},
		{"apiVersion: v1\nkind: List\nitems: []\n", "", 0},
	} {
		mu.Lock()
		answer = step.answer
		mu.Unlock()
		snapshot := s.look(t.Context())
		if snapshot == nil {
			t.Fatalf("no snapshot of %q", step.answer)
		}
		if got := data(snapshot.Objects, "k"); got != step.want || len(s.Problems()) != step.problems {
			t.Errorf("objects %q, want %q; problems %v", got, step.want, s.Problems())
		}
	}
}

func TestWhereInAnAnswerSomethingStands(t *testing.T) {
	pod := func(image string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n    image: " + image + "\n"
	}
	for _, tt := range []struct {
		name, answer, field string
		line                int
	}{
		{"a field", pod("i"), "spec.containers[0].image", 7},
		{"a field of a second document", document("ConfigMap", "m", "data: {k: one}") + "---\n" + pod("i"), "spec.containers[0].image",
			8 + strings.Count(document("ConfigMap", "m", "data: {k: one}"), "\n")},
		{"a field that is not there", pod("i"), "spec.nodeName", 4},
		{"a document that is refused", pod("[bad]"), "spec.containers[0].image", 7},
		{"an answer that cannot be read", "kind: [bad", "spec.containers[0].image", 0},
	} {
		answer := pod("i")
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
		s, err := NewHTTP(HTTPConfig{URL: server.URL, NodeName: node, Objects: true, Report: func(manifest.Problem) {}})
		if err != nil {
			t.Fatal(err)
		}
		id := manifest.Ident{Kind: "Pod", Name: types.NamespacedName{Namespace: "default", Name: "p-" + strings.ToLower(node)}}
		if from, _ := s.Where(id, ""); from != "" {
			t.Errorf("%s: it comes from %q before anything was asked", tt.name, from)
		}
		s.look(t.Context())
		answer = tt.answer
		s.look(t.Context())
		if from, line := s.Where(id, tt.field); from != server.URL || line != tt.line {
			t.Errorf("%s: %q, line %d, want line %d; problems %v", tt.name, from, line, tt.line, s.Problems())
		}
		id.Name.Name = "q-" + strings.ToLower(node)
		if from, _ := s.Where(id, ""); from != "" {
			t.Errorf("%s: what is not there comes from %q", tt.name, from)
		}
		server.Close()
	}
}

func TestMuxTellsOfObjectsBeforePods(t *testing.T) {
	var told []string
	var m *Mux
	m, err := NewMux(MuxConfig{Report: func(manifest.Problem) {}, Sources: []string{pods.SourceFile, pods.SourceHTTP}, Objects: func(all []metav1.Object, complete bool) {
		if len(m.changes) > 0 {
			t.Error("the pods were sent before the objects")
		}
		text := data(all, "k")
		if complete {
			text += " complete"
		}
		told = append(told, text)
	}})
	if err != nil {
		t.Fatal(err)
	}
	of := func(name, value string) *v1.ConfigMap {
		return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"k": value}}
	}
	m.merge(Snapshot{Source: pods.SourceHTTP, Objects: []metav1.Object{of("a", "http"), of("b", "http")}})
	m.merge(Snapshot{Source: pods.SourceFile, Objects: []metav1.Object{of("a", "file")}})
	m.merge(Snapshot{Source: pods.SourceFile})
	want := []string{"a=http b=http", "a=file b=http complete", "a=http b=http complete"}
	if strings.Join(told, ";") != strings.Join(want, ";") {
		t.Errorf("told %q, want %q", told, want)
	}
}

// data returns the value of a key in each object, "name=value".
func data(objects []metav1.Object, key string) string {
	var all []string
	for _, o := range objects {
		switch o := o.(type) {
		case *v1.ConfigMap:
			all = append(all, o.Name+"="+o.Data[key])
		case *v1.Secret:
			all = append(all, o.Name+"="+string(o.Data[key]))
		}
	}
	return strings.Join(all, " ")
}

// waitData reads snapshots until one has these objects.
func (r *fileRun) waitData(want string) {
	r.t.Helper()
	deadline := time.After(2 * time.Minute)
	var last string
	for {
		select {
		case s := <-r.out:
			if last = data(s.Objects, "k"); last == want {
				return
			}
		case <-deadline:
			r.t.Fatalf("no snapshot of the objects %q came; the last had %q; problems: %v", want, last, r.src.Problems())
		}
	}
}

// A server in trouble, an answer with nothing in it or none at all, ends nothing when the agent starts.
func TestAURLThatIsInTroubleWhenTheAgentStartsEndsNoPods(t *testing.T) {
	kept := t.TempDir()
	start := func(answer string) *Snapshot {
		t.Helper()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if answer == "503" {
				w.WriteHeader(503)
				return
			}
			_, _ = io.WriteString(w, answer)
		}))
		defer server.Close()
		s, err := NewHTTP(HTTPConfig{URL: server.URL, NodeName: node, StateDir: kept, Report: func(manifest.Problem) {}})
		if err != nil {
			t.Fatal(err)
		}
		s.origin.From = "http://manifests" // servers of tests have other ports
		snapshot := s.look(t.Context())
		s.store.flush()
		return snapshot
	}
	before := start(podManifest("a") + "---\n" + podManifest("b")).Pods
	for _, answer := range []string{"", " \n", "503", "{{{"} {
		now := start(answer)
		if now == nil || !equalNames(podNames(now.Pods), []string{"a", "b"}) || now.Pods[0].UID != before[0].UID {
			t.Errorf("%q: %v", answer, now)
		}
	}
}
