package network

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestThePluginThatIsTaken(t *testing.T) {
	configured := t.TempDir()
	if err := os.WriteFile(filepath.Join(configured, "10.conflist"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ named, confDir, want string }{
		{"", "/nonexistent", Docker}, {"", configured, CNI},
		{Docker, configured, Docker}, {CNI, "/nonexistent", CNI}, {Kubenet, configured, Kubenet}, {"calico", configured, ""},
	} {
		p, err := New(Config{Plugin: tc.named, ConfDir: tc.confDir, BinDirs: []string{"/nonexistent"}, StateDir: t.TempDir(), MTU: 1400, KubenetBridge: "mkt0"})
		got := ""
		if err == nil {
			got = p.Name()
		}
		if got != tc.want {
			t.Errorf("%+v: %q, %v", tc, got, err)
		}
		if k, ok := p.(*kubenetPlugin); ok {
			if err := k.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "no pod CIDR yet") {
				t.Errorf("kubenet without a pod CIDR: %v", err)
			}
		}
	}
}
