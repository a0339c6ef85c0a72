package stopsignal

import (
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestSignalsComeBack(t *testing.T) {
	if n := len(Names()); n != len(cri.Signal_name)-1 {
		t.Errorf("%d names for %d signals and the runtime's default", n, len(cri.Signal_name)-1)
	}
	for _, name := range Names() {
		s, ok := Parse(name)
		if !ok || Name(s) != name || !strings.HasPrefix(name, "SIG") || strings.Contains(name, "_") {
			t.Errorf("%q is %v (%v) and comes back as %q", name, s, ok, Name(s))
		}
	}
	for name, want := range map[string]cri.Signal{
		"SIGUSR1": cri.Signal_SIGNAL_SIGUSR1, "SIGRTMIN+3": cri.Signal_SIGNAL_SIGRTMINPLUS3, "SIGRTMAX-14": cri.Signal_SIGNAL_SIGRTMAXMINUS14,
	} {
		if got, ok := Parse(name); !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
		}
	}
	for _, name := range []string{"", "RUNTIME_DEFAULT", "SIGNAL_SIGTERM", "TERM", "SIGNONE"} {
		if got, ok := Parse(name); ok {
			t.Errorf("%q is taken for %v", name, got)
		}
	}
	if got := Name(cri.Signal(4711)); got != "" {
		t.Errorf("an unknown signal is called %q", got)
	}
}
