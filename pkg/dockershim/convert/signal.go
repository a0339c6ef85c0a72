package convert

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/stopsignal"
)

// criSignal converts a signal as Docker has it, which may be of the image: a name, with
// or without SIG, or a number. SIGNAL_RUNTIME_DEFAULT stands for one that CRI does not know.
func criSignal(given string) cri.Signal {
	if given == "" {
		given = "SIGTERM"
	}
	if n, err := strconv.Atoi(given); err == nil {
		for _, name := range stopsignal.Names() {
			if int(unix.SignalNum(name)) == n {
				s, _ := stopsignal.Parse(name)
				return s
			}
		}
		return cri.Signal_SIGNAL_RUNTIME_DEFAULT
	}
	name := strings.ToUpper(given)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	s, _ := stopsignal.Parse(name)
	return s
}
