package pods

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// want is what a case expects. A text that stands between slashes is a regular
// expression, (?m) switched on; any other must match exactly, except for space
// around it. What is not given is not checked.
type want struct {
	Only string `json:"only"` // standalone or cluster; "": both
	// Needs is what the host must be able to do: loop, privileged, or no-privileged if it
	// must not.
	Needs    string             `json:"needs"`
	Setup    string             `json:"setup"`    // shell lines, before there is a pod, in ${DIR}
	Teardown string             `json:"teardown"` // shell lines, when all is over, in ${DIR}
	Pods     map[string]podWant `json:"pods"`     // by the name in the manifest
	// Removed is looked at once the pods have been removed and are gone.
	Removed []ask `json:"removed"`
}

type podWant struct {
	Phase      string                   `json:"phase"`
	Ready      *bool                    `json:"ready"` // its condition
	Reason     string                   `json:"reason"`
	Message    string                   `json:"message"`
	QoS        string                   `json:"qos"`
	Conditions map[string]string        `json:"conditions"`
	Containers map[string]containerWant `json:"containers"` // also init and ephemeral containers
	Events     []eventWant              `json:"events"`     // at least these
	Never      []string                 `json:"never"`      // reasons of events that it must not have
	In         map[string][]ask         `json:"in"`         // shell lines in a container
	Host       []ask                    `json:"host"`       // shell lines on the host
	// Why is the sentence of `mini-kubelet why` about it. It must be the only one, and name what mends it; without
	// Why there must be none.
	Why string `json:"why"`
}

type containerWant struct {
	State    string   `json:"state"` // waiting, running or terminated
	Reason   string   `json:"reason"`
	Message  string   `json:"message"`
	ExitCode *int32   `json:"exitCode"`
	Ready    *bool    `json:"ready"`
	Restarts int32    `json:"restarts"` // at least
	Log      []string `json:"log"`      // of all its runs; exact texts are lines
}

type eventWant struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// ask is a question to a shell. On the host it knows of the pod POD, POD_UID, POD_IP,
// HOST_IP and VOLUMES (its volumes' directory), and of each container c that runs
// PID_c and ID_c.
type ask struct {
	Sh   string `json:"sh"`
	Says string `json:"says"`
}

// testCase is a row of the table.
type testCase struct {
	name     string
	manifest string
	want     want
}

// cases reads the table.
func cases(t *testing.T) []testCase {
	t.Helper()
	files, err := filepath.Glob("*.want.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	var all []testCase
	for _, file := range files {
		c := testCase{name: strings.TrimSuffix(file, ".want.yaml")}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(text, &c.want); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		manifest, err := os.ReadFile(c.name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		c.manifest = string(manifest)
		all = append(all, c)
	}
	return all
}

// documents are the objects of a manifest.
func documents(text string) ([]map[string]any, error) {
	var all []map[string]any
	for _, doc := range strings.Split("\n"+text, "\n---") {
		object := map[string]any{}
		if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
			return nil, err
		}
		if len(object) > 0 {
			all = append(all, object)
		}
	}
	return all, nil
}

// join writes objects as one manifest.
func join(objects []map[string]any) (string, error) {
	var b bytes.Buffer
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return "", err
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	return b.String(), nil
}

func TestEveryManifestHasItsOutcomeAndEveryOutcomeItsPods(t *testing.T) {
	all := map[string]testCase{}
	for _, c := range cases(t) {
		all[c.name] = c
	}
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".want.yaml") {
			continue
		}
		c, ok := all[strings.TrimSuffix(file, ".yaml")]
		if !ok {
			t.Errorf("%s has no %s", file, strings.TrimSuffix(file, ".yaml")+".want.yaml")
			continue
		}
		objects, err := documents(c.manifest)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		pods := map[string]bool{}
		for _, o := range objects {
			if o["kind"] == "Pod" {
				name, _ := o["metadata"].(map[string]any)["name"].(string)
				pods[name] = true
				if _, ok := c.want.Pods[name]; !ok {
					t.Errorf("%s: of pod %s nothing is expected", file, name)
				}
			}
		}
		for name := range c.want.Pods {
			if !pods[name] {
				t.Errorf("%s: pod %s is expected and not in the manifest", file, name)
			}
		}
		if c.want.Only != "" && c.want.Only != "standalone" && c.want.Only != "cluster" {
			t.Errorf("%s: only %q", file, c.want.Only)
		}
	}
}
