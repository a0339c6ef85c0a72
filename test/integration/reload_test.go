package integration

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

func TestAConfigurationThatChangesIsNamed(t *testing.T) {
	t.Parallel()
	a := harness.NewAgent(t, harness.AgentConfig{})
	a.Start()
	file := filepath.Join(a.Dir, "kubelet.yaml")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for added, says := range map[string]string{
		"\nimageMaximumGCAge: 1h\n": `fields="imageMaximumGCAge"`,
		"\nnoSuchField: 1\n":        "the agent could not start with it",
	} {
		if err := os.WriteFile(file, append(append([]byte{}, before...), added...), 0o600); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, "the log says "+says, harness.Patience, func() error {
			if !strings.Contains(a.Log(), says) {
				return errors.New("it does not")
			}
			return nil
		}, a.Explain)
	}
}
