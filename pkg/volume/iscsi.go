package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
)

// iscsi is a disk of an iSCSI target. The host's iscsiadm logs in, its file system is
// mounted once for all pods at
//
//	plugins/kubernetes.io/iscsi/iface-<interface>/<portal>-<iqn>-lun-<lun>
//
// and bind-mounted for each. <that>.json beside it records how to log out.
type iscsi struct {
	m        *Manager
	pod      *v1.Pod
	disk     iscsiDisk
	fsType   string
	readOnly bool
	secret   func(context.Context) (*v1.Secret, error) // nil for none
	dir      string
	options  []string

	chapDiscovery, chapSession bool
	initiator                  string
}

// iscsiDisk says where a disk is.
type iscsiDisk struct {
	Portals   []string `json:"Portals"` // host:port
	IQN       string   `json:"Iqn"`
	LUN       int32    `json:"Lun"`
	Interface string   `json:"Iface"`
}

const (
	iscsiPlugin    = "kubernetes.io/iscsi"
	iscsiPort      = "3260"
	diskPatience   = 30 * time.Second // for a disk to appear after the login
	diskLook       = 200 * time.Millisecond
	iscsiInterface = "default"
)

// newISCSIDisk makes a disk from the fields of a volume source.
func newISCSIDisk(portal string, portals []string, iqn string, lun int32, iface string) iscsiDisk {
	if iface == "" {
		iface = iscsiInterface
	}
	d := iscsiDisk{IQN: iqn, LUN: lun, Interface: iface}
	for _, p := range append([]string{portal}, portals...) {
		if _, _, err := net.SplitHostPort(p); err != nil {
			p = net.JoinHostPort(strings.Trim(p, "[]"), iscsiPort)
		}
		d.Portals = append(d.Portals, p)
	}
	return d
}

// name is the disk's file name below its interface.
func (d iscsiDisk) name() string {
	return d.Portals[0] + "-" + d.IQN + "-lun-" + strconv.Itoa(int(d.LUN))
}

// device is the link that udev makes to the disk once it is there.
func (d iscsiDisk) device(portal string) string {
	return "ip-" + strings.NewReplacer("[", "", "]", "").Replace(portal) + "-iscsi-" + d.IQN + "-lun-" + strconv.Itoa(int(d.LUN))
}

func (i *iscsi) path() Path { return Path{Host: i.dir, ReadOnly: i.readOnly, Relabel: !i.readOnly} }

func (i *iscsi) setUp(ctx context.Context) error {
	global := filepath.Join(i.m.layout.plugin(iscsiPlugin), "iface-"+i.disk.Interface, i.disk.name())
	switch mounted, err := isMounted(i.dir); {
	case err != nil:
		return err
	case mounted:
		if _, err := os.Lstat(global + ".json"); errors.Is(err, fs.ErrNotExist) {
			return writeRecord(global, i.disk) // it was damaged
		}
		return nil
	}
	if err := i.m.needs("iscsi", "iscsiadm", "open-iscsi or iscsi-initiator-utils"); err != nil {
		return err
	}
	for what, name := range map[string]string{"iscsi interface": i.disk.Interface, "iscsi disk": i.disk.name()} {
		if err := element(what, name); err != nil {
			return err
		}
	}
	for _, portal := range i.disk.Portals { // a path could lead to something that a pod has made
		if err := element("iscsi device", i.disk.device(portal)); err != nil {
			return err
		}
	}
	if i.initiator != "" {
		return errors.New("initiatorName is not supported by this node: configure an iscsi interface with that name on the host")
	}
	// One login to a target at a time: another of its volumes may be logging out.
	unlock, err := i.m.devices.Lock(ctx, i.disk.IQN)
	if err != nil {
		return err
	}
	defer unlock()
	if err := writeRecord(global, i.disk); err != nil {
		return err
	}
	disk, err := i.attach(ctx)
	if err != nil {
		return err
	}
	if err := i.m.mountDisk(disk, global, i.fsType, i.readOnly, i.options); err != nil {
		return err
	}
	if !i.readOnly {
		if err := i.m.setOwnershipOf(ctx, global, i.pod); err != nil {
			return err
		}
	}
	return i.m.bindDir(global, i.dir, i.readOnly, nil)
}

