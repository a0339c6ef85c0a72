package resolvconf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

func domains(n, size int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%0*d", size, i)
	}
	return out
}

func TestBeyond(t *testing.T) {
	for name, tt := range map[string]struct {
		searches []string
		domain   string
		want     string
	}{
		"none":                        {nil, "cluster.local", ""},
		"as many as may be":           {domains(29, 5), "cluster.local", ""},
		"more, with a cluster domain": {domains(30, 5), "cluster.local", "Resolv.conf file '/r' contains search line consisting of more than 29 domains!"},
		"as many without one":         {domains(32, 5), "", ""},
		"more without one":            {domains(33, 5), "", "Resolv.conf file '/r' contains search line consisting of more than 32 domains!"},
		"a long one":                  {domains(1, 254), "", `Resolv.conf file "/r" contains a search path which length is more than allowed 253 chars!`},
		"long together":               {domains(20, 200), "", "Resolv.conf file '/r' contains search line which length is more than allowed 2048 chars!"},
	} {
		if got := beyond("/r", tt.searches, tt.domain); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestWatchTellsOncePerProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		events := make(chan string, 100)
		w := &Watch{Path: path, Clock: clock.RealClock{}, Event: func(_, reason, message string) { events <- reason + ": " + message }}
		testrun.Start(t, w.Run)
		for i, step := range []struct {
			text string // "": no file
			want string // of the last event; "": none has come
		}{
			{"", "no such file"},
			{"search a\n", ""},
			{"nameserver\n", "nameserver without an address"},
			{"search " + strings.Join(domains(40, 3), " ") + "\n", "more than 32 domains"},
			{"search " + strings.Join(domains(41, 3), " ") + "\n", ""},
			{"search " + strings.Join(domains(4, 3), " ") + "\n", ""},
			{"search " + strings.Join(domains(42, 3), " ") + "\n", "more than 32 domains"},
		} {
			if step.text != "" {
				if err := os.WriteFile(path, []byte(step.text), 0o600); err != nil {
					t.Fatal(err)
				}
				at := time.Now().Add(time.Duration(i) * time.Hour)
				if err := os.Chtimes(path, at, at); err != nil {
					t.Fatal(err)
				}
				time.Sleep(period)
			}
			synctest.Wait()
			time.Sleep(3 * period) // nothing is said again
			synctest.Wait()
			var told []string
			for len(events) > 0 {
				told = append(told, <-events)
			}
			switch {
			case step.want == "" && len(told) != 0:
				t.Errorf("step %d: told %q", i, told)
			case step.want != "" && (len(told) != 1 || !strings.HasPrefix(told[0], Reason+": ") || !strings.Contains(told[0], step.want)):
				t.Errorf("step %d: told %q, want one with %q", i, told, step.want)
			}
		}
	})
}
