package cgroup

import (
	"fmt"

	"github.com/opencontainers/cgroups"
)

// Enter moves a process, with what it starts from then on, into the cgroup at path, which is made where it is
// missing (kubeletCgroups; whatever the cgroup driver, path is a path). A process that is there already stays,
// which needs no rights: unit files name the unit's own cgroup.
func Enter(path string, pid int) error {
	n, err := reservedName(path, false)
	if err != nil {
		return err
	}
	k := newKernel(Layout{})
	is, err := k.cgroupOf(pid)
	if err != nil {
		return err
	}
	if is == k.layout.path(n) {
		return nil
	}
	m, _, err := k.manager(n, Values{})
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", k.layout.path(n), err)
	}
	if err := m.Apply(pid); err != nil {
		return fmt.Errorf("move process %d from cgroup %s into %s: %w", pid, is, k.layout.path(n), err)
	}
	return nil
}

// cgroupOf returns the path of a process's cgroup. With cgroup v1 it is that of systemd, if there is one, as for the
// kubelet: systemd leaves a unit in the root of the controllers that it does not account for.
func (k *kernel) cgroupOf(pid int) (string, error) {
	all, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", fmt.Errorf("find the cgroup of process %d: %w", pid, err)
	}
	if k.v2 {
		return all[""], nil
	}
	if path, ok := all["name=systemd"]; ok {
		return path, nil
	}
	return all["memory"], nil
}
