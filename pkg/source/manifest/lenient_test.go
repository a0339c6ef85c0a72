package manifest

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// containers are lines of a pod's manifest with two containers, of which the second merges the
// first.
func mergingPod(second string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: anchors}\nspec:\n  containers:\n  - &base\n    name: a\n    image: busybox:1\n    env: &env [{name: X, value: '1'}]\n  - " + second
}

func TestAMergeMayBeOverridden(t *testing.T) {
	for name, tt := range map[string]struct{ text, want, problem string }{
		"a key after the merge":      {mergingPod("<<: *base\n    name: b\n    env: *env\n"), "b busybox:1", ""},
		"nothing but the merge":      {mergingPod("<<: *base\n    name: b\n"), "b busybox:1", ""},
		"in flow style":              {mergingPod("{<<: *base, name: b, image: 'busybox:2'}\n"), "b busybox:2", ""},
		"two, the first wins":        {mergingPod("<<: [{image: 'busybox:3'}, *base]\n    name: b\n"), "b busybox:3", ""},
		"a key before the merge":     {mergingPod("name: b\n    <<: *base\n"), "", `document 1 (line 11): not YAML: key "name" stands before the merge that brings it as well: write "<<" first`},
		"before, and merged through": {mergingPod("name: b\n    <<: {<<: *base, tty: true}\n"), "", `document 1 (line 11): not YAML: key "name" stands before the merge that brings it as well: write "<<" first`},
		"a key twice":                {mergingPod("<<: *base\n    name: b\n    name: c\n"), "", `document 1 (line 12): not YAML: key "name" already set in map`},
		"a key twice in the anchor":  {strings.Replace(mergingPod("<<: *base\n    name: b\n"), "name: a\n", "name: a\n    name: a\n", 1), "", `document 1 (line 8): not YAML: key "name" already set in map`},
		"two merges of the same":     {mergingPod("<<: *base\n    <<: *base\n    name: b\n"), "", `document 1 (line 11): not YAML: key "<<" already set in map`},
	} {
		t.Run(name, func(t *testing.T) {
			docs := standalone.Read([]byte(tt.text))
			problems := Problems(docs, "", "")
			got := ""
			if len(problems) > 0 {
				got = strings.TrimPrefix(problems[0].Error(), ": ")
			}
			if len(docs) != 1 || got != tt.problem {
				t.Fatalf("problems %v, want %q", problems, tt.problem)
			}
			if tt.want == "" {
				return
			}
			if c := docs[0].pod.Spec.Containers; len(c) != 2 || c[1].Name+" "+c[1].Image != tt.want || len(c[1].Env) != len(c[0].Env) {
				t.Errorf("containers %+v", c)
			}
		})
	}
}

// To the parser these are one key, of which one value would be lost.
func TestKeysThatAreOneAreDoubledHoweverTheyAreWritten(t *testing.T) {
	objects := Origin{Source: "file", Node: "n", Objects: true}
	for _, keys := range []string{"yes: a\n  on: b", "y: a\n  true: b", "n: a\n  off: b", "0x1: a\n  1: b", "true: a\n  True: b", "1.0: a\n  1.00: b", "~: a\n  null: b"} {
		for _, merge := range []string{"", "  <<: {other: w}\n"} {
			text := "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n" + merge + "  " + keys + "\n"
			docs := objects.Read([]byte(text))
			if len(Problems(docs, "", "")) == 0 {
				t.Errorf("%q is taken without a word", text)
			}
		}
	}
}

func TestLenientReadingDropsWhatTheAPIDoesNotKnow(t *testing.T) {
	lenient := standalone.WhatRan()
	const list = "apiVersion: v1\nkind: PodList\nnonsense: 1\nitems:\n- metadata: {name: p}\n  spec: {containers: [{name: c, image: i, privileged: true}]}\n"
	for name, tt := range map[string]struct{ text, want string }{
		"nothing to drop": {podManifest("p"), ""},
		"one field":       {podManifest("p") + "    empty-dir: {}\n", "document 1 (line 9): spec.containers[0].empty-dir: unknown field, dropped, as the kubelet does"},
		"another case":    {podManifest("p") + "    livenessprobe: {}\n", `document 1 (line 9): spec.containers[0].livenessprobe: unknown field (it is spelt "livenessProbe"), dropped, as the kubelet does`},
		"several": {podManifest("p") + "    a: 1\n    b: 1\n  c: 1\n---\n" + podManifest("q") + "d: 1\n",
			"document 1 (line 11): spec.c: unknown field, dropped, as the kubelet does; so is spec.containers[0].a (line 9), spec.containers[0].b (line 10), d (line 21)"},
		"many":        {podManifest("p") + repeatedLines(250), "document 1 (line 9): k0: unknown field, dropped, as the kubelet does; so is k1 (line 10), k10 (line 19), k100 (line 109), k101 (line 110), k102 (line 111), k103 (line 112), k104 (line 113), k105 (line 114), k106 (line 115), and 240 more"},
		"a key twice": {podManifest("p") + "    image: busybox:2\n", `document 1 (line 9): key "image" already set in map, dropped, as the kubelet does`},
		"a key twice, in JSON": {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","image":"busybox:2"}]}}`,
			`document 1 (line 1): duplicate field "spec.containers[0].image", dropped, as the kubelet does`},
		"in a list":   {list, "document 1 (line 3): nonsense: unknown field, dropped, as the kubelet does; so is items[0].spec.containers[0].privileged (line 6)"},
		"in a Secret": {document("Secret", "s", "stringdata: {a: hunter2}"), `document 1 (line 5): stringdata: unknown field (it is spelt "stringData"), dropped, as the kubelet does`},
	} {
		t.Run(name, func(t *testing.T) {
			docs := lenient.Read([]byte(tt.text))
			problems := Problems(docs, "", "")
			for _, d := range docs {
				if d.Failed() {
					t.Errorf("refused: %v", d.problems)
				}
			}
			got := ""
			if len(problems) == 1 {
				got = strings.TrimPrefix(problems[0].Error(), ": ")
			}
			if len(problems) > 1 || got != tt.want || got != "" && !problems[0].Warning {
				t.Errorf("problems %v\nwant %s", problems, tt.want)
			}
			if tt.want != "" && len(Problems(standalone.Read([]byte(tt.text)), "", "")) == 0 {
				t.Error("strict reading takes it")
			}
			if strings.HasPrefix(name, "a key twice") && docs[0].pod.Spec.Containers[0].Image != "busybox:2" {
				t.Errorf("the first value counts: %+v", docs[0].pod.Spec.Containers)
			}
		})
	}
}