// attach logs in to all portals and returns the disk that appears through one of
// them; if there are several paths to it, the multipath device.
func (i *iscsi) attach(ctx context.Context) (string, error) {
	var secret *v1.Secret
	if i.secret != nil {
		var err error
		if secret, err = i.secret(ctx); err != nil {
			return "", fmt.Errorf("iscsi: get CHAP secret: %w", err)
		}
	}
	var failed []error
	for _, portal := range i.disk.Portals {
		link := filepath.Join(i.m.disks, i.disk.device(portal))
		if _, err := os.Stat(link); err != nil {
			if err := i.login(ctx, portal, secret); err != nil {
				failed = append(failed, err)
				continue
			}
		}
		disk, err := awaitDisk(ctx, link)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		return multipath(disk), nil
	}
	return "", fmt.Errorf("failed to get any path for iscsi disk, last err seen:\n%w", errors.Join(failed...))
}

func (i *iscsi) login(ctx context.Context, portal string, secret *v1.Secret) error {
	adm := func(args ...string) error {
		out, err := i.m.command(ctx, "iscsiadm", args...)
		if err != nil {
			// Not the arguments: one of them may be a password.
			return fmt.Errorf("iscsi: failed to attach disk: Error: %s (%w)", strings.TrimSpace(out), err)
		}
		return nil
	}
	discovery := []string{"-m", "discoverydb", "-t", "sendtargets", "-p", portal, "-I", i.disk.Interface}
	node := []string{"-m", "node", "-p", portal, "-T", i.disk.IQN, "-I", i.disk.Interface}
	with := func(base []string, args ...string) []string { return append(base[:len(base):len(base)], args...) }
	_ = adm(with(discovery, "-o", "new")...) // fails if it exists
	if i.chapDiscovery {
		if err := setCHAP(adm, with(discovery, "-o", "update"), "discovery.sendtargets.auth.", secret); err != nil {
			return err
		}
	}
	if err := adm(with(discovery, "--discover")...); err != nil {
		_ = adm(with(discovery, "-o", "delete")...)
		return err
	}
	if i.chapSession {
		if err := setCHAP(adm, with(node, "-o", "update"), "node.session.auth.", secret); err != nil {
			return err
		}
	}
	if err := adm(with(node, "--login")...); err != nil {
		_ = adm(with(node, "-o", "delete")...)
		return err
	}
	// After the host restarts, the agent logs in, not the host.
	_ = adm(with(node, "-o", "update", "-n", "node.startup", "-v", "manual")...)
	return nil
}

// setCHAP sets in a record of iscsiadm what the secret holds under that prefix.
func setCHAP(adm func(...string) error, record []string, prefix string, secret *v1.Secret) error {
	if secret == nil {
		return errors.New("iscsi: CHAP is enabled but no secret is given")
	}
	set := func(name, value string) error {
		return adm(append(record[:len(record):len(record)], "-n", name, "-v", value)...)
	}
	if err := set(prefix+"authmethod", "CHAP"); err != nil {
		return err
	}
	for _, key := range []string{"username", "password", "username_in", "password_in"} {
		if v, ok := secret.Data[prefix+key]; ok {
			if err := set(prefix+key, string(v)); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitDisk waits until udev has made the link to a disk, and returns the disk.
func awaitDisk(ctx context.Context, link string) (string, error) {
	tick := time.NewTicker(diskLook)
	defer tick.Stop()
	ctx, cancel := context.WithTimeoutCause(ctx, diskPatience, fmt.Errorf("timed out waiting for device at path %s after %v", link, diskPatience))
	defer cancel()
	for {
		disk, err := filepath.EvalSymlinks(link)
		if err == nil {
			return disk, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// multipath is the device that joins all paths to a disk, or the disk itself if there
// is none.
func multipath(disk string) string {
	holders, _ := filepath.Glob(filepath.Join("/sys/block", filepath.Base(disk), "holders", "dm-*"))
	for _, h := range holders {
		if id, err := os.ReadFile(filepath.Join(h, "dm", "uuid")); err == nil && strings.HasPrefix(string(id), "mpath-") {
			return filepath.Join("/dev", filepath.Base(h))
		}
	}
	return disk
}
