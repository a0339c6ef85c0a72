// Package stopsignal translates signals between CRI, whose names are identifiers
// (SIGNAL_SIGRTMINPLUS3), and the names that the API and Docker have for them
// (SIGRTMIN+3).
package stopsignal

import (
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// criPrefix is what CRI puts before each name since Kubernetes 1.37; on the wire
// signals are numbers, and these are as they were.
const criPrefix = "SIGNAL_"

var (
	toCRI   = strings.NewReplacer("MIN+", "MINPLUS", "MAX-", "MAXMINUS")
	fromCRI = strings.NewReplacer("MINPLUS", "MIN+", "MAXMINUS", "MAX-")
)

// Name returns the name of a signal, "" for SIGNAL_RUNTIME_DEFAULT and for a number
// that CRI has no name for.
func Name(s cri.Signal) string {
	name, ok := cri.Signal_name[int32(s)]
	if !ok || s == cri.Signal_SIGNAL_RUNTIME_DEFAULT {
		return ""
	}
	return fromCRI.Replace(strings.TrimPrefix(name, criPrefix))
}

// Parse returns the signal with that name, and whether CRI has one.
func Parse(name string) (cri.Signal, bool) {
	n, ok := cri.Signal_value[criPrefix+toCRI.Replace(name)]
	s := cri.Signal(n)
	return s, ok && s != cri.Signal_SIGNAL_RUNTIME_DEFAULT
}

// Names returns all names, in no order.
func Names() []string {
	var names []string
	for n := range cri.Signal_name {
		if name := Name(cri.Signal(n)); name != "" {
			names = append(names, name)
		}
	}
	return names
}
