package dockershim

import (
	"maps"
	"strings"
	"testing"
)

func TestLabelsAndAnnotationsComeBackAsTheyWere(t *testing.T) {
	for name, tc := range map[string]struct{ labels, annotations map[string]string }{
		"none":                     {map[string]string{}, map[string]string{}},
		"plain":                    {map[string]string{"app": "web", "io.kubernetes.pod.uid": "1"}, map[string]string{"io.kubernetes.container.hash": "ab"}},
		"a label like ours":        {map[string]string{labelType: "x", labelSandboxID: "y", labelStateDir: "/elsewhere"}, map[string]string{}},
		"a label like annotations": {map[string]string{"annotation.a": "b"}, map[string]string{"a": "c"}},
		"an escaped label":         {map[string]string{"label.label.a": "b"}, map[string]string{"annotation.x": "y"}},
	} {
		t.Run(name, func(t *testing.T) {
			all := dockerLabels(tc.labels, tc.annotations)
			all[labelType], all[labelStateDir] = typeContainer, "/var/lib/dockershim"
			labels, annotations := criLabels(all)
			if !maps.Equal(labels, tc.labels) || !maps.Equal(annotations, tc.annotations) {
				t.Errorf("got %v and %v, want %v and %v", labels, annotations, tc.labels, tc.annotations)
			}
		})
	}
}

func TestIdentityComesBackFromNameAndLabels(t *testing.T) {
	for _, tc := range []struct {
		id   identity
		name string
	}{
		{identity{Pod: "web-n1", Namespace: "default", UID: "42", Attempt: 3}, "k8s_POD_web-n1_default_42_3"},
		{identity{Container: "c", Pod: "web", Namespace: "kube-system", UID: "a-b", Attempt: 0}, "k8s_c_web_kube-system_a-b_0"},
		{identity{Container: "POD", Pod: "web", Namespace: "default", UID: "1", Attempt: 1}, "k8s_POD_web_default_1_1"},
		{identity{Container: "a_b", Pod: "we b", Namespace: "ü", UID: "1", Attempt: 7}, "k8s_a_b_we-b_--_1_7"},
	} {
		labels := map[string]string{}
		name, err := setIdentity(labels, tc.id)
		if err != nil {
			t.Fatal(err)
		}
		if name != tc.name {
			t.Errorf("name of %+v is %q, want %q", tc.id, name, tc.name)
		}
		for _, suffix := range []string{"", "_0badcafe"} {
			if got := identityOf("/"+name+suffix, labels); got != tc.id {
				t.Errorf("%q, %v is %+v, want %+v", name+suffix, labels, got, tc.id)
			}
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("k8s_POD_a_b_c_0")
	f.Add("k8s____1_")
	f.Fuzz(func(t *testing.T, name string) {
		id, ok := parseName(name)
		if !ok {
			return
		}
		back, _ := id.dockerName()
		if again, ok := parseName(back); !ok || strings.ContainsRune(id.UID+id.Pod+id.Namespace+id.Container, '_') || again.Attempt != id.Attempt {
			t.Errorf("%q is %+v, which is %q, which is %+v", name, id, back, again)
		}
	})
}
