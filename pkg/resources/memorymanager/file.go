package memorymanager

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/checksum"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/numa"
)

// FileName is the name of the state's file in the agent's root directory. File and format are the
// kubelet's, so that either can take over from the other.
const FileName = "memory_manager_state"

// The names of the policies.
const (
	policyStatic = "Static"
	policyNone   = "None"
)

// content is what the file says, twice: as kubelets before 1.37 read it, and as a text with a checksum
// of its own, which counts where it is there.
type content struct {
	PolicyName   string                     `json:"policyName"`
	MachineState NUMANodeMap                `json:"machineState"`
	Entries      ContainerMemoryAssignments `json:"entries,omitempty"`
}

// checkpointV1 is version 1 of the kubelet's.
type checkpointV1 struct {
	PolicyName   string                     `json:"policyName"`
	MachineState NUMANodeMap                `json:"machineState"`
	Entries      ContainerMemoryAssignments `json:"entries,omitempty"`
	Checksum     checksum.Checksum          `json:"checksum"`
}

// checkpoint is version 3.
type checkpoint struct {
	checkpointV1
	checksum.Sealed
}

func (c checkpointV1) sum() checksum.Checksum {
	c.Checksum = 0
	if c.Entries == nil {
		c.Entries = ContainerMemoryAssignments{}
	}
	return checksum.Of(&c, "(*memorymanager.checkpointV1)", "(*state.MemoryManagerCheckpoint)", "memorymanager.", "state.")
}

func encode(state NUMANodeMap, a assignments) ([]byte, error) {
	c := checkpoint{checkpointV1: checkpointV1{PolicyName: policyStatic, MachineState: state, Entries: ContainerMemoryAssignments{}}}
	for uid, containers := range a {
		c.Entries[string(uid)] = containers
	}
	data, err := json.Marshal(content{c.PolicyName, c.MachineState, c.Entries})
	if err != nil {
		return nil, err
	}
	c.Checksum, c.Sealed = c.sum(), checksum.Seal(data)
	return json.Marshal(c)
}

// decode reads what encode, or a kubelet with that policy, has written.
func decode(text []byte, policy string) (assignments, error) {
	var c checkpoint
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("checkpoint is corrupted: %w", err)
	}
	said := content{c.PolicyName, c.MachineState, c.Entries}
	switch {
	case c.Sealed != checksum.Sealed{}:
		said = content{}
		if err := c.Open(&said); err != nil {
			return nil, err
		}
	case c.Checksum != 0 && c.Checksum != c.sum(): // very old kubelets wrote none
		return nil, checksum.ErrMismatch
	}
	switch said.PolicyName {
	case policy:
	case policyStatic, policyNone:
		return nil, &otherPolicy{policy, said.PolicyName}
	default:
		return nil, fmt.Errorf("checkpoint is corrupted: it is of a policy %q", bounds.Cut(said.PolicyName, 40))
	}
	a := assignments{}
	for uid, containers := range said.Entries {
		for name, blocks := range containers {
			for _, b := range blocks {
				if !slices.Equal(b.nodes().Nodes(), b.NUMAAffinity) || len(b.NUMAAffinity) == 0 {
					return nil, fmt.Errorf("checkpoint is corrupted: container %q of pod %q has memory of NUMA nodes %v", bounds.Cut(name, 80), bounds.Cut(uid, 80), numa.Of(b.NUMAAffinity...))
				}
			}
		}
		a[types.UID(uid)] = containers
	}
	return a, nil
}

// otherPolicy is no damage: the user has to say which policy it is to be.
type otherPolicy struct{ configured, found string }

func (e *otherPolicy) Error() string {
	return fmt.Sprintf("configured policy %q differs from state checkpoint policy %q", e.configured, e.found)
}

// What becomes of containers if the state is damaged. A kubelet refuses to start.
const (
	lostStatic = "Of which NUMA nodes containers have memory. What each running pod has is decided anew; its containers keep the nodes that they are on until they restart."
	lostNone   = "Perhaps, of which NUMA nodes containers had memory under an earlier policy. They stay on these until they restart."
)

// load returns nothing if there is no file, or none that is whole: then it is moved aside.
func load(path, policy string) (assignments, error) {
	a := assignments{}
	var other *otherPolicy
	lost := lostStatic
	if policy == policyNone {
		lost = lostNone
	}
	err := durable.Load(path, lost, func(text []byte) error {
		read, err := decode(text, policy)
		if errors.As(err, &other) {
			return nil
		}
		if err == nil {
			a = read
		}
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a, nil
	case err != nil:
		return nil, fmt.Errorf("read the state of the memory manager: %w", err)
	case other != nil:
		return nil, useless(path, other)
	}
	return a, nil
}

// useless is the kubelet's message about a state that cannot be used.
func useless(path string, err error) error {
	return fmt.Errorf("could not restore state from checkpoint: [memorymanager] %w, please drain this node and delete the memory manager checkpoint file %q before restarting Kubelet", err, path)
}

func save(path string, state NUMANodeMap, a assignments) error {
	text, err := encode(state, a)
	if err == nil {
		err = durable.Write(path, text)
	}
	if err != nil {
		return fmt.Errorf("write the state of the memory manager: %w", err)
	}
	return nil
}

// CheckUnused is for an agent without the Static policy: it returns an error if the state of an agent
// that had it is still there, since its containers are bound to NUMA nodes.
func CheckUnused(root string) error {
	_, err := load(filepath.Join(root, FileName), policyNone)
	return err
}
