package volume

import (
	"fmt"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// DefaultRoot is the kubelet's directory.
const DefaultRoot = "/var/lib/kubelet"

// Names below a pod's directory.
const (
	volumesDir    = "volumes"
	subPathsDir   = "volume-subpaths"
	claimsDir     = "claims"
	containersDir = "containers"
	hostsFile     = "etc-hosts"
)

// layout knows the paths below the root directory. A name from a pod's spec becomes
// part of a path only if it is a single path element.
type layout struct{ root string }

func (l layout) pods() string { return filepath.Join(l.root, "pods") }

func (l layout) pod(uid types.UID) (string, error) {
	if err := element("pod UID", string(uid)); err != nil {
		return "", err
	}
	return filepath.Join(l.pods(), string(uid)), nil
}

// volume is the directory of one volume: volumes/<plugin, "/" as "~">/<name>.
func (l layout) volume(uid types.UID, plugin, name string) (string, error) {
	dir, err := l.pod(uid)
	if err != nil {
		return "", err
	}
	if err := element("volume name", name); err != nil {
		return "", err
	}
	return filepath.Join(dir, volumesDir, escape(plugin), name), nil
}

// escape is a plug-in's name as a file name.
func escape(plugin string) string { return strings.ReplaceAll(plugin, "/", "~") }

// element refuses a name that would leave a directory or not enter it.
func element(what, name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%s %q is not a file name", what, name)
	}
	return nil
}
