package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// Reservation is what the system or the node's agents may use at most, on a cgroup that
// the operator has made for them (systemReservedCgroup, kubeReservedCgroup).
type Reservation struct {
	Cgroup string // as in the configuration
	Limits v1.ResourceList
	// Compressible limits only what can be taken back at any time: the share of CPU
	// (enforceNodeAllocatable: system-reserved-compressible, kube-reserved-compressible).
	Compressible bool
	// MemoryQoS protects the memory too (KEP-2570).
	MemoryQoS bool
}

// values returns the limits, as the kubelet sets them. Huge pages that are not reserved may not be
// used.
func (r Reservation) values() Values {
	var v Values
	if q, ok := r.Limits[v1.ResourceCPU]; ok {
		v.CPUShares = ref(pods.CPUShares(q.MilliValue()))
	}
	if r.Compressible {
		return v
	}
	if q, ok := r.Limits[v1.ResourceMemory]; ok {
		v.Memory = ref(q.Value())
		if r.MemoryQoS {
			v.Unified = bytesIn(nil, memoryMin, q.Value())
		}
	}
	if q, ok := r.Limits[resourcePIDs]; ok {
		v.PIDs = ref(q.Value())
	}
	v.HugePages = hugePages(r.Limits)
	return v
}

// Enforce sets the limits. It makes no cgroup: one that is missing, or lacks a controller, is an error that
// says so. Idempotent.
func (r Reservation) Enforce(withSystemd bool) error {
	n, err := reservedName(r.Cgroup, withSystemd)
	if err != nil {
		return err
	}
	return newKernel(Layout{systemd: withSystemd}).enforce(n, r.values())
}

// reservedName reads the name of a cgroup that is not ours. With systemd it is that of a slice, and
// what leads to it counts for nothing: the slice's name says where it is.
func reservedName(text string, withSystemd bool) (name, error) {
	sep, rest := "/", text
	if withSystemd {
		sep, rest = "-", strings.TrimSuffix(path.Base(text), slice)
	}
	var n name
	for e := range strings.SplitSeq(rest, sep) {
		if withSystemd {
			e = strings.ReplaceAll(e, "_", "-")
		}
		switch e {
		case "":
		case ".", "..", "/":
			return nil, fmt.Errorf("%q is not the name of a cgroup", text)
		default:
			n = append(n, e)
		}
	}
	if len(n) == 0 {
		return nil, fmt.Errorf("%q is the root of all cgroups, which has no limits", text)
	}
	return n, nil
}

// enforce sets the values of a cgroup that is there.
func (k *kernel) enforce(n name, v Values) error {
	if missing := k.missing(n, v); len(missing) > 0 {
		return fmt.Errorf("cgroup %s has to be there before the agent starts, and this host lacks %s", k.layout.path(n), strings.Join(missing, ", "))
	}
	m, r, err := k.manager(n, v)
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", k.layout.path(n), err)
	}
	if err := m.Set(r); err != nil {
		return fmt.Errorf("set the limits of cgroup %s: %w", k.layout.path(n), err)
	}
	return nil
}

// missing names what the cgroup lacks of that the values need.
func (k *kernel) missing(n name, v Values) (missing []string) {
	needed := map[string]bool{"cpu": v.CPUShares != nil, "memory": v.Memory != nil, "pids": v.PIDs != nil, "hugetlb": v.HugePages != nil && len(k.sizes) > 0}
	var controllers []string
	if k.v2 {
		dir := filepath.Join(mountPoint, k.layout.path(n))
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			return []string{dir}
		}
		controllers = strings.Fields(string(text))
	}
	for _, c := range []string{"cpu", "memory", "pids", "hugetlb"} {
		switch {
		case !needed[c]:
		case !k.v2:
			dir := filepath.Join(mountPoint, c, k.layout.path(n))
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				missing = append(missing, dir)
			}
		case !slices.Contains(controllers, c):
			missing = append(missing, fmt.Sprintf("its controller %s (cgroup.subtree_control of the cgroup above it)", c))
		}
	}
	return missing
}

// Enforcement is a Reservation with the words of its events.
type Enforcement struct {
	Reservation
	Kind string // "System" or "Kube"
}

// EnforceReserved enforces all of them, and records for each the kubelet's event about the node, if event is
// not nil. The first that fails is the error.
func EnforceReserved(all []Enforcement, withSystemd bool, event func(eventType, reason, message string)) error {
	if event == nil {
		event = func(string, string, string) {}
	}
	for _, e := range all {
		if err := e.Enforce(withSystemd); err != nil {
			what := e.Kind + " Reserved"
			if e.Compressible {
				what += " Compressible"
			}
			message := fmt.Sprintf("Failed to enforce %s Cgroup Limits on %q: %v", what, e.Cgroup, err)
			event(v1.EventTypeWarning, failedEnforcement, message)
			return errors.New(message)
		}
		event(v1.EventTypeNormal, enforced, fmt.Sprintf("Updated limits on %s reserved cgroup %s", strings.ToLower(e.Kind), e.Cgroup))
	}
	return nil
}

// The kubelet's reasons of events about what is enforced.
const (
	enforced          = "NodeAllocatableEnforced"
	failedEnforcement = "FailedNodeAllocatableEnforcement"
)
