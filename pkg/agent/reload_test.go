package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
)

func TestAFileThatIsBeingWrittenIsNotReadYet(t *testing.T) {
	const whole = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 110\n"
	file := filepath.Join(t.TempDir(), "kubelet.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(whole)
	cfg, _, err := config.Load([]string{"--config=" + file})
	if err != nil {
		t.Fatal(err)
	}
	w := &configWatch{started: cfg, running: cfg, read: cfg.Fingerprint(), seen: cfg.Fingerprint()}
	look := func(step string, want int32) {
		t.Helper()
		if w.look(); w.running.MaxPods != want {
			t.Errorf("%s: maxPods is %d, want %d", step, w.running.MaxPods, want)
		}
	}
	look("nothing", 110)
	write(whole[:len(whole)-2]) // maxPods: 11
	look("half a file", 110)
	write(whole[:len(whole)-4] + "50\n")
	look("the other half", 110)
	look("no more of it", 50)
	write("{")
	look("a mistake", 50)
	look("a mistake", 50)
	write(whole)
	look("as it was", 50)
	look("as it was", 110)
}
