package csi

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

const (
	dataFile   = "vol_data.json"
	pluginDir  = "plugins/kubernetes.io/csi"
	volumesDir = "kubernetes.io~csi"
)

// data is the content of vol_data.json: the kubelet's fields and two of our own.
type data struct {
	Name         string                      `json:"specVolID,omitempty"`
	Handle       string                      `json:"volumeHandle"`
	Driver       string                      `json:"driverName"`
	Node         string                      `json:"nodeName,omitempty"`
	Mode         storage.VolumeLifecycleMode `json:"volumeLifecycleMode,omitempty"`
	AttachmentID string                      `json:"attachmentID,omitempty"`
	// Target is where a block device is published, which is not beside the file.
	Target string `json:"target,omitempty"`
	// Staging is where the volume is staged, if it is; set in the staged volume's file
	// only.
	Staging string `json:"staging,omitempty"`
	// Ready is set once the volume is published and its files have their group.
	Ready bool `json:"ready,omitempty"`
}

// key names the volume on this node.
func (d data) key() string { return d.Driver + "^" + d.Handle }

// target is where the volume in that directory is published.
func (d data) target(dir string) string {
	if d.Target != "" {
		return d.Target
	}
	return filepath.Join(dir, "mount")
}

// UniqueName is the volume's name in a node's volumesInUse and volumesAttached.
func (d data) uniqueName() v1.UniqueVolumeName {
	return v1.UniqueVolumeName("kubernetes.io/csi/" + d.key())
}

// load reads the file in a directory. A damaged one is moved aside: the volume of a pod that
// goes on is staged and published again, which writes it anew.
func load(dir string) (d data, err error) {
	const lost = "Which CSI volume is mounted beside it. If its pod goes on, it is published again, which does it no harm. " +
		"If not, it is unmounted, but its driver is not told: see that the driver has let go of it."
	err = durable.Load(filepath.Join(dir, dataFile), lost, func(b []byte) error { return d.decode(b) })
	if err != nil {
		return data{}, fmt.Errorf("read %s: %w", filepath.Join(dir, dataFile), err)
	}
	return d, nil
}

// maxData bounds what is read of another kubelet's file, in bytes.
const maxData = 1 << 20

// peek reads the file in a directory that is not ours, and leaves it as it is.
func peek(dir string) (d data, err error) {
	f, err := safefile.Open(dir, dataFile)
	if err != nil {
		return data{}, err
	}
	defer f.Close()
	b, err := safefile.Read(f, maxData)
	if err == nil {
		err = d.decode(b)
	}
	return d, err
}

func (d *data) decode(b []byte) error {
	// The kubelet writes only strings; it never wrote our flag.
	if err := json.Unmarshal(b, d); err != nil {
		return err
	}
	if d.Driver == "" || d.Handle == "" {
		return errors.New("it does not name a driver and a volume")
	}
	return nil
}

// lost reports whether the file in a directory was damaged and has not been written again.
func lost(dir string) bool {
	file := filepath.Join(dir, dataFile)
	if len(durable.Aside(file)) == 0 {
		return false
	}
	_, err := os.Lstat(file)
	return err != nil
}

// save writes the file atomically: with half a file the volume could not be taken
// down.
func (d data) save(dir string) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(dir, dataFile), b)
}

// forget removes the file, and the directory if nothing else is in it. A directory that was
// in the file's place stays, if something is in it.
func forget(dir string) error {
	file := filepath.Join(dir, dataFile)
	for _, p := range append(durable.Aside(file), file+".new", file, dir) {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	return nil
}

func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// attachmentName is the VolumeAttachment of a volume on a node.
func attachmentName(handle, driver, node string) string { return "csi-" + hash(handle, driver, node) }

// stagedDir holds the data of a staged volume; its file system is mounted at
// globalmount in it.
func (m *Manager) stagedDir(d data, block bool) (dir, staging string) {
	if block {
		devices := filepath.Join(m.cfg.Root, pluginDir, "volumeDevices")
		return filepath.Join(devices, d.Name, "data"), filepath.Join(devices, "staging", d.Name)
	}
	dir = filepath.Join(m.cfg.Root, pluginDir, d.Driver, hash(d.Handle))
	return dir, filepath.Join(dir, "globalmount")
}

// published returns the directories of pods that have a volume published, with the data
// of each. Those of other kubelets' pods count if they can be read, and are left as they are:
// what such a pod has must not be taken from under it. doubt means that pods of ours may have
// more: a record is damaged or cannot be read now.
func (m *Manager) published() (all map[string]data, doubt bool) {
	all = map[string]data{}
	pods := filepath.Join(m.cfg.Root, "pods")
	uids, err := list(pods)
	doubt = err != nil
	for _, uid := range uids {
		own := m.cfg.Owns(types.UID(uid))
		volumes := filepath.Join(pods, uid, "volumes", volumesDir)
		names, err := list(volumes)
		doubt = doubt || own && err != nil
		for _, name := range names {
			dir := filepath.Join(volumes, name)
			if !own {
				if d, err := peek(dir); err == nil {
					all[dir] = d
				}
				continue
			}
			switch d, err := load(dir); {
			case err == nil:
				all[dir] = d
			case lost(dir), !absent(err): // after load, which moves aside
				doubt = true
			}
		}
	}
	return all, doubt
}

// list returns what is in a directory; what is none, or is not there, has nothing in it.
func list(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !absent(err) {
		return nil, err
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// absent reports whether a path leads to nothing, or through what is no directory.
func absent(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// staged returns the directories of staged volumes, with the data of each.
func (m *Manager) staged() map[string]data {
	all := loadAll(m.cfg.Root, pluginDir, "*", "*")
	maps.Copy(all, loadAll(m.cfg.Root, pluginDir, "volumeDevices", "*", "data"))
	return all
}

func loadAll(root string, pattern ...string) map[string]data {
	all := map[string]data{}
	files, _ := filepath.Glob(filepath.Join(append(append([]string{root}, pattern...), dataFile)...)) // the pattern is valid
	for _, f := range files {
		dir := filepath.Dir(f)
		if d, err := load(dir); err == nil {
			all[dir] = d
		}
	}
	return all
}

// InUse returns the volumes that are staged or published according to the disk: a
// new agent reports them first in the node's volumesInUse.
func (m *Manager) InUse() []v1.UniqueVolumeName {
	var all []v1.UniqueVolumeName
	published, _ := m.published()
	for _, volumes := range []map[string]data{published, m.staged()} {
		for _, d := range volumes {
			if d.Mode != storage.VolumeLifecycleEphemeral {
				all = append(all, d.uniqueName())
			}
		}
	}
	return all
}
