package docker

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/events"
)

func TestLabelsAndAnnotationsComeBackAsTheyWere(t *testing.T) {
	for name, tc := range map[string]struct{ labels, annotations map[string]string }{
		"none":                     {map[string]string{}, map[string]string{}},
		"plain":                    {map[string]string{"app": "web", "io.kubernetes.pod.uid": "1"}, map[string]string{"io.kubernetes.container.hash": "ab"}},
		"a label like ours":        {map[string]string{LabelType: "x", LabelSandboxID: "y", LabelStateDir: "/elsewhere"}, map[string]string{}},
		"a label like annotations": {map[string]string{"annotation.a": "b"}, map[string]string{"a": "c"}},
		"an escaped label":         {map[string]string{"label.label.a": "b"}, map[string]string{"annotation.x": "y"}},
	} {
		t.Run(name, func(t *testing.T) {
			all := JoinLabels(tc.labels, tc.annotations)
			all[LabelType], all[LabelStateDir] = TypeContainer, "/var/lib/dockershim"
			labels, annotations := SplitLabels(all)
			if !maps.Equal(labels, tc.labels) || !maps.Equal(annotations, tc.annotations) {
				t.Errorf("got %v and %v, want %v and %v", labels, annotations, tc.labels, tc.annotations)
			}
		})
	}
}

func TestIdentityComesBackFromNameAndLabels(t *testing.T) {
	for _, tc := range []struct {
		id   Identity
		name string
	}{
		{Identity{Pod: "web-n1", Namespace: "default", UID: "42", Attempt: 3}, "k8s_POD_web-n1_default_42_3"},
		{Identity{Container: "c", Pod: "web", Namespace: "kube-system", UID: "a-b", Attempt: 0}, "k8s_c_web_kube-system_a-b_0"},
		{Identity{Container: "POD", Pod: "web", Namespace: "default", UID: "1", Attempt: 1}, "k8s_POD_web_default_1_1"},
		{Identity{Container: "a_b", Pod: "we b", Namespace: "ü", UID: "1", Attempt: 7}, "k8s_a_b_we-b_--_1_7"},
	} {
		labels := map[string]string{}
		name, err := SetIdentity(labels, tc.id)
		if err != nil {
			t.Fatal(err)
		}
		if name != tc.name {
			t.Errorf("name of %+v is %q, want %q", tc.id, name, tc.name)
		}
		for _, suffix := range []string{"", "_0badcafe"} {
			if got, ok := IdentityOf("/"+name+suffix, labels); !ok || got != tc.id {
				t.Errorf("%q, %v is %+v, want %+v", name+suffix, labels, got, tc.id)
			}
		}
	}
}

// forged are labels that an image carries to be taken for what it is not.
func forged() map[string]string {
	return map[string]string{
		LabelType: TypeSandbox, LabelSandboxID: "s2", LabelLogPath: "/etc/passwd", LabelContainerName: "POD", LabelPodUID: "u2",
		labelKeys: `["a"]`, LabelStateDir: "/elsewhere", LabelCreated: "1", LabelHandler: "h2", LabelPIDMode: "NODE", LabelImage: "i2",
		labelMetadata: `{"container":"../../victim","pod":"p2","namespace":"n2","uid":"u2","attempt":7}`,
		LabelVolumes:  `[{"path":"/v","id":"sha256:1"}]`,
		"annotation.io.kubernetes.container.preStopHandler": `{"httpGet":{"host":"127.0.0.1","port":9}}`,
		"label.app": "forged", "app.of.image": "forged",
	}
}

func TestLabelsOfAnImageAreNotRead(t *testing.T) {
	ours := map[string]string{LabelType: TypeContainer, LabelStateDir: "/state", LabelSandboxID: "s1", LabelLogPath: "", "app": "web", annotationPrefix + "a": "b"}
	sealed := maps.Clone(ours)
	seal(sealed)
	all := forged()
	maps.Copy(all, sealed) // as Docker does
	got := trusted(all)
	if !maps.Equal(got, sealed) {
		t.Errorf("read back %v, want %v", got, sealed)
	}
	if again := trusted(got); !maps.Equal(again, got) {
		t.Errorf("read twice: %v, want %v", again, got)
	}
	labels, annotations := SplitLabels(got)
	if !maps.Equal(labels, map[string]string{"app": "web"}) || !maps.Equal(annotations, map[string]string{"a": "b"}) {
		t.Errorf("the client gets labels %v and annotations %v", labels, annotations)
	}
}

func TestLabelsOfAnOlderReleaseAreReadWhereItSetThemAlways(t *testing.T) {
	all := forged()
	delete(all, labelKeys)
	for _, k := range alwaysSet {
		all[k] = "ours"
	}
	got := trusted(all)
	if len(got) != len(alwaysSet) {
		t.Errorf("read back %v, want %v", got, alwaysSet)
	}
	for k, v := range got {
		if v != "ours" {
			t.Errorf("%s=%s is the image's", k, v)
		}
	}
}

func TestAContainerThatWeHaveNotNamedIsNotOurs(t *testing.T) {
	labels := forged()
	labels[labelKeys] = marshal(slices.Sorted(maps.Keys(labels))) // all of them, and sealed
	for _, name := range []string{"/silly_einstein", "/k8s_c_p_n_u", "/k8s_c_p_n_u_0", "/k8s_c_p_n_u_0_web", "/k8s_c_p_n_u_0_0badcafe", "", "/"} {
		if id, ok := IdentityOf(name, labels); ok {
			t.Errorf("%q with all labels forged is taken for %+v", name, id)
		}
		if it, ok := newItem(&summary{ID: "1", Names: []string{name}, Labels: labels}); ok {
			t.Errorf("%q with all labels forged is listed as %+v", name, it)
		}
		if h, ok := happened(&events.Message{Actor: events.Actor{ID: "1", Attributes: withName(labels, name)}}); ok {
			t.Errorf("an event of %q with all labels forged is told as %+v", name, h)
		}
	}
	for _, name := range []string{"/silly_einstein", "/k8s_c_p_n_u", "/k8s_c_p_n_u_0_web", "/k8s_c_p_n_u_x", "/k8s_c_p_n_u_0_0badcafe_1"} {
		if id, ok := IdentityOf(name, nil); ok {
			t.Errorf("%q is taken for %+v", name, id)
		}
	}
}

func withName(labels map[string]string, name string) map[string]string {
	all := maps.Clone(labels)
	all["name"] = strings.TrimPrefix(name, "/")
	return all
}

func FuzzParseName(f *testing.F) {
	f.Add("k8s_POD_a_b_c_0")
	f.Add("k8s____1_")
	f.Fuzz(func(t *testing.T, name string) {
		id, ok := parseName(name)
		if !ok {
			return
		}
		back, _ := id.Name()
		if again, ok := parseName(back); !ok || strings.ContainsRune(id.UID+id.Pod+id.Namespace+id.Container, '_') || again.Attempt != id.Attempt {
			t.Errorf("%q is %+v, which is %q, which is %+v", name, id, back, again)
		}
	})
}
