package convert

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// stopSignal returns Docker's name of a signal: SIGRTMIN+3 for CRI's SIGRTMINPLUS3.
func stopSignal(s cri.Signal) string {
	name := s.String()
	name = strings.Replace(name, "MINPLUS", "MIN+", 1)
	return strings.Replace(name, "MAXMINUS", "MAX-", 1)
}

// criSignal converts a signal back; RUNTIME_DEFAULT stands for one that CRI does not know.
func criSignal(name string) cri.Signal {
	if name == "" {
		name = "SIGTERM"
	}
	if n, err := strconv.Atoi(name); err == nil {
		for value, known := range cri.Signal_name {
			if value != 0 && signalNumber(known) == n {
				return cri.Signal(value)
			}
		}
		return cri.Signal_RUNTIME_DEFAULT
	}
	name = strings.NewReplacer("MIN+", "MINPLUS", "MAX-", "MAXMINUS").Replace(strings.ToUpper(name))
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	return cri.Signal(cri.Signal_value[name])
}

// signalNumber returns the kernel's number of a signal, 0 for an unknown name.
func signalNumber(name string) int { return int(unix.SignalNum(name)) }
