package config

import (
	"os"
	"strings"
	"testing"
)

// FuzzDecode checks that no file makes the reader panic, and that every problem it
// reports names the file.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"testdata/kubeadm.yaml", "testdata/defaults.yaml", "../../config/kubelet.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(header + "a: &a [*a]\n"))
	f.Add([]byte(header + "authentication: &a\n  <<: *a\n"))
	f.Add([]byte(header + "? [x]\n: y\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := newConfig()
		if err := decode(c, "FILE", text); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "FILE") && !strings.HasPrefix(line, " ") {
					t.Errorf("a line of the error does not name the file: %q of %q", line, err)
				}
			}
			return
		}
		c.NodeName = "n1"
		if err := c.complete(); err != nil {
			t.Fatal(err)
		}
		if c.validate() == nil {
			c.warnings(&Flags{})
		}
	})
}
