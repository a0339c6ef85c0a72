package pods

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// ordinary are data of Secrets that nobody need keep: others are told them, or they are too short to be looked for.
var ordinary = map[string]bool{"me": true, "u": true, "p": true}

// TestSecretsAreMarked: what the agent writes down is searched for marks, so that each Secret must have one.
func TestSecretsAreMarked(t *testing.T) {
	secrets, marked := 0, 0
	for _, c := range cases(t) {
		objects, err := documents(c.manifest)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			if o["kind"] != "Secret" {
				continue
			}
			secrets++
			for field, decode := range map[string]func(string) (string, error){
				"stringData": func(s string) (string, error) { return s, nil },
				"data":       func(s string) (string, error) { b, err := base64.StdEncoding.DecodeString(s); return string(b), err },
			} {
				values, _ := o[field].(map[string]any)
				for key, v := range values {
					value, err := decode(fmt.Sprint(v))
					if err != nil {
						t.Errorf("%s: Secret %v: %s: %v", c.name, o["metadata"], key, err)
					}
					switch {
					case len(harness.Leaks([]byte(value))) > 0:
						marked++
					case !ordinary[value]:
						t.Errorf("%s: Secret %v: %s has none of the marks %q", c.name, o["metadata"], key, harness.Marks)
					}
				}
			}
		}
	}
	if secrets < 5 || marked < 5 {
		t.Errorf("%d Secrets with %d marked values", secrets, marked)
	}
	for _, c := range cases(t) {
		if c.name == "env" && !strings.Contains(c.manifest, "value: hunter2") {
			t.Error("no literal value of an environment is marked")
		}
	}
}
