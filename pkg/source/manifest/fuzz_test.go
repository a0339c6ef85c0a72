package manifest

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// FuzzManifest reads bytes as a whole manifest, strictly and leniently, as an agent does that
// already has what they gave. What a document gives is complete or has problems; problems are bounded
// and quote no Secret; and the same bytes give the same again. Mutations that change
// the Secret's value itself prove nothing.
func FuzzManifest(f *testing.F) {
	const secret = "hunter2-correct-horse"
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	for _, text := range []string{
		podManifest("web"), document("ConfigMap", "m", "data: {a: x}"),
		document("Secret", "s", "stringData:", "  a: "+secret), document("Secret", "s", "data:", "  a: "+encoded),
		document("Secret", "s", "data: "+secret), document("Secret", "s", "stringData: ["+secret+"]"), document("Secret", "s", "stringData:", "  a: *"+secret),
		document("Secret", "s", "stringData: {a: "+secret+"}", "stringData: {a: "+secret+"}", "type: 5"),
		document("Secret", "s", "stringData: {a: &a "+secret+", b: *a, 'c/d': *a}", "immutable: "+secret),
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":{"a":"` + secret + `"}}`,
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"data":{"a":"` + encoded + `","a":1}}`,
		"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: " + secret + "}}\n",
		"apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: p}\n  spec: {containers: [{name: c, image: i}]}\n",
		volumeDocument("local: {path: /x}", affinityLine), volumeDocument("iscsi: {targetPortal: s, iqn: iqn.x, lun: 1}"), claimDocument("volumeName: v"),
		mergingPod("<<: *base\n    name: b\n    env: *env\n"), mergingPod("name: b\n    <<: [*base, {a: b}]\n"),
		"a: &a [*a]\n", "a: &a {<<: *a}\n", "<<: {}\n<<: {}\n", "---\n...\n", "{}", "[", "\xef\xbb\xbf{}", "? [a]\n: b\n", "- 1\n", "null\n", "{}\n{", "kind: \"\\e[2J\\n\"\n",
	} {
		f.Add([]byte(text))
	}
	// In the pods of test/attack these words stand for what its machine has.
	place := strings.NewReplacer("BUSYBOX", "local/busybox:1", "HOST", "/tmp/host", "DOCKER", "/var/lib/docker")
	for _, dir := range []string{"test/attack/testdata", "test/pods", "manifests"} {
		if _, err := os.Stat("../../../go.mod"); errors.Is(err, fs.ErrNotExist) {
			break // the test binary alone, somewhere else
		}
		files, err := filepath.Glob(filepath.Join("../../..", dir, "*.yaml"))
		if err != nil || len(files) == 0 {
			f.Fatalf("there are no manifests in %s: %v", dir, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add([]byte(place.Replace(string(text))))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		strict := standalone
		for _, from := range []Origin{strict, strict.WhatRan(), {Source: pods.SourceHTTP, From: "http://h/", Node: node}} {
			docs := from.Read(text)
			again := from.Read(text)
			RefuseChanges(docs, KeepFailed(Content{}, again, node))
			problems := Problems(docs, from.Source, from.From)
			if repeated := Problems(again, from.Source, from.From); !reflect.DeepEqual(problems, repeated) {
				t.Errorf("problems first %v, then %v", problems, repeated)
			}
			if now, then := KeepFailed(Content{}, docs, node), KeepFailed(Content{}, again, node); !reflect.DeepEqual(now, then) {
				t.Errorf("gives first %+v, then %+v", now, then)
			}
			failed := false
			for i := range docs {
				d := &docs[i]
				failed = failed || d.Failed()
				if d.Failed() == (d.faults == 0) {
					t.Errorf("failed %v with %d faults", d.Failed(), d.faults)
				}
				if d.pod != nil && (d.pod.UID == "" || d.pod.Namespace == "" || d.pod.Name == "" || d.pod.Spec.NodeName != node) {
					t.Errorf("a pod without identity: %+v", d.pod)
				}
			}
			errors := 0
			for _, p := range problems {
				if !p.Warning {
					errors++
				}
				if len(p.Error()) > maxField+2*maxMessage+200 {
					t.Errorf("a problem of %d bytes", len(p.Error()))
				}
				// A value that is no longer a Secret's is shown.
				if secretive := len(docs) == 1 && docs[0].kind == kindSecret; secretive && (strings.Contains(p.Error(), ": "+secret) || strings.Contains(p.Error(), encoded)) {
					t.Errorf("a problem shows the secret: %v", p)
				}
			}
			if failed != (errors > 0) || len(problems) > maxManifestProblem+len(docs)+3 {
				t.Errorf("%d problems, %d of them errors, failed %v", len(problems), errors, failed)
			}
		}
	})
}