func TestLenientReadingRefusesWhatTheKubeletRefuses(t *testing.T) {
	lenient := standalone.WhatRan()
	for name, text := range map[string]string{
		"a wrong type":  podManifest("p") + "    command: 5\n",
		"both":          podManifest("p") + repeatedLines(150) + "status: 1\n",
		"a bad value":   podManifest("p") + "  restartPolicy: Sometimes\n",
		"not YAML":      podManifest("p") + "  [\n",
		"another kind":  document("Service", "s"),
		"no kind":       "apiVersion: v1\n",
		"a bad list":    "apiVersion: v1\nkind: PodList\nx: 1\nitems: 5\n",
		"a Secret list": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nx: 1\ndata: [hunter2]\n",
	} {
		t.Run(name, func(t *testing.T) {
			docs := lenient.Read([]byte(text))
			problems := Problems(docs, "", "")
			if len(docs) != 1 || !docs[0].Failed() || len(problems) == 0 || problems[0].Warning {
				t.Errorf("taken: %v", problems)
			}
			for _, p := range problems {
				if strings.Contains(p.Error(), "hunter2") {
					t.Errorf("shows the secret: %v", p)
				}
			}
		})
	}
}

func TestWhatAManifestsMetadataBecomes(t *testing.T) {
	const manifest = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n%\nspec:\n  containers: [{name: c, image: i}]\n"
	read := func(lines string) (*v1.Pod, []Problem) {
		docs := standalone.Read([]byte(strings.Replace(manifest, "%", lines, 1)))
		return docs[0].pod, Problems(docs, "", "")
	}
	for lines, want := range map[string]string{
		"  deletionGracePeriodSeconds: -1": "document 1 (line 5): metadata.deletionGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
		"  resource-version: 1":            "document 1 (line 5): metadata.resource-version: unknown field",
	} {
		if pod, p := read(lines); pod != nil || len(p) != 1 || strings.TrimPrefix(p[0].Error(), ": ") != want {
			t.Errorf("%s: %v, want %s", lines, p, want)
		}
	}
	pod, p := read("  deletionGracePeriodSeconds: 65")
	if pod == nil || pod.DeletionGracePeriodSeconds == nil || *pod.DeletionGracePeriodSeconds != 65 {
		t.Errorf("the grace period of the kubelet's static pods is lost: %v, %v", pod, p)
	}
	for text, want := range map[string]string{
		"apiVersion: v1\nkind: Pod\nmetadata: {generateName: foo-}\nspec: {containers: [{name: c, image: i}]}\n": "document 1 (line 3): metadata.generateName: Forbidden: generateName is not possible in a manifest: give it a name",
		"apiVersion: v1\nkind: Secret\nmetadata: {generateName: foo-}\n":                                         "document 1 (line 3): metadata.generateName: Forbidden: generateName is not possible in a manifest: give it a name",
		"apiVersion: v1\nkind: Pod\nspec: {containers: [{name: c, image: i}]}\n":                                 "document 1 (line 1): metadata.name: Required value",
	} {
		if p := Problems(standalone.Read([]byte(text)), "", ""); len(p) != 1 || strings.TrimPrefix(p[0].Error(), ": ") != want {
			t.Errorf("got  %v\nwant %s", p, want)
		}
	}
}

func TestARelativePathOfTheHostIsRefused(t *testing.T) {
	const why = ": Invalid value: \"./html\": must be an absolute path of the node: a manifest's own directory does not count"
	for text, want := range map[string]string{
		podManifest("p") + "  volumes:\n  - name: v\n    hostPath: {path: ./html, type: Directory}\n": "document 1 (line 11): spec.volumes[0].hostPath.path" + why,
		volumeDocument("hostPath: {path: ./html}"):                                                    "spec.hostPath.path" + why,
		volumeDocument("local: {path: ./html}", affinityLine):                                         "spec.local.path" + why,
	} {
		docs := standalone.Read([]byte(text))
		if p := Problems(docs, "", ""); len(p) != 1 || !docs[0].Failed() || !strings.HasSuffix(p[0].Error(), want) {
			t.Errorf("got  %v\nwant %s", p, want)
		}
	}
}
