package volume

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
)

// nfs is a directory of an NFS server, mounted for each pod by the host's mount.nfs.
// The files belong to the server: fsGroup and SELinux labels leave them alone.
type nfs struct {
	m        *Manager
	source   *v1.NFSVolumeSource
	dir      string
	readOnly bool
	options  []string
}

func (n *nfs) path() Path { return Path{Host: n.dir, ReadOnly: n.readOnly} }

func (n *nfs) setUp(context.Context) error {
	if mounted, err := isMounted(n.dir); mounted || err != nil {
		return err
	}
	if err := n.m.needs("nfs", "mount.nfs", "nfs-common or nfs-utils"); err != nil {
		return err
	}
	if err := bounds.Path(n.source.Path); err != nil {
		return fmt.Errorf("path %w", err)
	}
	server := n.source.Server
	if ip, err := netip.ParseAddr(server); err == nil && ip.Is6() {
		server = "[" + server + "]"
	}
	options := n.options[:len(n.options):len(n.options)]
	if n.readOnly {
		options = append(options, "ro")
	}
	return n.m.mountHelper(server+":"+n.source.Path, n.dir, "nfs", options)
}

// needs refuses a volume for which the host lacks a program. Helpers of mount are
// found in root's usual directories, even if the agent's PATH has no sbin.
func (m *Manager) needs(kind, program, packages string) error {
	if _, err := m.lookPath(program); err == nil {
		return nil
	}
	return fmt.Errorf("volumes of type %s need %s, which this host does not have: install %s", kind, program, packages)
}

func lookPath(program string) (string, error) {
	p, err := exec.LookPath(program)
	if err == nil {
		return p, nil
	}
	for _, dir := range []string{"/sbin", "/usr/sbin", "/usr/local/sbin"} {
		if fi, statErr := os.Stat(filepath.Join(dir, program)); statErr == nil && fi.Mode()&0o111 != 0 {
			return filepath.Join(dir, program), nil
		}
	}
	return "", err
}
