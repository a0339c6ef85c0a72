package manifest

import (
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

func TestAPriorityWithoutAClassIsWarnedAboutOnAClustersNode(t *testing.T) {
	const (
		sentence = "spec.priority: Static pod has priority without priorityClassName. Mirror pod creation may fail if the default priority class doesn't match the given priority."
		priority = "  priority: 1000\n"
	)
	cluster := Origin{Source: pods.SourceFile, From: "/m/a.yaml", Node: node}
	for name, tt := range map[string]struct {
		from       Origin
		text, want string
	}{
		"neither":             {cluster, podManifest("p"), ""},
		"a priority":          {cluster, podManifest("p") + priority, "document 1 (line 9): " + sentence},
		"of 0":                {cluster, podManifest("p") + "  priority: 0\n", "document 1 (line 9): " + sentence},
		"with its class":      {cluster, podManifest("p") + priority + "  priorityClassName: system-node-critical\n", ""},
		"several":             {cluster, podManifest("p") + "---\n" + podManifest("q") + priority + "---\n" + podManifest("r") + priority, "document 2 (line 18): " + sentence + " So it is with 1 more."},
		"in a list":           {cluster, "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: p}\n  spec: {containers: [{name: c, image: i}], priority: 5}\n", "document 1 (line 5): items[0]." + sentence},
		"what is refused":     {cluster, podManifest("p") + priority + "  restartPolicy: Sometimes\n", `document 1 (line 10): spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"`},
		"without mirror pods": {standalone, podManifest("p") + priority, ""},
	} {
		docs := tt.from.Read([]byte(tt.text))
		var got []string
		for _, p := range Problems(docs, "", "") {
			got = append(got, strings.TrimPrefix(p.Error(), ": "))
			if p.Warning != strings.Contains(p.Message, "priorityClassName") {
				t.Errorf("%s: %v is a warning: %t", name, p, p.Warning)
			}
		}
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
