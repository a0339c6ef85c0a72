package cpumanager

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/checksum"
)

// FileName is the name of the state's file in the agent's root directory. File and
// format are the kubelet's, so that either can take over from the other.
const FileName = "cpu_manager_state"

// The names of the policies.
const (
	policyStatic = "static"
	policyNone   = "none"
)

// checkpoint is the file's content, version 2 of the kubelet's, which each kubelet reads. Kubelets since 1.37 write version 4,
// which has the state sealed besides. Of what that holds more, only the CPUs of features that are off by default are of
// use to a kubelet.
type checkpoint struct {
	PolicyName    string                       `json:"policyName"`
	DefaultCPUSet string                       `json:"defaultCpuSet"`
	Entries       map[string]map[string]string `json:"entries,omitempty"`
	Checksum      checksum.Checksum            `json:"checksum"`
}

func (c checkpoint) sum() checksum.Checksum {
	c.Checksum = 0
	if c.Entries == nil {
		c.Entries = map[string]map[string]string{}
	}
	return checksum.Of(&c, "(*cpumanager.checkpoint)", "(*state.CPUManagerCheckpoint)")
}

func encode(s state) ([]byte, error) {
	c := checkpoint{PolicyName: policyStatic, DefaultCPUSet: s.shared.String(), Entries: map[string]map[string]string{}}
	for uid, containers := range s.assigned {
		entry := map[string]string{}
		for name, cpus := range containers {
			entry[name] = cpus.String()
		}
		c.Entries[string(uid)] = entry
	}
	c.Checksum = c.sum()
	return json.Marshal(c)
}

// decode reads what encode, or a kubelet with that policy, has written.
func decode(text []byte, policy string) (state, error) {
	var c checkpoint
	var sealed checksum.Sealed
	if err := errors.Join(json.Unmarshal(text, &c), json.Unmarshal(text, &sealed)); err != nil {
		return state{}, fmt.Errorf("checkpoint is corrupted: %w", err)
	}
	switch {
	case sealed != checksum.Sealed{}:
		c = checkpoint{}
		if err := sealed.Open(&c); err != nil {
			return state{}, err
		}
	case c.Checksum != 0 && c.Checksum != c.sum(): // very old kubelets wrote none
		return state{}, checksum.ErrMismatch
	}
	switch c.PolicyName {
	case policy:
	case policyStatic, policyNone:
		return state{}, &otherPolicy{policy, c.PolicyName}
	default:
		return state{}, fmt.Errorf("checkpoint is corrupted: it is of a policy %q", bounds.Cut(c.PolicyName, 40))
	}
	s := state{assigned: map[types.UID]map[string]cpuset.CPUSet{}}
	var err error
	if s.shared, err = cpuset.Parse(c.DefaultCPUSet); err != nil {
		return state{}, fmt.Errorf("could not parse default cpu set %q: %w", c.DefaultCPUSet, err)
	}
	for uid, entry := range c.Entries {
		containers := map[string]cpuset.CPUSet{}
		for name, text := range entry {
			if containers[name], err = cpuset.Parse(text); err != nil {
				return state{}, fmt.Errorf("could not parse cpuset %q for container %q in pod %q: %w", text, name, uid, err)
			}
		}
		s.assigned[types.UID(uid)] = containers
	}
	return s, nil
}

// otherPolicy is no damage: the user has to say which policy it is to be.
type otherPolicy struct{ configured, found string }

func (e *otherPolicy) Error() string {
	return fmt.Sprintf("configured policy %q differs from state checkpoint policy %q", e.configured, e.found)
}

// What becomes of containers if the state is damaged. A kubelet refuses to start.
const (
	lostStatic = "Which CPUs containers have to themselves. Each running pod is given its CPUs anew, and containers are moved to these within moments."
	lostNone   = "Perhaps, which CPUs containers had to themselves under an earlier policy. They stay on these until they restart."
)

// load returns false if there is no file, or none that is whole: then it is moved aside.
func load(path, policy string) (state, bool, error) {
	var s state
	var other *otherPolicy
	lost := lostStatic
	if policy == policyNone {
		lost = lostNone
	}
	err := durable.Load(path, lost, func(text []byte) (err error) {
		s, err = decode(text, policy)
		if errors.As(err, &other) {
			return nil
		}
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return state{}, false, nil
	case err != nil:
		return state{}, false, fmt.Errorf("read the state of the CPU manager: %w", err)
	case other != nil:
		return state{}, false, useless(path, other)
	}
	return s, true, nil
}

// useless is the kubelet's message about a state that cannot be used.
func useless(path string, err error) error {
	return fmt.Errorf("could not restore state from checkpoint: %w, please drain this node and delete the CPU manager checkpoint file %q before restarting Kubelet", err, path)
}

func save(path string, s state) error {
	text, err := encode(s)
	if err == nil {
		err = durable.Write(path, text)
	}
	if err != nil {
		return fmt.Errorf("write the state of the CPU manager: %w", err)
	}
	return nil
}

// CheckUnused is for an agent without the static policy: it returns an error if the
// state of an agent that had it is still there, since its containers are bound to
// CPUs.
func CheckUnused(root string) error {
	_, _, err := load(filepath.Join(root, FileName), policyNone)
	return err
}
